"""``benchmark``: how fast and how large a file is, on this machine."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .ethos import compile_file
from .flatbuffer import read_file, to_input
from .images import generated_images
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
        npu: Vela's estimates for an Ethos-U, as ``NpuReport.to_dict()``; None for other targets.
    """

    runtime: str
    latency_ms: dict[str, float]
    threads: int
    runs: int
    size_bytes: int
    arena_bytes: int | None
    npu: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def benchmark(
    artifact: Any, *, threads: int = 1, warmup: int = 10, runs: int = 100, limit_s: float = 5.0
) -> BenchmarkReport:
    """Time a file under LiteRT with XNNPACK at batch 1; measure a microcontroller's arena; compile for an Ethos-U.

    The latency is this machine's: TensorFlow Lite Micro on a host says nothing about a microcontroller's speed, so an
    mcu file is timed under LiteRT too. An Ethos-U's cycles are its compiler's estimate, see ``NpuReport``.

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
    inputs = to_input(info.inputs[0], generated_images(info.inputs[0].shape[1:], count=1))
    interpreter = make_interpreter(artifact.content, threads=threads)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    for _ in range(warmup):
        interpreter.invoke()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < runs and (len(times) < 3 or time.perf_counter() - start < limit_s):
        before = time.perf_counter()
        interpreter.invoke()
        times.append(1e3 * (time.perf_counter() - before))
    arena = None
    row = get_target(artifact.target)
    if "tflite-micro" in row.runtimes:
        _, arena = measure_arena(artifact.content, inputs)
    npu = None
    if row.npu is not None:
        npu = compile_file(artifact.content, row.npu, artifact.npu.accelerator if artifact.npu else None).to_dict()
    return BenchmarkReport(
        runtime="litert-xnnpack",
        latency_ms={"p50": float(np.percentile(times, 50)), "p90": float(np.percentile(times, 90))},
        threads=threads,
        runs=len(times),
        size_bytes=len(artifact.content),
        arena_bytes=arena,
        npu=npu,
    )
