// Runs the self-test once and prints its lines; then classifies what a camera gives, if you write it.
#include "src/@{prefix}classifier.h"
#include "src/@{prefix}network.h"
#include "src/@{prefix}self_test.h"
@{library_header}
static void write_serial(const char* text) {
  Serial.print(text);
}

void setup() {
  Serial.begin(115200);
  while (!Serial && millis() < 5000) {
  }
  @{prefix}self_test(write_serial);
}

void loop() {
  // With a camera, for example a frame of 160 x 120 pixels in RGB565 with the high byte first:
  //   @{prefix}write_classification(write_serial, @{prefix}classify(frame, 160, 120, PIXELS_RGB565_SWAPPED));
  delay(1000);
}
