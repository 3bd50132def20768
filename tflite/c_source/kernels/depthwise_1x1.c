/* One tap: a weight and a bias a channel, so that one channel after another keeps its own at hand. In place too. */
static void filter_points(const depthwise *k, const int8_t *input, int8_t *output) {
  const int32_t depth = k->depth, count = k->batches * k->out_h * k->out_w, zero = k->c.zero;
  const int8_t *const table = k->c.table ? k->c.table + 128 : k->c.table;
  int32_t o, n;
  for (o = 0; o < depth; ++o) {
    const int32_t weight = k->c.weights[o], bias = k->c.bias[o], multiplier = k->c.multiplier[o];
    const int32_t shift = k->c.shift[o], up = shift > 0 ? shift : 0, places = -shift;
    const int8_t *x = input + o;
    int8_t *out = output + o;
    for (n = count; n > 0; --n) {
      const int32_t sum = scale((int32_t)((uint32_t)(*x * weight + bias) << up), multiplier);
      const int8_t value = saturate((places > 0 ? round_shift(sum, places) : sum) + zero);
      *out = table ? table[value] : value;
      x += depth;
      out += depth;
    }
  }
}
