/* Blocks of bytes in another order, some several times: where each comes from, by row and column. */
typedef struct {
  const int32_t *rows, *columns; /* bytes from the start of the input, and of the row */
  int32_t outer, row_count, column_count;
  int32_t outer_step, run;
} picking;

static void pick(const picking *k, const int8_t *input, int8_t *output) {
  int32_t o, i, j;
  for (o = 0; o < k->outer; ++o) {
    for (i = 0; i < k->row_count; ++i) {
      for (j = 0; j < k->column_count; ++j) {
        memcpy(output, input + k->rows[i] + k->columns[j], (size_t)k->run);
        output += k->run;
      }
    }
    input += k->outer_step;
  }
}
