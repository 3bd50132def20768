/* SUB: both inputs on one scale, in 20 more bits. That of a is the larger one: half of it is a shift. a_multiplier:
 * 2^19, negative where a is what is subtracted; a_shift: the sign of b. */
static void subtract_row(const binary *k, const int8_t *a, const int8_t *b, int8_t *out) {
  /* Copies: the compiler must take a byte that is written for a part of *k. */
  const int32_t a_zero = k->a_zero, b_zero = k->b_zero, a_step = k->a_steps[3], b_step = k->b_steps[3];
  const int32_t a_multiplier = k->a_multiplier, b_sign = k->a_shift;
  const int32_t b_multiplier = k->b_multiplier, b_places = -k->b_shift;
  const int32_t multiplier = k->multiplier, places = -k->shift, zero = k->zero;
  const int8_t *const table = k->table ? k->table + 128 : k->table, *const end = out + k->sides[3];
  while (out != end) {
    const int32_t second = round_shift(scale((*b - b_zero) * (1 << 20), b_multiplier), b_places);
    const int32_t difference = (*a - a_zero) * a_multiplier + second * b_sign;
    const int8_t value = saturate(round_shift(scale(difference, multiplier), places) + zero);
    *out++ = table ? table[value] : value;
    a += a_step;
    b += b_step;
  }
}
