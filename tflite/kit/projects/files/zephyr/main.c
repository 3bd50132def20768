/* Runs the self-test once and prints its lines; then classifies what a camera gives, if you write it. */
#include <zephyr/kernel.h>
#include <zephyr/sys/printk.h>

#include "@{prefix}classifier.h"
#include "@{prefix}self_test.h"

static void write_console(const char* text) {
  printk("%s", text);
}

int main(void) {
  @{prefix}self_test(write_console);
  /* With a camera, for example a frame of 160 x 120 pixels in RGB565:
   *   @{prefix}write_classification(write_console, @{prefix}classify(frame, 160, 120, PIXELS_RGB565)); */
  return 0;
}
