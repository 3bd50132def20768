// Runs the self-test once and prints its lines; then classifies what a camera gives, if you write it.
#include <stdio.h>

#include "@{prefix}classifier.h"
#include "@{prefix}self_test.h"

static void write_console(const char* text) {
  fputs(text, stdout);
}

void app_main(void) {
  @{prefix}self_test(write_console);
  // With a camera (component espressif/esp32-camera, PIXFORMAT_RGB565, which has the high byte first):
  //   camera_fb_t* frame = esp_camera_fb_get();
  //   @{prefix}write_classification(write_console, @{prefix}classify(frame->buf, frame->width, frame->height, PIXELS_RGB565_SWAPPED));
  //   esp_camera_fb_return(frame);
}
