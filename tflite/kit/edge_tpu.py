"""The Edge TPU part of a deployment kit: Coral's compiler, starting it with pycoral or libcoral, and a self-test."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..file.flatbuffer import FileInfo
from ..verification.tolerance import tolerance, value_tolerance
from .templates import Template

CHECK_PY = Template('''\
"""Runs @{name} on its test vectors and compares every output with the expected one. Prints PASS or FAIL.

    python edge_tpu/check.py @{name}_edgetpu.tflite --delegate libedgetpu.so.1   # on the Edge TPU
    python edge_tpu/check.py @{name}.tflite                                      # on this computer, without one

Needs NumPy and ai-edge-litert (or tflite-runtime). @{tolerance}
"""

import argparse
import sys
from pathlib import Path

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter, load_delegate
except ImportError:
    from tflite_runtime.interpreter import Interpreter, load_delegate

VECTORS = Path(__file__).resolve().parents[1] / "test_vectors" / "@{name}"
INPUTS = @{inputs}
OUTPUTS = @{outputs}  # shape, dtype, tolerance of a value


def read(kind, index, shape, dtype):
    values = np.fromfile(VECTORS / f"{kind}_{index}.bin", np.dtype(dtype).newbyteorder("<"))
    return values.reshape(-1, *shape).astype(dtype)


def main():
    parser = argparse.ArgumentParser(description="Runs the test vectors of @{name}.")
    parser.add_argument("model", help="the .tflite file")
    parser.add_argument("--delegate", help="the Edge TPU's library, as libedgetpu.so.1; without it: on this computer")
    options = parser.parse_args()
    delegates = [load_delegate(options.delegate)] if options.delegate else []
    interpreter = Interpreter(model_path=options.model, experimental_delegates=delegates)
    interpreter.allocate_tensors()
    given = [read("input", index, *entry) for index, entry in enumerate(INPUTS)]
    differing = within = equal = 0
    for vector in range(len(given[0])):
        for detail, values in zip(interpreter.get_input_details(), given):
            interpreter.set_tensor(detail["index"], values[vector].reshape(detail["shape"]))
        interpreter.invoke()
        for index, (shape, dtype, limit) in enumerate(OUTPUTS):
            found = interpreter.get_tensor(interpreter.get_output_details()[index]["index"]).astype(np.float64)
            wanted = read("expected", index, shape, dtype)[vector].astype(np.float64)
            away = np.abs(found.reshape(shape) - wanted)
            equal += int((away == 0).sum())
            within += int(((away > 0) & (away <= limit)).sum())
            differing += int((~(away <= limit)).sum())
    print(f"{equal} values equal, {within} within the tolerance, {differing} differ")
    print("FAIL" if differing else "PASS")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
''')

SECTION = Template("""\
## Edge TPU

The Edge TPU runs what Coral's compiler makes of `@{name}.tflite`. The compiler is a Linux program for x86-64
(https://coral.ai/docs/edgetpu/compiler/); it was not run when this kit was made:

```
edgetpu_compiler --show_operations @{name}.tflite
```

It writes `@{name}_edgetpu.tflite`. Its list should say "Mapped to Edge TPU" for every op; the others run on the
processor. Ops by count: @{ops}.@{runtime}

With Python, `pip install ai-edge-litert` and Coral's library `libedgetpu.so.1`:

```
python edge_tpu/check.py @{name}_edgetpu.tflite --delegate libedgetpu.so.1
```

With pycoral (Python 3.9 at most):

```python
from pycoral.utils.edgetpu import make_interpreter

interpreter = make_interpreter("@{name}_edgetpu.tflite")
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)  # see "The input"
interpreter.invoke()
scores = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
```

With libcoral, in C++:

```cpp
#include "coral/tflite_utils.h"

auto model = coral::LoadModelOrDie("@{name}_edgetpu.tflite");
auto context = coral::GetEdgeTpuContextOrDie();
auto interpreter = coral::MakeEdgeTpuInterpreterOrDie(*model, context.get());
interpreter->AllocateTensors();
std::copy_n(values, size, interpreter->typed_input_tensor<@{ctype}>(0));
interpreter->Invoke();
```

- **Tolerance.** @{tolerance}. `check.py` fails on larger differences.
- **Not run.** No Edge TPU and no compiler for it was run: the file was audited against Coral's table of ops, and the
  expected outputs are those of LiteRT on a processor.
""")
C_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "float32": "float"}
NEW_OPS = {"RSQRT", "TRANSPOSE"}  # from version 14 of the runtime


def check_py(artifact: Any, info: FileInfo, name: str) -> str:
    """A self-test in Python, for the compiled and the uncompiled file."""
    allowed = tolerance(info, artifact.target, artifact.verification.get("error_bound_steps"))
    inputs = [(tuple(t.shape[1:]), t.dtype) for t in info.inputs]
    outputs = [
        (tuple(t.shape[1:]), t.dtype, float(np.float32(value_tolerance(info, index, allowed))))
        for index, t in enumerate(info.outputs)
    ]
    return CHECK_PY.substitute(
        name=name, inputs=repr(inputs), outputs=repr(outputs), tolerance=f"Tolerance: {allowed.words}."
    )


def edge_tpu_section(artifact: Any, info: FileInfo, name: str) -> str:
    """README's section for an Edge TPU."""
    found = sorted(NEW_OPS & set(artifact.ops))
    return SECTION.substitute(
        name=name,
        ops=", ".join(f"{op} {artifact.ops.count(op)}" for op in sorted(set(artifact.ops))),
        runtime=f" {' and '.join(found)}: pass `--min_runtime_version 14`." if found else "",
        ctype=C_TYPES[info.inputs[0].dtype],
        tolerance=tolerance(info, artifact.target, artifact.verification.get("error_bound_steps")).words,
    )
