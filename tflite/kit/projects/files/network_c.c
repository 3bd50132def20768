/* See network.h. */
#include "network.h"

#include "@{name}.h"

static network_input_t input[@{upper}_INPUT_BYTES / sizeof(network_input_t)];
static network_output_t output[@{upper}_OUTPUT_BYTES / sizeof(network_output_t)];

network_input_t* network_input(void) { return input; }

int network_run(void) {
  @{name}_run(input, output);
  return 0;
}

const network_output_t* network_output(void) { return output; }

const char* network_error(void) { return ""; }

int network_ram_used(void) { return network_ram_reserved(); }

int network_ram_reserved(void) { return (int)(@{upper}_ARENA_BYTES + sizeof input + sizeof output); }
