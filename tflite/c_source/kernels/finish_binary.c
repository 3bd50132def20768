/* The end of a value of two inputs. */
static int8_t finish_binary(const binary *k, int32_t value) {
  const int8_t result = clamp(value + k->zero, k->low, k->high);
  return k->table ? k->table[result + 128] : result;
}
