/* DIV: the first input times 1 / the second. Division by zero is as by one step. A quotient that vanishes is 0, where the
 * reference kernel shifts by more than 31 bits and returns anything.
 */
static void divide_row(const binary *k, const int8_t *a, const int8_t *b, int8_t *out) {
  int32_t i;
  for (i = 0; i < k->sides[3]; ++i) {
    int32_t dividend = *a - k->a_zero, divisor = *b - k->b_zero, zeros, headroom = 31;
    uint32_t magnitude;
    if (divisor < 0) {
      dividend = -dividend;
      divisor = -divisor;
    }
    for (magnitude = (uint32_t)(dividend < 0 ? -dividend - 1 : dividend); magnitude > 0; magnitude >>= 1) {
      --headroom;
    }
    {
      const int32_t inverse = reciprocal(divisor > 0 ? divisor : 1, &zeros);
      const int32_t quotient = fixed_product((int32_t)((uint32_t)dividend << headroom), inverse);
      const int32_t places = -(k->shift - (31 - zeros) - headroom);
      const int32_t scaled = fixed_product(quotient, k->multiplier);
      *out++ = finish_binary(k, places > 31 ? 0 : places > 0 ? round_shift(scaled, places) : scaled);
    }
    a += k->a_steps[3];
    b += k->b_steps[3];
  }
}
