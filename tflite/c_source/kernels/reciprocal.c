/* value > 0 -> 2^31 / (value without its leading zeros), and the number of these. */
static int32_t reciprocal(int32_t value, int32_t *leading_zeros) {
  uint32_t shifted = (uint32_t)value;
  int32_t zeros = 0;
  while (shifted < 0x80000000u) {
    shifted <<= 1;
    ++zeros;
  }
  *leading_zeros = zeros;
  return inverse((int32_t)(shifted - 0x80000000u));
}
