/* ADD: both inputs on one scale, in 20 more bits. */
static void add_row(const binary *k, const int8_t *a, const int8_t *b, int8_t *out) {
  int32_t i;
  for (i = 0; i < k->sides[3]; ++i) {
    const int32_t first = requantize((*a - k->a_zero) * (1 << 20), k->a_multiplier, k->a_shift);
    const int32_t second = requantize((*b - k->b_zero) * (1 << 20), k->b_multiplier, k->b_shift);
    *out++ = finish_binary(k, requantize(first + second, k->multiplier, k->shift));
    a += k->a_steps[3];
    b += k->b_steps[3];
  }
}
