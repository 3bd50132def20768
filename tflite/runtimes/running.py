"""Run a file in any supported runtime, and find the runtimes that support its ops."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from wavemix_tf.processor import usable_cores

from ..file.flatbuffer import FileInfo, from_output, read_file, to_input
from ..file.softmax_limits import softmax_hazard
from ..names import MICRO, REFERENCE
from ..targets.op_tables import REFERENCE_LACKS
from ..targets.table import Target
from .litert import invoke, make_interpreter
from .microcontroller import run_micro

MOST_WORKERS = 4  # interpreters at a time, each with its own packed weights
IMAGES_PER_WORKER = 8  # fewer are not worth another interpreter


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


def run_in_runtimes(
    content: bytes, images: Any, runtimes: Iterable[str], limit_s: float | None, least: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Outputs of a file in several runtimes: TensorFlow Lite Micro's process beside LiteRT's.

    Args:
        content: As for ``run_file``.
        images: As for ``run_file``.
        runtimes: Names of runtimes.
        limit_s: As for ``run_file``, for each runtime.
        least: Runtime -> as for ``run_file``; None: 1 each.

    Returns:
        Runtime -> the result of ``run_file``, in the order of ``runtimes``.
    """

    def run(runtime: str) -> Any:
        return run_file(content, images, runtime, limit_s, 1 if least is None else least[runtime])

    chosen = list(runtimes)
    with ThreadPoolExecutor(1) as pool:
        micro = pool.submit(run, MICRO) if MICRO in chosen else None
        found = {runtime: run(runtime) for runtime in chosen if runtime != MICRO}
        return {runtime: micro.result() if micro and runtime == MICRO else found[runtime] for runtime in chosen}


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
    workers = min(usable_cores(), MOST_WORKERS, len(inputs[0]) // IMAGES_PER_WORKER)
    return open_raw(content, runtime, workers=workers)(inputs, limit_s, least)


def open_raw(content: bytes, runtime: str, threads: int = 1, workers: int = 1) -> Callable[..., list[np.ndarray]]:
    """Open a file in a runtime for many runs; the result is ``run_raw`` without content and runtime.

    Args:
        content: As for ``run_raw``.
        runtime: As for ``run_raw``.
        threads: Of each interpreter of LiteRT.
        workers: Interpreters of LiteRT that share the images, each in a thread.
    """
    if runtime == MICRO:
        return lambda inputs, limit_s=None, least=1: run_micro(content, inputs, limit_s=limit_s)[0]
    made = [make_interpreter(content, runtime == REFERENCE, threads) for _ in range(max(workers, 1))]
    sources = [detail["index"] for detail in made[0].get_input_details()]
    sinks = [detail["index"] for detail in made[0].get_output_details()]

    def run(inputs: list[np.ndarray], limit_s: float | None = None, least: int = 1) -> list[np.ndarray]:
        rows: dict[int, list[np.ndarray]] = {}
        start, places, taking = time.perf_counter(), iter(range(len(inputs[0]))), threading.Lock()

        def next_place() -> int | None:
            with taking:
                late = limit_s is not None and time.perf_counter() - start > limit_s
                return next(places, None) if not (late and len(rows) >= least) else None

        def work(interpreter: Any) -> None:
            while (place := next_place()) is not None:
                for source, array in zip(sources, inputs, strict=True):
                    interpreter.set_tensor(source, array[place][None])
                invoke(interpreter)
                rows[place] = [interpreter.get_tensor(sink)[0] for sink in sinks]

        if len(made) == 1:
            work(made[0])
        else:
            with ThreadPoolExecutor(len(made)) as pool:
                list(pool.map(work, made))  # raises their errors
        done = list(itertools.takewhile(rows.__contains__, itertools.count()))
        return [np.stack(column) for column in zip(*(rows[place] for place in done), strict=True)]

    return run
