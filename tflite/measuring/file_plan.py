"""The ops and tensors of a planned file, and the memory and time that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..targets import cmsis_nn

ALIGNMENT_BYTES = 16  # alignment of the tensors in an arena
Map = tuple[int, int, int, int]  # number of a tensor, height, width, channels


@dataclass(frozen=True)
class Step:
    """One op of the file: the tensors that it reads and writes, its weights and its costs.

    An ``op`` of "" may not become an op at all.
    """

    op: str
    reads: tuple[int, ...]
    writes: int
    weights: int = 0
    channels: int = 0  # output channels of an op with weights: each has a step, a bias and a multiplier
    macs: int = 0  # taps on padding are not counted: hardware may skip them
    npu_macs: int = 0  # padded as on an NPU: 32 channels of input, 16 of output, zeros between upsampled pixels
    scratch_bytes: int = 0
    biased: bool = True  # whether an op with weights has its own bias
    again: bool = False  # the same constants as an earlier op: the file contains them once


@dataclass
class Plan:
    """The parts of a network's file that determine memory and time."""

    sizes: list[int] = field(default_factory=list)  # bytes of each feature map
    steps: list[Step] = field(default_factory=list)

    def tensor(self, height: int, width: int, channels: int) -> Map:
        """A new tensor of 8-bit values."""
        self.sizes.append(height * width * channels)
        return len(self.sizes) - 1, height, width, channels

    def add(self, op: str, reads: list[Map], sides: tuple[int, int, int], **holds: Any) -> Map:
        """An op without weights."""
        written = self.tensor(*sides)
        self.steps.append(Step(op, tuple(part[0] for part in reads), written[0], **holds))
        return written

    def conv(self, x: Map, channels: int, kernel: int, stride: int = 1, same: bool = False, op: str = "CONV_2D") -> Map:
        """A convolution, also depthwise."""
        sides = [-(-side // stride) if same else (side - kernel) // stride + 1 for side in x[1:3]]
        taps = math.prod(taps_inside(side, kernel, stride, out) for side, out in zip(x[1:3], sides, strict=True))
        inner = 1 if op == "DEPTHWISE_CONV_2D" else x[3]
        weights = kernel * kernel * inner * channels
        # For CMSIS-NN's kernels; the reference kernels need none.
        scratch = cmsis_nn.convolution_scratch_bytes(kernel * kernel * x[3], pointwise=kernel == stride == 1)
        if op == "DEPTHWISE_CONV_2D":
            scratch = cmsis_nn.depthwise_scratch_bytes(kernel * kernel, channels)
        npu_macs = math.prod(sides) * kernel * kernel * (inner if inner == 1 else filled(inner, 32)) * filled(channels)
        return self.add(
            op,
            [x],
            (sides[0], sides[1], channels),
            weights=weights,
            channels=channels,
            macs=taps * inner * channels,
            npu_macs=npu_macs,
            scratch_bytes=scratch,
        )

    def transposed(self, x: Map, channels: int) -> Map:
        """A transposed 4x4 convolution of stride 2."""
        sides = (2 * x[1], 2 * x[2], channels)
        # Of the four taps per axis, those at the two ends are cropped.
        macs = (4 * x[1] - 2) * (4 * x[2] - 2) * x[3] * channels
        figures = transposed_4x4((x[1], x[2]), x[3], channels)
        return self.add(
            "TRANSPOSE_CONV",
            [x],
            sides,
            weights=16 * x[3] * channels,
            channels=channels,
            macs=macs,
            npu_macs=4 * x[1] * x[2] * 16 * filled(x[3], 32) * filled(channels),
            scratch_bytes=max(figures.reference_scratch_bytes, figures.scratch_bytes),
        )

    def peak_bytes(self, scratch: bool = True) -> int:
        """Largest sum of the tensors that are needed at one time, with the ``scratch`` of the running op."""
        last = {tensor: index for index, step in enumerate(self.steps) for tensor in (*step.reads, step.writes)}
        held: set[int] = {0}
        peak = 0
        for index, step in enumerate(self.steps):
            held.add(step.writes)
            maps = sum(_aligned(self.sizes[tensor]) for tensor in held)
            peak = max(peak, maps + scratch * step.scratch_bytes)
            held = {tensor for tensor in held if last[tensor] > index}
        return peak

    def least_peak_bytes(self) -> int:
        """Lower bound of ``peak_bytes`` for any order in which the converter may put independent ops.

        While an op runs, a tensor is certainly in memory if it is made before the op in every order, and if the op or
        one that depends on it reads the tensor.
        """
        makers = {step.writes: index for index, step in enumerate(self.steps)}
        needs: list[int] = []  # for each op, as bits: itself and the ops that run before it in every order
        readers = [0] * len(self.sizes)
        for index, step in enumerate(self.steps):
            before = 1 << index
            for tensor in step.reads:
                readers[tensor] |= 1 << index
                before |= needs[makers[tensor]] if tensor in makers else 0
            needs.append(before)
        follows = [0] * len(self.steps)
        for index, before in enumerate(needs):
            while before:
                lowest = before & -before
                follows[lowest.bit_length() - 1] |= 1 << index
                before ^= lowest
        peak = 0
        for index, step in enumerate(self.steps):
            held = _aligned(self.sizes[step.writes])
            for tensor, size in enumerate(self.sizes):
                made = tensor not in makers or needs[index] >> makers[tensor] & 1
                if tensor != step.writes and made and readers[tensor] & follows[index]:
                    held += _aligned(size)
            peak = max(peak, held + step.scratch_bytes)
        return peak

    @property
    def inputs(self) -> list[int]:
        """Tensors that no op writes."""
        written = {step.writes for step in self.steps}
        return [tensor for tensor in range(len(self.sizes)) if tensor not in written]

    @property
    def ops(self) -> int:
        """Number of ops."""
        return sum(step.op != "" for step in self.steps)

    def total(self, name: str) -> int:
        """Sum of a field over all steps."""
        return sum(getattr(step, name) for step in self.steps)


def transposed_4x4(source: tuple[int, int], channels: int, filters: int) -> cmsis_nn.Transposed:
    """A transposed 4x4 convolution of stride 2, as in WaveMix."""
    result = (2 * source[0], 2 * source[1])
    return cmsis_nn.Transposed((4, 4), (2, 2), source, result, same=True, channels=channels, filters=filters)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def filled(channels: int, unit: int = 16) -> int:
    return -(-channels // unit) * unit


def taps_inside(side: int, kernel: int, stride: int, out: int) -> int:
    """Number of taps along an axis that lie in the image, over all output pixels."""
    before = max(0, (out - 1) * stride + kernel - side) // 2
    return sum(min(side, index * stride - before + kernel) - max(0, index * stride - before) for index in range(out))
