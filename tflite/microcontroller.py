"""TensorFlow Lite Micro: run a file on its real kernels, measure the arena, write the C array a firmware links."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from .errors import RuntimeFailureError

ALIGNMENT_BYTES = 16  # of the arena and of the C array: what TF Lite Micro asks for
PROBE_ARENA_BYTES = 256 << 20
TIMEOUT_S = 600.0
# Ops whose method in MicroMutableOpResolver is not the op's name in camel case.
RESOLVER_NAMES = {
    "AVERAGE_POOL_2D": "AveragePool2D",
    "CONV_2D": "Conv2D",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "MAX_POOL_2D": "MaxPool2D",
}


def run_micro(
    content: bytes, inputs: np.ndarray, arena_bytes: int | None = None, limit_s: float | None = None
) -> tuple[np.ndarray, int]:
    """Run every input through TensorFlow Lite Micro.

    Args:
        content: The ``.tflite`` file.
        inputs: Array (N, ...) of the file's input dtype.
        arena_bytes: Size of the tensor arena; None: large enough for anything.
        limit_s: Stop after so many seconds of inference (at least one input runs).

    Returns:
        (outputs (M, ...), M <= N, of the file's output dtype, arena bytes the interpreter reported to have used).

    Raises:
        RuntimeFailureError: the interpreter refused the file (the message holds its words) or ended abnormally.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("model.tflite", "inputs.npy", "outputs.npy")]
        paths[0].write_bytes(content)
        np.save(paths[1], inputs)
        command = [sys.executable, str(Path(__file__).with_name("micro_worker.py")), *map(str, paths)]
        done = subprocess.run(
            [*command, str(arena_bytes or PROBE_ARENA_BYTES), str(limit_s or TIMEOUT_S)],
            capture_output=True,
            text=True,
            timeout=2 * TIMEOUT_S + 60,
            check=False,
        )
        if done.returncode or not paths[2].exists():
            words = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith(" ")]
            cause = "; ".join(words[:2]) if words else f"exit code {done.returncode}"
            raise RuntimeFailureError(
                f"TensorFlow Lite Micro could not run the file: {cause}. Received: arena_bytes={arena_bytes}"
            )
        used = re.search(r"Arena allocation total (\d+) bytes", done.stderr)
        if used is None:
            raise RuntimeFailureError("TensorFlow Lite Micro did not report its arena use.")
        return np.load(paths[2]), int(used.group(1))


def measure_arena(content: bytes, inputs: np.ndarray) -> tuple[np.ndarray, int]:
    """The smallest arena found in which the file runs, and what it computes there.

    Measured on this machine's 64-bit build, whose pointers make it slightly larger than on a 32-bit device.

    Returns:
        (outputs, arena bytes, a multiple of 16).
    """
    _, used = run_micro(content, inputs[:1])
    size = -(-used // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    for slack in (0, 16, 64, 256, 1024):
        try:
            outputs, _ = run_micro(content, inputs, size + slack)
            return outputs, size + slack
        except RuntimeFailureError:
            continue
    raise RuntimeFailureError(f"TensorFlow Lite Micro ran the file only in an unbounded arena. Received: used={used}")


def resolver_name(op: str) -> str:
    """Op name -> the part after ``Add`` of its MicroMutableOpResolver method: "CONV_2D" -> "Conv2D"."""
    return RESOLVER_NAMES.get(op, "".join(part.capitalize() for part in op.split("_")))


def c_array(content: bytes, name: str, ops: tuple[str, ...], arena_bytes: int) -> tuple[str, str]:
    """The file as C++ source: (header text, source text).

    Args:
        content: The ``.tflite`` file.
        name: C identifier: array ``<name>``, constants ``<name>_size``, ``<name>_arena_bytes``, and ``<name>_ops``.
        ops: Ops of the file.
        arena_bytes: Measured arena.
    """
    methods = [resolver_name(op) for op in sorted(set(ops))]
    guard = f"{name.upper()}_H_"
    register = "".join(f"  if (resolver.Add{method}() != kTfLiteOk) return kTfLiteError;\n" for method in methods)
    header = (
        f"// {len(content)} bytes, {len(methods)} kinds of op. The array is aligned to {ALIGNMENT_BYTES} bytes.\n"
        f"#ifndef {guard}\n#define {guard}\n\n"
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"\n\n'
        f"extern const unsigned char {name}[];\n"
        f"constexpr unsigned int {name}_size = {len(content)};\n"
        f"// Tensor arena, measured with TensorFlow Lite Micro's kernels on a 64-bit host; align it to 16 bytes.\n"
        f"constexpr unsigned int {name}_arena_bytes = {arena_bytes};\n"
        f"constexpr unsigned int {name}_op_count = {len(methods)};\n\n"
        f"// Registers exactly the ops of this model: {', '.join(sorted(set(ops)))}.\n"
        f"inline TfLiteStatus {name}_ops(tflite::MicroMutableOpResolver<{name}_op_count>& resolver) {{\n"
        f"{register}  return kTfLiteOk;\n}}\n\n#endif  // {guard}\n"
    )
    rows = [", ".join(f"0x{byte:02x}" for byte in content[i : i + 16]) for i in range(0, len(content), 16)]
    source = (
        f'#include "{name}.h"\n\nalignas({ALIGNMENT_BYTES}) const unsigned char {name}[] = {{\n    '
        + ",\n    ".join(rows)
        + "};\n"
    )
    return header, source
