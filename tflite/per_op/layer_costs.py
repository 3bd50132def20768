"""``op_report``: what each op of an exported file costs, under the names of the Keras layers, and the memory plan."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..c_source.generator import write_c
from ..c_source.instruction_count import instructions_by_op
from ..file.arena_plan import INPUT_OP, MemoryPlan, plan_file
from ..file.flatbuffer import FileInfo, read_file
from ..file.layer_names import op_layers
from ..file.op_costs import count_costs
from ..names import C_PROGRAM, CMSIS_NN, KERNELS, MICRO_KIT
from ..runtimes.arena import BUILDS
from ..targets.kernel_memory import kernel_memory
from ..targets.table import board_runtime, get_target
from .drawing import costs_svg, plan_svg
from .model_explorer import node_data

LITERT_ALIGNMENT_BYTES = 64  # alignment of buffers in LiteRT's arena
# Measures of an op, the best first.
CYCLES, INSTRUCTIONS, TIME_US, MACS = "cycles", "instructions", "time_us", "macs"
CORE = "cortex-m4"  # whose instructions are shown: a Cortex-M33 and M7 have the same
ON_CORE = {CMSIS_NN: "on a Cortex-M4 with CMSIS-NN", C_PROGRAM: "of the program in C on a Cortex-M4"}


@dataclass(frozen=True)
class OpRow:
    """One op of a file.

    Args:
        index: Its place in execution order, from 0.
        op: Its kind, as "CONV_2D".
        layer: The Keras layer that it belongs to; "" where that is unknown.
        shape: Shape of its (first) output.
        macs: Multiply-accumulates.
        moved_bytes: Bytes of the tensors that it reads and writes.
        live_bytes: Bytes of the buffers that are taken while it runs; None without a plan.
        cycles: NPU cycles by the compiler's estimate; None for other targets.
        time_us: Microseconds on this machine; None if it was not timed, or runs once when the file is loaded.
        instructions: On a Cortex-M4, an estimate; a call of a program in C counts for the op that it is made for. None
            for other targets, or if an op of the file was not measured.
    """

    index: int
    op: str
    layer: str
    shape: tuple[int, ...]
    macs: int
    moved_bytes: int
    live_bytes: int | None
    cycles: int | None
    time_us: float | None
    instructions: int | None = None

    @property
    def title(self) -> str:
        """The layer's name, or the op's."""
        return self.layer or f"{self.op} {self.index}"


@dataclass(frozen=True)
class LayerCost:
    """The ops of one layer.

    Args:
        layer: Its name; of an op whose layer is unknown the op's kind and index.
        ops: Kind of each op, in execution order.
        value: Sum over the ops of the report's ``measure``.
        share: Of the sum over all layers, 0 to 1.
        live_bytes: Largest of the ops; None without a plan.
    """

    layer: str
    ops: tuple[str, ...]
    value: float
    share: float
    live_bytes: int | None


@dataclass(frozen=True)
class OpReport:
    """Costs by op and the memory plan of one file; see ``op_report``.

    Args:
        target: Key of ``TARGETS``.
        measure: What ``layers`` and the pictures show: "cycles", "instructions", "time_us" or "macs".
        measured: Its source, as a phrase.
        rows: One per op.
        plan: Buffers over the steps of an inference; None where the compiler stated none.
        planned: Whose plan it is, as a phrase.
    """

    target: str
    measure: str
    measured: str
    rows: tuple[OpRow, ...]
    plan: MemoryPlan | None
    planned: str

    def value(self, row: OpRow) -> float:
        """The op's ``measure``; 0 where it has none."""
        found = getattr(row, self.measure)
        return 0.0 if found is None else float(found)

    @property
    def layers(self) -> tuple[LayerCost, ...]:
        """The costs by layer, in the order of their first op."""
        groups: dict[str, list[OpRow]] = {}
        for row in self.rows:
            groups.setdefault(row.title, []).append(row)
        total = sum(map(self.value, self.rows)) or 1.0
        found = []
        for layer, rows in groups.items():
            value = sum(map(self.value, rows))
            live = [row.live_bytes for row in rows if row.live_bytes is not None]
            found.append(LayerCost(layer, tuple(row.op for row in rows), value, value / total, max(live, default=None)))
        return tuple(found)

    @property
    def peak(self) -> OpRow | None:
        """The op during which most memory is taken; None without a plan."""
        if self.plan is None or not self.plan.step_ops:
            return None
        return self.rows[self.plan.step_ops[self.plan.peak_step]]

    def title_of(self, op: int) -> str:
        """Name of the layer of an op, by its index; "input" for ``INPUT_OP``."""
        return "input" if op == INPUT_OP else self.rows[op].title

    def plan_svg(self, standalone: bool = True) -> str:
        """Picture of the memory plan, as SVG: bytes over the steps, one block per buffer; "" without a plan.

        Args:
            standalone: Whether it is a file of its own, with its colors; otherwise part of a page that defines them.
        """
        return "" if self.plan is None else plan_svg(self, standalone)

    def costs_svg(self, standalone: bool = True) -> str:
        """Picture of the costs by layer, the largest first; ``standalone`` as for ``plan_svg``."""
        return costs_svg(self, standalone)

    def node_data(self) -> dict[str, dict[str, Any]]:
        """Node data for Model Explorer: name of a measure -> content of a JSON file, which it loads over the file."""
        return node_data(self)

    def files(self) -> dict[str, bytes]:
        """Name -> content of every picture and every file of node data."""
        pictures = {"memory_plan.svg": self.plan_svg(), "cost_by_layer.svg": self.costs_svg()}
        found = {name: text.encode() for name, text in pictures.items() if text}
        for measure, values in self.node_data().items():
            found[f"{measure}.node_data.json"] = (json.dumps(values, indent=1) + "\n").encode()
        return found

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "target": self.target,
            "measure": self.measure,
            "measured": self.measured,
            "rows": [{**asdict(row), "shape": list(row.shape)} for row in self.rows],
            "plan": None if self.plan is None else self.plan.to_dict(),
            "planned": self.planned,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> OpReport:
        """Inverse of ``to_dict``."""
        rows = tuple(OpRow(**{**row, "shape": tuple(row["shape"])}) for row in values["rows"])
        plan = None if values["plan"] is None else MemoryPlan.from_dict(values["plan"])
        return cls(values["target"], values["measure"], values["measured"], rows, plan, values["planned"])


def op_report(artifact: Any, times_us: Sequence[float | None] | None = None) -> OpReport:
    """Costs of each op of an exported file, under the names of the Keras layers, and its memory plan over time.

    The measure is the best that exists: Vela's cycles for an Ethos-U; the estimated instructions on a Cortex-M4 for
    "mcu" and "c"; the times that are given; else the number of multiply-accumulates. No time on this machine says
    anything about a microcontroller.

    Args:
        artifact: From ``export`` or ``Artifact.load``.
        times_us: Microseconds of each op, None for an op that runs once: ``time_us`` of the ops of
            ``benchmark(artifact, profile=True)``. None: not timed.

    Returns:
        An ``OpReport``: rows, sums by layer, pictures (SVG), and node data for Model Explorer.

    Raises:
        ValueError: ``times_us`` has another length than the file has ops.

    Example:
    >>> report = wm.tflite.op_report(artifact)
    >>> report.peak.layer, max(report.plan.live_bytes)
    >>> pathlib.Path("plan.svg").write_text(report.plan_svg())
    """
    info = read_file(artifact.content)
    if times_us is not None and len(times_us) != len(info.ops):
        raise ValueError(
            f"times_us must have a value for each of the {len(info.ops)} ops. Received: {len(times_us)} values"
        )
    layers = artifact.op_layers if len(artifact.op_layers) == len(info.ops) else op_layers(info, {})
    plan, planned = _plan(artifact, info)
    live = (None,) * len(info.ops) if plan is None else _live_by_op(plan, len(info.ops))
    cycles = artifact.npu.op_cycles if artifact.npu is not None else ()
    runtime = board_runtime(artifact.target)
    counted = None if runtime is None else instructions_by_op(info, CORE, runtime)
    rows = tuple(
        OpRow(
            index,
            cost.name,
            layers[index],
            cost.shape,
            cost.macs,
            cost.moved_bytes,
            live[index],
            cycles[index] if cycles else None,
            None if times_us is None else times_us[index],
            None if counted is None else counted[index],
        )
        for index, cost in enumerate(count_costs(info))
    )
    measure, measured = MACS, "multiply-accumulates, counted in the file"
    if cycles:
        measure, measured = CYCLES, f"cycles of {artifact.npu.accelerator}, estimated by {artifact.npu.compiler}"
    elif counted is not None and runtime is not None:
        measure, measured = INSTRUCTIONS, f"instructions {ON_CORE[runtime]}, an estimate"
    elif times_us is not None:
        measure, measured = TIME_US, "time on this machine (LiteRT with XNNPACK, one thread) that each op adds"
    return OpReport(artifact.target, measure, measured, rows, plan, planned)


def _plan(artifact: Any, info: FileInfo) -> tuple[MemoryPlan | None, str]:
    """(the plan, whose it is)."""
    row, npu = get_target(artifact.target), artifact.npu
    if npu is not None:
        return npu.plan, f"the SRAM of {npu.accelerator}, as {npu.compiler} laid it out"
    if row.writes_c:
        words = "the static arena of the C program; inputs and outputs lie outside"
        return write_c(artifact.content, "net").plan, words
    if row.kit == MICRO_KIT:
        plans = [(_micro_plan(info, kernels, build), kernels) for kernels, builds in BUILDS.items() for build in builds]
        plan, kernels = max(plans, key=lambda pair: pair[0].arena_bytes)
        return plan, f"TensorFlow Lite Micro's plan with the scratch memory of {KERNELS[kernels]}"
    words = "the feature maps, placed by TensorFlow Lite's rule; XNNPACK's own workspace is not part of it"
    return plan_file(info, alignment_bytes=LITERT_ALIGNMENT_BYTES), words


def _micro_plan(info: FileInfo, kernels: str, build: str) -> MemoryPlan:
    return plan_file(info, lambda op: kernel_memory(op, kernels, build).scratch)


def _live_by_op(plan: MemoryPlan, count: int) -> tuple[int, ...]:
    """Bytes taken while each op runs; of an op that is part of a later op's step, those of that step."""
    by_op: dict[int, int] = {}
    for op, live in zip(plan.step_ops, plan.live_bytes, strict=True):
        by_op[op] = max(by_op.get(op, 0), live)
    stated = sorted(by_op)
    places = [min(bisect_left(stated, op), len(stated) - 1) for op in range(count)]
    return tuple(by_op[stated[place]] if stated else 0 for place in places)
