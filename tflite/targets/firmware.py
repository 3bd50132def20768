"""Flash that a program which runs a file takes on a microcontroller; elsewhere "flash" means only the file."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from ..names import CMSIS_NN, FIRMWARE_BYTES, FIRMWARE_REFERENCE_BYTES, KERNELS, REFERENCE_KERNELS
from .kernel_flash import CODE_BYTES, CodeBytes

KIB = 1024
# Added to what ``CODE_BYTES`` gives, for the alignment of sections and another release of the compiler.
RUNTIME_MARGIN = 0.02
# Cores that run the code of the measured Cortex-M4 and M55. Others count as the Cortex-M0+.
LARGE_CORES = ("cortex-m33", "cortex-m4", "cortex-m55", "cortex-m7")
MEASURED_OPS = frozenset(op for ops in CODE_BYTES for op in ops)
# RAM beside the arena: the interpreter, its table of ops and the stack. Measured on an emulated Cortex-M4: at most
# 888 bytes of data and 1,364 bytes of stack.
OWN_RAM_BYTES = 3 * KIB
# A program in C: (least, most) flash of its code and of start-up code, and what each of its calls adds to that; and its
# stack. Measured with gcc 12.2 -O2 for a Cortex-M4 and M0+ over 164 files of 1 to 116 calls: beside the constants 1,760
# to 11,296 bytes of flash, 2.2 KB of them start-up code and memcpy; and under 600 bytes of stack.
C_CODE_BYTES = (1 * KIB, 8 * KIB)
C_CALL_BYTES = (8, 40)
C_STACK_BYTES = 1 * KIB
# What a firmware project's classify() adds to the program in C (resize, softmax, and on a core without floating point
# its routines), by the same compiler: the most of two networks.
CLASSIFY_BYTES = {"Cortex-M4": 3388, "Cortex-M0+": 7372}
# Cost of ``DeviceCosts`` and budgets -> the kernels that it includes, built with messages, on a Cortex-M4.
COST_KERNELS = {FIRMWARE_BYTES: CMSIS_NN, FIRMWARE_REFERENCE_BYTES: REFERENCE_KERNELS}
NAMES = {REFERENCE_KERNELS: "reference kernels", CMSIS_NN: "CMSIS-NN"}
BUILDS = "built without messages, BUILD_TYPE=release, up to the default build"


def runtime_bytes(ops: Iterable[str], kernels: str = CMSIS_NN, core: str = "cortex-m4") -> tuple[int, int]:
    """(built without messages, with them) flash of the program that runs a file, without the file.

    An op that was not measured counts as the largest that was (``unmeasured``).

    Args:
        ops: Names of the file's ops; repetitions add nothing.
        kernels: Key of ``names.KERNELS``.
        core: Key of ``boards.CORES``.
    """
    kinds = set(ops)
    parts = [part for needed_by, part in CODE_BYTES.items() if not needed_by or kinds.intersection(needed_by)]
    release = sum(_release(part, kernels, core) for part in parts)
    messages = sum(part.messages for part in parts)
    others = len(unmeasured(kinds))
    if others:
        alone = [[part for needed_by, part in CODE_BYTES.items() if op in needed_by] for op in MEASURED_OPS]
        release += others * max(sum(_release(part, kernels, core) for part in own) for own in alone)
        messages += others * max(sum(part.messages for part in own) for own in alone)
    return _with_margin(release), _with_margin(release + messages)


def unmeasured(ops: Iterable[str]) -> tuple[str, ...]:
    """The ops whose code was not measured, sorted."""
    return tuple(sorted(set(ops) - MEASURED_OPS))


def firmware_bytes(
    file_bytes: int, ops: Iterable[str], kernels: str = CMSIS_NN, core: str = "cortex-m4"
) -> tuple[int, int]:
    """(built without messages, with them) flash of whole firmware that contains a file.

    Args:
        file_bytes: Size of the file.
        ops: Names of its ops.
        kernels: Key of ``names.KERNELS``.
        core: Key of ``boards.CORES``.
    """
    release, messages = runtime_bytes(ops, kernels, core)
    return file_bytes + release, file_bytes + messages


def small_core_bytes(core: str) -> int:
    """The most that a core's program may take more than that of a Cortex-M4, whatever the ops; 0 for large cores."""
    return 0 if core in LARGE_CORES else _with_margin(sum(part.small_core for part in CODE_BYTES.values()))


def runtime_words(ops: Collection[str]) -> str:
    """Size of the program that runs a file with these ops, as a phrase.

    Args:
        ops: Names of the file's ops.
    """
    sizes = {kernels: [math.ceil(size / KIB) for size in runtime_bytes(ops, kernels)] for kernels in KERNELS}
    words = " or ".join(f"{release} to {most} KB with {NAMES[name]}" for name, (release, most) in sizes.items())
    others = unmeasured(ops)
    note = f"; {', '.join(others)}: not measured, counted as the largest op" if others else ""
    return f"{words} ({BUILDS}{note})"


def flash_words(file_bytes: int, ops: Collection[str]) -> str:
    """Explanation of a microcontroller's flash figure.

    Args:
        file_bytes: Size of the file.
        ops: Names of its ops.
    """
    return (
        f"{file_bytes:,} bytes for the file only; the program that runs it adds about {runtime_words(ops)}. "
        "Estimated from the ops, whose code was measured for a Cortex-M4 and M55 (TensorFlow Lite Micro)"
    )


def _release(part: CodeBytes, kernels: str, core: str) -> int:
    size = part.cmsis_nn if kernels == CMSIS_NN else part.reference
    return size if core in LARGE_CORES else size + part.small_core


def _with_margin(size: int) -> int:
    return math.ceil(size * (1 + RUNTIME_MARGIN))
