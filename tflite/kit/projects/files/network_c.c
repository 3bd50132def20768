/* See @{prefix}network.h. */
#include "@{prefix}network.h"

#include "@{name}.h"

/* ESP-NN's assembly, which a build with WAVEMIX_ESP_NN calls, needs multiples of 16 bytes. */
#ifdef __GNUC__
#define ALIGNED __attribute__((aligned(16)))
#else
#define ALIGNED
#endif

static ALIGNED @{prefix}network_input_t input[@{upper}_INPUT_BYTES / sizeof(@{prefix}network_input_t)];
static ALIGNED @{prefix}network_output_t output[@{upper}_OUTPUT_BYTES / sizeof(@{prefix}network_output_t)];

@{prefix}network_input_t* @{prefix}network_input(void) { return input; }

int @{prefix}network_run(void) {
  @{name}_run(input, output);
  return 0;
}

const @{prefix}network_output_t* @{prefix}network_output(void) { return output; }

const char* @{prefix}network_error(void) { return ""; }

int @{prefix}network_ram_used(void) { return @{prefix}network_ram_reserved(); }

int @{prefix}network_ram_reserved(void) { return (int)(@{upper}_ARENA_BYTES + sizeof input + sizeof output); }
