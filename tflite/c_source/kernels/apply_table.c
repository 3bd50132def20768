/* The function of an activation, in place. */
static void apply_table(const int8_t *table, int8_t *values, int32_t count) {
  int8_t *const end = values + count;
  if (table) {
    for (; values != end; ++values) {
      *values = table[*values + 128];
    }
  }
}
