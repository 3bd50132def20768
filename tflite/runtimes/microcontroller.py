"""TensorFlow Lite Micro: run a file on its real kernels, write the C array for firmware."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import RuntimeFailureError
from ..file.flatbuffer import read_file
from ..file.softmax_limits import softmax_hazard
from ..names import KERNELS, MICRO
from .processes import Runner, new_process_runner

ALIGNMENT_BYTES = 16  # TF Lite Micro requires it of the arena and of the C array
LARGE_ARENA_BYTES = 256 << 20
TIMEOUT_S = 600.0
# Ops whose method in MicroMutableOpResolver is not the op's name in camel case.
RESOLVER_NAMES = {
    "AVERAGE_POOL_2D": "AveragePool2D",
    "BATCH_MATMUL": "BatchMatMul",
    "CONV_2D": "Conv2D",
    "CUMSUM": "CumSum",
    "CUSTOM ethos-u": "EthosU",
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
    outputs, used, words = _run_worker(content, inputs, arena_bytes or LARGE_ARENA_BYTES, limit_s, run)
    if outputs is None:
        raise RuntimeFailureError(
            f"TensorFlow Lite Micro could not run the file: {words.rstrip('.')}. Received: arena_bytes={arena_bytes}"
        )
    return outputs, used


def _run_worker(
    content: bytes, inputs: list[np.ndarray], arena_bytes: int, limit_s: float | None, run: Runner | None
) -> tuple[list[np.ndarray] | None, int, str]:
    """(outputs or None, bytes used, the interpreter's message) of one worker process."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("model.tflite", "inputs.npz", "outputs.npz")]
        paths[0].write_bytes(content)
        np.savez(paths[1], *inputs)
        count = len(read_file(content).outputs)
        arguments = [*map(str, paths), str(arena_bytes), str(limit_s or TIMEOUT_S), str(count)]
        require_micro()
        try:
            done = (run or new_process_runner(MICRO))(arguments, 2 * TIMEOUT_S + 60)
        except subprocess.TimeoutExpired as error:
            raise RuntimeFailureError(f"TensorFlow Lite Micro did not end in {error.timeout:.0f} s.") from None
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("Traceback")]
        words = "; ".join(lines[-2:]) if lines else f"exit code {done.returncode}"
        used = re.search(r"Arena allocation total (\d+) bytes", done.stderr)
        if done.returncode == -signal.SIGABRT:
            words = softmax_hazard(read_file(content)) or words
        if done.returncode or used is None:
            return None, 0, words
        with np.load(paths[2]) as file:
            outputs = [file[f"arr_{index}"] for index in range(len(file.files))]
        return outputs, int(used.group(1)), words


def resolver_name(op: str) -> str:
    """Op name -> the part after ``Add`` of its MicroMutableOpResolver method: "CONV_2D" -> "Conv2D"."""
    return RESOLVER_NAMES.get(op, "".join(part.capitalize() for part in op.split("_")))


@dataclass(frozen=True)
class ArrayTexts:
    """Comments of a C array.

    Args:
        arena: On the size of the arena.
        about: On the file; "": none.
        placement: Macro that may be defined to say where the array lies; "": none.
    """

    arena: str
    about: str = ""
    placement: str = ""


def kernel_arena_texts(arenas: Mapping[str, int]) -> ArrayTexts:
    """Comments for a file of TensorFlow Lite Micro's own kernels; ``arenas``: need of each of ``arena.KERNELS``."""
    needs = "; ".join(f"{KERNELS[kernels]}: {size}" for kernels, size in arenas.items())
    return ArrayTexts(
        "Tensor arena: calculated for a 32-bit device whose enumerations are short, as Arm's are "
        f"({needs or 'not separated'}). Kernels tuned for other chips may need additional scratch memory: the "
        "interpreter's arena_used_bytes() reports the use there."
    )


def placement_default(macro: str) -> str:
    """C text: an empty definition of a macro that may say where a variable lies; "" without one."""
    return f"#ifndef {macro}\n#define {macro}\n#endif\n\n" if macro else ""


def c_array(content: bytes, name: str, ops: tuple[str, ...], arena_bytes: int, texts: ArrayTexts) -> tuple[str, str]:
    """The file as C++ source: (header text, source text).

    Args:
        content: The ``.tflite`` file.
        name: C identifier: array ``<name>``; constants ``<name>_size``, ``_alignment``, ``_arena_bytes`` and
            ``_op_count``; for C++ the function ``<name>_ops``.
        ops: Ops of the file.
        arena_bytes: Arena that is enough for all kernels.
        texts: Comments.
    """
    about = f"// {texts.about}\n" if texts.about else ""
    comment = textwrap.fill(texts.arena, 112, initial_indent="  // ", subsequent_indent="  // ")
    methods = [resolver_name(op) for op in sorted(set(ops))]
    guard = f"{name.upper()}_H_"
    ends = "".join(
        f"// {which.capitalize()}, {json.dumps(said)}: {' x '.join(map(str, tensor.shape))} {tensor.dtype}.\n"
        for which, said, tensor in read_file(content).ends()
    )
    register = "".join(f"  if (resolver.Add{method}() != kTfLiteOk) return kTfLiteError;\n" for method in methods)
    header = f"""\
// {len(content)} bytes, {len(methods)} kinds of op: {", ".join(sorted(set(ops)))}.
{about}{ends}#ifndef {guard}
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
{comment}
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
    place = f" {texts.placement}" if texts.placement else ""
    source = (
        f'#include "{name}.h"\n\n{placement_default(texts.placement)}'
        f"alignas({ALIGNMENT_BYTES}) const unsigned char {name}[]{place} = {{\n    " + ",\n    ".join(rows) + "};\n"
    )
    return header, source
