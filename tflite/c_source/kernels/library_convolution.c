/* A convolution by a library, some rows of the output at a time: the rows of the input that they read, as a map.
 * scratch: the library's buffer, behind it the values of these rows where they are placed.
 */
static void convolve_by_library(const layer *k, const int8_t *input, int8_t *output, int8_t *scratch) {
  const int32_t count = k->out_w * k->out_c, depth = k->out_c / (k->b.block * k->b.block);
  int32_t n, y, i, rows;
  for (n = 0; n < k->batches; ++n) {
    for (y = 0; y < k->out_h; y += rows) {
      const int32_t first = y * k->stride_h - k->pad_h, top = first < 0 ? 0 : first;
      int8_t *const values = k->placed ? scratch + k->buffer_bytes : output + y * count;
      int32_t bottom;
      rows = k->rows < k->out_h - y ? k->rows : k->out_h - y;
      bottom = first + (rows - 1) * k->stride_h + (k->kernel_h - 1) * k->dilation_h + 1;
      bottom = bottom > k->in_h ? k->in_h : bottom;
      call_convolution(k, input + top * k->in_w * k->in_c, bottom - top, top - first, rows, values, scratch);
      apply_table(k->table, values, rows * count);
      for (i = 0; k->placed && i < rows * k->out_w; ++i) {
        const int32_t row = y + i / k->out_w, x = i % k->out_w;
        if (k->b.block > 1) {
          spread_block(&k->b, depth, values + i * k->out_c, row, x, output);
        } else {
          memcpy(output + row * k->out_row + x * k->out_pixel, values + i * k->out_c, (size_t)k->out_c);
        }
      }
    }
    input += k->in_h * k->in_w * k->in_c;
    output += k->out_batch;
  }
}
