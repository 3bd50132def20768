/* The test mode of this project: the test vectors. */
#ifndef @{PREFIX}SELF_TEST_H_
#define @{PREFIX}SELF_TEST_H_

#include "@{prefix}write_result.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs the test vectors, compares every value of the outputs, makes the last vector's input from its picture again, and
 * writes a line for each. The last line begins with PASSED or FAILED. Returns the number of failures. */
int @{prefix}self_test(WriteText write);

#ifdef __cplusplus
}
#endif

#endif /* @{PREFIX}SELF_TEST_H_ */
