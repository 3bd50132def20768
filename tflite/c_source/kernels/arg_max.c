/* ARG_MAX, and ARG_MIN with sign -1, over one axis: the first of several that are alike. */
static void arg_max(const int8_t *input, int32_t *output, int32_t outer, int32_t count, int32_t inner, int32_t sign) {
  int32_t o, i, n;
  for (o = 0; o < outer; ++o) {
    for (i = 0; i < inner; ++i) {
      const int8_t *p = input + i;
      int32_t best = *p * sign, at = 0;
      for (n = 1; n < count; ++n) {
        p += inner;
        if (*p * sign > best) {
          best = *p * sign;
          at = n;
        }
      }
      *output++ = at;
    }
    input += count * inner;
  }
}
