/* DEPTHWISE_CONV_2D with one filter a channel, by CMSIS-NN. scratch: its buffer. */
static void filter_by_library(const layer *k, const int8_t *input, int8_t *output, int8_t *scratch) {
  const cmsis_nn_context context = {scratch, k->buffer_bytes};
  const cmsis_nn_dw_conv_params parameters = {-k->in_zero,
                                              k->zero,
                                              1,
                                              {k->stride_w, k->stride_h},
                                              {k->pad_w, k->pad_h},
                                              {k->dilation_w, k->dilation_h},
                                              {-128, 127}};
  const cmsis_nn_per_channel_quant_params scales = {(int32_t *)k->multiplier, (int32_t *)k->shift};
  const cmsis_nn_dims in = {k->batches, k->in_h, k->in_w, k->in_c}, out = {k->batches, k->out_h, k->out_w, k->out_c};
  const cmsis_nn_dims kernel = {1, k->kernel_h, k->kernel_w, k->out_c}, bias = {1, 1, 1, k->out_c};
  must_succeed(arm_depthwise_conv_wrapper_s8(&context, &parameters, &scales, &in, input, &kernel, k->weights, &bias,
                                             k->bias, &out, output));
  apply_table(k->table, output, k->batches * k->out_h * k->out_w * k->out_c);
}
