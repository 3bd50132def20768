/* The part of a pool's window that lies inside. */
typedef struct {
  const int8_t *start;
  int32_t rows, columns;
} pool_window;

static pool_window window_at(const pooling *k, const int8_t *input, int32_t y, int32_t x) {
  const int32_t in_y = y * k->stride_h - k->pad_h, in_x = x * k->stride_w - k->pad_w;
  const int32_t top = in_y < 0 ? 0 : in_y, left = in_x < 0 ? 0 : in_x;
  const int32_t bottom = in_y + k->kernel_h > k->in_h ? k->in_h : in_y + k->kernel_h;
  const int32_t right = in_x + k->kernel_w > k->in_w ? k->in_w : in_x + k->kernel_w;
  pool_window window;
  window.start = input + (top * k->in_w + left) * k->depth;
  window.rows = bottom - top;
  window.columns = right - left;
  return window;
}
