"""Flash that a program which runs a file takes on a microcontroller; elsewhere "flash" means only the file."""

from __future__ import annotations

from collections.abc import Mapping

from ..names import CMSIS_NN, FIRMWARE_BYTES, FIRMWARE_REFERENCE_BYTES, REFERENCE_KERNELS

KIB = 1024

# Kernels (keys of ``names.KERNELS``) -> (smallest, largest) flash of whole firmware without the file, in bytes, of the
# measured networks: TensorFlow Lite Micro's interpreter with only the file's ops and a short main, for Cortex-M4 and
# M55. A float layer, another compiler or a console needs more.
RUNTIME_BYTES: dict[str, tuple[int, int]] = {
    REFERENCE_KERNELS: (90 * KIB, 135 * KIB),
    CMSIS_NN: (125 * KIB, 175 * KIB),
}
# The same of eleven networks whose library was built without messages (BUILD_TYPE=release), with 6 to 15 kinds of ops.
RELEASE_BYTES: dict[str, tuple[int, int]] = {
    REFERENCE_KERNELS: (44 * KIB, 92 * KIB),
    CMSIS_NN: (85 * KIB, 138 * KIB),
}
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
# Cost of ``DeviceCosts`` and budgets -> the kernels that it includes, with their largest size.
COST_KERNELS = {FIRMWARE_BYTES: CMSIS_NN, FIRMWARE_REFERENCE_BYTES: REFERENCE_KERNELS}
NAMES = {REFERENCE_KERNELS: "reference kernels", CMSIS_NN: "CMSIS-NN"}


def firmware_bytes(file_bytes: int, kernels: str = CMSIS_NN) -> tuple[int, int]:
    """(least, most) flash of whole firmware that contains a file.

    Args:
        file_bytes: Size of the file.
        kernels: Key of ``names.KERNELS``.
    """
    least, most = RUNTIME_BYTES[kernels]
    return file_bytes + least, file_bytes + most


def runtime_words(sizes: Mapping[str, tuple[int, int]] = RUNTIME_BYTES) -> str:
    """Size of the program as a phrase."""
    return " or ".join(
        f"{least // KIB} to {most // KIB} KB with {NAMES[kernels]}" for kernels, (least, most) in sizes.items()
    )


def flash_words(file_bytes: int) -> str:
    """Explanation of a microcontroller's flash figure."""
    return (
        f"{file_bytes:,} bytes for the file only; the program that runs it adds about {runtime_words()} "
        "(TensorFlow Lite Micro, measured with other networks on an emulated Cortex-M4 and M55; few kinds of ops need "
        "less). "
        f"Built without messages (BUILD_TYPE=release) it adds {runtime_words(RELEASE_BYTES)}, measured with eleven "
        "networks on a Cortex-M4"
    )
