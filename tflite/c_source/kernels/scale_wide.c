/* value * multiplier / 2^31, halves rounded up, of values of any size.
 *
 * Right shifts of negative numbers must be arithmetic, as they are with every compiler for these devices.
 */
static int32_t scale(int32_t value, int32_t multiplier) {
  return (int32_t)(((int64_t)value * multiplier + ((int64_t)1 << 30)) >> 31);
}
