// See network.h.
#include "network.h"

#include <cstddef>
#include <cstdint>
@{library_header}
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

#include "@{name}.h"

// The arena is enough for the reference kernels and for CMSIS-NN; kernels tuned for other chips may need more.
#ifndef EXTRA_ARENA_BYTES
#define EXTRA_ARENA_BYTES 0
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

// The interpreter, ready to run; nullptr if it could not be started.
tflite::MicroInterpreter* Interpreter() {
  // Exactly the ops of this file: @{op_list}.
  static tflite::MicroMutableOpResolver<@{name}_op_count> resolver;
  static const bool registered = @{name}_ops(resolver) == kTfLiteOk;
  static tflite::MicroInterpreter interpreter(tflite::GetModel(@{name}), resolver, arena, sizeof(arena));
  static const bool ready = [] {
    tflite::InitializeTarget();
    if (tflite::GetModel(@{name})->version() != TFLITE_SCHEMA_VERSION) return Refuse("the schema of the file differs");
    if (!registered) return Refuse("an op could not be registered");
    if (interpreter.AllocateTensors() != kTfLiteOk) return Refuse("the arena is too small: raise EXTRA_ARENA_BYTES");
    if (interpreter.inputs_size() != 1 || interpreter.outputs_size() != 1 ||
        !Matches(interpreter.input(0), @{input_enum}, @{input_bytes}) ||
        !Matches(interpreter.output(0), @{output_enum}, @{output_bytes})) {
      return Refuse("input or output differ: is TF_LITE_STATIC_MEMORY as in the library?");
    }
    return true;
  }();
  return ready ? &interpreter : nullptr;
}

}  // namespace

network_input_t* network_input(void) {
  tflite::MicroInterpreter* interpreter = Interpreter();
  return interpreter == nullptr ? nullptr : reinterpret_cast<network_input_t*>(interpreter->input(0)->data.raw);
}

int network_run(void) {
  tflite::MicroInterpreter* interpreter = Interpreter();
  if (interpreter == nullptr) return -1;
  error = "";
  if (interpreter->Invoke() == kTfLiteOk) return 0;
  error = "an op refused to run";
  return -1;
}

const network_output_t* network_output(void) {
  tflite::MicroInterpreter* interpreter = Interpreter();
  return interpreter == nullptr ? nullptr : reinterpret_cast<network_output_t*>(interpreter->output(0)->data.raw);
}

const char* network_error(void) { return error; }

int network_ram_used(void) {
  tflite::MicroInterpreter* interpreter = Interpreter();
  return interpreter == nullptr ? 0 : static_cast<int>(interpreter->arena_used_bytes());
}

int network_ram_reserved(void) { return static_cast<int>(sizeof(arena)); }
