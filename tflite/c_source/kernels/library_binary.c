/* An op of two maps of one shape, as libraries take it. */
typedef struct {
  int32_t count;
  int32_t a_zero, a_multiplier, a_shift, b_zero, b_multiplier, b_shift;
  int32_t zero, multiplier, shift;
  const int8_t *table;
} pair;
