/* REDUCE_MAX, and REDUCE_MIN with sign -1, over axes that lie beside each other: (outer, count, inner). */
static void extreme(const int8_t *input, int8_t *output, int32_t outer, int32_t count, int32_t inner, int32_t sign) {
  int32_t o, i, n;
  for (o = 0; o < outer; ++o) {
    for (i = 0; i < inner; ++i) {
      const int8_t *p = input + i;
      int8_t best = *p;
      for (n = count; n > 0; --n) {
        best = *p * sign > best * sign ? *p : best;
        p += inner;
      }
      *output++ = best;
    }
    input += count * inner;
  }
}
