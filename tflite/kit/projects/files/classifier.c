/* See classifier.h. */
#include "classifier.h"

#include <math.h>
#include <stddef.h>

#include "@{name}_picture.h"
#include "network.h"

const char* const class_labels[CLASS_COUNT] = {
@{labels}};

static Classification found;

int prepare_input(const uint8_t* pixels, int width, int height, PixelFormat format) {
  static int64_t sums[@{name}_picture_sums];
  network_input_t* input = network_input();
  const int64_t row_bytes = (int64_t)width * ((int)format & 7);
  if (pixels == NULL || input == NULL) return -1;
  return @{name}_from_picture(pixels, height, width, (int32_t)format, row_bytes, input, sums);
}

const Classification* classify_input(void) {
  const network_output_t* output;
  int i;
  if (network_run() != 0) return NULL;
  output = network_output();
  found.best = 0;
  for (i = 0; i < CLASS_COUNT; ++i) {
    found.scores[i] = @{score};
    if (found.scores[i] > found.scores[found.best]) found.best = i;
  }
@{share_code}
  found.accepted = found.shares[found.best] >= CLASSIFY_MIN_SHARE;
  return &found;
}

const Classification* classify(const uint8_t* pixels, int width, int height, PixelFormat format) {
  return prepare_input(pixels, width, height, format) == 0 ? classify_input() : NULL;
}
