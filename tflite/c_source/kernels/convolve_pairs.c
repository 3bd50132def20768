#if WAVEMIX_PAIRS
/* Two pixels in one number: u + v * 2^23. A product of it with a weight is the products of both, and a core that adds
 * products of 64 bits in one instruction adds both at once.
 */
#define PAIRED_TAPS 254 /* 254 * 128 * 128 is below 2^22: the sum of the first pixel does not reach that of the second */

/* lows: what the sums of the first pixel start with; those of the second start with the bias. */
static void finish_pairs(const channels *c, int32_t first, int32_t count, const int64_t *sums, const int32_t *lows,
                         int8_t *out, int32_t apart) {
  const int32_t *bias = c->bias + first, *multiplier = c->multiplier + first;
  const int8_t *shift = c->shift + first;
  const int8_t *const table = c->table ? c->table + 128 : c->table;
  const int32_t zero = c->zero;
  for (; count > 0; --count) {
    const int64_t sum = *sums++;
    const int32_t by = *multiplier++, places = *shift++;
    int32_t a = ((int32_t)((uint32_t)sum << 9) >> 9) + *lows++;
    int32_t b = (int32_t)(sum >> 23) + (int32_t)((sum >> 22) & 1) + *bias++;
    if (places < 0) {
      a = round_shift(scale(a, by), -places);
      b = round_shift(scale(b, by), -places);
    } else {
      a = requantize(a, by, places);
      b = requantize(b, by, places);
    }
    a = saturate(a + zero);
    b = saturate(b + zero);
    if (table) {
      a = table[a];
      b = table[b];
    }
    out[apart] = (int8_t)b; /* of one pixel, apart is 0: the first is what remains */
    *out++ = (int8_t)a;
  }
}

/* Takes the sums of the first pixels out of those of both, before they grow too large. */
static void move_sums(int64_t *sums, int32_t *lows) {
  int32_t i;
  for (i = 0; i < 4; ++i) {
    const int32_t first = (int32_t)((uint32_t)sums[i] << 9) >> 9;
    lows[i] += first;
    sums[i] -= first;
  }
}

static void dot_pairs(const channels *c, const int8_t *w, int32_t first, int32_t count, const int32_t *x, int32_t taps,
                      int8_t *out, int32_t apart) {
  const int32_t last = first + count;
  int32_t o = first;
  for (; o < last; o += 4) {
    int64_t sums[4], s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    int32_t moved[4], left = taps;
    const int32_t *p = x, *lows = c->bias + o;
    for (;;) {
      const int32_t *const end = p + (left > PAIRED_TAPS ? PAIRED_TAPS : left);
      do {
        const int32_t pair = *p++;
        s0 += (int64_t)pair * *w++;
        s1 += (int64_t)pair * *w++;
        s2 += (int64_t)pair * *w++;
        s3 += (int64_t)pair * *w++;
      } while (p != end);
      sums[0] = s0;
      sums[1] = s1;
      sums[2] = s2;
      sums[3] = s3;
      left -= PAIRED_TAPS;
      if (left <= 0) {
        break;
      }
      if (lows != moved) {
        memcpy(moved, lows, sizeof moved);
        lows = moved;
      }
      move_sums(sums, moved);
      s0 = sums[0];
      s1 = sums[1];
      s2 = sums[2];
      s3 = sums[3];
    }
    finish_pairs(c, o, last - o < 4 ? last - o : 4, sums, lows, out, apart);
    out += 4;
  }
}

/* Windows that lie inside, at u and 'apart' bytes behind it. */
static void pair_rows(const int8_t *u, int32_t apart, int32_t rows, int32_t row_bytes, int32_t row_step,
                      int32_t *pairs) {
  for (; rows > 0; --rows) {
    const int8_t *p = u;
    const int8_t *const end = u + row_bytes;
    do {
      const int32_t b = p[apart];
      *pairs++ = *p++ + b * (1 << 23);
    } while (p != end);
    u += row_step;
  }
}

/* Windows of one group, at (y, x) and 'apart' columns behind it, which may reach beyond the edges. */
static void pair_windows(const convolution *k, const int8_t *input, int32_t y, int32_t x, int32_t apart,
                         int32_t *pairs) {
  int32_t i, j, n;
  for (i = 0; i < k->kernel_h; ++i) {
    const int32_t in_y = y + i * k->dilation_h;
    const int row_inside = in_y >= 0 && in_y < k->in_h;
    for (j = 0; j < k->kernel_w; ++j) {
      const int32_t in_x = x + j * k->dilation_w;
      const int u_inside = row_inside && in_x >= 0 && in_x < k->in_w;
      const int v_inside = row_inside && in_x + apart >= 0 && in_x + apart < k->in_w;
      const int8_t *const u = input + (in_y * k->in_w + in_x) * k->in_c;
      if (u_inside && v_inside) {
        pair_rows(u, apart * k->in_c, 1, k->group_in, 0, pairs);
      } else {
        for (n = 0; n < k->group_in; ++n) {
          const int32_t a = u_inside ? u[n] : k->pad_value, b = v_inside ? u[n + apart * k->in_c] : k->pad_value;
          pairs[n] = a + b * (1 << 23);
        }
      }
      pairs += k->group_in;
    }
  }
}

/* scratch: the taps of two pixels, behind them the values of both where block is above 1. */
static void convolve(const convolution *k, const int8_t *input, int8_t *output, int8_t *scratch) {
  const int32_t size = k->kernel_h * k->kernel_w * k->group_in, depth = k->groups * k->group_out;
  const int32_t reach_h = (k->kernel_h - 1) * k->dilation_h, reach_w = (k->kernel_w - 1) * k->dilation_w;
  const int32_t row_step = k->dilation_h * k->in_w * k->in_c;
  const int whole_rows = k->groups == 1 && k->dilation_w == 1;
  int32_t *const pairs = (int32_t *)(void *)scratch;
  int8_t *const values = scratch + 4 * size;
  int32_t b, y, x, g, i;
  for (b = 0; b < k->batches; ++b) {
    for (y = 0; y < k->out_h; ++y) {
      const int32_t in_y = y * k->stride_h - k->pad_h;
      const int rows_inside = whole_rows && in_y >= 0 && in_y + reach_h < k->in_h;
      for (x = 0; x < k->out_w; x += 2) {
        const int32_t pixels = x + 1 == k->out_w ? 1 : 2, apart = (pixels - 1) * k->stride_w;
        const int32_t in_x = x * k->stride_w - k->pad_w;
        const int32_t out_apart = pixels == 1 ? 0 : k->b.block > 1 ? depth : k->out_pixel;
        int8_t *const pixel = k->b.block > 1 ? values : output + y * k->out_row + x * k->out_pixel;
        for (g = 0; g < k->groups; ++g) {
          if (rows_inside && in_x >= 0 && in_x + apart + reach_w < k->in_w) {
            pair_rows(input + (in_y * k->in_w + in_x) * k->in_c, apart * k->in_c, k->kernel_h, k->kernel_w * k->in_c,
                      row_step, pairs);
          } else {
            pair_windows(k, input + g * k->group_in, in_y, in_x, apart, pairs);
          }
          dot_pairs(&k->c, k->c.weights + g * k->group_weights, g * k->group_out, k->group_out, pairs, size,
                    pixel + g * k->group_out, out_apart);
        }
        for (i = 0; k->b.block > 1 && i < pixels; ++i) {
          spread_block(&k->b, depth / (k->b.block * k->b.block), values + i * depth, y, x + i, output);
        }
      }
    }
    input += k->in_h * k->in_w * k->in_c;
    output += k->out_batch;
  }
}
#endif
