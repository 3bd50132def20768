/* value / 2^places for places > 0, halves away from zero; in two shifts, as the sum with half a unit might overflow. */
static int32_t round_shift(int32_t value, int32_t places) {
  value += value >> 31;
  return ((value >> (places - 1)) + 1) >> 1;
}
