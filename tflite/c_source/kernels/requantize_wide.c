/* An accumulator on the output's scale: value * multiplier * 2^(shift - 31), rounded twice as gemmlowp does.
 *
 * For accumulators of any size.
 *
 * Right shifts of negative numbers must be arithmetic, as they are with every compiler for these devices.
 */
static int32_t requantize(int32_t value, int32_t multiplier, int32_t shift) {
  int32_t high;
  if (shift > 0) {
    value = (int32_t)((uint32_t)value << shift);
  }
  high = (int32_t)(((int64_t)value * multiplier + ((int64_t)1 << 30)) >> 31);
  if (shift >= 0) {
    return high;
  }
  /* Halves are rounded away from zero; in two shifts, as the sum with half a unit might overflow. */
  high += high >> 31;
  return ((high >> (-shift - 1)) + 1) >> 1;
}
