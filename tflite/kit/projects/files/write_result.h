/* Results as text, for a serial port or a console. */
#ifndef @{PREFIX}WRITE_RESULT_H_
#define @{PREFIX}WRITE_RESULT_H_

#include "@{prefix}classifier.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef WAVEMIX_WRITE_TEXT /* the same in every network of a firmware */
#define WAVEMIX_WRITE_TEXT
/* Writes a text without a line end of its own, to a serial port or a console. */
typedef void (*WriteText)(const char* text);
#endif

/* Writes a whole number. */
void @{prefix}write_number(WriteText write, long number);

/* Writes a result in one line: the label, its share, and whether it is accepted. */
void @{prefix}write_classification(WriteText write, const @{prefix}Classification* result);

#ifdef __cplusplus
}
#endif

#endif /* @{PREFIX}WRITE_RESULT_H_ */
