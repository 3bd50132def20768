static void call_convolution(const layer *k, const int8_t *input, int32_t in_h, int32_t pad_h, int32_t rows,
                             int8_t *output, int8_t *buffer) {
  const data_dims_t in = {k->in_w, in_h, k->in_c, 1}, kernel = {k->kernel_w, k->kernel_h, k->kernel_c, 1};
  const data_dims_t out = {k->out_w, rows, k->out_c, 1};
  const conv_params_t parameters = {-k->in_zero,      k->zero, {k->stride_w, k->stride_h}, {k->pad_w, pad_h},
                                    {k->dilation_w, k->dilation_h}, {-128, 127}};
  const quant_data_t scales = {(int32_t *)k->shift, (int32_t *)k->multiplier};
  esp_nn_set_conv_scratch_buf(buffer);
  esp_nn_conv_s8(&in, input, &kernel, k->weights, k->bias, &out, output, &parameters, &scales);
}
