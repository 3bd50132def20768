/* The network of this project, @{runtime}. */
#ifndef @{PREFIX}NETWORK_H_
#define @{PREFIX}NETWORK_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef @{input_type} @{prefix}network_input_t;   /* @{input_shape} */
typedef @{output_type} @{prefix}network_output_t; /* @{output_shape} */

/* Where the input goes before every @{prefix}network_run(), which may overwrite it; NULL if the network cannot start. */
@{prefix}network_input_t* @{prefix}network_input(void);

/* Returns 0, or -1 if the network cannot run. */
int @{prefix}network_run(void);

/* The output of the last @{prefix}network_run(). */
const @{prefix}network_output_t* @{prefix}network_output(void);

/* Why the last call failed; "" if it did not. */
const char* @{prefix}network_error(void);

/* Bytes of RAM for feature maps and what the runtime keeps beside them, of those that are reserved. */
int @{prefix}network_ram_used(void);
int @{prefix}network_ram_reserved(void);

#ifdef __cplusplus
}
#endif

#endif /* @{PREFIX}NETWORK_H_ */
