/* MEAN and SUM over axes that lie beside each other: (outer, count, inner) -> (outer, inner). */
typedef struct {
  int32_t outer, count, inner;
  int32_t offset; /* count * the input's zero point */
  int32_t multiplier, shift, zero;
} summation;

static void sum_axes(const summation *k, const int8_t *input, int8_t *output) {
  int32_t o, i, n;
  for (o = 0; o < k->outer; ++o) {
    for (i = 0; i < k->inner; ++i) {
      const int8_t *p = input + i;
      int32_t sum = -k->offset;
      for (n = k->count; n > 0; --n) {
        sum += *p;
        p += k->inner;
      }
      *output++ = clamp(requantize(sum, k->multiplier, k->shift) + k->zero, -128, 127);
    }
    input += k->count * k->inner;
  }
}
