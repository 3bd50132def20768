/* The network of this project, @{runtime}. */
#ifndef NETWORK_H_
#define NETWORK_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef @{input_type} network_input_t;   /* @{input_shape} */
typedef @{output_type} network_output_t; /* @{output_shape} */

/* Where the input goes before every network_run(), which may overwrite it; NULL if the network cannot start. */
network_input_t* network_input(void);

/* Returns 0, or -1 if the network cannot run. */
int network_run(void);

/* The output of the last network_run(). */
const network_output_t* network_output(void);

/* Why the last call failed; "" if it did not. */
const char* network_error(void);

/* Bytes of RAM for feature maps and what the runtime keeps beside them, of those that are reserved. */
int network_ram_used(void);
int network_ram_reserved(void);

#ifdef __cplusplus
}
#endif

#endif /* NETWORK_H_ */
