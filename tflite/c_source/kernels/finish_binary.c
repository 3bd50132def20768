/* The end of a value of two inputs. */
static int8_t finish_binary(const binary *k, int32_t value) {
  const int8_t result = saturate(value + k->zero);
  return k->table ? k->table[result + 128] : result;
}
