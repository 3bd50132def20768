/* Classifies pictures with @{name}: @{prefix}classify() is all that an application calls. C99 and C++, no heap. */
#ifndef @{PREFIX}CLASSIFIER_H_
#define @{PREFIX}CLASSIFIER_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define @{PREFIX}CLASS_COUNT @{classes}
#define @{PREFIX}NETWORK_WIDTH @{width}
#define @{PREFIX}NETWORK_HEIGHT @{height}

/* Classification.accepted is 0 below this share. The share is not a calibrated probability: choose the threshold on
 * pictures that were not used in training. */
#ifndef @{PREFIX}CLASSIFY_MIN_SHARE
#define @{PREFIX}CLASSIFY_MIN_SHARE 0.5f
#endif

#ifndef WAVEMIX_PIXEL_FORMAT /* the same in every network of a firmware */
#define WAVEMIX_PIXEL_FORMAT
/* How a pixel lies in memory. Rows follow one another without a gap. */
typedef enum {
  PIXELS_GRAY8 = 1,    /* 1 byte */
  PIXELS_RGB565 = 2,   /* 2 bytes, the low one first: a uint16_t of a little-endian processor */
  PIXELS_RGB888 = 3,   /* 3 bytes: red, green, blue */
  PIXELS_RGBA8888 = 4, /* 4 bytes: red, green, blue, alpha (not premultiplied); transparent parts become white */
  PIXELS_RGB565_SWAPPED = 10 /* 2 bytes, the high one first, as OV2640 and OV7670 cameras send them */
} PixelFormat;
#endif

typedef struct {
  int best;                  /* class of the largest score: @{prefix}class_labels[best] */
  int accepted;              /* 1 if shares[best] is at least @{PREFIX}CLASSIFY_MIN_SHARE */
  float scores[@{PREFIX}CLASS_COUNT]; /* dequantized outputs of the network: @{scores} */
  float shares[@{PREFIX}CLASS_COUNT]; /* @{shares} */
} @{prefix}Classification;

/* UTF-8. */
extern const char* const @{prefix}class_labels[@{PREFIX}CLASS_COUNT];

/* Classifies a picture, upright, of any size from 1 to 65535 pixels a side: @{words}.
 *
 * Returns the result, which the next call replaces; NULL if the picture or its format is refused, or if the network
 * cannot run (@{prefix}network_error() says why). Not to be called by two threads at once. */
const @{prefix}Classification* @{prefix}classify(const uint8_t* pixels, int width, int height, PixelFormat format);

/* The two halves of @{prefix}classify(). @{prefix}prepare_input() returns 0, or -1 if the picture is refused. */
int @{prefix}prepare_input(const uint8_t* pixels, int width, int height, PixelFormat format);
const @{prefix}Classification* @{prefix}classify_input(void);

#ifdef __cplusplus
}
#endif

#endif /* @{PREFIX}CLASSIFIER_H_ */
