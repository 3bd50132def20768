/* ARG_MAX over one axis: the first of several that are alike. */
static void arg_max(const int8_t *input, int32_t *output, int32_t outer, int32_t count, int32_t inner) {
  int32_t o, i, n;
  for (o = 0; o < outer; ++o) {
    for (i = 0; i < inner; ++i) {
      const int8_t *p = input + i;
      int32_t best = *p, at = 0;
      for (n = 1; n < count; ++n) {
        p += inner;
        if (*p > best) {
          best = *p;
          at = n;
        }
      }
      *output++ = at;
    }
    input += count * inner;
  }
}
