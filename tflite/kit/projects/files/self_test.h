/* The test mode of this project: the test vectors, and texts about a classification. */
#ifndef @{PREFIX}SELF_TEST_H_
#define @{PREFIX}SELF_TEST_H_

#include "@{prefix}classifier.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef WAVEMIX_WRITE_TEXT /* the same in every network of a firmware */
#define WAVEMIX_WRITE_TEXT
/* Writes a text without a line end of its own, to a serial port or a console. */
typedef void (*WriteText)(const char* text);
#endif

/* Runs the test vectors, compares every value of the outputs, makes the last vector's input from its picture again, and
 * writes a line for each. The last line begins with PASSED or FAILED. Returns the number of failures. */
int @{prefix}self_test(WriteText write);

/* Writes a result in one line: the label, its share, and whether it is accepted. */
void @{prefix}write_classification(WriteText write, const @{prefix}Classification* result);

#ifdef __cplusplus
}
#endif

#endif /* @{PREFIX}SELF_TEST_H_ */
