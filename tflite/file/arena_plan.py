"""Where the feature maps of a file lie in one block of memory, and when: the greedy plan of its runtimes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .flatbuffer import FileInfo, OpInfo
from .op_costs import tensor_bytes

MICRO_ALIGNMENT_BYTES = 16  # alignment of buffers in TensorFlow Lite Micro's arena
COLUMNS = 64  # columns of the picture in text
INPUT_OP = -1  # "op" of a buffer that is filled before the first op
UNUSED = (-2, -2, INPUT_OP)  # first and last step, and op, of a tensor that no op uses: before the inputs
FEATURE_MAP, SCRATCH, WEIGHTS = "feature map", "scratch", "weights"


@dataclass(frozen=True)
class Placement:
    """One buffer.

    Args:
        name: In pictures in text.
        offset: Its place, in bytes.
        size: In bytes.
        first: First step in which it is taken, from 0.
        last: Last one.
        op: Index of the op of the file that writes or uses it; ``INPUT_OP``: an input.
        kind: "feature map", "scratch" (memory of one op), or "weights" (copied from flash by an NPU).
    """

    name: str
    offset: int
    size: int
    first: int
    last: int
    op: int = INPUT_OP
    kind: str = FEATURE_MAP

    @property
    def end(self) -> int:
        """The byte behind it."""
        return self.offset + self.size


@dataclass(frozen=True)
class MemoryPlan:
    """Every buffer of an arena.

    Args:
        placements: The buffers.
        arena_bytes: Their common size.
        step_ops: For each step, the index of the op of the file that it ends with.
    """

    placements: tuple[Placement, ...]
    arena_bytes: int
    step_ops: tuple[int, ...] = ()

    @property
    def live_bytes(self) -> tuple[int, ...]:
        """For each step, the bytes of the buffers that are taken, without the gaps between them."""
        live = [0] * len(self.step_ops)
        for one in self.placements:
            for step in range(one.first, min(one.last + 1, len(live))):
                live[step] += one.size
        return tuple(live)

    @property
    def high_bytes(self) -> tuple[int, ...]:
        """For each step, the end of the highest buffer that is taken: what the plan needs in that step."""
        high = [0] * len(self.step_ops)
        for one in self.placements:
            for step in range(one.first, min(one.last + 1, len(high))):
                high[step] = max(high[step], one.end)
        return tuple(high)

    @property
    def peak_step(self) -> int:
        """The first step with the most live bytes; -1 without steps."""
        live = self.live_bytes
        return live.index(max(live)) if live else -1

    def picture(self) -> str:
        """A line a buffer: what it takes of the arena (the columns), and when."""
        lines = [f"{'buffer':<16} {'steps':>9} {'offset':>8} {'bytes':>8}  arena of {self.arena_bytes} bytes"]
        for one in self.placements:
            begin = one.offset * COLUMNS // max(self.arena_bytes, 1)
            end = max(begin + 1, -(-one.end * COLUMNS // max(self.arena_bytes, 1)))
            bar = "." * begin + "#" * (end - begin) + "." * (COLUMNS - end)
            lines.append(f"{one.name:<16} {f'{one.first}-{one.last}':>9} {one.offset:>8} {one.size:>8}  {bar}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; a placement is [op, kind, offset, size, first, last]."""
        rows = [[one.op, one.kind, one.offset, one.size, one.first, one.last] for one in self.placements]
        return {"arena_bytes": self.arena_bytes, "step_ops": list(self.step_ops), "placements": rows}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MemoryPlan:
        """Inverse of ``to_dict``, except for the names."""
        rows = [
            Placement(f"{kind} {op}", offset, size, first, last, op, kind)
            for op, kind, offset, size, first, last in values["placements"]
        ]
        return cls(tuple(rows), int(values["arena_bytes"]), tuple(values["step_ops"]))


def greedy_offsets(buffers: Sequence[tuple[int, int, int]]) -> list[int]:
    """Place buffers one after another, each at the lowest place that is free as long as it lives.

    Args:
        buffers: (bytes, first step, last step), in the order of placing; the largest first gives small arenas.

    Returns:
        For each buffer its offset in bytes.
    """
    offsets: list[int] = []
    placed: list[tuple[int, int, int, int]] = []  # (offset, bytes, first, last), by offset
    for size, first, last in buffers:
        offset = 0
        for other, taken, begins, ends in placed:
            if begins > last or first > ends:
                continue
            if other - offset >= size:
                break
            offset = max(offset, other + taken)
        offsets.append(offset)
        placed.append((offset, size, first, last))
        placed.sort(key=lambda entry: entry[0])
    return offsets


def largest_first_offsets(buffers: Sequence[tuple[int, int, int]]) -> list[int]:
    """Place the largest buffer first; of equal ones the one that was requested last, as GreedyMemoryPlanner does.

    Args:
        buffers: (bytes, first step, last step), in the order of the requests.

    Returns:
        For each buffer its offset in bytes.
    """
    order = sorted(range(len(buffers)), key=lambda place: (-buffers[place][0], -place))
    offsets = dict(zip(order, greedy_offsets([buffers[place] for place in order]), strict=True))
    return [offsets[place] for place in range(len(buffers))]


def aligned(size: int, alignment_bytes: int) -> int:
    """``size`` rounded up."""
    return -(-size // alignment_bytes) * alignment_bytes


def plan_file(
    info: FileInfo,
    scratch_bytes: Callable[[OpInfo], Sequence[int]] = lambda op: (),
    alignment_bytes: int = MICRO_ALIGNMENT_BYTES,
) -> MemoryPlan:
    """The plan that TensorFlow Lite Micro's GreedyMemoryPlanner makes for a file.

    The largest buffer is placed first; of equal ones the one that was requested last, as in
    ``GreedyMemoryPlanner::CalculateOffsetsIfNeeded``. Tensors are requested in the order of the file, then the scratch
    memory of the ops. A tensor is taken from the op that writes it to the last op that reads it, an input from before
    the first op, an output to the last op (``AllocationInfoBuilder::MarkAllocationLifetimes``).

    Args:
        info: The file.
        scratch_bytes: Returns the scratch buffers of an op's kernel, in bytes.
        alignment_bytes: Sizes are rounded up to a multiple of it.
    """
    # id of a tensor -> [first, last, op]; the inputs are there before the first op, at -1.
    lives = {id(tensor): [INPUT_OP, INPUT_OP, INPUT_OP] for tensor in info.inputs}
    for index, op in enumerate(info.ops):
        for tensor in (*op.inputs, *op.outputs):
            lives.setdefault(id(tensor), [index, index, index])[1] = index
    for tensor in info.outputs:
        lives.setdefault(id(tensor), [0, 0, INPUT_OP])[1] = len(info.ops) - 1
    requested = [
        (aligned(size, alignment_bytes), *lives.get(id(tensor), UNUSED), FEATURE_MAP)
        for tensor in info.tensors
        if not tensor.constant and not tensor.variable and (size := tensor_bytes(tensor))
    ]
    for index, op in enumerate(info.ops):
        requested += [
            (aligned(scratch, alignment_bytes), index, index, index, SCRATCH) for scratch in scratch_bytes(op)
        ]
    offsets = largest_first_offsets([one[:3] for one in requested])
    placements = []
    for (size, first, last, index, kind), offset in zip(requested, offsets, strict=True):
        name = "input" if index == INPUT_OP else f"{'scratch' if kind == SCRATCH else 'map'} {index}"
        placements.append(Placement(name, offset, size, max(first, 0), max(last, 0), index, kind))
    return MemoryPlan(tuple(placements), max((one.end for one in placements), default=0), tuple(range(len(info.ops))))
