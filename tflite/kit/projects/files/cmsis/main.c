/* Runs the self-test once and writes its lines to standard output, which semihosting or your board's retargeting shows. */
#include <stdio.h>

#include "@{prefix}classifier.h"
#include "@{prefix}self_test.h"

#if defined(__GNUC__) && !defined(__ARMCC_VERSION)
extern void initialise_monitor_handles(void); /* semihosting of newlib (rdimon.specs) */
#endif

static void write_console(const char* text) {
  fputs(text, stdout);
}

int main(void) {
#if defined(__GNUC__) && !defined(__ARMCC_VERSION)
  initialise_monitor_handles();
#endif
  return @{prefix}self_test(write_console) == 0 ? 0 : 1;
}
