static void add_by_library(const pair *k, const int8_t *a, const int8_t *b, int8_t *output) {
  esp_nn_add_elementwise_s8(a, b, -k->a_zero, -k->b_zero, k->a_multiplier, k->b_multiplier, k->a_shift, k->b_shift, 20,
                            output, k->zero, k->multiplier, k->shift, -128, 127, k->count);
  apply_table(k->table, output, k->count);
}
