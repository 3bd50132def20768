/* BATCH_MATMUL of two feature maps. */
typedef struct {
  int32_t batches[3], a_steps[3], b_steps[3]; /* bytes from a matrix to the next, 0 where it repeats */
  int32_t rows, columns, depth;
  int32_t a_row, a_depth, b_column, b_depth; /* bytes from one to the next */
  int32_t a_zero, b_zero, multiplier, shift, zero;
} product;

/* One row of the result. values: the row of a without its zero point; low: what each sum starts with. */
static int8_t *matmul_row(const product *k, const int32_t *values, int32_t low, const int8_t *b, int8_t *out) {
  const int32_t *const end = values + k->depth;
  const int32_t step = k->b_depth, next = k->b_column, multiplier = k->multiplier, shift = k->shift, zero = k->zero;
  int32_t c = k->columns, i;
  for (; c > 3; c -= 4) { /* four columns: a value is read once for all of them */
    const int32_t *p = values;
    const int8_t *q = b;
    int32_t sums[4], s0 = low, s1 = low, s2 = low, s3 = low;
    do {
      const int32_t value = *p++;
      s0 += value * q[0];
      s1 += value * q[next];
      s2 += value * q[2 * next];
      s3 += value * q[3 * next];
      q += step;
    } while (p != end);
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
    for (i = 0; i < 4; ++i) {
      *out++ = saturate(requantize(sums[i], multiplier, shift) + zero);
    }
    b += 4 * next;
  }
  for (; c > 0; --c) {
    const int32_t *p = values;
    const int8_t *q = b;
    int32_t sum = low;
    do {
      sum += *p++ * *q;
      q += step;
    } while (p != end);
    *out++ = saturate(requantize(sum, multiplier, shift) + zero);
    b += next;
  }
  return out;
}

/* scratch: a row of a. */
static void matmul(const product *k, const int8_t *a, const int8_t *b, int8_t *out, int8_t *scratch) {
  int32_t *const values = (int32_t *)(void *)scratch;
  int32_t i, j, l, r, n;
  for (i = 0; i < k->batches[0]; ++i) {
    for (j = 0; j < k->batches[1]; ++j) {
      for (l = 0; l < k->batches[2]; ++l) {
        const int8_t *row = a + i * k->a_steps[0] + j * k->a_steps[1] + l * k->a_steps[2];
        const int8_t *const matrix = b + i * k->b_steps[0] + j * k->b_steps[1] + l * k->b_steps[2];
        for (r = k->rows; r > 0; --r) {
          const int8_t *p = row;
          int32_t total = 0;
          for (n = 0; n < k->depth; ++n) {
            values[n] = *p - k->a_zero;
            total += values[n];
            p += k->a_depth;
          }
          out = matmul_row(k, values, -k->b_zero * total, matrix, out);
          row += k->a_row;
        }
      }
    }
  }
}
