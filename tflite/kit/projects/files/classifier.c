/* See @{prefix}classifier.h. */
#include "@{prefix}classifier.h"

#include <math.h>
#include <stddef.h>

#include "@{name}_picture.h"
#include "@{prefix}network.h"

const char* const @{prefix}class_labels[@{PREFIX}CLASS_COUNT] = {
@{labels}};

static @{prefix}Classification found;

int @{prefix}prepare_input(const uint8_t* pixels, int width, int height, PixelFormat format) {
  static int64_t sums[@{name}_picture_sums];
  @{prefix}network_input_t* input = @{prefix}network_input();
  const int64_t row_bytes = (int64_t)width * ((int)format & 7);
  if (pixels == NULL || input == NULL) return -1;
  return @{name}_from_picture(pixels, height, width, (int32_t)format, row_bytes, input, sums);
}

const @{prefix}Classification* @{prefix}classify_input(void) {
  const @{prefix}network_output_t* output;
  int i;
  if (@{prefix}network_run() != 0) return NULL;
  output = @{prefix}network_output();
  found.best = 0;
  for (i = 0; i < @{PREFIX}CLASS_COUNT; ++i) {
    found.scores[i] = @{score};
    if (found.scores[i] > found.scores[found.best]) found.best = i;
  }
@{share_code}
  found.accepted = found.shares[found.best] >= @{PREFIX}CLASSIFY_MIN_SHARE;
  return &found;
}

const @{prefix}Classification* @{prefix}classify(const uint8_t* pixels, int width, int height, PixelFormat format) {
  return @{prefix}prepare_input(pixels, width, height, format) == 0 ? @{prefix}classify_input() : NULL;
}
