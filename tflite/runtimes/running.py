"""Run a file in any supported runtime, and find the runtimes that support its ops."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..file.flatbuffer import FileInfo, from_output, read_file, to_input
from ..file.softmax_limits import softmax_hazard
from ..names import MICRO, REFERENCE
from ..targets.op_tables import REFERENCE_LACKS
from ..targets.table import Target
from .litert import invoke, make_interpreter
from .microcontroller import run_micro


def runtimes_of(row: Target, info: FileInfo) -> tuple[str, ...]:
    """The runtimes of a target that run a file: LiteRT's reference kernels lack some ops, and might end the process."""
    lacking = softmax_hazard(info) is not None or any(
        op.outputs and op.outputs[0].dtype in REFERENCE_LACKS.get(op.name, ()) for op in info.ops
    )
    return tuple(one for one in row.runtimes if not (lacking and one == REFERENCE))


def run_file(content: bytes, images: Any, runtime: str, limit_s: float | None = None, least: int = 1) -> Any:
    """Outputs of a file in one runtime, one image at a time.

    Args:
        content: The ``.tflite`` file.
        images: float array (N, H, W, C) in the model's input range, or a list with one per input.
        runtime: "litert-xnnpack", "litert-reference" or "tflite-micro".
        limit_s: Stop after so many seconds.
        least: Images that run whatever the time; "tflite-micro" stops after the first.

    Returns:
        float32 (M, ...), M <= N, or a list of such arrays for several outputs.
    """
    info = read_file(content)
    arrays = images if isinstance(images, list) else [images]
    inputs = [to_input(tensor, array) for tensor, array in zip(info.inputs, arrays, strict=True)]
    raw = run_raw(content, inputs, runtime, limit_s, least)
    outputs = [from_output(tensor, part) for tensor, part in zip(info.outputs, raw, strict=True)]
    return outputs[0] if len(outputs) == 1 else outputs


def run_raw(
    content: bytes, inputs: list[np.ndarray], runtime: str, limit_s: float | None = None, least: int = 1
) -> list[np.ndarray]:
    """Outputs of a runtime in their own dtypes, one image at a time.

    Args:
        content: The ``.tflite`` file.
        inputs: For each input an array (N, ...) of its dtype.
        runtime: As for ``run_file``.
        limit_s: As for ``run_file``.
        least: As for ``run_file``.

    Returns:
        For each output an array (M, ...), M <= N.
    """
    return open_raw(content, runtime)(inputs, limit_s, least)


def open_raw(content: bytes, runtime: str, threads: int = 1) -> Callable[..., list[np.ndarray]]:
    """Open a file in a runtime for many runs; the result is ``run_raw`` without content and runtime."""
    if runtime == MICRO:
        return lambda inputs, limit_s=None, least=1: run_micro(content, inputs, limit_s=limit_s)[0]
    interpreter = make_interpreter(content, reference=runtime == REFERENCE, threads=threads)
    sources = [detail["index"] for detail in interpreter.get_input_details()]
    sinks = [detail["index"] for detail in interpreter.get_output_details()]

    def run(inputs: list[np.ndarray], limit_s: float | None = None, least: int = 1) -> list[np.ndarray]:
        rows, start = [], time.perf_counter()
        for parts in zip(*inputs, strict=True):
            for source, part in zip(sources, parts, strict=True):
                interpreter.set_tensor(source, part[None])
            invoke(interpreter)
            rows.append([interpreter.get_tensor(sink)[0] for sink in sinks])
            if limit_s is not None and len(rows) >= least and time.perf_counter() - start > limit_s:
                break
        return [np.stack(column) for column in zip(*rows, strict=True)]

    return run
