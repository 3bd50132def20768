"""Estimated instructions of each op of a file, also where the program in C runs it. Loads no Keras."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UnsupportedOpError
from ..file.flatbuffer import FileInfo
from ..file.op_costs import count_macs
from ..names import C_PROGRAM
from ..targets.instructions import kernel_instructions, op_instructions, row_name, table_rows
from .generator import merged_program
from .program import Program

# Row of functions of one value, which a program in C reads in a table, and the kernel that does.
LOOK_UP, LOOK_UP_KERNEL = "LOOK_UP", "look_up"


def estimate_instructions(info: FileInfo, core: str, runtime: str) -> int | None:
    """Instructions of an inference; None if the core, its runtime or an op of the file was not measured.

    Args:
        info: The file, with 8-bit arithmetic.
        core: Key of ``boards.CORES``.
        runtime: One of ``names.BOARD_RUNTIMES``.
    """
    found = instructions_by_op(info, core, runtime)
    return None if found is None else sum(found)


def instructions_by_op(info: FileInfo, core: str, runtime: str) -> list[int] | None:
    """Instructions of each op; None as for ``estimate_instructions``.

    A program in C computes several ops in one call: the op that it is made for has all of its instructions, the others
    have none.
    """
    if runtime != C_PROGRAM:
        return kernel_instructions(info, core, runtime)
    rows = table_rows(core, runtime)
    if rows is None:
        return None
    try:
        calls = calls_of(info)
    except UnsupportedOpError:
        return None
    found = [0] * len(info.ops)
    for call in calls:
        count = op_instructions(info.ops[call.main], rows, call.name)
        if count is None:
            return None
        found[call.main] = round(count)
    return found


@dataclass(frozen=True)
class Call:
    """What the program computes at one place.

    Args:
        place: Its place among the steps; steps that write parts of one map count as one call, the first.
        name: Name of its row of instructions.
        main: Index of the op that it is made for: the one with weights, else the last that changes values.
        ops: Indices of all ops of the file that it computes.
    """

    place: int
    name: str
    main: int
    ops: tuple[int, ...]


def calls_of(info: FileInfo) -> list[Call]:
    """The calls of the program that ``write_c`` writes; raises as it does."""
    program = merged_program(info)
    first = calls_by_map(program)
    readers: dict[int, list[int]] = {}
    for index, op in enumerate(info.ops):
        for tensor in op.inputs:
            if not tensor.constant:
                readers.setdefault(program.key(tensor), []).append(index)
    owner: dict[int, int] = {}
    for index in reversed(range(len(info.ops))):
        key = program.key(info.ops[index].outputs[0])
        later = [reader for reader in readers.get(key, []) if reader in owner]
        if key in first:
            owner[index] = first[key]
        elif later:  # no map of its own: part of what reads it
            owner[index] = owner[later[0]]
    grouped: dict[int, list[int]] = {}
    for index, place in sorted(owner.items()):
        grouped.setdefault(place, []).append(index)
    found = []
    for place, ops in grouped.items():
        main = max(ops, key=lambda one: (count_macs(info.ops[one]) > 0, info.ops[one].name != "RESHAPE", one))
        table = program.steps[place].kernels == (LOOK_UP_KERNEL,)
        found.append(Call(place, LOOK_UP if table else row_name(info.ops[main]), main, tuple(ops)))
    return found


def calls_by_map(program: Program) -> dict[int, int]:
    """Key of a map -> the first step that writes it."""
    found: dict[int, int] = {}
    for place, step in enumerate(program.steps):
        for key in step.writes:
            found.setdefault(key, place)
    return found
