/* BATCH_MATMUL of two feature maps. */
typedef struct {
  int32_t batches[3], a_steps[3], b_steps[3]; /* bytes from a matrix to the next, 0 where it repeats */
  int32_t rows, columns, depth;
  int32_t a_row, a_depth, b_column, b_depth; /* bytes from one to the next */
  int32_t a_zero, b_zero, multiplier, shift, zero;
} product;

static void matmul(const product *k, const int8_t *a, const int8_t *b, int8_t *out) {
  int32_t i, j, l, r, c, n;
  for (i = 0; i < k->batches[0]; ++i) {
    for (j = 0; j < k->batches[1]; ++j) {
      for (l = 0; l < k->batches[2]; ++l) {
        const int8_t *row = a + i * k->a_steps[0] + j * k->a_steps[1] + l * k->a_steps[2];
        const int8_t *const matrix = b + i * k->b_steps[0] + j * k->b_steps[1] + l * k->b_steps[2];
        for (r = k->rows; r > 0; --r) {
          const int8_t *column = matrix;
          for (c = k->columns; c > 0; --c) {
            const int8_t *p = row, *q = column;
            int32_t sum = 0;
            for (n = k->depth; n > 0; --n) {
              sum += (*p - k->a_zero) * (*q - k->b_zero);
              p += k->a_depth;
              q += k->b_depth;
            }
            *out++ = clamp(requantize(sum, k->multiplier, k->shift) + k->zero, -128, 127);
            column += k->b_column;
          }
          row += k->a_row;
        }
      }
    }
  }
}
