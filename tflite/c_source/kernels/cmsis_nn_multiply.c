static void multiply_by_library(const pair *k, const int8_t *a, const int8_t *b, int8_t *output) {
  must_succeed(arm_elementwise_mul_s8(a, b, -k->a_zero, -k->b_zero, output, k->zero, k->multiplier, k->shift, -128,
                                      127, k->count));
  apply_table(k->table, output, k->count);
}
