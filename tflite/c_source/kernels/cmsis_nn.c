/* Arm's CMSIS-NN. What it refuses to compute is not passed to it; should it refuse all the same, no output is returned. */
#ifndef WAVEMIX_LIBRARY_FAILED
#define WAVEMIX_LIBRARY_FAILED() abort()
#endif

static void must_succeed(arm_cmsis_nn_status status) {
  if (status != ARM_CMSIS_NN_SUCCESS) {
    WAVEMIX_LIBRARY_FAILED();
  }
}
