"""The text of a generated program: its source and its header."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from ..file.flatbuffer import FileInfo, TensorInfo
from .c_text import Constants, c_string, initializer
from .memory_plan import ALIGNMENT_BYTES
from .program import Program
from .variants import KERNEL_ORDER, Variant, by_form, forms, guarded

C_TYPES = {"int8": "int8_t", "int32": "int32_t"}


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


def source_text(
    program: Program,
    name: str,
    variants: Sequence[Variant],
    outputs: dict[int, int],
    class_names: Sequence[str],
) -> str:
    """``<name>.c``: each form's steps, and the arrays, structs and kernels that they need."""
    info, constants = program.info, Constants(name)
    places = {program.key(t): p for t, p in zip(info.inputs, _parameters("input", info.inputs), strict=True)}
    places.update((key, _parameters("output", info.outputs)[index]) for index, key in outputs.items())
    structs: dict[str, set[int]] = {}
    calls = {
        id(variant): _calls(variant, index, program, name, places, constants, structs)
        for index, variant in enumerate(variants)
    }
    labels = ""
    if class_names:
        entries = ",\n    ".join(c_string(one) for one in class_names)
        labels = f"\nconst char *const {name}_labels[{name.upper()}_LABELS] = {{\n    {entries}}};\n"
    return f"""\
/* {name}: written by wavemix-tf from a TensorFlow Lite file of {len(info.ops)} ops; see {name}.h.
 *
{_pictures(variants)}
 */
#include "{name}.h"

#include <string.h>
{by_form(variants, _includes, name)}
{guarded(_kernels(variants), name)}
{by_form(variants, lambda variant: f"#define {name.upper()}_ALIGNED{_alignment(variant)}", name)}
{guarded(constants.declarations, name)}
{guarded(structs.items(), name)}
{by_form(variants, lambda variant: _arena(variant, name), name)}{labels}
{_signature(info, name)} {{
{by_form(variants, lambda variant: calls[id(variant)], name)}
}}
"""


def _calls(
    variant: Variant,
    user: int,
    program: Program,
    name: str,
    outside: dict[int, str],
    constants: Constants,
    structs: dict[str, set[int]],
) -> str:
    """The body of a form; its structs are added to ``structs``, its arrays to ``constants``."""
    plan, calls = variant.plan, []
    places = {key: f"arena + {offset}" if offset else "arena" for key, offset in plan.offsets.items()} | outside
    if plan.arena_bytes:
        calls.append(f"  int8_t *const arena = (int8_t *){name.upper()}_ARENA;")
    for index, step in enumerate(variant.steps):
        names = {
            f"r{i}": places[r] if isinstance(r, int) else constants.name(r, user) for i, r in enumerate(step.reads)
        }
        names.update((f"w{i}", places[key]) for i, key in enumerate(step.writes))
        names["scratch"] = f"arena + {plan.scratch_offsets[index]}" if index in plan.scratch_offsets else "0"
        if step.struct:
            names["k"] = f"{name}_{index}"
            if variant.library and step is not program.steps[index]:
                names["k"] += f"_{variant.library.name}"
            text = f"static const {step.struct} {names['k']} = {initializer(step.fields, constants, user)};"
            structs.setdefault(text, set()).add(user)
        calls.append(f"  /* {', '.join(step.ops)} */\n  {step.call.format(**names)}")
    return "\n".join(calls)


def _pictures(variants: Sequence[Variant]) -> str:
    texts = []
    for variant in variants:
        picture = variant.plan.picture()
        if variant.library is None:
            texts.append(picture)
        elif picture != texts[0]:
            texts.append(f"Compiled with -D{variant.library.macro}, {variant.library.title}:\n\n{picture}")
    return "\n".join(f" * {line}".rstrip() for line in "\n\n".join(texts).split("\n"))


def _includes(variant: Variant) -> str:
    uses_library = variant.library and any(kernel.startswith(("cmsis_nn", "esp_nn")) for kernel in variant.kernels)
    headers = variant.library.headers if variant.library and uses_library else ()
    return "\n".join(f"#include {header}" for header in headers)


def _alignment(variant: Variant) -> str:
    size = variant.library.alignment_bytes if variant.library else ALIGNMENT_BYTES
    return f" __attribute__((aligned({size})))" if size > ALIGNMENT_BYTES else ""


def _kernels(variants: Sequence[Variant]) -> list[tuple[str, set[int]]]:
    folder = files(__package__) / "kernels"
    return [
        ((folder / f"{kernel}.c").read_text(encoding="utf-8"), users)
        for kernel in KERNEL_ORDER
        if (users := {index for index, variant in enumerate(variants) if kernel in variant.kernels})
    ]


def _arena(variant: Variant, name: str) -> str:
    if not variant.plan.arena_bytes:
        return ""
    upper = name.upper()
    return f"""
#ifdef {upper}_ARENA
extern int32_t {upper}_ARENA[];
#else
static int32_t {name}_arena[{upper}_ARENA_BYTES / 4] {upper}_ALIGNED;
#define {upper}_ARENA {name}_arena
#endif
"""


def header_text(info: FileInfo, name: str, variants: Sequence[Variant], class_names: Sequence[str]) -> str:
    """``<name>.h``: sizes, scales, and the function."""
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

/* Which kernels compute it. A build that defines WAVEMIX_CMSIS_NN (for every file that includes this header) calls
 * CMSIS-NN, where it takes fewer instructions; one that defines WAVEMIX_ESP_NN calls ESP-NN, whose assembly needs
 * inputs, outputs and {upper}_ARENA at multiples of 16 bytes. The integers are the same. */
{forms(name)}

/* Working memory, beside inputs and outputs: a static array. Where {name}.c is compiled with -D{upper}_ARENA=buffer:
 * int32_t buffer[{upper}_ARENA_BYTES / 4], which is defined elsewhere. */
{by_form(variants, lambda variant: f"#define {upper}_ARENA_BYTES {variant.plan.arena_bytes}", name)}
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
