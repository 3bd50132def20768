/* ADD: both inputs on one scale, in 20 more bits. That of the first is the larger one: half of it is a shift. */
static int8_t add_one(const binary *k, int32_t a, int32_t b) {
  const int32_t second = round_shift(scale((b - k->b_zero) * (1 << 20), k->b_multiplier), -k->b_shift);
  const int32_t sum = (a - k->a_zero) * (1 << 19) + second;
  return finish_binary(k, round_shift(scale(sum, k->multiplier), -k->shift));
}

static void add_row(const binary *k, const int8_t *a, const int8_t *b, int8_t *out) {
  /* Copies: the compiler must take a byte that is written for a part of *k. */
  const binary copy = *k;
  const int8_t *const end = out + copy.sides[3];
  if (copy.a_steps[3] == 1 && copy.b_steps[3] == 1) {
    while (out != end) {
      *out++ = add_one(&copy, *a++, *b++);
    }
  } else {
    while (out != end) {
      *out++ = add_one(&copy, *a, *b);
      a += copy.a_steps[3];
      b += copy.b_steps[3];
    }
  }
}
