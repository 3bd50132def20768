"""Parameters of each output channel, which convolutions and dense layers share."""

from __future__ import annotations

import numpy as np

from ...file.flatbuffer import TensorInfo
from ..fixed_point import activation_range, quantize_multiplier
from ..program import Fields, Program

BLOCK = 4  # output channels that the kernels compute at a time


def channel_fields(
    program: Program,
    weights: np.ndarray,
    kernel: TensorInfo,
    source: TensorInfo,
    bias: np.ndarray | None,
    groups: int = 1,
    whole: bool = True,
) -> Fields:
    """``channels`` of kernels/dot.c.

    Args:
        program: At the op.
        weights: int8 (output channels, weights of each).
        kernel: The tensor of the weights, for its scales.
        source: The op's input.
        bias: int32 (output channels,); None: none.
        groups: Whose channels are blocked by themselves.
        whole: As for ``interleave``.
    """
    result = program.op.outputs[0]
    outputs = len(weights)
    multipliers = [_multiplier(program.op.name, kernel, index, source, result) for index in range(outputs)]
    low, high = activation_range(program.op.options.fusedActivationFunction, result.scale, result.zero_point)
    total = np.zeros(outputs, np.int64) if bias is None else bias.astype(np.int64)
    total = total - source.zero_point * weights.sum(1, dtype=np.int64)
    channels: Fields = {
        "weights": np.concatenate([interleave(part, whole) for part in np.split(weights, groups)]),
        # The kernels read four at a time.
        "bias": np.pad(((total + (1 << 31)) % (1 << 32) - (1 << 31)).astype(np.int32), (0, -outputs % BLOCK)),
        "multiplier": np.array([one for one, _ in multipliers], np.int32),
        "shift": np.array([shift for _, shift in multipliers], np.int8),
        "table": clipped(low, high),
        "zero": result.zero_point,
    }
    program.reach(largest_sum(weights, channels))
    return channels


def clipped(low: int, high: int) -> np.ndarray | None:
    """The table of a fused activation; None where it changes nothing."""
    return None if (low, high) == (-128, 127) else np.arange(-128, 128).clip(low, high).astype(np.int8)


def interleave(weights: np.ndarray, whole: bool = True) -> np.ndarray:
    """(channels, n) -> as the kernels read it: of four channels n times four.

    Args:
        weights: int8.
        whole: Whether zeros fill the last four; else the channels that are left over follow one by one.
    """
    if whole:
        weights = np.pad(weights, ((0, -len(weights) % BLOCK), (0, 0)))
    count = len(weights) // BLOCK * BLOCK
    blocks = weights[:count].reshape(-1, BLOCK, weights.shape[1]).transpose(0, 2, 1)
    return np.concatenate([blocks.ravel(), weights[count:].ravel()])


def in_order(interleaved: np.ndarray, outputs: int, whole: bool = True) -> np.ndarray:
    """The inverse of ``interleave``: (outputs, n)."""
    n = len(interleaved) // (-(-outputs // BLOCK) * BLOCK if whole else outputs)
    count = len(interleaved) // n // BLOCK * BLOCK
    blocks = interleaved[: count * n].reshape(-1, n, BLOCK).transpose(0, 2, 1).reshape(count, n)
    return np.concatenate([blocks, interleaved[count * n :].reshape(-1, n)])[:outputs]


def largest_sum(weights: np.ndarray, channels: Fields) -> int:
    """What an accumulator of these channels may reach, before it is shifted to the left."""
    total = 128 * np.abs(weights.astype(np.int64)).sum(1) + np.abs(channels["bias"][: len(weights)].astype(np.int64))
    return int((total << np.maximum(channels["shift"].astype(np.int64), 0)).max())


def _multiplier(name: str, kernel: TensorInfo, index: int, source: TensorInfo, result: TensorInfo) -> tuple[int, int]:
    if name == "FULLY_CONNECTED" and len(kernel.scales) == 1:
        # One scale for all: the kernel multiplies the scales in single precision.
        return quantize_multiplier(float(np.float32(source.scale) * np.float32(kernel.scale)) / result.scale)
    return quantize_multiplier(source.scale * kernel.scales[index if len(kernel.scales) > 1 else 0] / result.scale)


def check_weights(program: Program, kernel: TensorInfo, source: TensorInfo) -> None:
    """Constant symmetric int8 weights, int8 maps."""
    program.require(kernel.constant and kernel.dtype == "int8", "has weights that are no int8 constant")
    program.require(not any(kernel.zero_points), "has weights with a zero point")
    program.require(source.dtype == "int8", "has an input that is not int8")


def same_padding(size: int, out: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """Rows before the first: of SAME half of what is missing, of VALID none."""
    missing = (out - 1) * stride + (kernel - 1) * dilation + 1 - size
    return max(missing, 0) // 2
