/* MUL. */
static void multiply_row(const binary *k, const int8_t *a, const int8_t *b, int8_t *out) {
  int32_t i;
  for (i = 0; i < k->sides[3]; ++i) {
    *out++ = finish_binary(k, requantize((*a - k->a_zero) * (*b - k->b_zero), k->multiplier, k->shift));
    a += k->a_steps[3];
    b += k->b_steps[3];
  }
}
