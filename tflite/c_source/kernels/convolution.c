/* CONV_2D, a phase of TRANSPOSE_CONV, or FULLY_CONNECTED (a 1x1 convolution over its rows).
 *
 * Weights lie as the loop reads them, of four output channels beside each other: zeros fill the last four. The
 * input's zero point is part of the bias. Where a window reaches beyond the edge, the zero point stands in place of what
 * is missing, whose products with the weights the bias then cancels.
 */
typedef struct {
  channels c;
  int32_t batches, in_h, in_w, in_c;
  int32_t out_h, out_w; /* pixels that are computed */
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int32_t pad_h, pad_w, pad_value;
  int32_t groups, group_in, group_out, group_weights;
  int32_t out_batch, out_row, out_pixel; /* bytes from one to the next */
  blocks b;
} convolution;

/* Whether two pixels are one number: where one instruction adds a product of 64 bits, as on Cortex-M4 and later. */
#ifndef WAVEMIX_PAIRS
#ifdef __ARM_FEATURE_DSP
#define WAVEMIX_PAIRS 1
#else
#define WAVEMIX_PAIRS 0
#endif
#endif
