"""An int8 ``.tflite`` file as C99 without an interpreter: one source and one header, no heap, no dependency."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from ..errors import UnsupportedOpError
from ..file.flatbuffer import FileInfo, TensorInfo, read_file
from .c_text import Constants, c_string, initializer
from .fusion import fuse
from .memory_plan import MemoryPlan, Use, plan_memory
from .ops.table import LOWERINGS
from .program import Program, Step

# Kernels in the order in which they build on each other.
KERNEL_ORDER = (
    *("clamp", "requantize", "requantize_wide", "dot", "convolution", "depthwise", "look_up", "broadcast"),
    *("finish_binary", "add", "subtract", "multiply", "squared_difference", "maximum", "minimum", "prelu", "copy"),
    *("pick", "pool", "average_pool", "max_pool", "sum", "extreme", "arg_max", "resize_bilinear", "reciprocal"),
    *("softmax", "matmul"),
)
SUM_LIMIT = 1 << 30  # of kernels/requantize.c
C_TYPES = {"int8": "int8_t", "int32": "int32_t"}


@dataclass(frozen=True)
class CSource:
    """A program in C.

    Args:
        source: Text of ``<name>.c``.
        header: Text of ``<name>.h``.
        plan: Where each feature map lies in the arena. Inputs and outputs lie where the caller has them.
        ops: What each call computes, in order: the ops of the file that it stands for.
        kernels: Files of ``kernels/`` that the source holds.
    """

    source: str
    header: str
    plan: MemoryPlan
    ops: tuple[tuple[str, ...], ...]
    kernels: tuple[str, ...]


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
    program = lower(info)
    outputs = _place_outputs(program, info)
    fuse(program, set(outputs.values()))
    kernels = {kernel for step in program.steps for kernel in step.kernels}
    if "requantize" in kernels and program.largest_sum >= SUM_LIMIT:
        kernels = kernels - {"requantize"} | {"requantize_wide"}
    ordered = tuple(kernel for kernel in KERNEL_ORDER if kernel in kernels)
    outside = {program.key(tensor) for tensor in info.inputs} | set(outputs.values())
    plan = plan_memory(
        [_use(step, program) for step in program.steps],
        {key: words for key, words in program.names.items() if key not in outside},
    )
    return CSource(
        _source(program, info, name, plan, outputs, ordered, class_names),
        _header(info, name, plan, class_names),
        plan,
        tuple(tuple(step.ops) for step in program.steps),
        ordered,
    )


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
            program.require(taken, f"has a {tensor.dtype} feature map; the generator takes int8 inside and out")
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
            key = program.new_map(_copy_of(tensor))
            call = f"memcpy({{w0}}, {{r0}}, {program.sizes[source]});"
            program.steps.append(Step(["output"], (), call, [source], [key]))
            source = key
        placed[index] = source
    return placed


def _copy_of(tensor: TensorInfo) -> TensorInfo:
    return TensorInfo(**{field: getattr(tensor, field) for field in TensorInfo.__dataclass_fields__})


def _use(step: Step, program: Program) -> Use:
    over = [step.reads[place] for place in step.in_place]
    return Use(
        tuple(step.keys_read()),
        tuple((key, program.sizes[key]) for key in step.writes),
        step.scratch_bytes,
        tuple((step.writes[0], key) for key in over if isinstance(key, int)),
    )


# --- text -------------------------------------------------------------------------------------------------------------


def _parameters(kind: str, tensors: Sequence[TensorInfo]) -> list[str]:
    return [kind] if len(tensors) == 1 else [f"{kind}_{index}" for index in range(len(tensors))]


def _signature(info: FileInfo, name: str) -> str:
    inputs = [
        f"const {C_TYPES[t.dtype]} *{p}" for p, t in zip(_parameters("input", info.inputs), info.inputs, strict=True)
    ]
    outputs = [
        f"{C_TYPES[t.dtype]} *{p}" for p, t in zip(_parameters("output", info.outputs), info.outputs, strict=True)
    ]
    return f"void {name}_run({', '.join([*inputs, *outputs])})"


def _source(
    program: Program,
    info: FileInfo,
    name: str,
    plan: MemoryPlan,
    outputs: dict[int, int],
    kernels: Sequence[str],
    class_names: Sequence[str],
) -> str:
    upper, constants, calls, structs = name.upper(), Constants(name), [], []
    places = {key: f"arena + {offset}" if offset else "arena" for key, offset in plan.offsets.items()}
    places.update((program.key(t), p) for t, p in zip(info.inputs, _parameters("input", info.inputs), strict=True))
    places.update((key, _parameters("output", info.outputs)[index]) for index, key in outputs.items())
    for index, step in enumerate(program.steps):
        names = {f"r{i}": places[r] if isinstance(r, int) else constants.name(r) for i, r in enumerate(step.reads)}
        names.update((f"w{i}", places[key]) for i, key in enumerate(step.writes))
        names["scratch"] = f"arena + {plan.scratch_offsets[index]}" if index in plan.scratch_offsets else "0"
        if step.struct:
            names["k"] = f"{name}_{index}"
            structs.append(f"static const {step.struct} {name}_{index} = {initializer(step.fields, constants)};")
        calls.append(f"  /* {', '.join(step.ops)} */\n  {step.call.format(**names)}")
    arena = ""
    if plan.arena_bytes:
        arena = f"""
#ifdef {upper}_ARENA
extern int32_t {upper}_ARENA[];
#else
static int32_t {name}_arena[{upper}_ARENA_BYTES / 4];
#define {upper}_ARENA {name}_arena
#endif
"""
        calls.insert(0, f"  int8_t *const arena = (int8_t *){upper}_ARENA;")
    labels = ""
    if class_names:
        entries = ",\n    ".join(c_string(one) for one in class_names)
        labels = f"\nconst char *const {name}_labels[{upper}_LABELS] = {{\n    {entries}}};\n"
    picture = "\n".join(f" * {line}".rstrip() for line in plan.picture().split("\n"))
    folder = files(__package__) / "kernels"
    texts = [(folder / f"{kernel}.c").read_text(encoding="utf-8") for kernel in kernels]
    declarations = "\n".join([*constants.declarations, "", *structs])
    body = "\n".join(calls)
    return f"""\
/* {name}: written by wavemix-tf from a TensorFlow Lite file of {len(info.ops)} ops; see {name}.h.
 *
{picture}
 */
#include "{name}.h"

#include <string.h>

{chr(10).join(texts)}
{declarations}
{arena}{labels}
{_signature(info, name)} {{
{body}
}}
"""


def _header(info: FileInfo, name: str, plan: MemoryPlan, class_names: Sequence[str]) -> str:
    upper, lines = name.upper(), []
    for kind, tensors, said in (("input", info.inputs, info.input_names), ("output", info.outputs, info.output_names)):
        for parameter, tensor, title in zip(_parameters(kind, tensors), tensors, said, strict=True):
            prefix = f"{upper}_{parameter.upper()}"
            size = int(np.prod(tensor.shape)) * (4 if tensor.dtype == "int32" else 1)
            shape = ", ".join(map(str, tensor.shape))
            lines.append(f"/* {parameter}: {_comment(title)}, {' x '.join(map(str, tensor.shape))} {tensor.dtype}. */")
            lines.append(f"#define {prefix}_BYTES {size}")
            lines.append(f"#define {prefix}_SHAPE {{{shape}}}")
            if tensor.scale:
                lines.append(f"#define {prefix}_SCALE {tensor.scale:.9e}f")
                lines.append(f"#define {prefix}_ZERO_POINT ({tensor.zero_point})")
    labels = ""
    if class_names:
        labels = (
            f"\n#define {upper}_LABELS {len(class_names)}\nextern const char *const {name}_labels[{upper}_LABELS];\n"
        )
    text = "\n".join(lines)
    return f"""\
#ifndef {upper}_H_
#define {upper}_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

{text}

/* Working memory, beside inputs and outputs: a static array. Where {name}.c is compiled with -D{upper}_ARENA=buffer:
 * int32_t buffer[{upper}_ARENA_BYTES / 4], which is defined elsewhere. */
#define {upper}_ARENA_BYTES {plan.arena_bytes}
{labels}
/* Computes the integers of TensorFlow Lite Micro's reference kernels. Real value: (integer - ZERO_POINT) * SCALE.
 * Inputs are not changed; inputs and outputs must not overlap. Not to be called by two threads at once. */
{_signature(info, name)};

#ifdef __cplusplus
}}
#endif

#endif
"""


def _comment(text: str) -> str:
    return re.sub(r"[^ -~]", "?", text).replace("*/", "* /")
