/* DEPTHWISE_CONV_2D with one filter a channel. */
typedef struct {
  channels c;
  int32_t batches, in_h, in_w, depth;
  int32_t out_h, out_w;
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int32_t pad_h, pad_w, pad_value;
} depthwise;
