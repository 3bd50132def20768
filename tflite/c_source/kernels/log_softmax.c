/* LOG_SOFTMAX over the last axis: value - largest - log(sum of exponentials), the exponentials by table. */
typedef struct {
  const int32_t *exponentials; /* of 0, -1, -2 ... steps of the input, in units of 2^-31 */
  int32_t rows, depth, entries; /* what lies further below the largest is the lowest output */
  int32_t multiplier, shift; /* from steps of the input to units of 2^-26 */
  int32_t divisor, divisor_shift; /* and back, at most */
} log_normalization;

/* value * 2^places, at most the largest number. */
static int32_t shift_up(int32_t value, int32_t places) {
  return value > 0x7fffffff >> places ? 0x7fffffff : (int32_t)((uint32_t)value << places);
}

/* log(value) in units of 2^-26 of a value of at least 1 in units of 2^-19, as TensorFlow Lite computes it: by the first
 * terms of a series about 2^-0.25, of the value and of its product with 2^-0.5 between two powers of two. */
static int32_t logarithm(int32_t value) {
  const int32_t half_root = 1518500250, quarter_root = 1805811301, quarter = 1 << 23;
  const int32_t b = fixed_product(value, half_root);
  int32_t a_zeros = 0, b_zeros = 0, a_power, b_power, r, other, p, q, square, rest, low;
  while (((uint32_t)value << a_zeros) < 0x40000000u) {
    ++a_zeros;
  }
  while (((uint32_t)b << b_zeros) < 0x40000000u) {
    ++b_zeros;
  }
  a_power = (11 - a_zeros) * (1 << 25) + quarter;
  b_power = (12 - b_zeros) * (1 << 25) - quarter;
  r = shift_up(fixed_product((int32_t)((uint32_t)value << a_zeros), half_root), 1);
  other = shift_up(value, b_zeros);
  r = other < r ? other : r;
  p = (int32_t)(((int64_t)r + quarter_root + 1) / 2);
  q = 2 * (r - quarter_root);
  square = fixed_product(q, q);
  rest = fixed_product(q, r) + fixed_product(fixed_product(q, square), 117049297);
  low = fixed_product(p, 1057819769 + q + fixed_product(127690142, square)) + fixed_product(638450708, q);
  return 2 * (fixed_product(a_power > b_power ? a_power : b_power, 1488522236) +
              fixed_product(round_shift(rest, 6), inverse(low)));
}

static void log_softmax(const log_normalization *k, const int8_t *input, int8_t *output) {
  int32_t r, c;
  for (r = 0; r < k->rows; ++r) {
    int32_t largest = -128, sum = 0, log_sum, lowest;
    for (c = 0; c < k->depth; ++c) {
      largest = input[c] > largest ? input[c] : largest;
    }
    for (c = 0; c < k->depth; ++c) {
      const int32_t below = largest - input[c];
      if (below < k->entries) {
        sum += ((k->exponentials[below] >> 11) + 1) >> 1;
      }
    }
    log_sum = logarithm(sum);
    lowest = fixed_product((int32_t)((uint32_t)log_sum + 0x80000000u), k->divisor);
    lowest = k->divisor_shift > 0 ? round_shift(lowest, k->divisor_shift) : lowest;
    for (c = 0; c < k->depth; ++c) {
      const int32_t below = largest - input[c];
      int32_t value = -128;
      if (below < k->entries && -below > lowest) {
        const int32_t real = fixed_product((int32_t)((uint32_t)-below << k->shift), k->multiplier);
        value = round_shift((int32_t)((uint32_t)real - (uint32_t)log_sum), 22) + 127;
      }
      output[c] = clamp(value, -128, 127);
    }
    input += k->depth;
    output += k->depth;
  }
}
