"""The firmware part of a deployment kit: the self-test in C++, and the README's section for a Cortex-M."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..file.flatbuffer import FileInfo
from ..names import KERNELS
from ..runtimes.microcontroller import placement_default, resolver_name
from ..targets.cmsis_nn import not_run
from ..targets.firmware import flash_words
from ..verification.tolerance import Tolerance, tolerance, value_tolerance
from . import templates
from .picture import picture_check
from .tensors import c_float
from .vectors import C_TYPES


@dataclass(frozen=True)
class MainTexts:
    """The parts of a self-test in C++ that differ between devices.

    Args:
        runtime: What runs the file, as a phrase.
        expected_by: Ends the sentence "which ... computed", in a comment.
        ops: Ops to register; (): those of the file.
        includes: Further includes.
        code: Functions that may call ``Fail``.
        start: Statements before the model is opened.
        arena: Comment on the arena.
        placement: Macro that may be defined to say where the arena lies; "": none.
    """

    runtime: str = "TensorFlow Lite Micro"
    expected_by: str = "the same interpreter's reference kernels computed when the file was made"
    ops: tuple[str, ...] = ()
    includes: str = ""
    code: str = ""
    start: str = ""
    arena: str = (
        "The arena is enough for the reference kernels and CMSIS-NN on a 32-bit device; kernels tuned for other chips\n"
        "// may need more, and so do the pointers of a 64-bit computer."
    )
    placement: str = ""


def main_cc(artifact: Any, info: FileInfo, c_name: str, texts: MainTexts = MainTexts()) -> str:
    """A self-test for TensorFlow Lite Micro."""
    allowed = file_tolerance(artifact, info)
    checks, feeds, comparisons = [], [], []
    for index in range(len(info.inputs)):
        array = f"{c_name}_input_{index}"
        checks.append(templates.SIZE_CHECK.substitute(side="input", index=index, array=array))
        feeds.append(templates.FEED.substitute(index=index, array=array))
    for index, tensor in enumerate(info.outputs):
        array, floats = f"{c_name}_expected_{index}", tensor.dtype == "float32"
        checks.append(templates.SIZE_CHECK.substitute(side="output", index=index, array=array))
        limit = value_tolerance(info, index, allowed)
        comparisons.append(
            templates.COMPARISON.substitute(
                index=index,
                array=array,
                ctype=C_TYPES[tensor.dtype],
                wide="float" if floats else "int",
                limit=c_float(np.float32(limit)) if floats else str(int(limit)),
            )
        )
    return templates.MAIN_CC.substitute(
        name=c_name,
        runtime=texts.runtime,
        expected_by=texts.expected_by,
        includes=texts.includes,
        code=texts.code,
        start=texts.start,
        arena=texts.arena,
        placement_default=placement_default(texts.placement),
        placement=f" {texts.placement}" if texts.placement else "",
        op_list=", ".join(resolver_name(op) for op in sorted(set(texts.ops or artifact.ops))),
        tolerance=_comment(f"Tolerance: {allowed.words}."),
        input_count=len(info.inputs),
        output_count=len(info.outputs),
        size_checks="".join(checks),
        feeds="".join(feeds).rstrip("\n"),
        comparisons="".join(comparisons).rstrip("\n"),
        picture_header=f'#include "{c_name}_picture.h"\n' if picture_check(artifact, info, c_name) else "",
        picture_check=picture_check(artifact, info, c_name),
    )


def file_tolerance(artifact: Any, info: FileInfo) -> Tolerance:
    """Allowed difference from the kit's vectors on the file's target."""
    return tolerance(info, artifact.target, artifact.verification.get("error_bound_steps"))


def _comment(text: str, width: int = 110) -> str:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}"
    return "\n".join(f"//{line}" for line in lines)


def micro_section(artifact: Any, info: FileInfo, c_name: str) -> str:
    """README's section for a microcontroller."""
    arenas = "; ".join(f"{KERNELS[kernels]} {size:,}" for kernels, size in artifact.kernel_arena_bytes.items())
    return templates.MICRO_SECTION.substitute(
        c_name=c_name,
        arena_bytes=f"{artifact.arena_bytes:,}",
        arenas=f" ({arenas})" if arenas else "",
        flash=flash_words(artifact.size_bytes, artifact.ops),
        tolerance=file_tolerance(artifact, info).words,
        cmsis_nn=cmsis_nn_words(info),
        transposed=transposed_words(artifact),
    )


def cmsis_nn_words(info: FileInfo) -> str:
    """README's text about whether CMSIS-NN runs the file."""
    refusal = not_run(info)
    if refusal is None:
        return "its kernels take the forms of this file's ops."
    return f"**does not run this file**: {refusal}, so that `AllocateTensors` fails. Link the reference kernels."


def transposed_words(artifact: Any) -> str:
    """README's text about CMSIS-NN's transposed convolution."""
    fault = (
        "CMSIS-NN up to 7.0.0, and the revision that tflite-micro names in August 2026, computes `TRANSPOSE_CONV` "
        "wrongly if the padding is not a multiple of the stride, for at most 16 input channels and for strides above 2 "
        "(ARM-software/CMSIS-NN issue 230, fixed in July 2026); the reference kernels are correct."
    )
    if "TRANSPOSE_CONV" in artifact.ops and artifact.dtype != "int8":
        return f"{fault} This file's `TRANSPOSE_CONV` runs on the reference kernels: CMSIS-NN has only an 8-bit kernel."
    if "TRANSPOSE_CONV" in artifact.ops:
        return f"{fault} Each `TRANSPOSE_CONV` of this file was checked and is one that CMSIS-NN computes correctly."
    return f"{fault} This file contains no `TRANSPOSE_CONV`."
