/* PRELU: b holds the slopes; a's multiplier is that of positive values. */
static void prelu_row(const binary *k, const int8_t *a, const int8_t *b, int8_t *out) {
  int32_t i;
  for (i = 0; i < k->sides[3]; ++i) {
    const int32_t value = *a - k->a_zero;
    *out++ = finish_binary(k, value >= 0 ? requantize(value, k->a_multiplier, k->a_shift)
                                         : requantize(value * (*b - k->b_zero), k->multiplier, k->shift));
    a += k->a_steps[3];
    b += k->b_steps[3];
  }
}
