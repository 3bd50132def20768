/* MAX_POOL_2D: of what lies inside. */
static void pool_max(const pooling *k, const int8_t *input, int8_t *output) {
  int32_t b, y, x, c, i, j;
  for (b = 0; b < k->batches; ++b) {
    for (y = 0; y < k->out_h; ++y) {
      for (x = 0; x < k->out_w; ++x) {
        const pool_window window = window_at(k, input, y, x);
        for (c = 0; c < k->depth; ++c) {
          const int8_t *row = window.start + c;
          int32_t most = -128;
          for (i = window.rows; i > 0; --i) {
            const int8_t *p = row;
            for (j = window.columns; j > 0; --j) {
              most = *p > most ? *p : most;
              p += k->depth;
            }
            row += k->in_w * k->depth;
          }
          *output++ = clamp(most, k->low, k->high);
        }
      }
    }
    input += k->in_h * k->in_w * k->depth;
  }
}
