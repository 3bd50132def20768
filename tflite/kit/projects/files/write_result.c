/* See @{prefix}write_result.h. */
#include "@{prefix}write_result.h"

#include <stddef.h>

/* printf would bring in a heap on most boards. */
void @{prefix}write_number(WriteText write, long number) {
  char text[24];
  char* end = text + sizeof text - 1;
  unsigned long rest = number < 0 ? 0UL - (unsigned long)number : (unsigned long)number;
  *end = '\0';
  do {
    *--end = (char)('0' + rest % 10);
    rest /= 10;
  } while (rest != 0);
  if (number < 0) *--end = '-';
  write(end);
}

void @{prefix}write_classification(WriteText write, const @{prefix}Classification* result) {
  if (result == NULL) {
    write("not classified: the picture was refused\n");
    return;
  }
  write(@{prefix}class_labels[result->best]);
  write(", share ");
  @{prefix}write_number(write, (long)(1000.0f * result->shares[result->best] + 0.5f));
  write(" / 1000, ");
  write(result->accepted ? "accepted\n" : "rejected\n");
}
