/* SOFTMAX over the last axis: exp(value - largest) by table, the sum with 12 integer bits. */
typedef struct {
  const int32_t *exponentials; /* of 0, -1, -2 ... steps of the input, in units of 2^-31 */
  int32_t rows, depth, entries; /* what lies further below the largest is zero */
} normalization;

static void softmax(const normalization *k, const int8_t *input, int8_t *output) {
  int32_t r, c;
  for (r = 0; r < k->rows; ++r) {
    int32_t largest = -128, sum = 0, scale, zeros, shift;
    for (c = 0; c < k->depth; ++c) {
      largest = input[c] > largest ? input[c] : largest;
    }
    for (c = 0; c < k->depth; ++c) {
      const int32_t below = largest - input[c];
      if (below < k->entries) {
        sum += ((k->exponentials[below] >> 11) + 1) >> 1;
      }
    }
    scale = reciprocal(sum, &zeros);
    shift = 12 - zeros + 31 - 8;
    for (c = 0; c < k->depth; ++c) {
      const int32_t below = largest - input[c];
      int32_t value = 0;
      if (below < k->entries) {
        value = fixed_product(scale, k->exponentials[below]);
        if (shift > 31) {
          value = 0; /* of 512 or more nearly equal values each is below half a step */
        } else if (shift > 0) {
          value = ((value >> (shift - 1)) + 1) >> 1;
        }
      }
      output[c] = clamp(value - 128, -128, 127);
    }
    input += k->depth;
    output += k->depth;
  }
}
