"""The texts of a deployment kit, with ``@{name}`` for each value that ``kit`` inserts; a plain "@" is written "@@"."""

from __future__ import annotations

import string


class Template(string.Template):
    """Kotlin, C++ and Markdown use the braces and dollars that other templates reserve."""

    delimiter = "@"


MAIN_CC = Template("""\
// Runs @{name} on its test vectors under @{runtime}
// and compares every output with the expected one, which
// @{expected_by}.
// Prints PASS or FAIL; returns 0 or 1.
@{tolerance}
//
// Build: with TensorFlow Lite Micro's headers and library, and with -DTF_LITE_STATIC_MEMORY, like the library itself
// (README.md has a command for a PC). On a board, call it once from your start-up code.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

#include "@{name}.h"
#include "@{name}_vectors.h"
@{picture_header}@{includes}
// @{arena}
#ifndef EXTRA_ARENA_BYTES
#define EXTRA_ARENA_BYTES (sizeof(void*) > 4 ? @{name}_arena_bytes : 0)
#endif
@{placement_default}
namespace {

alignas(@{name}_alignment) uint8_t arena[@{name}_arena_bytes + EXTRA_ARENA_BYTES]@{placement};

bool Fail(const char* reason) {
  MicroPrintf("FAIL @{name}: %s", reason);
  return false;
}
@{code}
bool Check() {
@{start}  const tflite::Model* model = tflite::GetModel(@{name});
  if (model->version() != TFLITE_SCHEMA_VERSION) return Fail("the schema version of the file differs");

  // Exactly the ops of this file: @{op_list}.
  tflite::MicroMutableOpResolver<@{name}_op_count> resolver;
  if (@{name}_ops(resolver) != kTfLiteOk) return Fail("an op could not be registered");

  tflite::MicroInterpreter interpreter(model, resolver, arena, sizeof(arena));
  if (interpreter.AllocateTensors() != kTfLiteOk) {
    return Fail("AllocateTensors failed: the arena is too small (raise EXTRA_ARENA_BYTES), or a kernel refuses an op");
  }
  if (interpreter.inputs_size() != @{input_count} || interpreter.outputs_size() != @{output_count}) {
    return Fail("wrong number of inputs or outputs");
  }
@{size_checks}
  int equal = 0, within = 0, differing = 0;
  for (int vector = 0; vector < @{name}_vector_count; ++vector) {
@{feeds}
    if (interpreter.Invoke() != kTfLiteOk) return Fail("an op refused to run");
@{comparisons}
  }
@{picture_check}  MicroPrintf("arena: %d of %d bytes used", static_cast<int>(interpreter.arena_used_bytes()),
              static_cast<int>(sizeof(arena)));
  if (differing != 0) {
    MicroPrintf("FAIL @{name}: %d values differ", differing);
    return false;
  }
  MicroPrintf("PASS @{name}: %d vectors, %d values equal, %d within the tolerance", @{name}_vector_count, equal,
              within);
  return true;
}

}  // namespace

int main() {
  tflite::InitializeTarget();
  return Check() ? 0 : 1;
}
""")

SIZE_CHECK = Template("""\
  if (interpreter.@{side}(@{index})->bytes != sizeof(@{array}[0])) return Fail("@{side} @{index} has the wrong size");
""")

FEED = Template("""\
    std::memcpy(interpreter.input(@{index})->data.raw, @{array}[vector], sizeof(@{array}[vector]));
""")

COMPARISON = Template("""\
    {
      const @{ctype}* found = reinterpret_cast<const @{ctype}*>(interpreter.output(@{index})->data.raw);
      const @{wide} limit = @{limit};
      for (int i = 0; i < @{array}_size; ++i) {
        const @{wide} difference = static_cast<@{wide}>(found[i]) - static_cast<@{wide}>(@{array}[vector][i]);
        if (difference == 0) {
          ++equal;
        } else if (difference <= limit && -difference <= limit) {
          ++within;
        } else {
          ++differing;
          MicroPrintf("vector %d, output @{index}, value %d: %d, expected %d", vector, i, static_cast<int>(found[i]),
                      static_cast<int>(@{array}[vector][i]));
        }
      }
    }
""")

VECTORS_H = Template("""\
// Test vectors of @{name}: inputs, and the outputs that @{runtime} computed for them. C99 and C++.
#ifndef @{guard}
#define @{guard}

#include <stdint.h>

enum {
  @{name}_vector_count = @{count},
@{sizes}
};

@{arrays}
#endif  // @{guard}
""")

PICTURE_SECTION = Template("""\
A picture becomes the input as in training: **@{words}**. A platform's own resizing (bilinear without the wider filter,
bicubic, by halves) gives a different input and costs accuracy: use the code in this kit, whose levels are within one of
training's.

- **Transparency** becomes white.
- **Orientation**: upright, by EXIF.
- **Color profiles** are ignored: training used the stored numbers. If a platform converts colors
  (`Bitmap.getPixels` to sRGB, for a picture with another profile), they differ.
- **16 bits** per channel are reduced to 8; gray is computed from red, green and blue before anything is resized.
- **CMYK** was converted by Pillow without a profile; other decoders differ: use RGB.
""")

README = Template("""\
# @{name}

@{file}, everything needed to put it on a device, and test vectors to check that it computes the same there as when it
was made. `MODEL_CARD.md` describes the model, its measurements and what is unknown.

| | |
|---|---|
@{contents}

## The input

@{input_section}

## The output

@{output_section}

## Test vectors

@{vectors_section}

@{device_section}
""")

MICRO_SECTION = Template("""\
## Microcontroller

`micro/` contains the file as a C array, its ops and arena (`@{c_name}.h`, `.cc`), the vectors (`@{c_name}_vectors.h`)
and `main.cc`, which runs the model on them and prints PASS or FAIL. On a PC, with a checkout of tflite-micro:

```
make -C tflite-micro -f tensorflow/lite/micro/tools/make/Makefile microlite
downloads=tflite-micro/tensorflow/lite/micro/tools/make/downloads
g++ -std=c++17 -DTF_LITE_STATIC_MEMORY micro/*.cc -Itflite-micro -I$downloads/flatbuffers/include \\
    -I$downloads/gemmlowp -I$downloads/ruy tflite-micro/gen/*/lib/libtensorflow-microlite.a -o check && ./check
```

On a board: use the two `@{c_name}` files, and `main.cc` as an example.

- **RAM.** An arena of @{arena_bytes} bytes is enough for the kernels that run the file@{arenas}, calculated for a
  32-bit device. If `AllocateTensors` fails with kernels tuned for another chip, build with
  `-DEXTRA_ARENA_BYTES=8192`.
- **Flash.** @{flash}.
- **Several networks.** Every symbol and file name begins with `@{c_name}`. Export the next network with another name
  (`wavemix-tf export --name NAME`, in Python `name=`), and give each interpreter its own resolver and arena.
- **Tolerance.** @{tolerance}. `main.cc` fails on larger differences. Kernels tuned for chips other than Cortex-M were
  not tried.
- **CMSIS-NN.** @{cmsis_nn}
- **Transposed convolutions.** @{transposed}
""")

MODEL_CARD = Template("""\
# Model card: @{name}

@{summary}

## What it is

| | |
|---|---|
@{identity}

## Input and output

@{tensors}

## Data

@{data}

## Metrics

@{metrics}

## Verification

@{verification}

## Operators

@{ops}

## Limits

@{limits}

## License

@{licence}
""")
