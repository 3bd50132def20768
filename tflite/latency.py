"""``benchmark``: how fast and how large a file is, on this machine."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .flatbuffer import read_file, to_input
from .images import generated_values
from .microcontroller import measure_arena
from .targets import get_target
from .verifier import make_interpreter


@dataclass(frozen=True)
class BenchmarkReport:
    """Figures of one file on this machine.

    Args:
        runtime: What was timed.
        latency_ms: {"p50": ..., "p90": ...} of one inference at batch 1, in milliseconds.
        threads: Threads it ran with.
        runs: Timed inferences.
        size_bytes: Size of the file.
        arena_bytes: Tensor arena under TensorFlow Lite Micro; None for targets without it.
    """

    runtime: str
    latency_ms: dict[str, float]
    threads: int
    runs: int
    size_bytes: int
    arena_bytes: int | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def benchmark(
    artifact: Any, *, threads: int = 1, warmup: int = 10, runs: int = 100, limit_s: float = 5.0
) -> BenchmarkReport:
    """Time a file under LiteRT with XNNPACK at batch 1 and, for a microcontroller, measure its arena.

    The latency is this machine's: TensorFlow Lite Micro on a host says nothing about a microcontroller's speed, so an
    mcu file is timed under LiteRT too.

    Args:
        artifact: From ``export`` or ``Artifact.load``.
        threads: Threads of the interpreter.
        warmup: Inferences before the clock starts.
        runs: Inferences to time, at most.
        limit_s: Stop timing after so many seconds (at least 3 runs).
    """
    if threads < 1 or runs < 1 or warmup < 0:
        raise ValueError(
            "threads and runs must be at least 1, warmup at least 0. "
            f"Received: threads={threads}, runs={runs}, warmup={warmup}"
        )
    info = read_file(artifact.content)
    inputs = [
        to_input(tensor, generated_values(tensor.shape[1:], limits, count=1))
        for tensor, limits in zip(info.inputs, artifact.input_ranges, strict=True)
    ]
    interpreter = make_interpreter(artifact.content, threads=threads)
    for detail, part in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], part)
    for _ in range(warmup):
        interpreter.invoke()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < runs and (len(times) < 3 or time.perf_counter() - start < limit_s):
        before = time.perf_counter()
        interpreter.invoke()
        times.append(1e3 * (time.perf_counter() - before))
    arena = None
    if "tflite-micro" in get_target(artifact.target).runtimes:
        _, arena = measure_arena(artifact.content, inputs)
    return BenchmarkReport(
        runtime="litert-xnnpack",
        latency_ms={"p50": float(np.percentile(times, 50)), "p90": float(np.percentile(times, 90))},
        threads=threads,
        runs=len(times),
        size_bytes=len(artifact.content),
        arena_bytes=arena,
    )
