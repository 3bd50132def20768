/* One pixel of block * block * depth values -> block rows of pixels. */
static void spread_block(const blocks *k, int32_t depth, const int8_t *values, int32_t y, int32_t x, int8_t *output) {
  const int32_t left = x * k->block - k->crop_w;
  const int32_t from = left < 0 ? -left : 0;
  const int32_t to = left + k->block > k->shown_w ? k->shown_w - left : k->block;
  int32_t i;
  for (i = 0; i < k->block; ++i) {
    const int32_t row = y * k->block + i - k->crop_h;
    if (row >= 0 && row < k->shown_h && from < to) {
      memcpy(output + (row * k->shown_w + left + from) * depth, values + (i * k->block + from) * depth,
             (size_t)((to - from) * depth));
    }
  }
}
