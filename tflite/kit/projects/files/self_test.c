/* See @{prefix}self_test.h. */
#include "@{prefix}self_test.h"

#include <stddef.h>
#include <string.h>

#include "@{name}_vectors.h"
#include "@{prefix}network.h"

static void write_found(WriteText write, int place, long value, long wanted) {
  write("failed: value ");
  @{prefix}write_number(write, place);
  write(" is ");
  @{prefix}write_number(write, value);
  write(", expected ");
  @{prefix}write_number(write, wanted);
  write("\n");
}

/* Tolerance: @{tolerance}. */
static int same_output(WriteText write, int vector) {
  const @{prefix}network_output_t* output = @{prefix}network_output();
  int i;
  for (i = 0; i < @{name}_expected_0_size; ++i) {
    const @{wide} wanted = (@{wide})@{name}_expected_0[vector][i];
    const @{wide} difference = (@{wide})output[i] - wanted;
    if (!(difference <= @{limit} && -difference <= @{limit})) {
      write_found(write, i, (long)output[i], (long)wanted);
      return 0;
    }
  }
  return 1;
}

static int test_vector(WriteText write, int vector) {
  @{prefix}network_input_t* input = @{prefix}network_input();
  write("vector ");
  @{prefix}write_number(write, vector);
  write(": ");
  if (input == NULL) {
    write("failed: ");
    write(@{prefix}network_error());
    write("\n");
    return 1;
  }
  memcpy(input, @{name}_input_0[vector], sizeof(@{name}_input_0[vector]));
  if (@{prefix}network_run() != 0) {
    write("failed: ");
    write(@{prefix}network_error());
    write("\n");
    return 1;
  }
  if (!same_output(write, vector)) return 1;
  write("passed\n");
  return 0;
}

static int largest(const @{prefix}network_output_t* values) {
  int i, best = 0;
  for (i = 0; i < @{PREFIX}CLASS_COUNT; ++i) {
    if (values[i] > values[best]) best = i;
  }
  return best;
}

/* From pixels to the class, on the picture of the last vector. */
static int test_picture(WriteText write) {
  const int last = @{name}_vector_count - 1;
  const @{prefix}Classification* result;
  write("picture: ");
  if (@{prefix}prepare_input(@{name}_picture[0], @{name}_picture_columns, @{name}_picture_rows, PIXELS_RGBA8888) != 0) {
    write("failed: it was refused\n");
    return 1;
  }
  if (memcmp(@{prefix}network_input(), @{name}_input_0[last], sizeof(@{name}_input_0[last])) != 0) {
    write("failed: the input made from it differs\n");
    return 1;
  }
  result = @{prefix}classify_input();
  if (result == NULL || !same_output(write, last)) return 1;
  if (result->best != largest(@{prefix}network_output())) {
    write("failed: the class is not that of the largest output\n");
    return 1;
  }
  write("passed: ");
  @{prefix}write_classification(write, result);
  return 0;
}

int @{prefix}self_test(WriteText write) {
  int vector, failures = 0;
  for (vector = 0; vector < @{name}_vector_count; ++vector) failures += test_vector(write, vector);
  failures += test_picture(write);
  write("RAM: ");
  @{prefix}write_number(write, @{prefix}network_ram_used());
  write(" of ");
  @{prefix}write_number(write, @{prefix}network_ram_reserved());
  write(" bytes used\n");
  write(failures == 0 ? "PASSED @{name}: " : "FAILED @{name}: ");
  @{prefix}write_number(write, @{name}_vector_count + 1 - failures);
  write(" of ");
  @{prefix}write_number(write, @{name}_vector_count + 1);
  write(" checks passed\n");
  return failures;
}
