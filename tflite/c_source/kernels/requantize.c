/* An accumulator on the output's scale: value * multiplier * 2^(shift - 31), rounded twice as gemmlowp does.
 *
 * |value| is below 2^30: its double, whose product is rounded at 32 bits, takes fewer instructions. Right shifts of
 * negative numbers must be arithmetic, as they are with every compiler for these devices.
 */
static int32_t requantize(int32_t value, int32_t multiplier, int32_t shift) {
  int32_t high;
  if (shift > 0) {
    value *= 1 << shift;
  }
  high = (int32_t)(((int64_t)(value * 2) * multiplier + ((int64_t)1 << 31)) >> 32);
  if (shift >= 0) {
    return high;
  }
  /* Halves are rounded away from zero. */
  high += high >> 31;
  return ((high >> (-shift - 1)) + 1) >> 1;
}
