"""Where each feature map lies in the arena of a generated program, decided beforehand.

Greedy by size: the largest buffer first, each at the lowest place that is free as long as it lives. A map that may be
written over another one that is read for the last time shares its buffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..file.arena_plan import FEATURE_MAP, SCRATCH, MemoryPlan, Placement, aligned, greedy_offsets

ALIGNMENT_BYTES = 4


@dataclass(frozen=True)
class Use:
    """What one step reads and writes in the arena; keys stand for feature maps.

    Args:
        reads: Keys.
        writes: (key, bytes) of each.
        scratch_bytes: Memory that it needs while it runs.
        in_place: (key written, key read) that may be one buffer.
        op: Index of the op of the file that the step ends with.
    """

    reads: tuple[int, ...]
    writes: tuple[tuple[int, int], ...]
    scratch_bytes: int = 0
    in_place: tuple[tuple[int, int], ...] = ()
    op: int = 0


@dataclass(frozen=True)
class ProgramPlan(MemoryPlan):
    """The plan of a generated program, and how its text finds a buffer.

    Args:
        offsets: Key of a feature map -> its offset in bytes.
        scratch_offsets: Step -> offset of its scratch memory, in bytes.
    """

    offsets: Mapping[int, int] = field(default_factory=dict)
    scratch_offsets: Mapping[int, int] = field(default_factory=dict)


@dataclass
class _Buffer:
    size: int
    first: int
    last: int
    keys: list[int]
    scratch_of: int = -1
    offset: int = 0


def plan_memory(uses: Sequence[Use], names: dict[int, str], alignment_bytes: int = ALIGNMENT_BYTES) -> ProgramPlan:
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
            size = aligned(size, alignment_bytes)
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
            buffers.append(_Buffer(aligned(use.scratch_bytes, alignment_bytes), step, step, [], step))
    buffers_by_size = sorted(buffers, key=lambda one: (-one.size, one.first))
    offsets = greedy_offsets([(one.size, one.first, one.last) for one in buffers_by_size])
    for one, offset in zip(buffers_by_size, offsets, strict=True):
        one.offset = offset
    return ProgramPlan(
        tuple(_placement(one, uses, names) for one in buffers),
        max((one.offset + one.size for one in buffers), default=0),
        tuple(use.op for use in uses),
        {key: one.offset for one in buffers for key in one.keys},
        {one.scratch_of: one.offset for one in buffers if not one.keys},
    )


def _placement(one: _Buffer, uses: Sequence[Use], names: dict[int, str]) -> Placement:
    name = "+".join(names[key] for key in one.keys) if one.keys else f"scratch {one.scratch_of}"
    kind = FEATURE_MAP if one.keys else SCRATCH
    return Placement(name, one.offset, one.size, one.first, one.last, uses[one.first].op, kind)
