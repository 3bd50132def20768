static void call_convolution(const layer *k, const int8_t *input, int32_t in_h, int32_t pad_h, int32_t rows,
                             int8_t *output, int8_t *buffer) {
  const cmsis_nn_context context = {buffer, k->buffer_bytes};
  const cmsis_nn_conv_params parameters = {-k->in_zero,
                                           k->zero,
                                           {k->stride_w, k->stride_h},
                                           {k->pad_w, pad_h},
                                           {k->dilation_w, k->dilation_h},
                                           {-128, 127}};
  const cmsis_nn_per_channel_quant_params scales = {(int32_t *)k->multiplier, (int32_t *)k->shift};
  const cmsis_nn_dims in = {1, in_h, k->in_w, k->in_c}, out = {1, rows, k->out_w, k->out_c};
  const cmsis_nn_dims kernel = {k->out_c, k->kernel_h, k->kernel_w, k->kernel_c}, bias = {1, 1, 1, k->out_c};
  must_succeed(arm_convolve_wrapper_s8(&context, &parameters, &scales, &in, input, &kernel, k->weights, &bias, k->bias,
                                       &out, output));
}
