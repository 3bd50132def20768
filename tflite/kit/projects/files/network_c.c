/* See network.h. */
#include "network.h"

#include "@{name}.h"

/* ESP-NN's assembly, which a build with WAVEMIX_ESP_NN calls, needs multiples of 16 bytes. */
#ifdef __GNUC__
#define ALIGNED __attribute__((aligned(16)))
#else
#define ALIGNED
#endif

static ALIGNED network_input_t input[@{upper}_INPUT_BYTES / sizeof(network_input_t)];
static ALIGNED network_output_t output[@{upper}_OUTPUT_BYTES / sizeof(network_output_t)];

network_input_t* network_input(void) { return input; }

int network_run(void) {
  @{name}_run(input, output);
  return 0;
}

const network_output_t* network_output(void) { return output; }

const char* network_error(void) { return ""; }

int network_ram_used(void) { return network_ram_reserved(); }

int network_ram_reserved(void) { return (int)(@{upper}_ARENA_BYTES + sizeof input + sizeof output); }
