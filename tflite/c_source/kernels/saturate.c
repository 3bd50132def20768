/* The int8 value that is next to a number. */
static int8_t saturate(int32_t value) {
  return (int8_t)(value < -128 ? -128 : value > 127 ? 127 : value);
}
