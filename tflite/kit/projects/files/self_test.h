/* The test mode of this project: the test vectors, and texts about a classification. */
#ifndef SELF_TEST_H_
#define SELF_TEST_H_

#include "classifier.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes a text without a line end of its own, to a serial port or a console. */
typedef void (*WriteText)(const char* text);

/* Runs the test vectors, compares every value of the outputs, makes the last vector's input from its picture again, and
 * writes a line for each. The last line begins with PASSED or FAILED. Returns the number of failures. */
int self_test(WriteText write);

/* Writes a result in one line: the label, its share, and whether it is accepted. */
void write_classification(WriteText write, const Classification* result);

#ifdef __cplusplus
}
#endif

#endif /* SELF_TEST_H_ */
