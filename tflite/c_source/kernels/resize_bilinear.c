/* RESIZE_BILINEAR: for each row and column the two that it lies between, in bytes, and its distance in 1/1024. */
typedef struct {
  const int32_t *rows, *columns; /* three numbers each: first, second, distance from the first */
  int32_t batches, out_h, out_w, depth, in_batch;
} bilinear;

static void resize_bilinear(const bilinear *k, const int8_t *input, int8_t *output) {
  int32_t b, y, x, c;
  for (b = 0; b < k->batches; ++b) {
    const int32_t *row = k->rows;
    for (y = 0; y < k->out_h; ++y) {
      const int32_t *column = k->columns;
      for (x = 0; x < k->out_w; ++x) {
        const int8_t *p00 = input + row[0] + column[0], *p01 = input + row[0] + column[1];
        const int8_t *p10 = input + row[1] + column[0], *p11 = input + row[1] + column[1];
        const int32_t w11 = row[2] * column[2], w10 = row[2] * (1024 - column[2]);
        const int32_t w01 = (1024 - row[2]) * column[2], w00 = (1024 - row[2]) * (1024 - column[2]);
        for (c = k->depth; c > 0; --c) {
          int32_t sum = *p00++ * w00 + *p10++ * w10 + *p01++ * w01 + *p11++ * w11;
          sum += sum >> 31; /* halves are rounded away from zero */
          *output++ = (int8_t)((sum + (1 << 19)) >> 20);
        }
        column += 3;
      }
      row += 3;
    }
    input += k->in_batch;
  }
}
