/* An accumulator on the output's scale: value * multiplier * 2^(shift - 31), rounded twice as gemmlowp does. */
static int32_t requantize(int32_t value, int32_t multiplier, int32_t shift) {
  value = scale(shift > 0 ? (int32_t)((uint32_t)value << shift) : value, multiplier);
  return shift < 0 ? round_shift(value, -shift) : value;
}
