"""TensorFlow Lite Micro: run a file on its real kernels, measure the arena, write the C array for firmware."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import RuntimeFailureError
from ..file.flatbuffer import read_file
from ..names import KERNELS, MICRO
from .micro_worker import STEP_BYTES
from .processes import Runner, new_process_runner

ALIGNMENT_BYTES = 16  # TF Lite Micro requires it of the arena and of the C array
PROBE_ARENA_BYTES = 256 << 20
PLANNING_BYTES = 64 << 10  # larger arenas than twice the reported use plus this are not tried
TIMEOUT_S = 600.0
# Ops whose method in MicroMutableOpResolver is not the op's name in camel case.
RESOLVER_NAMES = {
    "AVERAGE_POOL_2D": "AveragePool2D",
    "BATCH_MATMUL": "BatchMatMul",
    "CONV_2D": "Conv2D",
    "CUMSUM": "CumSum",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "L2_POOL_2D": "L2Pool2D",
    "MAX_POOL_2D": "MaxPool2D",
    "PADV2": "PadV2",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}


def require_micro() -> None:
    """RuntimeFailureError if the interpreter is not installed."""
    if find_spec("tflite_micro") is None:
        raise RuntimeFailureError(
            "TensorFlow Lite Micro runs a file for a microcontroller before it is written; its interpreter "
            "has wheels only for Linux on x86-64: pip install --pre tflite-micro"
        )


def run_micro(
    content: bytes,
    inputs: list[np.ndarray],
    arena_bytes: int | None = None,
    limit_s: float | None = None,
    run: Runner | None = None,
) -> tuple[list[np.ndarray], int]:
    """Run every input through TensorFlow Lite Micro.

    Args:
        content: The ``.tflite`` file.
        inputs: For each input of the file an array (N, ...) of its dtype.
        arena_bytes: Size of the tensor arena; None: a very large one.
        limit_s: Stop after so many seconds of inference (at least one input runs).
        run: Runs ``micro_worker``; None: a new process.

    Returns:
        (for each output an array (M, ...), M <= N, of its dtype; arena bytes that the interpreter reported as used).

    Raises:
        RuntimeFailureError: the interpreter refused the file (the message quotes it) or crashed.
    """
    size = arena_bytes or PROBE_ARENA_BYTES
    outputs, used, _, words = _run_worker(content, inputs, size, size, limit_s, run)
    if outputs is None:
        raise RuntimeFailureError(
            f"TensorFlow Lite Micro could not run the file: {words}. Received: arena_bytes={arena_bytes}"
        )
    return outputs, used


def measure_arena(
    content: bytes, inputs: list[np.ndarray], limit_s: float | None = None, run: Runner | None = None
) -> tuple[list[np.ndarray], int]:
    """The smallest arena, in steps of 128 bytes, in which the file runs, and its outputs.

    The use that the interpreter reports is not enough: planning the arena needs temporary memory in it. Measured on
    this machine's 64-bit build, whose pointers make it slightly larger than on a 32-bit device.

    Args:
        content: The ``.tflite`` file.
        inputs: As for ``run_micro``.
        limit_s: As for ``run_micro``.
        run: As for ``run_micro``.

    Returns:
        (outputs as for ``run_micro``, arena bytes).
    """
    _, used = run_micro(content, [part[:1] for part in inputs], run=run)
    first = -(-used // STEP_BYTES) * STEP_BYTES
    largest = 2 * first + PLANNING_BYTES
    while first <= largest:
        outputs, _, tried, words = _run_worker(content, inputs, first, largest, limit_s, run)
        if outputs is not None:
            return outputs, tried
        first = tried + STEP_BYTES  # that size crashed the process
    raise RuntimeFailureError(
        f"TensorFlow Lite Micro ran the file only in an unbounded arena: {words}. Received: used={used} bytes"
    )


def _run_worker(
    content: bytes, inputs: list[np.ndarray], first: int, largest: int, limit_s: float | None, run: Runner | None
) -> tuple[list[np.ndarray] | None, int, int, str]:
    """(outputs or None, bytes used, last arena tried, the interpreter's message) of one worker process."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("model.tflite", "inputs.npz", "outputs.npz")]
        paths[0].write_bytes(content)
        np.savez(paths[1], *inputs)
        count = len(read_file(content).outputs)
        arguments = [*map(str, paths), str(first), str(largest), str(limit_s or TIMEOUT_S), str(count)]
        require_micro()
        try:
            done = (run or new_process_runner(MICRO))(arguments, 2 * TIMEOUT_S + 60)
        except subprocess.TimeoutExpired as error:
            raise RuntimeFailureError(f"TensorFlow Lite Micro did not end in {error.timeout:.0f} s.") from None
        tried = int(done.stdout.split()[-1]) if done.stdout.split() else largest
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("Traceback")]
        words = "; ".join(lines[-2:]) if lines else f"exit code {done.returncode}"
        used = re.search(r"Arena allocation total (\d+) bytes", done.stderr)
        if done.returncode or used is None:
            return None, 0, tried, words
        with np.load(paths[2]) as file:
            outputs = [file[f"arr_{index}"] for index in range(len(file.files))]
        return outputs, int(used.group(1)), tried, words


def resolver_name(op: str) -> str:
    """Op name -> the part after ``Add`` of its MicroMutableOpResolver method: "CONV_2D" -> "Conv2D"."""
    return RESOLVER_NAMES.get(op, "".join(part.capitalize() for part in op.split("_")))


def c_array(
    content: bytes, name: str, ops: tuple[str, ...], arena_bytes: int, arenas: Mapping[str, int] | None = None
) -> tuple[str, str]:
    """The file as C++ source: (header text, source text).

    Args:
        content: The ``.tflite`` file.
        name: C identifier: array ``<name>``; constants ``<name>_size``, ``_alignment``, ``_arena_bytes`` and
            ``_op_count``; for C++ the function ``<name>_ops``.
        ops: Ops of the file.
        arena_bytes: Arena that is enough for all kernels.
        arenas: Need of each of ``arena.KERNELS``, for a comment.
    """
    needs = "; ".join(f"{KERNELS[kernels]}: {size}" for kernels, size in (arenas or {}).items())
    methods = [resolver_name(op) for op in sorted(set(ops))]
    guard = f"{name.upper()}_H_"
    ends = "".join(
        f"// {which.capitalize()}, {json.dumps(said)}: {' x '.join(map(str, tensor.shape))} {tensor.dtype}.\n"
        for which, said, tensor in read_file(content).ends()
    )
    register = "".join(f"  if (resolver.Add{method}() != kTfLiteOk) return kTfLiteError;\n" for method in methods)
    header = f"""\
// {len(content)} bytes, {len(methods)} kinds of op: {", ".join(sorted(set(ops)))}.
{ends}#ifndef {guard}
#define {guard}

#ifdef __cplusplus
extern "C" {{
#endif
extern const unsigned char {name}[];
#ifdef __cplusplus
}}
#endif

enum {{
  {name}_size = {len(content)},
  {name}_alignment = {ALIGNMENT_BYTES},  // of the array, and of the tensor arena
  // Tensor arena: measured with the reference kernels on a 64-bit host, and calculated from that for CMSIS-NN
  // ({needs or "not separated"}). Kernels tuned for other chips may need additional scratch memory: the
  // interpreter's arena_used_bytes() reports the use there.
  {name}_arena_bytes = {arena_bytes},
  {name}_op_count = {len(methods)}
}};

#ifdef __cplusplus
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

// Registers exactly the ops of this model.
inline TfLiteStatus {name}_ops(tflite::MicroMutableOpResolver<{name}_op_count>& resolver) {{
{register}  return kTfLiteOk;
}}
#endif

#endif  // {guard}
"""
    rows = [", ".join(f"0x{byte:02x}" for byte in content[i : i + 16]) for i in range(0, len(content), 16)]
    source = (
        f'#include "{name}.h"\n\nalignas({ALIGNMENT_BYTES}) const unsigned char {name}[] = {{\n    '
        + ",\n    ".join(rows)
        + "};\n"
    )
    return header, source
