"""Where each feature map lies in the arena of a generated program, decided beforehand.

Greedy by size: the largest buffer first, each at the lowest place that is free as long as it lives. A map that may be
written over another one that is read for the last time shares its buffer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALIGNMENT_BYTES = 4
COLUMNS = 64  # of the picture


@dataclass(frozen=True)
class Use:
    """What one step reads and writes in the arena; keys stand for feature maps.

    Args:
        reads: Keys.
        writes: (key, bytes) of each.
        scratch_bytes: Memory that it needs while it runs.
        in_place: (key written, key read) that may be one buffer.
    """

    reads: tuple[int, ...]
    writes: tuple[tuple[int, int], ...]
    scratch_bytes: int = 0
    in_place: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Placement:
    """One buffer of the arena, in bytes, and the steps, counted from 0, in which it is taken."""

    name: str
    offset: int
    size: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """Every buffer of the arena.

    Args:
        placements: In the order of the steps that write them.
        arena_bytes: Their common size.
        offsets: Key of a feature map -> its offset in bytes.
        scratch_offsets: Step -> offset of its scratch memory, in bytes.
    """

    placements: tuple[Placement, ...]
    arena_bytes: int
    offsets: dict[int, int]
    scratch_offsets: dict[int, int]

    def picture(self) -> str:
        """A line a buffer: what it takes of the arena (the columns), and when."""
        lines = [f"{'buffer':<16} {'steps':>9} {'offset':>8} {'bytes':>8}  arena of {self.arena_bytes} bytes"]
        for one in self.placements:
            begin = one.offset * COLUMNS // max(self.arena_bytes, 1)
            end = max(begin + 1, -(-(one.offset + one.size) * COLUMNS // max(self.arena_bytes, 1)))
            bar = "." * begin + "#" * (end - begin) + "." * (COLUMNS - end)
            lines.append(f"{one.name:<16} {f'{one.first}-{one.last}':>9} {one.offset:>8} {one.size:>8}  {bar}")
        return "\n".join(lines)


@dataclass
class _Buffer:
    size: int
    first: int
    last: int
    keys: list[int]
    scratch_of: int = -1
    offset: int = 0


def plan_memory(uses: Sequence[Use], names: dict[int, str], alignment_bytes: int = ALIGNMENT_BYTES) -> MemoryPlan:
    """Lay out the arena.

    Args:
        uses: Of each step, in order. A key that no step writes lies elsewhere (inputs of the program); so does one that
            ``names`` lacks (outputs).
        names: Key -> name, of the maps that lie in the arena.
        alignment_bytes: Of every buffer.
    """
    last_read: dict[int, int] = {}
    for step, use in enumerate(uses):
        last_read.update(dict.fromkeys(use.reads, step))
    buffers: list[_Buffer] = []
    of_key: dict[int, _Buffer] = {}
    for step, use in enumerate(uses):
        for key, size in use.writes:
            if key not in names:
                continue
            if key in of_key:  # another part of it
                of_key[key].last = max(of_key[key].last, step)
                continue
            size = _aligned(size, alignment_bytes)
            last = last_read.get(key, step)
            over = next(
                (
                    of_key[read]
                    for written, read in use.in_place
                    if written == key and read in of_key and of_key[read].last == step and size <= of_key[read].size
                ),
                None,
            )
            if over is not None:
                over.last = last
                over.keys.append(key)
                of_key[key] = over
            else:
                of_key[key] = _Buffer(size, step, last, [key])
                buffers.append(of_key[key])
        if use.scratch_bytes:
            buffers.append(_Buffer(_aligned(use.scratch_bytes, alignment_bytes), step, step, [], step))
    _place(buffers)
    return MemoryPlan(
        tuple(
            Placement(
                "+".join(names[key] for key in one.keys) if one.keys else f"scratch {one.scratch_of}",
                one.offset,
                one.size,
                one.first,
                one.last,
            )
            for one in buffers
        ),
        max((one.offset + one.size for one in buffers), default=0),
        {key: one.offset for one in buffers for key in one.keys},
        {one.scratch_of: one.offset for one in buffers if not one.keys},
    )


def _place(buffers: Iterable[_Buffer]) -> None:
    placed: list[_Buffer] = []
    for buffer in sorted(buffers, key=lambda one: (-one.size, one.first)):
        offset = 0
        for other in placed:  # by offset
            if other.first > buffer.last or buffer.first > other.last:
                continue
            if other.offset - offset >= buffer.size:
                break
            offset = max(offset, other.offset + other.size)
        buffer.offset = offset
        placed.append(buffer)
        placed.sort(key=lambda one: one.offset)


def _aligned(size: int, alignment_bytes: int) -> int:
    return -(-size // alignment_bytes) * alignment_bytes
