// See @{prefix}network.h. To be compiled without exceptions, like TensorFlow Lite Micro itself (-fno-exceptions).
#include "@{prefix}network.h"

#include <cstddef>
#include <cstdint>
#include <new>
@{library_header}
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

#include "@{name}.h"

// The arena is enough for the reference kernels and for CMSIS-NN on a 32-bit device; kernels tuned for other chips may
// need more, and so do the pointers of a 64-bit computer.
#ifndef EXTRA_ARENA_BYTES
#define EXTRA_ARENA_BYTES (sizeof(void*) > 4 ? @{name}_arena_bytes : 0)
#endif

namespace {

alignas(@{name}_alignment) uint8_t arena[@{name}_arena_bytes + EXTRA_ARENA_BYTES];
const char* error = "";

bool Refuse(const char* reason) {
  error = reason;
  return false;
}

// Whether a tensor is what this code reads and writes. Its bytes are also wrong if this file and the library were
// compiled with different values of TF_LITE_STATIC_MEMORY, which changes the layout of the struct.
bool Matches(const TfLiteTensor* tensor, TfLiteType type, size_t bytes) {
  return tensor != nullptr && tensor->type == type && tensor->bytes == bytes;
}

// Exactly the ops of this file: @{op_list}.
using Resolver = tflite::MicroMutableOpResolver<@{name}_op_count>;

// Objects that are never destroyed: a static object would register its destructor, which may take memory of the heap.
alignas(Resolver) uint8_t resolver_place[sizeof(Resolver)];
alignas(tflite::MicroInterpreter) uint8_t interpreter_place[sizeof(tflite::MicroInterpreter)];
tflite::MicroInterpreter* interpreter = nullptr;

bool Start() {
  const tflite::Model* model = tflite::GetModel(@{name});
  tflite::InitializeTarget();
  if (model->version() != TFLITE_SCHEMA_VERSION) return Refuse("the schema version of the file differs");
  Resolver* resolver = new (resolver_place) Resolver;
  if (@{name}_ops(*resolver) != kTfLiteOk) return Refuse("an op could not be registered");
  interpreter = new (interpreter_place) tflite::MicroInterpreter(model, *resolver, arena, sizeof(arena));
  if (interpreter->AllocateTensors() != kTfLiteOk) {
    return Refuse("AllocateTensors failed: the arena is too small (raise EXTRA_ARENA_BYTES), or a kernel refuses an op");
  }
  if (interpreter->inputs_size() != 1 || interpreter->outputs_size() != 1 ||
      !Matches(interpreter->input(0), @{input_enum}, @{input_bytes}) ||
      !Matches(interpreter->output(0), @{output_enum}, @{output_bytes})) {
    return Refuse("input or output differ: is TF_LITE_STATIC_MEMORY as in the library?");
  }
  return true;
}

// Starts the interpreter at the first call; whether it can run.
bool Ready() {
  static bool started = false, ready = false;
  if (!started) ready = Start();
  started = true;
  return ready;
}

}  // namespace

@{prefix}network_input_t* @{prefix}network_input(void) {
  return Ready() ? reinterpret_cast<@{prefix}network_input_t*>(interpreter->input(0)->data.raw) : nullptr;
}

int @{prefix}network_run(void) {
  if (!Ready()) return -1;
  error = interpreter->Invoke() == kTfLiteOk ? "" : "an op refused to run";
  return *error == '\0' ? 0 : -1;
}

const @{prefix}network_output_t* @{prefix}network_output(void) {
  return Ready() ? reinterpret_cast<@{prefix}network_output_t*>(interpreter->output(0)->data.raw) : nullptr;
}

const char* @{prefix}network_error(void) { return error; }

int @{prefix}network_ram_used(void) { return Ready() ? static_cast<int>(interpreter->arena_used_bytes()) : 0; }

int @{prefix}network_ram_reserved(void) { return static_cast<int>(sizeof(arena)); }
