"""An int8 ``.tflite`` file as C99 without an interpreter: one source and one header, no heap, no dependency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import UnsupportedOpError
from ..file.flatbuffer import FileInfo, read_file
from .fusion import fuse
from .memory_plan import ProgramPlan
from .ops.table import LOWERINGS
from .program import Program, Step
from .source_text import header_text, source_text
from .variants import make_variants


@dataclass(frozen=True)
class CSource:
    """A program in C.

    Args:
        source: Text of ``<name>.c``.
        header: Text of ``<name>.h``.
        plan: Where each feature map lies in the arena. Inputs and outputs lie where the caller has them.
        ops: What each call computes, in order: the ops of the file that it stands for.
        kernels: Files of ``kernels/`` that the program needs without a library.
        library_plans: The plan where the program is compiled for a library, by its name.
    """

    source: str
    header: str
    plan: ProgramPlan
    ops: tuple[tuple[str, ...], ...]
    kernels: tuple[str, ...]
    library_plans: dict[str, ProgramPlan]


def write_c(content: bytes, name: str, class_names: Sequence[str] = ()) -> CSource:
    """Write a file as a C program that computes the integers of TensorFlow Lite Micro's reference kernels.

    Args:
        content: An int8 ``.tflite`` file.
        name: C identifier: files ``<name>.c`` and ``<name>.h``, function ``<name>_run``.
        class_names: Of the outputs; () writes no array of them.

    Raises:
        UnsupportedOpError: an op, an option of it, or a dtype that the generator does not take; it is named, and
            nothing was written.
        ExportError: no TensorFlow Lite file, or a damaged one.
    """
    info = read_file(content)
    program, outputs = _merged(info)
    variants = make_variants(program, {program.key(tensor) for tensor in info.inputs} | set(outputs.values()))
    own, *others = variants
    return CSource(
        source_text(program, name, variants, outputs, class_names),
        header_text(info, name, variants, class_names),
        own.plan,
        tuple(tuple(step.ops) for step in program.steps),
        own.kernels,
        {other.library.name: other.plan for other in others if other.library},
    )


def c_arena_bytes(content: bytes) -> int:
    """Working memory of the program that ``write_c`` writes, in bytes, beside inputs and outputs."""
    return write_c(content, "net").plan.arena_bytes


def merged_program(info: FileInfo) -> Program:
    """The steps of a file as ``write_c`` writes them; raises as it does."""
    return _merged(info)[0]


def _merged(info: FileInfo) -> tuple[Program, dict[int, int]]:
    """(the steps, index of each output -> its key)."""
    program = lower(info)
    outputs = _place_outputs(program, info)
    fuse(program, set(outputs.values()))
    return program, outputs


def check_c(info: FileInfo) -> None:
    """UnsupportedOpError if ``write_c`` does not take a file."""
    _place_outputs(lower(info), info)


def lower(info: FileInfo) -> Program:
    """The steps of a file, before they are merged."""
    program = Program(info)
    for index, op in enumerate(info.ops):
        program.index = index
        if op.name not in LOWERINGS:
            raise program.refuse("is not among the ops it takes")
        for tensor in (*op.inputs, *op.outputs):
            program.require(-1 not in tensor.shape, "has a side that is unknown until run time")
            taken = tensor.constant or tensor.dtype == "int8" or (op.name == "ARG_MAX" and tensor in op.outputs)
            program.require(taken, f"has a feature map of {tensor.dtype}; the generator takes int8 inside and out")
        LOWERINGS[op.name](program)
    return program


def _place_outputs(program: Program, info: FileInfo) -> dict[int, int]:
    """Index of each output -> the key that is written where the caller has it; what cannot be is copied at the end."""
    inputs = {program.key(tensor) for tensor in info.inputs}
    placed: dict[int, int] = {}
    for index, tensor in enumerate(info.outputs):
        if tensor.constant:
            raise UnsupportedOpError("The generator of C takes outputs that depend on the input. Received: a constant")
        source = program.read(tensor)
        assert isinstance(source, int)
        if source in inputs or source in placed.values():
            key = program.new_map(replace(tensor))
            call = f"memcpy({{w0}}, {{r0}}, {program.sizes[source]});"
            program.steps.append(Step(["output"], (), call, [source], [key], op=len(info.ops) - 1))
            source = key
        placed[index] = source
    return placed
