"""Arm's CMSIS-NN, the kernels that TensorFlow Lite Micro runs on Cortex-M: their memory use and their errors.

CMSIS-NN is not run here: everything is taken from its source, releases up to 7.0.0 and revision 4ab83cc3, which
TensorFlow Lite Micro names in August 2026. The reference kernels, which ``export`` runs, have none of these errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ai_edge_litert import schema_py_generated as schema

from ..file.flatbuffer import FileInfo, OpInfo

# With more input channels than this, and strides of at most 2, a transposed convolution runs as a convolution with
# reversed filters (arm_transpose_conv_wrapper_s8.c); the other cases run in its own kernel.
REVERSED_ABOVE_CHANNELS = 16
REVERSED_STRIDE = 2
DEPTHWISE_BLOCK = 124  # channels that the Helium kernel processes at a time (CH_IN_BLOCK_MVE)
# Its builds: for cores with DSP instructions or less, the same with Arm's compiler, and for cores with Helium.
DSP, ARMCLANG, HELIUM = "dsp", "armclang", "helium"
BUILDS = (DSP, ARMCLANG, HELIUM)
# With Helium, a depthwise convolution of one channel with more outputs becomes a convolution; 8 with armclang.
ONE_CHANNEL_OUTPUTS = 1


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
        return self.row_bytes

    @property
    def row_bytes(self) -> int:
        """Arena bytes of its own kernel: accumulators of the rows that one input row reaches."""
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


def not_run(info: FileInfo) -> str | None:
    """Why TensorFlow Lite Micro's kernels for CMSIS-NN refuse a file that its reference kernels run; None: they do not.

    ``AllocateTensors`` fails at a dense layer of 16-bit activations whose weights have a scale for each output
    (micro/kernels/cmsis_nn/fully_connected.cc: "Currently only Int8 is supported for per channel quantization").
    """
    for index, op in enumerate(info.ops):
        if op.name == "FULLY_CONNECTED" and op.inputs[0].dtype == "int16" and op.inputs[1].channel_scales > 1:
            return (
                f"op {index} FULLY_CONNECTED has 16-bit activations and a scale for each output, which TensorFlow Lite "
                "Micro's kernel for CMSIS-NN refuses"
            )
    return None


def scratch(op: OpInfo, build: str) -> tuple[int, ...]:
    """Bytes of each scratch buffer that TensorFlow Lite Micro requests for a CMSIS-NN kernel.

    Args:
        op: One whose name is in ``SCRATCH``.
        build: Name in ``BUILDS``.
    """
    kind = op.outputs[0].dtype
    return SCRATCH[op.name](op, build) if kind in ("int8", "int16") else ()


def _convolution(op: OpInfo, build: str) -> tuple[int, ...]:
    if op.outputs[0].dtype == "int16":
        taps = math.prod(op.inputs[1].shape[1:3]) * op.inputs[0].shape[-1]
        return (64 * -(-taps // 8) if build == HELIUM else 4 * taps,)
    _, height, width, channels = op.inputs[1].shape
    return _some(_convolution_bytes(op, build, (height, width), channels))


def _convolution_bytes(op: OpInfo, build: str, kernel: tuple[int, int], depth: int) -> int:
    """arm_convolve_wrapper_s8_get_buffer_size, for filters of ``depth`` channels."""
    _, height, width, channels = op.inputs[0].shape
    stride, plain = (op.options.strideH, op.options.strideW), _dilation(op) == (1, 1) and channels == depth
    pads = [_padding(op, axis, kernel[axis]) for axis in (0, 1)]
    if plain and kernel == (1, 1) and pads == [0, 0]:
        return 4 * channels if build == ARMCLANG and stride == (1, 1) else 0
    taps = math.prod(kernel) * channels
    if build != HELIUM:
        return 4 * (-(-taps // 4) * 4)
    if height == kernel[0] == 1 and plain and stride[1] * channels % 4 == 0:
        return _row_bytes(width, op.outputs[0].shape[2], kernel[1], stride[1], channels, pads[1])
    return 64 * -(-taps // 16)


def _row_bytes(source: int, result: int, kernel: int, stride: int, channels: int, pad: int) -> int:
    """arm_convolve_1_x_n_s8_get_buffer_size_mve: a convolution of a map of one row."""
    odd = math.fmod((result - 1) * stride + kernel - source, 2)  # as in C: of the sign of the dividend
    right = max(1, int((pad + odd + stride - 1) / stride)) if pad + odd else 0
    left = max(1, (pad + stride - 1) // stride) if pad else 0
    if right + max(result - right - left, 0) + left != result:
        return 64 * -(-kernel * channels // 16)
    behind = right * channels if odd else pad * channels
    return max(kernel * channels + pad * channels, (kernel - 1) * channels + behind)


def _depthwise(op: OpInfo, build: str) -> tuple[int, ...]:
    if op.outputs[0].dtype == "int16":
        return ()
    _, height, width, filters = op.inputs[1].shape
    taps, channels = height * width, op.inputs[0].shape[-1]
    if build == HELIUM and channels == 1 and filters > ONE_CHANNEL_OUTPUTS:
        return (_convolution_bytes(op, build, (height, width), 1) + taps * filters,)
    if channels != filters or _dilation(op) != (1, 1):
        return ()
    if build == HELIUM:
        return (4 * DEPTHWISE_BLOCK * taps,)
    small = (height, width) == (3, 3) and max(_padding(op, axis, 3) for axis in (0, 1)) <= 1
    return () if small else (2 * channels * taps,)


def _transposed(op: OpInfo, build: str) -> tuple[int, ...]:
    figures = transposed(op)
    if op.outputs[0].dtype == "int16":
        return (8 * math.prod(figures.result) * figures.filters,)
    taps = math.prod(figures.kernel) * figures.channels
    if figures.reversed:
        columns = 64 * -(-taps // 16) if build == HELIUM else 4 * (-(-taps // 4) * 4)
        return (columns, taps * figures.filters)
    return (figures.row_bytes, 0)


def _average_pool(op: OpInfo, build: str) -> tuple[int, ...]:
    return () if build == HELIUM else (4 * op.outputs[0].shape[-1],)


def _fully_connected(op: OpInfo, build: str) -> tuple[int, ...]:
    result, depth = op.outputs[0].shape, op.inputs[1].shape[-1]
    if op.outputs[0].dtype == "int16":
        return ()
    if len(result) > 2 and depth % 4 == 0:  # it runs as a convolution of 1x1
        steps = (8 * result[-1],) if op.inputs[1].channel_scales <= 1 else ()
        return (*steps, *_some(4 * depth if build == ARMCLANG else 0))
    return _some(4 * result[-1] if build == HELIUM else 0)


def _batch_matmul(op: OpInfo, build: str) -> tuple[int, ...]:
    return _some(4 * op.outputs[0].shape[-1] if build == HELIUM and op.outputs[0].dtype == "int8" else 0)


SCRATCH = {
    "AVERAGE_POOL_2D": _average_pool,
    "BATCH_MATMUL": _batch_matmul,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "TRANSPOSE_CONV": _transposed,
}


def _some(size: int) -> tuple[int, ...]:
    return (size,) if size else ()


def _dilation(op: OpInfo) -> tuple[int, int]:
    return op.options.dilationHFactor, op.options.dilationWFactor


def _padding(op: OpInfo, axis: int, kernel: int) -> int:
    """Rows or columns that TensorFlow Lite Micro pads before the first."""
    if op.options.padding != schema.Padding.SAME:
        return 0
    stride, reach = (op.options.strideH, op.options.strideW)[axis], (kernel - 1) * _dilation(op)[axis] + 1
    source = op.inputs[0].shape[1 + axis]
    return max((-(-source // stride) - 1) * stride + reach - source, 0) // 2
