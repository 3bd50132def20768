/* Four channels at a time, their weights beside each other. */
static void filter_pixel(const depthwise *k, const int8_t *x, int32_t row_step, int32_t column_step, int8_t *out) {
  const int8_t *w = k->c.weights;
  int32_t o = 0, i, j;
  for (; o + 4 <= k->depth; o += 4) {
    int32_t sums[4];
    int32_t a0 = k->c.bias[o], a1 = k->c.bias[o + 1], a2 = k->c.bias[o + 2], a3 = k->c.bias[o + 3];
    const int8_t *row = x + o;
    for (i = k->kernel_h; i > 0; --i) {
      const int8_t *p = row;
      for (j = k->kernel_w; j > 0; --j) {
        a0 += p[0] * w[0];
        a1 += p[1] * w[1];
        a2 += p[2] * w[2];
        a3 += p[3] * w[3];
        p += column_step;
        w += 4;
      }
      row += row_step;
    }
    sums[0] = a0;
    sums[1] = a1;
    sums[2] = a2;
    sums[3] = a3;
    finish(&k->c, o, 4, sums, out + o);
  }
  for (; o < k->depth; ++o) {
    int32_t sum = k->c.bias[o];
    const int8_t *row = x + o;
    for (i = k->kernel_h; i > 0; --i) {
      const int8_t *p = row;
      for (j = k->kernel_w; j > 0; --j) {
        sum += *p * *w++;
        p += column_step;
      }
      row += row_step;
    }
    finish(&k->c, o, 1, &sum, out + o);
  }
}

/* scratch: a window. At the edges it is copied with the zero point in place of what is missing. */
static void filter_depthwise(const depthwise *k, const int8_t *input, int8_t *output, int8_t *scratch) {
  const int32_t reach_h = (k->kernel_h - 1) * k->dilation_h, reach_w = (k->kernel_w - 1) * k->dilation_w;
  const int32_t row_step = k->in_w * k->depth;
  int32_t b, y, x, i, j;
  for (b = 0; b < k->batches; ++b) {
    for (y = 0; y < k->out_h; ++y) {
      const int32_t in_y = y * k->stride_h - k->pad_h;
      for (x = 0; x < k->out_w; ++x) {
        const int32_t in_x = x * k->stride_w - k->pad_w;
        if (in_y >= 0 && in_y + reach_h < k->in_h && in_x >= 0 && in_x + reach_w < k->in_w) {
          filter_pixel(k, input + in_y * row_step + in_x * k->depth, k->dilation_h * row_step,
                       k->dilation_w * k->depth, output);
        } else {
          int8_t *window = scratch;
          for (i = 0; i < k->kernel_h; ++i) {
            const int32_t row = in_y + i * k->dilation_h;
            for (j = 0; j < k->kernel_w; ++j) {
              const int32_t column = in_x + j * k->dilation_w;
              if (row >= 0 && row < k->in_h && column >= 0 && column < k->in_w) {
                memcpy(window, input + row * row_step + column * k->depth, (size_t)k->depth);
              } else {
                memset(window, (int)k->pad_value, (size_t)k->depth);
              }
              window += k->depth;
            }
          }
          filter_pixel(k, scratch, k->kernel_w * k->depth, k->depth, output);
        }
        output += k->depth;
      }
    }
    input += k->in_h * row_step;
  }
}
