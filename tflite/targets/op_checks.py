"""Checks of one op of a file; each returns True if the op follows the rule.

``constraints.CONSTRAINTS`` names the rules and their sources.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..file.flatbuffer import OpInfo, TensorInfo
from . import cmsis_nn

# Rounding of float32 scales, which the converter multiplies in another order than this module.
SCALE_TOLERANCE = 1e-5

WEIGHTS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}
FEATURES = {"TRANSPOSE_CONV": 2}  # which input is the feature map, where it is not the first
BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}


def is_constant(tensor: TensorInfo) -> bool:
    return tensor.constant or tensor.folded


def runtime_inputs(op: OpInfo) -> int:
    return sum(not is_constant(tensor) for tensor in op.inputs)


def feature_maps(op: OpInfo) -> list[TensorInfo]:
    return [tensor for tensor in (*op.inputs, *op.outputs) if not is_constant(tensor)]


def feature_map(op: OpInfo) -> TensorInfo:
    return op.inputs[FEATURES.get(op.name, 0)]


def input_at(op: OpInfo, places: dict[str, int]) -> TensorInfo | None:
    place = places[op.name]
    return op.inputs[place] if place < len(op.inputs) else None


def fused_activation(op: OpInfo) -> int:
    return getattr(op.options, "fusedActivationFunction", 0)


def positive(op: OpInfo, *fields: str) -> bool:
    return all(getattr(op.options, field, 1) > 0 for field in fields)


def constant_axes(op: OpInfo) -> bool:
    return len(op.inputs) == 2 and op.inputs[1].constant and op.inputs[1].dtype == "int32"


def axes(op: OpInfo) -> set[int]:
    """Axes that MEAN reduces, counted from the front."""
    return {int(axis) % len(op.inputs[0].shape) for axis in op.inputs[1].values()}


def plain_slice(op: OpInfo) -> bool:
    return not (op.options.ellipsisMask or op.options.newAxisMask or op.options.shrinkAxisMask)


def depth_multiplier_1(op: OpInfo) -> bool:
    return op.options.depthMultiplier == 1 or op.inputs[0].shape[-1] == 1


def depthwise_shapes_agree(op: OpInfo) -> bool:
    source, kernel, result = op.inputs[0].shape, op.inputs[1].shape, op.outputs[0].shape
    if not len(source) == len(kernel) == len(result) == 4 or source[0] != result[0]:
        return False
    bias = input_at(op, BIAS)
    outputs = result[3] == kernel[3] == source[3] * op.options.depthMultiplier
    return outputs and (bias is None or int(np.prod(bias.shape)) == result[3])


def one_covers_other(op: OpInfo) -> bool:
    first, second = (tensor.shape for tensor in op.inputs[:2])
    if len(first) != len(second):
        return True
    sides = list(zip(first, second, strict=True))
    return not (any(a < b for a, b in sides) and any(b < a for a, b in sides))


def paddings(op: OpInfo) -> bool:
    shape = op.inputs[1].shape
    return len(shape) == 2 and shape[0] in (3, 4) and shape[1] == 2


def rank_kept(op: OpInfo) -> bool:
    return not op.options.keepNumDims or len(op.inputs[0].shape) == len(op.outputs[0].shape)


def corners_or_half_pixels(op: OpInfo) -> bool:
    return not (op.options.alignCorners and op.options.halfPixelCenters)


def one_or_two_operands(op: OpInfo) -> bool:
    constants = sum(map(is_constant, op.inputs))
    return len(op.outputs) == 1 and (runtime_inputs(op), constants) in ((2, 0), (1, 1))


def float_maps(op: OpInfo) -> bool:
    return all(tensor.dtype in ("float16", "float32") for tensor in feature_maps(op))


def ranks_1_to_4(op: OpInfo) -> bool:
    return all(1 <= len(tensor.shape) <= 4 for tensor in feature_maps(op))


def batch_1(op: OpInfo) -> bool:
    return all(tensor.shape[0] == 1 for tensor in feature_maps(op) if tensor.shape)


def constant_weights(op: OpInfo) -> bool:
    if op.name not in WEIGHTS:
        return True
    weights, bias = input_at(op, WEIGHTS), input_at(op, BIAS)
    return weights is not None and is_constant(weights) and (bias is None or is_constant(bias))


def integer_maps(op: OpInfo) -> bool:
    return all(tensor.dtype in ("int8", "uint8", "int16", "int32") for tensor in feature_maps(op))


def scaled_maps(op: OpInfo) -> bool:
    tensors = feature_maps(op)
    return op.name in ("PAD", "QUANTIZE") or all(tensor.scales and min(tensor.scales) > 0 for tensor in tensors)


def wide_constant_bias(op: OpInfo) -> bool:
    bias = input_at(op, BIAS)
    return bias is None or (bias.constant and bias.dtype in ("int32", "int64"))


def byte_weights(op: OpInfo) -> bool:
    weights = input_at(op, WEIGHTS)
    return weights is not None and weights.dtype in ("int8", "uint8")


def strides(op: OpInfo) -> tuple[int, int]:
    return op.options.strideH, op.options.strideW


def stride_3_unless_valid(op: OpInfo) -> bool:
    plain = getattr(op.options, "dilationHFactor", 1) == getattr(op.options, "dilationWFactor", 1) == 1
    return max(strides(op)) <= 3 or (plain and op.options.padding == schema.Padding.VALID)


def transposed_strides(op: OpInfo) -> bool:
    kernel, source = op.inputs[1].shape, feature_map(op).shape
    height, width = strides(op)
    flat = (source[1] == kernel[1] == 1, source[2] == kernel[2] == 1)
    return (
        (height, width) in ((1, 1), (2, 2))
        or ((height, width) == (1, 2) and flat[0])
        or ((height, width) == (2, 1) and flat[1])
    )


def transposed_shape(op: OpInfo) -> bool:
    kernel, source, result = op.inputs[1].shape, feature_map(op).shape, op.outputs[0].shape
    for axis, stride in zip((1, 2), strides(op), strict=True):
        valid = op.options.padding == schema.Padding.VALID
        if result[axis] != source[axis] * stride + (kernel[axis] - stride if valid else 0):
            return False
    return True


def pooling_window(op: OpInfo) -> bool:
    height, width = op.options.filterHeight, op.options.filterWidth
    if op.name == "AVERAGE_POOL_2D" and op.options.padding == schema.Padding.SAME:
        return max(height, width) <= 8
    return height * width <= 256 * 256 and height <= 256


def factors(op: OpInfo) -> tuple[float, float]:
    """Ratio of the sides of a resize's output to its input's; with aligned corners, of the spaces between pixels."""
    less = 1 if op.options.alignCorners else 0
    first, last = op.inputs[0].shape, op.outputs[0].shape
    height, width = ((b - less) / max(a - less, 1) for a, b in zip(first[1:3], last[1:3], strict=True))
    return height, width


def resizes_nothing(op: OpInfo) -> bool:
    return op.inputs[0].shape == op.outputs[0].shape or op.inputs[0].shape[1:3] == (1, 1)


def same_factor(op: OpInfo) -> bool:
    height, width = factors(op)
    return resizes_nothing(op) or height == width or (1 in op.outputs[0].shape[1:3] and 1 in (height, width))


def factor_2_4_8(op: OpInfo) -> bool:
    return resizes_nothing(op) or max(factors(op)) in (2, 4, 8)


def bilinear_factor(op: OpInfo) -> bool:
    return factor_2_4_8(op) and (resizes_nothing(op) or not op.options.halfPixelCenters or max(factors(op)) == 2)


def power_of_two(op: OpInfo) -> bool:
    return all(factor >= 1 and np.log2(factor) % 1 == 0 for factor in factors(op))


def small_axes(op: OpInfo) -> bool:
    return all(op.inputs[0].shape[axis] < 4096 for axis in axes(op))


def small_softmax(op: OpInfo) -> bool:
    return int(np.prod(op.inputs[0].shape[:-1])) < 65536


def depth_in_a_row(op: OpInfo) -> bool:
    shape = op.inputs[0].shape
    return len(shape) - 1 not in axes(op) or len(shape) < 4 or 1 in shape[-3:]


def byte_operands(op: OpInfo) -> bool:
    return all(tensor.dtype == "int8" for tensor in op.inputs[:2])


def no_negative_input(op: OpInfo) -> bool:
    return op.inputs[0].zero_point == -128


def pairs_of_sides(op: OpInfo) -> bool:
    sides = sorted(op.inputs[0].shape)
    return int(np.prod(sides[2:])) <= 65536


def positive_strides(op: OpInfo) -> bool:
    return bool(np.all(op.inputs[3].values() > 0))


def same_type_and_shape(op: OpInfo) -> bool:
    first, last = op.inputs[0], op.outputs[0]
    return first.dtype == last.dtype and first.dtype in ("int8", "uint8") and first.shape == last.shape


def three_inner(op: OpInfo) -> bool:
    return all(side == 1 for tensor in feature_maps(op) for side in tensor.shape[:-3])


def zeros_part(op: OpInfo) -> bool:
    constants = [tensor for tensor in op.inputs if tensor.constant]
    zeros = all(np.all(tensor.values() == tensor.zero_point) for tensor in constants)
    return not constants or (len(op.inputs) == 2 and bool(zeros))


def same_dilation(op: OpInfo) -> bool:
    return op.options.dilationHFactor == op.options.dilationWFactor


def depth_in_fours(op: OpInfo) -> bool:
    shape = op.inputs[0].shape
    return len(shape) - 1 not in axes(op) or shape[-1] % 4 == 0


def batch_not_padded(op: OpInfo) -> bool:
    paddings = op.inputs[1].values().reshape(-1, 2)
    return len(op.inputs[0].shape) < 4 or not paddings[0].any()


def short_line(op: OpInfo) -> bool:
    shape = op.inputs[0].shape
    return all(side == 1 for side in shape[:-1]) and shape[-1] <= 16_000


def line(op: OpInfo) -> bool:
    return all(side == 1 for side in op.outputs[0].shape[:-1])


def one_scale(op: OpInfo) -> bool:
    maps = [tensor for tensor in feature_maps(op) if tensor.dtype == "int8"]
    return all(len(tensor.scales) == len(tensor.zero_points) == 1 and tensor.scale > 0 for tensor in maps)


def symmetric_weights(op: OpInfo) -> bool:
    weights = input_at(op, WEIGHTS)
    if weights is None or weights.dtype != "int8" or not weights.scales or any(weights.zero_points):
        return False
    return not weights.constant or int(weights.values().min()) >= -127


def scales_on_axis(axis: int) -> Callable[[OpInfo], bool]:
    def check(op: OpInfo) -> bool:
        weights = input_at(op, WEIGHTS)
        if weights is None:
            return False
        return len(weights.scales) == 1 or (weights.axis == axis and len(weights.scales) == weights.shape[axis])

    return check


def bias_32(op: OpInfo) -> bool:
    weights, bias = input_at(op, WEIGHTS), input_at(op, BIAS)
    if bias is None or weights is None:
        return True
    if bias.dtype != "int32" or any(bias.zero_points) or len(bias.scales) not in (1, len(weights.scales)):
        return False
    wanted = np.asarray(weights.scales, np.float64) * feature_map(op).scale
    return bool(np.allclose(np.asarray(bias.scales), wanted, rtol=SCALE_TOLERANCE, atol=0))


def on_input_scale(op: OpInfo) -> bool:
    result = op.outputs[0]
    sources = op.inputs if op.name == "CONCATENATION" else op.inputs[:1]
    return all((tensor.scales, tensor.zero_points) == (result.scales, result.zero_points) for tensor in sources)


def fixed_scale(scale: float, zero_point: int) -> Callable[[OpInfo], bool]:
    return lambda op: (op.outputs[0].scale, op.outputs[0].zero_point) == (scale, zero_point)


def in_cmsis_nn(question: Callable[[OpInfo], bool]) -> Callable[[OpInfo], bool]:
    """Apply a check only to the int8 kernels: CMSIS-NN leaves the others' arithmetic to the reference kernels."""
    return lambda op: not cmsis_nn.is_int8(op) or question(op)
