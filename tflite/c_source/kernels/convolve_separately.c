#if !WAVEMIX_PAIRS
/* The end of the values of two pixels: sums[4] and on are those of the second. */
static void finish_pair(const channels *c, int32_t first, int32_t count, const int32_t *sums, int8_t *out,
                        int32_t apart) {
  const int32_t *multiplier = c->multiplier + first;
  const int8_t *shift = c->shift + first;
  const int8_t *const table = c->table ? c->table + 128 : c->table;
  const int32_t zero = c->zero;
  for (; count > 0; --count) {
    const int32_t by = *multiplier++, places = *shift++;
    const int8_t a = saturate(requantize(sums[0], by, places) + zero);
    const int8_t b = saturate(requantize(sums[4], by, places) + zero);
    out[0] = table ? table[a] : a;
    out[apart] = table ? table[b] : b;
    ++sums;
    ++out;
  }
}

static void dot(const channels *c, const int8_t *w, int32_t first, int32_t count, const int8_t *x, int32_t rows,
                int32_t row_bytes, int32_t row_step, int8_t *out) {
  const int32_t last = first + count;
  int32_t o = first;
  for (; o < last; o += 4) {
    int32_t sums[8];
    int32_t a0 = c->bias[o], a1 = c->bias[o + 1], a2 = c->bias[o + 2], a3 = c->bias[o + 3];
    const int8_t *row = x;
    int32_t r;
    for (r = rows; r > 0; --r) {
      const int8_t *p = row;
      const int8_t *const end = row + row_bytes;
      do {
        const int32_t value = *p++;
        a0 += value * *w++;
        a1 += value * *w++;
        a2 += value * *w++;
        a3 += value * *w++;
      } while (p != end);
      row += row_step;
    }
    sums[0] = sums[4] = a0;
    sums[1] = sums[5] = a1;
    sums[2] = sums[6] = a2;
    sums[3] = sums[7] = a3;
    finish_pair(c, o, last - o < 4 ? last - o : 4, sums, out, 0);
    out += 4;
  }
}

/* The same of two pixels, the second 'apart' bytes behind the first: each weight is read once for both. */
static void dot_pair(const channels *c, const int8_t *w, int32_t first, int32_t count, const int8_t *x, int32_t apart,
                     int32_t rows, int32_t row_bytes, int32_t row_step, int8_t *out, int32_t out_apart) {
  const int32_t last = first + count;
  int32_t o = first;
  for (; o < last; o += 4) {
    int32_t sums[8];
    int32_t a0 = c->bias[o], a1 = c->bias[o + 1], a2 = c->bias[o + 2], a3 = c->bias[o + 3];
    int32_t b0 = a0, b1 = a1, b2 = a2, b3 = a3;
    const int8_t *row = x;
    int32_t r;
    for (r = rows; r > 0; --r) {
      const int8_t *p = row, *q = row + apart;
      const int8_t *const end = row + row_bytes;
      do {
        const int32_t u = *p++, v = *q++;
        int32_t weight = *w++;
        a0 += u * weight;
        b0 += v * weight;
        weight = *w++;
        a1 += u * weight;
        b1 += v * weight;
        weight = *w++;
        a2 += u * weight;
        b2 += v * weight;
        weight = *w++;
        a3 += u * weight;
        b3 += v * weight;
      } while (p != end);
      row += row_step;
    }
    sums[0] = a0;
    sums[1] = a1;
    sums[2] = a2;
    sums[3] = a3;
    sums[4] = b0;
    sums[5] = b1;
    sums[6] = b2;
    sums[7] = b3;
    finish_pair(c, o, last - o < 4 ? last - o : 4, sums, out, out_apart);
    out += 4;
  }
}

/* The window of one group at (y, x), which may reach beyond the edges. */
static void copy_window(const convolution *k, const int8_t *input, int32_t group, int32_t y, int32_t x,
                        int8_t *window) {
  int32_t i, j;
  for (i = 0; i < k->kernel_h; ++i) {
    const int32_t in_y = y + i * k->dilation_h;
    for (j = 0; j < k->kernel_w; ++j) {
      const int32_t in_x = x + j * k->dilation_w;
      if (in_y >= 0 && in_y < k->in_h && in_x >= 0 && in_x < k->in_w) {
        memcpy(window, input + (in_y * k->in_w + in_x) * k->in_c + group * k->group_in, (size_t)k->group_in);
      } else {
        memset(window, (int)k->pad_value, (size_t)k->group_in);
      }
      window += k->group_in;
    }
  }
}

/* scratch: the values of two pixels where block is above 1, behind them two windows. */
static void convolve(const convolution *k, const int8_t *input, int8_t *output, int8_t *scratch) {
  const int32_t size = k->kernel_h * k->kernel_w * k->group_in, depth = k->groups * k->group_out;
  const int32_t reach_h = (k->kernel_h - 1) * k->dilation_h, reach_w = (k->kernel_w - 1) * k->dilation_w;
  const int whole_rows = k->groups == 1 && k->dilation_w == 1;
  int8_t *const windows = scratch + (k->b.block > 1 ? 2 * depth : 0);
  int32_t b, y, x, g, i;
  for (b = 0; b < k->batches; ++b) {
    for (y = 0; y < k->out_h; ++y) {
      const int32_t in_y = y * k->stride_h - k->pad_h;
      const int rows_inside = whole_rows && in_y >= 0 && in_y + reach_h < k->in_h;
      int32_t pixels = 2;
      for (x = 0; x < k->out_w; x += pixels) {
        const int32_t in_x = x * k->stride_w - k->pad_w;
        int8_t *const pixel = k->b.block > 1 ? scratch : output + y * k->out_row + x * k->out_pixel;
        const int8_t *start = windows;
        int32_t apart = size, rows = 1, row_bytes = size;
        int inside;
        if (x + 1 == k->out_w) {
          pixels = 1;
        }
        inside = rows_inside && in_x >= 0 && in_x + (pixels - 1) * k->stride_w + reach_w < k->in_w;
        if (inside) {
          start = input + (in_y * k->in_w + in_x) * k->in_c;
          apart = k->stride_w * k->in_c;
          rows = k->kernel_h;
          row_bytes = k->kernel_w * k->in_c;
        }
        for (g = 0; g < k->groups; ++g) {
          const int32_t first = g * k->group_out;
          for (i = 0; !inside && i < pixels; ++i) {
            copy_window(k, input, g, in_y, in_x + i * k->stride_w, windows + i * size);
          }
          if (pixels == 2) {
            dot_pair(&k->c, k->c.weights + g * k->group_weights, first, k->group_out, start, apart, rows, row_bytes,
                     k->dilation_h * k->in_w * k->in_c, pixel + first, k->b.block > 1 ? depth : k->out_pixel);
          } else {
            dot(&k->c, k->c.weights + g * k->group_weights, first, k->group_out, start, rows, row_bytes,
                k->dilation_h * k->in_w * k->in_c, pixel + first);
          }
        }
        if (k->b.block > 1) {
          for (i = 0; i < pixels; ++i) {
            spread_block(&k->b, depth / (k->b.block * k->b.block), pixel + i * depth, y, x + i, output);
          }
        }
      }
    }
    input += k->in_h * k->in_w * k->in_c;
    output += k->out_batch;
  }
}
#endif
