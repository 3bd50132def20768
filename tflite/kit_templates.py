"""The texts of a deployment kit, with ``@{name}`` where ``kit`` puts a value; a lone "@" is written "@@"."""

from __future__ import annotations

import string


class Template(string.Template):
    """Kotlin, C++ and Markdown need the braces and dollars that other templates take for themselves."""

    delimiter = "@"


MAIN_CC = Template("""\
// Runs @{name} on its test vectors under TensorFlow Lite Micro and compares every output with what the same
// interpreter's reference kernels computed where the file was made: bit by bit. Prints PASS or FAIL; returns 0 or 1.
//
// Build: with TensorFlow Lite Micro's headers and library, and with -DTF_LITE_STATIC_MEMORY, as the library itself is
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
@{picture_header}
// Kernels tuned for a chip (CMSIS-NN and the like) may need scratch memory beyond the measured arena.
#ifndef EXTRA_ARENA_BYTES
#define EXTRA_ARENA_BYTES 0
#endif

namespace {

alignas(@{name}_alignment) uint8_t arena[@{name}_arena_bytes + EXTRA_ARENA_BYTES];

bool Fail(const char* reason) {
  MicroPrintf("FAIL @{name}: %s", reason);
  return false;
}

bool Check() {
  const tflite::Model* model = tflite::GetModel(@{name});
  if (model->version() != TFLITE_SCHEMA_VERSION) return Fail("the file has another schema version");

  // Exactly the ops of this file: @{op_list}.
  tflite::MicroMutableOpResolver<@{name}_op_count> resolver;
  if (@{name}_ops(resolver) != kTfLiteOk) return Fail("an op could not be registered");

  tflite::MicroInterpreter interpreter(model, resolver, arena, sizeof(arena));
  if (interpreter.AllocateTensors() != kTfLiteOk) return Fail("the arena is too small: raise EXTRA_ARENA_BYTES");
  if (interpreter.inputs_size() != @{input_count} || interpreter.outputs_size() != @{output_count}) {
    return Fail("another number of inputs or outputs");
  }
@{size_checks}
  int differing = 0;
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
  MicroPrintf("PASS @{name}: %d vectors, every output equal", @{name}_vector_count);
  return true;
}

}  // namespace

int main() {
  tflite::InitializeTarget();
  return Check() ? 0 : 1;
}
""")

SIZE_CHECK = Template("""\
  if (interpreter.@{side}(@{index})->bytes != sizeof(@{array}[0])) return Fail("@{side} @{index} has another size");
""")

FEED = Template("""\
    std::memcpy(interpreter.input(@{index})->data.raw, @{array}[vector], sizeof(@{array}[vector]));
""")

COMPARISON = Template("""\
    {
      const @{ctype}* found = reinterpret_cast<const @{ctype}*>(interpreter.output(@{index})->data.raw);
      for (int i = 0; i < @{array}_size; ++i) {
        if (found[i] == @{array}[vector][i]) continue;
        ++differing;
        MicroPrintf("vector %d, output @{index}, value %d: %d, expected %d", vector, i, static_cast<int>(found[i]),
                    static_cast<int>(@{array}[vector][i]));
      }
    }
""")

VECTORS_H = Template("""\
// Test vectors of @{name}: inputs, and what @{runtime} computed for them. C99 and C++.
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
A picture becomes the input as it did in training: **@{words}**. Whatever a resizing of the platform's own gives instead
(bilinear without the wider filter, bicubic, by halves) is another picture and costs accuracy: use the code in this kit,
whose levels are within one of training's.

- **Transparency** shows white.
- **Orientation**: upright, as EXIF tells it.
- **Colour profiles** are ignored: training took the numbers that are stored. Where a platform converts colours
  (`Bitmap.getPixels` to sRGB, of a picture with another profile), they differ.
- **16 bits** a channel are reduced to 8; grey is made of red, green and blue before anything is resized.
- **CMYK** was converted by Pillow without a profile; decoders differ there: give RGB.
""")

README = Template("""\
# @{name}

@{file}, everything needed to put it on a device, and the means to see that it computes there what it computed where it
was made. `MODEL_CARD.md` says what the model is, what was measured of it and what is not known.

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

`micro/` holds the file as a C array, its ops and arena (`@{c_name}.h`, `.cc`), the vectors (`@{c_name}_vectors.h`) and
`main.cc`, which runs the model on them and prints PASS or FAIL. On a PC, with a checkout of tflite-micro:

```
make -C tflite-micro -f tensorflow/lite/micro/tools/make/Makefile microlite
downloads=tflite-micro/tensorflow/lite/micro/tools/make/downloads
g++ -std=c++17 -DTF_LITE_STATIC_MEMORY micro/*.cc -Itflite-micro -I$downloads/flatbuffers/include \\
    -I$downloads/gemmlowp -I$downloads/ruy tflite-micro/gen/*/lib/libtensorflow-microlite.a -o check && ./check
```

On a board: the two `@{c_name}` files and `main.cc` as an example to start from. The arena of @{arena_bytes} bytes was
measured with the reference kernels on a 64-bit host; if `AllocateTensors` fails with kernels tuned for your chip, build
with `-DEXTRA_ARENA_BYTES=8192`. Tuned kernels may also round differently than the reference kernels, by one step.
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

## Licence

@{licence}
""")
