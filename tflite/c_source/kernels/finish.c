/* Sums of some channels -> their output values. */
static void finish(const channels *c, int32_t first, int32_t count, const int32_t *sums, int8_t *out) {
  const int32_t *multiplier = c->multiplier + first;
  const int8_t *shift = c->shift + first;
  const int8_t *const table = c->table ? c->table + 128 : c->table;
  const int32_t zero = c->zero;
  for (; count > 0; --count) {
    const int8_t value = saturate(requantize(*sums++, *multiplier++, *shift++) + zero);
    *out++ = table ? table[value] : value;
  }
}
