"""``benchmark``: speed, size and cost of a file on this machine."""

from __future__ import annotations

import functools
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..c_source.generator import c_arena_bytes
from ..file.flatbuffer import FILE_IDENTIFIER, FileInfo, read_file, to_input
from ..file.op_costs import OpCost, count_costs, energy_proxy_uj
from ..graph.inputs import generated_values
from ..names import ARENA_BYTES, XNNPACK
from ..runtimes.arena import arena_by_kernels
from ..runtimes.ethos import compile_for
from ..runtimes.litert import invoke, make_interpreter
from ..targets.table import get_target

# Slots of the tables in the schema (schema_py_generated has these numbers only inside its functions).
SUBGRAPH_OUTPUTS, SUBGRAPH_OPERATORS, MODEL_SIGNATURES = 8, 10, 18
# A profile's cuts are timed in turns, so that a disturbance affects a round and not an op. Minimum time and rounds:
PROFILE_S, PROFILE_ROUNDS, FEW_ROUNDS = 4.0, 10, 3
PROFILE_BYTES = 1 << 30  # bytes of the cuts in memory at once
PEAK_SIDE, PEAK_CHANNELS = 32, 512  # 268 million multiply-accumulates
PEAK_S = 0.3
MEMORY_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class OpProfile:
    """One op of a profiled file.

    Args:
        name: Op, as "CONV_2D".
        output: Name of its output tensor.
        shape: Shape of that tensor.
        macs: Multiply-accumulates.
        moved_bytes: Bytes of the tensors that it reads and writes.
        time_us: Time that it adds to the ops before it, in microseconds; 0 for an op that is fused with another; None
            for an op on constants only, which runs once.
    """

    name: str
    output: str
    shape: tuple[int, ...]
    macs: int
    moved_bytes: int
    time_us: float | None


@dataclass(frozen=True)
class BenchmarkReport:
    """Figures of one file on this machine.

    Args:
        runtime: The timed runtime.
        latency_ms: {"p50": ..., "p90": ...} of one inference at batch 1, warm, with ``threads``, in milliseconds.
        threads: Threads it ran with.
        runs: Timed inferences.
        size_bytes: Size of the file.
        arena_bytes: Tensor arena under TensorFlow Lite Micro, enough for its reference kernels and for CMSIS-NN; None
            for targets without it.
        single_thread_latency_ms: As ``latency_ms``, with one thread.
        macs: Multiply-accumulates of one inference, counted in the file.
        moved_bytes: Bytes that its ops read and write, each tensor once per op.
        energy_proxy_uj: Microjoules for both by a published table (``costs.ENERGY_SOURCE``): a proxy to compare files,
            not a measurement; None where the table lacks the arithmetic.
        gmacs_per_s: Billion multiply-accumulates per second with one thread, at the p50.
        peak_gmacs_per_s: The same for one large convolution of that arithmetic in the same runtime; None if disabled.
        peak_share: Their quotient; None also if the file was faster than the convolution, twice: then the machine was
            busy, or its large convolutions are slow, and the quotient is not a share.
        memory_bytes: Largest resident memory of a process that runs the file, less that before the interpreter was
            made; None if it cannot be read (not Linux) or was disabled.
        ops: A profile of the ops; None if disabled.
        profiled: Description of the profile's times; None if disabled.
        npu: Vela's estimates for an Ethos-U, as ``NpuReport.to_dict()``; None for other targets.
    """

    runtime: str
    latency_ms: dict[str, float]
    threads: int
    runs: int
    size_bytes: int
    arena_bytes: int | None
    single_thread_latency_ms: dict[str, float]
    macs: int
    moved_bytes: int
    energy_proxy_uj: float | None
    gmacs_per_s: float
    peak_gmacs_per_s: float | None
    peak_share: float | None
    memory_bytes: int | None
    ops: tuple[OpProfile, ...] | None = None
    profiled: str | None = None
    npu: dict[str, Any] | None = None

    @property
    def op_times_us(self) -> list[float | None] | None:
        """``time_us`` of each of ``ops``, for ``op_report``; None without a profile."""
        return None if self.ops is None else [op.time_us for op in self.ops]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        values = asdict(self)
        if self.ops is not None:
            values["ops"] = [{**asdict(op), "shape": list(op.shape)} for op in self.ops]
        return values


def benchmark(
    artifact: Any,
    *,
    threads: int = 1,
    warmup: int = 10,
    runs: int = 100,
    limit_s: float = 5.0,
    profile: bool = False,
    memory: bool = True,
    peak: bool = True,
    profile_s: float = PROFILE_S,
) -> BenchmarkReport:
    """Time a file under LiteRT with XNNPACK at batch 1, count what it computes, and measure its memory.

    The latency is that of this machine. The speed of TensorFlow Lite Micro on a host says nothing about a
    microcontroller, so an mcu file is timed under LiteRT too. An Ethos-U's cycles are an estimate, see ``NpuReport``.

    Args:
        artifact: From ``export`` or ``Artifact.load``.
        threads: Threads of the interpreter; with more than one, a single thread is timed as well.
        warmup: Inferences before timing starts.
        runs: Largest number of timed inferences.
        limit_s: Stop timing after so many seconds (at least 3 runs).
        profile: Time every op. LiteRT's Python interpreter has no profiler, and XNNPACK is one node of it, so the
            graph is cut after each op in turn and the cuts are timed with XNNPACK on one thread: an op's time is what
            it adds (some seconds). An op that XNNPACK fuses with another one without extra time takes 0.
        memory: Measure memory, in a separate process (a second).
        peak: Also measure a large convolution, as the peak of this machine (half a second, once per process).
        profile_s: Least time for the profile, in seconds; less than the default is enough to rank the ops.
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
    times = times_ms(artifact.content, inputs, threads, warmup, runs, limit_s)
    single = times if threads == 1 else times_ms(artifact.content, inputs, 1, warmup, runs, limit_s)
    arena = None
    row = get_target(artifact.target)
    if ARENA_BYTES in row.costs:
        arena = max(arena_by_kernels(info).values())
    elif row.writes_c:
        arena = c_arena_bytes(artifact.content)
    compiled = compile_for(row, artifact.content, artifact.npu.accelerator if artifact.npu else None)
    costs = count_costs(info)
    macs = sum(cost.macs for cost in costs)
    speed = macs / float(np.percentile(single, 50)) / 1e6
    arithmetic = "int8" if artifact.dtype == "int8" else "float32"
    ceiling = peak_gmacs_per_s(arithmetic) if peak else None
    if ceiling is not None and speed > ceiling:  # the machine was busy while the peak was measured
        peak_gmacs_per_s.cache_clear()
        ceiling = max(ceiling, peak_gmacs_per_s(arithmetic))
    return BenchmarkReport(
        runtime=XNNPACK,
        latency_ms=_quantiles(times),
        threads=threads,
        runs=len(times),
        size_bytes=len(artifact.content),
        arena_bytes=arena,
        npu=None if compiled is None else compiled.to_dict(),
        single_thread_latency_ms=_quantiles(single),
        macs=macs,
        moved_bytes=sum(cost.moved_bytes for cost in costs),
        energy_proxy_uj=energy_proxy_uj(costs, artifact.dtype),
        gmacs_per_s=speed,
        peak_gmacs_per_s=ceiling,
        peak_share=None if ceiling is None or speed > ceiling else speed / ceiling,
        memory_bytes=measure_memory(artifact.content, inputs, threads) if memory else None,
        ops=op_times(artifact.content, info, costs, inputs, profile_s) if profile else None,
        profiled="XNNPACK, 1 thread: the time that each op adds to the graph before it" if profile else None,
    )


def _quantiles(times: list[float]) -> dict[str, float]:
    return {"p50": float(np.percentile(times, 50)), "p90": float(np.percentile(times, 90))}


def _open_interpreter(content: bytes, inputs: Sequence[np.ndarray], threads: int) -> Any:
    interpreter = make_interpreter(content, threads=threads)
    for detail, part in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], part)
    invoke(interpreter)  # raises if the file cannot run
    return interpreter


def times_ms(
    content: bytes, inputs: Sequence[np.ndarray], threads: int, warmup: int, runs: int, limit_s: float
) -> list[float]:
    interpreter = _open_interpreter(content, inputs, threads)
    for _ in range(warmup):
        interpreter.invoke()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < runs and (len(times) < 3 or time.perf_counter() - start < limit_s):
        before = time.perf_counter()
        interpreter.invoke()
        times.append(1e3 * (time.perf_counter() - before))
    return times


def opened_run(content: bytes, threads: int = 1) -> Callable[[], Any]:
    """A call that runs one inference of a file under LiteRT with XNNPACK, on a generated input."""
    inputs = [to_input(part, generated_values(part.shape[1:], None, count=1)) for part in read_file(content).inputs]
    return _open_interpreter(content, inputs, threads).invoke


def alternating_times_ms(
    runs: Sequence[Callable[[], Any]], warmup: int = 10, rounds: int = 100, limit_s: float = 5.0
) -> list[list[float]]:
    """Time several calls in turns, so that a disturbance of the machine affects all of them.

    Args:
        runs: The calls.
        warmup: Calls of each before timing starts.
        rounds: Largest number of timed calls of each.
        limit_s: Stop timing after so many seconds (at least 3 rounds).

    Returns:
        For each call its times in milliseconds.
    """
    for run in runs:
        for _ in range(warmup):
            run()
    times: list[list[float]] = [[] for _ in runs]
    start = time.perf_counter()
    while len(times[0]) < rounds and (len(times[0]) < 3 or time.perf_counter() - start < limit_s):
        for run, found in zip(runs, times, strict=True):
            before = time.perf_counter()
            run()
            found.append(1e3 * (time.perf_counter() - before))
    return times


def measure_memory(content: bytes, inputs: Sequence[np.ndarray], threads: int = 1) -> int | None:
    """Largest resident memory that an interpreter adds to a process that runs the file, in bytes.

    Args:
        content: The ``.tflite`` file.
        inputs: For each input of the file an array (1, ...) of its dtype.
        threads: Threads of the interpreter.

    Returns:
        Bytes; None where the system does not report it (not Linux).
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("model.tflite", "inputs.npz")]
        paths[0].write_bytes(content)
        np.savez(paths[1], *inputs)
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("memory_worker.py")), *map(str, paths), str(threads)],
            capture_output=True,
            text=True,
            timeout=MEMORY_TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        return None  # the counter may need permissions that the process does not have
    before, most = map(int, done.stdout.split()[-2:])
    return most - before


def op_times(
    content: bytes,
    info: FileInfo,
    costs: tuple[OpCost, ...],
    inputs: Sequence[np.ndarray],
    seconds: float = PROFILE_S,
) -> tuple[OpProfile, ...]:
    """Time that each op adds to the ops before it, with XNNPACK on one thread.

    The cuts are run in turns for some seconds, and the shortest time of each counts. If a longer cut is faster than a
    shorter one, XNNPACK has fused the ops between them: the shorter one then gets the longer one's time, so that the
    added op takes 0. The sum is the time of the whole graph; differences below a microsecond are not significant.

    Args:
        content: The ``.tflite`` file.
        info: The parsed file.
        costs: Its costs.
        inputs: For each input of the file an array (1, ...) of its dtype.
        seconds: Least time for all cuts together.
    """
    least = PROFILE_ROUNDS if seconds >= PROFILE_S else FEW_ROUNDS
    variable = {tensor.name for tensor in info.inputs}  # depends on the input
    timed = []
    for index, op in enumerate(info.ops):
        if any(tensor.name in variable for tensor in op.inputs):
            variable.update(tensor.name for tensor in op.outputs)
            timed.append(index)
    best = np.full(len(timed), np.inf)
    together = max(1, PROFILE_BYTES // (2 * len(content)))  # an interpreter has the file and its packed weights
    for first in range(0, len(timed), together):
        group = timed[first : first + together]
        cuts = [_open_interpreter(cut_after(content, index), inputs, threads=1) for index in group]
        rounds, begun = 0, time.perf_counter()
        while rounds < least or time.perf_counter() - begun < seconds * len(group) / len(timed):
            rounds += 1
            for position, interpreter in enumerate(cuts, first):
                interpreter.invoke()  # reloads its weights into the cache after the other cuts
                start = time.perf_counter()
                interpreter.invoke()
                best[position] = min(best[position], time.perf_counter() - start)
    reached = np.minimum.accumulate(best[::-1])[::-1]
    added = dict(zip(timed, np.diff(reached, prepend=0.0), strict=True))
    return tuple(
        OpProfile(**asdict(cost), time_us=1e6 * float(added[index]) if index in added else None)
        for index, cost in enumerate(costs)
    )


def cut_after(content: bytes, index: int) -> bytes:
    """The file with its graph cut after op ``index``, whose first output becomes the only output.

    Edited in place: the later ops and outputs stay in the file, but the lengths of their lists exclude them. The
    signatures, which name the outputs, are excluded in the same way.
    """
    model = schema.Model.GetRootAsModel(content, 0)
    graph = model.Subgraphs(0)
    cut = bytearray(content)

    def shorten(table: Any, slot: int, length: int) -> int | None:
        """Set the length of the list in a table's slot; the position of its first element, None if there is no list."""
        offset = table._tab.Offset(slot)
        if not offset:
            return None
        start = table._tab.Vector(offset)
        struct.pack_into("<I", cut, start - 4, length)
        return int(start)

    shorten(graph, SUBGRAPH_OPERATORS, index + 1)
    shorten(model, MODEL_SIGNATURES, 0)
    outputs = shorten(graph, SUBGRAPH_OUTPUTS, 1)
    if outputs is None:
        raise ValueError("content must be a file whose graph has an output. Received: none")
    struct.pack_into("<i", cut, outputs, graph.Operators(index).Outputs(0))
    return bytes(cut)


@functools.cache
def peak_gmacs_per_s(dtype: str) -> float:
    """Multiply-accumulate rate of LiteRT's XNNPACK on this machine: one large 1x1 convolution on one thread.

    Args:
        dtype: "int8" (weights with a scale per channel) or "float32".

    Returns:
        Billion multiply-accumulates per second, of the best run.
    """
    content = convolution(PEAK_SIDE, PEAK_CHANNELS, dtype)
    rng = np.random.default_rng(0)
    shape = (1, PEAK_SIDE, PEAK_SIDE, PEAK_CHANNELS)
    inputs = rng.integers(-128, 128, shape, np.int8) if dtype == "int8" else rng.normal(size=shape).astype(np.float32)
    interpreter = _open_interpreter(content, [inputs], threads=1)
    best, start = np.inf, time.perf_counter()
    while time.perf_counter() - start < PEAK_S:
        before = time.perf_counter()
        interpreter.invoke()
        best = min(best, time.perf_counter() - before)
    return PEAK_SIDE**2 * PEAK_CHANNELS**2 / float(best) / 1e9


def convolution(side: int, channels: int, dtype: str) -> bytes:
    """A ``.tflite`` file of one 1x1 convolution, (1, side, side, channels) to the same shape.

    Args:
        side: Side of the image.
        channels: Channels of input and output.
        dtype: "int8" or "float32".
    """
    import flatbuffers

    rng = np.random.default_rng(0)
    integer = dtype == "int8"
    weights = rng.integers(-127, 128, (channels, 1, 1, channels), np.int8)
    bias = np.zeros(channels, np.int32 if integer else np.float32)
    buffers = [schema.BufferT() for _ in range(3)]
    buffers[1].data = np.frombuffer((weights if integer else weights.astype(np.float32) / 127).tobytes(), np.uint8)
    buffers[2].data = np.frombuffer(bias.tobytes(), np.uint8)

    def tensor(name: str, shape: tuple[int, ...], kind: int, buffer: int, scales: np.ndarray) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), kind, buffer
        if integer:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = scales.astype(np.float32)
            made.quantization.zeroPoint = np.zeros(len(scales), np.int64)
        return made

    value = schema.TensorType.INT8 if integer else schema.TensorType.FLOAT32
    image = (1, side, side, channels)
    one, steps = np.full(1, 0.02), np.full(channels, 0.01)
    tensors = [
        tensor("x", image, value, 0, one),
        tensor("weights", weights.shape, value, 1, steps),
        tensor("bias", bias.shape, schema.TensorType.INT32 if integer else value, 2, 0.02 * steps),
        tensor("y", image, value, 0, np.full(1, 1.0)),
    ]
    options = schema.Conv2DOptionsT()
    options.padding, options.strideW, options.strideH = schema.Padding.VALID, 1, 1
    options.dilationWFactor = options.dilationHFactor = 1
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [3], [operator]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 3 if integer else 1  # 3: a scale per channel
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], buffers
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())
