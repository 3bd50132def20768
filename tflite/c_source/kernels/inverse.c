/* gemmlowp's numbers in [-1, 1): products, and 1 / (1 + value) of 0 <= value < 1 by three steps of Newton and Raphson. */
static int32_t fixed_product(int32_t a, int32_t b) {
  return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}

static int32_t inverse(int32_t value) {
  const int32_t half = (int32_t)(((int64_t)value + 0x7fffffff + 1) / 2);
  int32_t x = 1515870810 + fixed_product(half, -1010580540), i; /* 48/17 - 32/17 * half, with two integer bits */
  for (i = 0; i < 3; ++i) {
    const int32_t rest = fixed_product(x, (1 << 29) - fixed_product(half, x));
    x += (int32_t)((uint32_t)rest << 2);
  }
  return x > 1073741823 ? 0x7fffffff : x < -1073741824 ? (int32_t)(-0x7fffffff - 1) : (int32_t)((uint32_t)x << 1);
}
