/* MUL. */
static void multiply_row(const binary *k, const int8_t *a, const int8_t *b, int8_t *out) {
  /* Copies: the compiler must take a byte that is written for a part of *k. */
  const int32_t a_zero = k->a_zero, b_zero = k->b_zero, a_step = k->a_steps[3], b_step = k->b_steps[3];
  const int32_t multiplier = k->multiplier, shift = k->shift, zero = k->zero;
  const int8_t *const table = k->table ? k->table + 128 : k->table, *const end = out + k->sides[3];
  while (out != end) {
    const int8_t value = saturate(requantize((*a - a_zero) * (*b - b_zero), multiplier, shift) + zero);
    *out++ = table ? table[value] : value;
    a += a_step;
    b += b_step;
  }
}
