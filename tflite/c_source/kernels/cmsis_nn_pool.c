/* A pool by CMSIS-NN. scratch: the sums of the average. */
typedef arm_cmsis_nn_status (*library_pool)(const cmsis_nn_context *, const cmsis_nn_pool_params *,
                                            const cmsis_nn_dims *, const int8_t *, const cmsis_nn_dims *,
                                            const cmsis_nn_dims *, int8_t *);

static void pool_by_library(const pooling *k, library_pool function, const int8_t *input, int8_t *output,
                            int8_t *scratch) {
  const cmsis_nn_context context = {scratch, k->depth * 4};
  const cmsis_nn_pool_params parameters = {{k->stride_w, k->stride_h}, {k->pad_w, k->pad_h}, {k->low, k->high}};
  const cmsis_nn_dims in = {k->batches, k->in_h, k->in_w, k->depth}, out = {k->batches, k->out_h, k->out_w, k->depth};
  const cmsis_nn_dims kernel = {1, k->kernel_h, k->kernel_w, 1};
  must_succeed(function(&context, &parameters, &in, input, &kernel, &out, output));
}
