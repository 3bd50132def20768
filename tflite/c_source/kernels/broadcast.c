/* Ops of two inputs that repeat along some axes: the outer loops. The innermost is a function of the op. */
typedef struct {
  int32_t sides[4]; /* the innermost last */
  int32_t a_steps[4], b_steps[4];
  int32_t a_zero, a_multiplier, a_shift; /* a zero point is subtracted */
  int32_t b_zero, b_multiplier, b_shift;
  int32_t zero, multiplier, shift; /* of the output */
  const int8_t *table;
} binary;

typedef void (*binary_row)(const binary *k, const int8_t *a, const int8_t *b, int8_t *out);

static void broadcast(const binary *k, binary_row row, const int8_t *a, const int8_t *b, int8_t *out) {
  int32_t i, j, l;
  for (i = 0; i < k->sides[0]; ++i) {
    for (j = 0; j < k->sides[1]; ++j) {
      for (l = 0; l < k->sides[2]; ++l) {
        row(k, a + i * k->a_steps[0] + j * k->a_steps[1] + l * k->a_steps[2],
            b + i * k->b_steps[0] + j * k->b_steps[1] + l * k->b_steps[2], out);
        out += k->sides[3];
      }
    }
  }
}
