/* What AVERAGE_POOL_2D and MAX_POOL_2D share. */
typedef struct {
  int32_t batches, in_h, in_w, depth, out_h, out_w;
  int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
  int32_t low, high;
} pooling;
