"""Arm's CMSIS-NN, the kernels that TensorFlow Lite Micro runs on Cortex-M: their memory use and their errors.

CMSIS-NN is not run here: everything is taken from its source, releases up to 7.0.0 and revision 4ab83cc3, which
TensorFlow Lite Micro used until August 2026. The reference kernels, which ``export`` runs, have none of these errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

from ..file.flatbuffer import OpInfo

# With more input channels than this, and strides of at most 2, a transposed convolution runs as a convolution with
# reversed filters (arm_transpose_conv_wrapper_s8.c); the other cases run in its own kernel.
REVERSED_ABOVE_CHANNELS = 16
REVERSED_STRIDE = 2
DEPTHWISE_BLOCK = 124  # channels that the Helium kernel processes at a time (CH_IN_BLOCK_MVE)
ONE_CHANNEL_OUTPUTS = 8  # a depthwise convolution of one channel with more outputs becomes a convolution


@dataclass(frozen=True)
class Transposed:
    """A TRANSPOSE_CONV: (height, width) of each."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    source: tuple[int, int]
    result: tuple[int, int]
    same: bool
    channels: int  # channels of the input
    filters: int

    @property
    def padding(self) -> tuple[int, int]:
        """Rows and columns that TensorFlow Lite Micro pads before the first (ComputePaddingHeightWidth)."""
        return (self._padding_before(0), self._padding_before(1))

    def _padding_before(self, axis: int) -> int:
        if not self.same:
            return 0
        kernel, stride, result = self.kernel[axis], self.stride[axis], self.result[axis]
        return max((-(-result // stride) - 1) * stride + kernel - result, 0) // 2

    @property
    def reversed(self) -> bool:
        """Whether it runs as a convolution, on a copy of its filters."""
        return self.channels > REVERSED_ABOVE_CHANNELS and max(self.stride) <= REVERSED_STRIDE

    @property
    def rows_aligned(self) -> bool:
        """Whether its rows are written in the right place.

        arm_transpose_conv_s8 advances by the whole stride. If the padding is not a multiple of the stride, the first
        rows are held back, and every later row is off by one (issue 230, fixed in July 2026). Arm's tests of the
        kernel used only paddings that are multiples.
        """
        return self.reversed or self.padding[0] % self.stride[0] == 0

    @property
    def rows_written(self) -> bool:
        """Whether it writes all rows of its output and none after them; no release checks this."""
        stride, kernel, padding = self.stride[0], self.kernel[0], self.padding[0]
        least = self.source[0] * stride - padding  # written whatever the output's size
        most = (self.source[0] - 1) * stride + max(kernel, stride) - padding
        return self.reversed or 0 <= least <= self.result[0] <= most

    @property
    def buffer_suffices(self) -> bool:
        """Whether the requested buffer is large enough for a row: its width is computed with the vertical stride."""
        wide = (self.source[1] - 1) * self.stride[1] + max(self.kernel[1], self.stride[1])
        return self.reversed or (
            self.stride[1] <= max(self.kernel[1], self.stride[0]) and self.padding[1] + self.result[1] <= wide
        )

    @property
    def matches_reference(self) -> bool:
        """Whether it computes the same as the reference kernel."""
        return self.rows_aligned and self.rows_written and self.buffer_suffices

    @property
    def scratch_bytes(self) -> int:
        """Arena bytes while it runs; the larger of the plain and the Helium build."""
        taps = math.prod(self.kernel) * self.channels
        if self.reversed:
            return convolution_scratch_bytes(taps) + taps * self.filters
        wide = (self.source[1] - 1) * self.stride[1] + max(self.kernel[1], self.stride[0])
        return 4 * wide * max(self.kernel[0], self.stride[0]) * self.filters

    @property
    def reference_scratch_bytes(self) -> int:
        """Arena bytes of the reference kernel: one accumulator per output value."""
        return 4 * math.prod(self.result) * self.filters


def convolution_scratch_bytes(taps: int, pointwise: bool = False) -> int:
    """Arena bytes of an int8 convolution with ``taps`` values per output; ``pointwise``: 1x1, stride 1, no padding."""
    if pointwise:
        return 4 * taps  # only armclang
    return max(4 * (-(-taps // 4) * 4), 64 * -(-taps // 16))


def depthwise_scratch_bytes(taps: int, channels: int) -> int:
    """Arena bytes of an int8 depthwise convolution of multiplier 1 with ``taps`` taps."""
    return max(2 * channels * taps, 4 * DEPTHWISE_BLOCK * taps)


def transposed(op: OpInfo) -> Transposed:
    """The parameters of a TRANSPOSE_CONV of a file."""
    weights, source, result = op.inputs[1].shape, op.inputs[2].shape, op.outputs[0].shape
    return Transposed(
        kernel=(weights[1], weights[2]),
        stride=(op.options.strideH, op.options.strideW),
        source=(source[1], source[2]),
        result=(result[1], result[2]),
        same=op.options.padding == schema.Padding.SAME,
        channels=weights[3],
        filters=weights[0],
    )


def is_int8(op: OpInfo) -> bool:
    """Whether an op with weights is one that CMSIS-NN runs in 8 bits."""
    return op.outputs[0].dtype == "int8"


def activation_in_range(op: OpInfo) -> bool:
    """Whether the output's own range has the effect of the fused activation.

    TensorFlow Lite Micro's call of CMSIS-NN omits a transposed convolution's activation
    (micro/kernels/cmsis_nn/transpose_conv.cc passes kTfLiteActNone).
    """
    activation, result = op.options.fusedActivationFunction, op.outputs[0]
    kinds = schema.ActivationFunctionType
    low, high = {kinds.RELU: (0.0, math.inf), kinds.RELU6: (0.0, 6.0), kinds.RELU_N1_TO_1: (-1.0, 1.0)}.get(
        activation, (-math.inf, math.inf)
    )
    least, most = ((level - result.zero_point) * result.scale for level in (-128, 127))
    slack = result.scale / 2
    return least >= low - slack and most <= high + slack


def scratch_bytes(op: OpInfo) -> int:
    """Arena bytes of a CMSIS-NN kernel while it runs, the largest of its builds (plain, DSP, Helium)."""
    if not op.outputs or not (op.inputs and len(op.inputs[0].shape)):
        return 0
    result = op.outputs[0]
    wide = {"int8": 1, "int16": 2}.get(result.dtype, 0)  # bytes; other types run by the reference kernels
    if op.name == "TRANSPOSE_CONV":
        return transposed(op).scratch_bytes if wide == 1 else reference_scratch_bytes(op)
    if op.name == "CONV_2D" and wide:
        _, height, width, _ = op.inputs[1].shape
        taps = height * width * op.inputs[0].shape[-1]
        plain = (height, width, op.options.strideH, op.options.strideW) == (1, 1, 1, 1)
        if wide == 2:
            return max(4 * taps, 64 * -(-taps // 8))
        return convolution_scratch_bytes(taps, pointwise=plain)
    if op.name == "DEPTHWISE_CONV_2D" and wide:
        _, height, width, filters = op.inputs[1].shape
        taps, channels = height * width, op.inputs[0].shape[-1]
        if channels == 1 and filters > ONE_CHANNEL_OUTPUTS:
            return convolution_scratch_bytes(taps) + taps * filters
        if channels != filters:
            return 0
        return depthwise_scratch_bytes(taps, channels) if wide == 1 else 8 * channels * taps
    if op.name == "AVERAGE_POOL_2D" and wide:
        return 4 * result.shape[-1]
    if op.name == "BATCH_MATMUL" and wide:
        return 4 * result.shape[-1]
    if op.name == "FULLY_CONNECTED" and wide:
        return 8 * result.shape[-1] if op.inputs[1].channel_scales <= 1 else 0
    return reference_scratch_bytes(op)


def reference_scratch_bytes(op: OpInfo) -> int:
    """Arena bytes of a reference kernel of TensorFlow Lite Micro while it runs."""
    if op.name == "TRANSPOSE_CONV":
        return {"int8": 4, "int16": 8}.get(op.outputs[0].dtype, 0) * math.prod(op.outputs[0].shape)
    if op.name in ("MEAN", "SUM"):
        return 4 * math.prod(op.outputs[0].shape)
    return 0
