"""The tensor arena of TensorFlow Lite Micro by its own planner: the need of other kernels than the measured ones."""

from __future__ import annotations

from collections.abc import Callable

from ..file.flatbuffer import FileInfo, OpInfo
from ..file.op_costs import tensor_bytes
from ..names import CMSIS_NN, REFERENCE_KERNELS
from ..targets import cmsis_nn

ALIGNMENT_BYTES = 16
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
    lives: dict[int, list[int]] = {}  # id of a tensor -> [bytes, first op, last op]
    for tensor in info.inputs:
        lives[id(tensor)] = [tensor_bytes(tensor), 0, 0]
    for index, op in enumerate(info.ops, start=1):
        for tensor in (*op.inputs, *op.outputs):
            if not tensor.constant:
                lives.setdefault(id(tensor), [tensor_bytes(tensor), index, index])[2] = index
    for tensor in info.outputs:
        if id(tensor) in lives:
            lives[id(tensor)][2] = len(info.ops)
    buffers = [(_aligned(size), first, last) for size, first, last in lives.values() if size]
    for index, op in enumerate(info.ops, start=1):
        if scratch := scratch_bytes(op):
            buffers.append((_aligned(scratch), index, index))
    placed: list[tuple[int, int, int, int]] = []  # (offset, bytes, first op, last op), by offset
    for size, first, last in sorted(buffers, key=lambda buffer: -buffer[0]):
        offset = 0
        for other, taken, begins, ends in placed:
            if begins > last or first > ends:
                continue
            if other - offset >= size:
                break
            offset = max(offset, other + taken)
        placed.append((offset, size, first, last))
        placed.sort(key=lambda entry: entry[0])
    return max((offset + size for offset, size, _, _ in placed), default=0)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
