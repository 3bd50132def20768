/* Any function of one int8 value: its 256 results, by value + 128. Input and output may be one. */
static void look_up(const int8_t *table, const int8_t *input, int8_t *output, int32_t count) {
  const int8_t *const end = input + count;
  table += 128;
  while (input != end) {
    *output++ = table[*input++];
  }
}
