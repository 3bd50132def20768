"""What Vela says about each op: cycles and memory by op (its CSV file), and its plan of the SRAM (its text)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..file.arena_plan import FEATURE_MAP, INPUT_OP, WEIGHTS, MemoryPlan, Placement
from ..file.flatbuffer import FileInfo

# "--verbose-performance" writes the CSV file, "--verbose-allocation" the text.
OPTIONS = ("--verbose-performance", "--verbose-allocation")
_SECTION = re.compile(r"^Allocation, memory (\w+),", re.MULTILINE)
_LINE = re.compile(
    r"^ *(?P<first>\d+) - +(?P<last>\d+): +0x(?P<start>[0-9a-f]+) - +0x(?P<end>[0-9a-f]+): +\d+: +\d+: \S+ *: "
    r"(?P<name>.*)$"
)
_COPIED = re.compile(r"WB_\w+_op(\d+)$")  # a buffer for weights; the number of the pass that reads them


@dataclass(frozen=True)
class NpuPass:
    """One command of the NPU; several compute one op of the file, or one computes several.

    Args:
        op: Index of the op of the file.
        cycles: By the compiler's estimate.
        sram_bytes: SRAM that is taken while it runs.
        fused: Whether another pass computes it.
    """

    op: int
    cycles: int
    sram_bytes: int
    fused: bool


def read_passes(lines: Iterable[str], info: FileInfo) -> tuple[NpuPass, ...]:
    """The rows of ``*_per-layer.csv``, in execution order; () if a row names no op of the file.

    Args:
        lines: Of the CSV file.
        info: The file that was compiled, with the names of its tensors.
    """
    named = {tensor.name: index for index, op in enumerate(info.ops) for tensor in op.outputs}
    found = []
    for row in csv.DictReader(lines):
        op = _op_of(row["Name"], named)
        if op is None:
            return ()
        cycles, sram = int(float(row["Op Cycles"])), int(float(row["Staging Usage"]))
        op = _producer(info, op, row["Original Operator"], named)
        found.append(NpuPass(op, cycles, sram, fused=cycles == 0 and sram == 0))
    return tuple(found)


def _op_of(name: str, named: Mapping[str, int]) -> int | None:
    """Op that writes a tensor; the compiler names tensors of its own after one of the file's ("..._intermediate")."""
    while name and name not in named:
        name = name.rpartition("_")[0]
    return named.get(name)


def _producer(info: FileInfo, op: int, kind: str, named: Mapping[str, int]) -> int:
    """The op before ``op`` that a pass computes: a convolution is named after the activation that it was fused with."""
    index, wanted = op, _kind(kind)
    while _kind(info.ops[index].name) != wanted:
        before = [named[t.name] for t in info.ops[index].inputs if not t.constant and t.name in named]
        if len(before) != 1:
            return op
        index = before[0]
    return index


def _kind(name: str) -> str:
    """One form of "CONV_2D" and "Conv2D"."""
    return name.replace("_", "").upper().removesuffix("2D")


def read_plan(text: str, passes: tuple[NpuPass, ...], info: FileInfo, sram_bytes: int) -> MemoryPlan | None:
    """The plan of the SRAM; None if the text has none of this size.

    Args:
        text: That Vela printed.
        passes: From ``read_passes``.
        info: The file that was compiled.
        sram_bytes: Size of the SRAM, of the compiler's summary.
    """
    steps = [one.op for one in passes if not one.fused]
    named = {tensor.name: index for index, op in enumerate(info.ops) for tensor in op.outputs}
    inputs = {tensor.name for tensor in info.inputs}
    placements: dict[tuple[int, ...], Placement] = {}
    for part in _sections(text, "Sram"):
        for line in part.splitlines():
            found = _LINE.match(line)
            if found is None:
                continue
            # A pass takes two units of time; in the first one, weights of the next pass are copied.
            first, last = int(found["first"]) // 2, min(int(found["last"]) // 2, len(steps) - 1)
            start, end = int(found["start"], 16), int(found["end"], 16)
            copied, name = _COPIED.search(found["name"]), found["name"]
            if first >= len(steps) or (copied and int(copied[1]) >= len(steps)):
                return None
            op = steps[int(copied[1])] if copied else INPUT_OP if name in inputs else _op_of(name, named)
            op = steps[first] if op is None else op
            kind = WEIGHTS if copied else FEATURE_MAP
            # Two tensors in one place at one time: an op that writes over its input.
            placements.setdefault(
                (start, end, first, last), Placement(f"{kind} {op}", start, end - start, first, last, op, kind)
            )
    plan = MemoryPlan(tuple(placements.values()), max((p.end for p in placements.values()), default=0), tuple(steps))
    return plan if placements and plan.arena_bytes == sram_bytes else None


def _sections(text: str, memory: str) -> list[str]:
    """The tables of one memory."""
    starts = [*_SECTION.finditer(text)]
    return [
        text[one.end() :].partition("Allocation Peak")[0] for one in starts if one.group(1).lower() == memory.lower()
    ]


def by_op(passes: tuple[NpuPass, ...], count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(cycles of each op of the file, largest SRAM while it runs); 0 for an op that no pass computes."""
    cycles, sram = [0] * count, [0] * count
    for one in passes:
        cycles[one.op] += one.cycles
        sram[one.op] = max(sram[one.op], one.sram_bytes)
    return tuple(cycles), tuple(sram)
