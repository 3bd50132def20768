/* value * multiplier / 2^31, halves rounded up.
 *
 * |value| is below 2^29: the upper half of four times the product is one instruction on many cores. Right shifts of
 * negative numbers must be arithmetic, as they are with every compiler for these devices.
 */
static int32_t scale(int32_t value, int32_t multiplier) {
  const int32_t four = (int32_t)((uint32_t)value << 2);
  return ((int32_t)(((int64_t)four * multiplier) >> 32) + 1) >> 1;
}
