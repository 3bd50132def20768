"""The tensor arena of TensorFlow Lite Micro by its own planner: the need of other kernels than the measured ones."""

from __future__ import annotations

from collections.abc import Callable

from ..file.arena_plan import plan_file
from ..file.flatbuffer import FileInfo, OpInfo
from ..names import CMSIS_NN, REFERENCE_KERNELS
from ..targets import cmsis_nn

STEP_BYTES = 128  # resolution of a reported arena


def arena_by_kernels(info: FileInfo, measured_bytes: int) -> dict[str, int]:
    """Arena for each of ``names.KERNELS``: the first was measured, the second is calculated.

    The difference is the plan with the scratch memory of CMSIS-NN's kernels less that with the reference kernels'.
    CMSIS-NN keeps a little more (sums of the weights of a dense layer with Helium), but less than the smaller pointers
    of a 32-bit device save.

    Args:
        info: The file.
        measured_bytes: Arena that was measured with the reference kernels.
    """
    more = planned_bytes(info, cmsis_nn.scratch_bytes) - planned_bytes(info, cmsis_nn.reference_scratch_bytes)
    return {REFERENCE_KERNELS: measured_bytes, CMSIS_NN: measured_bytes + -(-more // STEP_BYTES) * STEP_BYTES}


def planned_bytes(info: FileInfo, scratch_bytes: Callable[[OpInfo], int]) -> int:
    """Bytes of the feature maps and scratch buffers in the plan of TensorFlow Lite Micro's GreedyMemoryPlanner.

    Args:
        info: The file.
        scratch_bytes: Returns the scratch memory of an op's kernel.
    """
    return plan_file(info, scratch_bytes).arena_bytes
