/* A layer as libraries take it: the weights of an output channel beside each other (of a depthwise convolution, those
 * of a tap), bias without the input's zero point.
 */
typedef struct {
  const int8_t *weights;
  const int32_t *bias, *multiplier, *shift;
  const int8_t *table; /* of the activation behind it, by value + 128; or none */
  int32_t in_zero, zero;
  int32_t batches, in_h, in_w, in_c;
  int32_t out_h, out_w, out_c;
  int32_t kernel_h, kernel_w, kernel_c, stride_h, stride_w, dilation_h, dilation_w, pad_h, pad_w;
  int32_t rows; /* of the output that a call computes */
  int32_t placed; /* whether the pixels of a row are moved to their places afterwards */
  int32_t out_batch, out_row, out_pixel;
  blocks b;
  int32_t buffer_bytes;
} layer;
