"""The audit: every op of a file against its target's rules.

A rule is a question to one op, named in ``targets.TARGETS``. ``CONSTRAINTS`` holds each with the place it comes from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from ..errors import UnsupportedOpError
from ..file.flatbuffer import FileInfo, OpInfo, TensorInfo, schema
from . import cmsis_nn
from .op_tables import INSTEAD, INT8_RULES
from .table import Target

ALIKE_SHOWN = 3  # ops that break one rule, in a message

GPU = "tensorflow/lite/tools/versioning/gpu_compatibility.cc"
GPU_BUILDER = "tensorflow/lite/delegates/gpu/common/model_builder_helper.cc"
VELA = "SUPPORTED_OPS.md of ethos-u-vela 5.2.0"
CORAL = "https://coral.ai/docs/edgetpu/models-intro/"
SPEC = "https://ai.google.dev/edge/litert/models/quantization_spec"
MICRO = "tensorflow/lite/micro/kernels of tflite-micro"
CMSIS = "ARM-software/CMSIS-NN up to 7.0.0 and its revision 4ab83cc3, which tflite-micro took until August 2026"
# Rounding of float32 scales, which the converter multiplies in another order than we do.
SCALE_TOLERANCE = 1e-5

WEIGHTS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}
FEATURES = {"TRANSPOSE_CONV": 2}  # which input is the feature map, where it is not the first
BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}


def _is_constant(tensor: TensorInfo) -> bool:
    return tensor.constant or tensor.folded


def _runtime_inputs(op: OpInfo) -> int:
    return sum(not _is_constant(tensor) for tensor in op.inputs)


def _feature_maps(op: OpInfo) -> list[TensorInfo]:
    return [tensor for tensor in (*op.inputs, *op.outputs) if not _is_constant(tensor)]


def _source(op: OpInfo) -> TensorInfo:
    return op.inputs[FEATURES.get(op.name, 0)]


def _at(op: OpInfo, places: dict[str, int]) -> TensorInfo | None:
    place = places[op.name]
    return op.inputs[place] if place < len(op.inputs) else None


def _activation(op: OpInfo) -> int:
    return getattr(op.options, "fusedActivationFunction", 0)


def _positive(op: OpInfo, *fields: str) -> bool:
    return all(getattr(op.options, field, 1) > 0 for field in fields)


def _constant_axes(op: OpInfo) -> bool:
    return len(op.inputs) == 2 and op.inputs[1].constant and op.inputs[1].dtype == "int32"


def _axes(op: OpInfo) -> set[int]:
    """Axes that MEAN reduces, counted from the front."""
    return {int(axis) % len(op.inputs[0].shape) for axis in op.inputs[1].values()}


def _plain_slice(op: OpInfo) -> bool:
    return not (op.options.ellipsisMask or op.options.newAxisMask or op.options.shrinkAxisMask)


def _depth_multiplier_1(op: OpInfo) -> bool:
    return op.options.depthMultiplier == 1 or op.inputs[0].shape[-1] == 1


def _depthwise_shapes_agree(op: OpInfo) -> bool:
    source, kernel, result = op.inputs[0].shape, op.inputs[1].shape, op.outputs[0].shape
    if not len(source) == len(kernel) == len(result) == 4 or source[0] != result[0]:
        return False
    bias = _at(op, BIAS)
    outputs = result[3] == kernel[3] == source[3] * op.options.depthMultiplier
    return outputs and (bias is None or int(np.prod(bias.shape)) == result[3])


def _one_covers_other(op: OpInfo) -> bool:
    first, second = (tensor.shape for tensor in op.inputs[:2])
    if len(first) != len(second):
        return True
    sides = list(zip(first, second, strict=True))
    return not (any(a < b for a, b in sides) and any(b < a for a, b in sides))


def _paddings(op: OpInfo) -> bool:
    shape = op.inputs[1].shape
    return len(shape) == 2 and shape[0] in (3, 4) and shape[1] == 2


def _rank_kept(op: OpInfo) -> bool:
    return not op.options.keepNumDims or len(op.inputs[0].shape) == len(op.outputs[0].shape)


def _corners_or_half_pixels(op: OpInfo) -> bool:
    return not (op.options.alignCorners and op.options.halfPixelCenters)


def _one_or_two_operands(op: OpInfo) -> bool:
    constants = sum(map(_is_constant, op.inputs))
    return len(op.outputs) == 1 and (_runtime_inputs(op), constants) in ((2, 0), (1, 1))


def _float_maps(op: OpInfo) -> bool:
    return all(tensor.dtype in ("float16", "float32") for tensor in _feature_maps(op))


def _ranks_1_to_4(op: OpInfo) -> bool:
    return all(1 <= len(tensor.shape) <= 4 for tensor in _feature_maps(op))


def _batch_1(op: OpInfo) -> bool:
    return all(tensor.shape[0] == 1 for tensor in _feature_maps(op) if tensor.shape)


def _constant_weights(op: OpInfo) -> bool:
    if op.name not in WEIGHTS:
        return True
    weights, bias = _at(op, WEIGHTS), _at(op, BIAS)
    return weights is not None and _is_constant(weights) and (bias is None or _is_constant(bias))


def _integer_maps(op: OpInfo) -> bool:
    return all(tensor.dtype in ("int8", "uint8", "int16", "int32") for tensor in _feature_maps(op))


def _scaled_maps(op: OpInfo) -> bool:
    tensors = _feature_maps(op)
    return op.name in ("PAD", "QUANTIZE") or all(tensor.scales and min(tensor.scales) > 0 for tensor in tensors)


def _wide_constant_bias(op: OpInfo) -> bool:
    bias = _at(op, BIAS)
    return bias is None or (bias.constant and bias.dtype in ("int32", "int64"))


def _byte_weights(op: OpInfo) -> bool:
    weights = _at(op, WEIGHTS)
    return weights is not None and weights.dtype in ("int8", "uint8")


def _strides(op: OpInfo) -> tuple[int, int]:
    return op.options.strideH, op.options.strideW


def _stride_3_unless_valid(op: OpInfo) -> bool:
    plain = getattr(op.options, "dilationHFactor", 1) == getattr(op.options, "dilationWFactor", 1) == 1
    return max(_strides(op)) <= 3 or (plain and op.options.padding == schema.Padding.VALID)


def _transposed_strides(op: OpInfo) -> bool:
    kernel, source = op.inputs[1].shape, _source(op).shape
    height, width = _strides(op)
    flat = (source[1] == kernel[1] == 1, source[2] == kernel[2] == 1)
    return (
        (height, width) in ((1, 1), (2, 2))
        or ((height, width) == (1, 2) and flat[0])
        or ((height, width) == (2, 1) and flat[1])
    )


def _transposed_shape(op: OpInfo) -> bool:
    kernel, source, result = op.inputs[1].shape, _source(op).shape, op.outputs[0].shape
    for axis, stride in zip((1, 2), _strides(op), strict=True):
        valid = op.options.padding == schema.Padding.VALID
        if result[axis] != source[axis] * stride + (kernel[axis] - stride if valid else 0):
            return False
    return True


def _pooling_window(op: OpInfo) -> bool:
    height, width = op.options.filterHeight, op.options.filterWidth
    if op.name == "AVERAGE_POOL_2D" and op.options.padding == schema.Padding.SAME:
        return max(height, width) <= 8
    return height * width <= 256 * 256 and height <= 256


def _factors(op: OpInfo) -> tuple[float, float]:
    """How often each side of a resize's output holds that of its input; corners aligned: the spaces between pixels."""
    less = 1 if op.options.alignCorners else 0
    first, last = op.inputs[0].shape, op.outputs[0].shape
    height, width = ((b - less) / max(a - less, 1) for a, b in zip(first[1:3], last[1:3], strict=True))
    return height, width


def _resizes_nothing(op: OpInfo) -> bool:
    return op.inputs[0].shape == op.outputs[0].shape or op.inputs[0].shape[1:3] == (1, 1)


def _same_factor(op: OpInfo) -> bool:
    height, width = _factors(op)
    return _resizes_nothing(op) or height == width or (1 in op.outputs[0].shape[1:3] and 1 in (height, width))


def _factor_2_4_8(op: OpInfo) -> bool:
    return _resizes_nothing(op) or max(_factors(op)) in (2, 4, 8)


def _bilinear_factor(op: OpInfo) -> bool:
    return _factor_2_4_8(op) and (_resizes_nothing(op) or not op.options.halfPixelCenters or max(_factors(op)) == 2)


def _power_of_two(op: OpInfo) -> bool:
    return all(factor >= 1 and np.log2(factor) % 1 == 0 for factor in _factors(op))


def _small_axes(op: OpInfo) -> bool:
    return all(op.inputs[0].shape[axis] < 4096 for axis in _axes(op))


def _small_softmax(op: OpInfo) -> bool:
    return int(np.prod(op.inputs[0].shape[:-1])) < 65536


def _depth_in_a_row(op: OpInfo) -> bool:
    shape = op.inputs[0].shape
    return len(shape) - 1 not in _axes(op) or len(shape) < 4 or 1 in shape[-3:]


def _byte_operands(op: OpInfo) -> bool:
    return all(tensor.dtype == "int8" for tensor in op.inputs[:2])


def _no_negative_input(op: OpInfo) -> bool:
    return op.inputs[0].zero_point == -128


def _pairs_of_sides(op: OpInfo) -> bool:
    sides = sorted(op.inputs[0].shape)
    return int(np.prod(sides[2:])) <= 65536


def _positive_strides(op: OpInfo) -> bool:
    return bool(np.all(op.inputs[3].values() > 0))


def _same_type_and_shape(op: OpInfo) -> bool:
    first, last = op.inputs[0], op.outputs[0]
    return first.dtype == last.dtype and first.dtype in ("int8", "uint8") and first.shape == last.shape


def _three_inner(op: OpInfo) -> bool:
    return all(side == 1 for tensor in _feature_maps(op) for side in tensor.shape[:-3])


def _zeros_part(op: OpInfo) -> bool:
    constants = [tensor for tensor in op.inputs if tensor.constant]
    zeros = all(np.all(tensor.values() == tensor.zero_point) for tensor in constants)
    return not constants or (len(op.inputs) == 2 and bool(zeros))


def _same_dilation(op: OpInfo) -> bool:
    return op.options.dilationHFactor == op.options.dilationWFactor


def _depth_in_fours(op: OpInfo) -> bool:
    shape = op.inputs[0].shape
    return len(shape) - 1 not in _axes(op) or shape[-1] % 4 == 0


def _batch_not_padded(op: OpInfo) -> bool:
    paddings = op.inputs[1].values().reshape(-1, 2)
    return len(op.inputs[0].shape) < 4 or not paddings[0].any()


def _short_line(op: OpInfo) -> bool:
    shape = op.inputs[0].shape
    return all(side == 1 for side in shape[:-1]) and shape[-1] <= 16_000


def _line(op: OpInfo) -> bool:
    return all(side == 1 for side in op.outputs[0].shape[:-1])


def _one_scale(op: OpInfo) -> bool:
    maps = [tensor for tensor in _feature_maps(op) if tensor.dtype == "int8"]
    return all(len(tensor.scales) == len(tensor.zero_points) == 1 and tensor.scale > 0 for tensor in maps)


def _symmetric_weights(op: OpInfo) -> bool:
    weights = _at(op, WEIGHTS)
    if weights is None or weights.dtype != "int8" or not weights.scales or any(weights.zero_points):
        return False
    return not weights.constant or int(weights.values().min()) >= -127


def _scales_on_axis(axis: int) -> Callable[[OpInfo], bool]:
    def check(op: OpInfo) -> bool:
        weights = _at(op, WEIGHTS)
        if weights is None:
            return False
        return len(weights.scales) == 1 or (weights.axis == axis and len(weights.scales) == weights.shape[axis])

    return check


def _bias_32(op: OpInfo) -> bool:
    weights, bias = _at(op, WEIGHTS), _at(op, BIAS)
    if bias is None or weights is None:
        return True
    if bias.dtype != "int32" or any(bias.zero_points) or len(bias.scales) not in (1, len(weights.scales)):
        return False
    wanted = np.asarray(weights.scales, np.float64) * _source(op).scale
    return bool(np.allclose(np.asarray(bias.scales), wanted, rtol=SCALE_TOLERANCE, atol=0))


def _on_input_scale(op: OpInfo) -> bool:
    result = op.outputs[0]
    sources = op.inputs if op.name == "CONCATENATION" else op.inputs[:1]
    return all((tensor.scales, tensor.zero_points) == (result.scales, result.zero_points) for tensor in sources)


def _fixed_scale(scale: float, zero_point: int) -> Callable[[OpInfo], bool]:
    return lambda op: (op.outputs[0].scale, op.outputs[0].zero_point) == (scale, zero_point)


def _in_cmsis_nn(question: Callable[[OpInfo], bool]) -> Callable[[OpInfo], bool]:
    """Of the int8 kernels alone: CMSIS-NN leaves the others' arithmetic to the reference kernels."""
    return lambda op: not cmsis_nn.is_int8(op) or question(op)


# What to do about a rule that is no op's own.
ADVICE = {
    "CMSIS-NN": "let upsample_form be None, 'subpixel_crop' or 'transposed_crop', which write the same function "
    "without this fault of the kernels that firmware for a Cortex-M links (ARM-software/CMSIS-NN issue 230; the "
    "reference kernels are right); a model of engine='tfmot' has no other form, quantize it with engine='native'"
}

# Rule -> (question to an op that must come out true, where the rule comes from).
CONSTRAINTS: dict[str, tuple[Callable[[OpInfo], bool], str]] = {
    # The GPU delegate
    "at most 4 dimensions": (_ranks_1_to_4, f"ExtractTensorShape in {GPU_BUILDER}"),
    "at most two runtime inputs": (lambda op: _runtime_inputs(op) <= 2 and len(op.outputs) == 1, GPU),
    "beta 1": (lambda op: op.options.beta == 1, f"kTfLiteBuiltinSoftmax in {GPU}"),
    "block size above 1": (lambda op: op.options.blockSize > 1, f"kTfLiteBuiltinDepthToSpace in {GPU}"),
    "constant float16 input": (lambda op: op.inputs[0].constant and op.inputs[0].dtype == "float16", GPU),
    "corners aligned or half pixels, not both": (_corners_or_half_pixels, f"{GPU}; {VELA}"),
    "depth multiplier 1": (_depth_multiplier_1, f"CheckDepthwiseConvGpuDelegateCompatibility in {GPU}"),
    "depthwise shapes agree": (_depthwise_shapes_agree, f"CheckDepthwiseConvGpuDelegateCompatibility in {GPU}"),
    "float feature maps": (_float_maps, "tensorflow/lite/delegates/gpu/common/model_builder.cc"),
    "known fused activation": (
        lambda op: _activation(op) != schema.ActivationFunctionType.SIGN_BIT,
        f"IsActivationSupported in {GPU}",
    ),
    "one input covers the other": (_one_covers_other, f"kTfLiteBuiltinMul in {GPU}"),
    "one or two runtime operands": (_one_or_two_operands, f"two-argument elementwise ops in {GPU}"),
    "one runtime input": (lambda op: _runtime_inputs(op) == 1 and len(op.outputs) == 1, f"CheckInputsOutputs in {GPU}"),
    "one runtime input and no constant": (
        lambda op: _runtime_inputs(op) == len(op.inputs) == len(op.outputs) == 1,
        f"CheckInputsConstsOutputs in {GPU}",
    ),
    "paddings of 3 or 4 dimensions": (_paddings, f"kTfLiteBuiltinPad in {GPU}"),
    "plain slice": (_plain_slice, f"kTfLiteBuiltinStridedSlice in {GPU}; {MICRO}"),
    "rank kept": (_rank_kept, f"kTfLiteBuiltinFullyConnected in {GPU}"),
    "runtime feature map": (lambda op: not _is_constant(op.inputs[0]), f"kTfLiteBuiltinFullyConnected in {GPU}"),
    "strides and dilations positive": (
        lambda op: _positive(op, "strideH", "strideW", "dilationHFactor", "dilationWFactor"),
        f"CheckStridesAndDilation in {GPU}",
    ),
    "three or four dimensions": (lambda op: len(op.inputs[0].shape) in (3, 4), f"kTfLiteBuiltinSlice in {GPU}"),
    "two inputs": (lambda op: len(op.inputs) == 2, f"kTfLiteBuiltinAdd, kTfLiteBuiltinMul in {GPU}"),
    "window and strides positive": (
        lambda op: _positive(op, "filterHeight", "filterWidth", "strideH", "strideW"),
        f"CheckPooling2DGpuDelegateCompatibility in {GPU}",
    ),
    # Several devices
    "batch 1": (
        _batch_1,
        f"CheckBatchSizeForAllValues in tensorflow/lite/delegates/gpu/common/model.cc; MEAN in {VELA}; NPU delegates "
        "compile static shapes",
    ),
    "constant axes": (_constant_axes, f"CheckAxesAreInt32Const in {GPU}; MEAN in {VELA}; {MICRO}"),
    "constant parameters": (
        lambda op: all(map(_is_constant, op.inputs[1:])),
        f"{VELA}; {CORAL} (model parameters are constant at compile time); {MICRO}",
    ),
    "constant weights": (_constant_weights, f"{CORAL} (model parameters are constant at compile time)"),
    "default weights format": (lambda op: op.options.weightsFormat == 0, f"FullyConnected at {CORAL}; {GPU}"),
    "integer feature maps": (_integer_maps, f"{VELA}, generic; {CORAL} (tensors are 8-bit)"),
    "no ellipsis or new axis": (
        lambda op: not (op.options.ellipsisMask or op.options.newAxisMask),
        f"StridedSlice at {CORAL}; litert/vendors/mediatek/compiler/MediaTek_Neuro_Compiler.md",
    ),
    # Ethos-U
    "8 or 16 bits": (lambda op: op.inputs[0].dtype in ("int8", "int16"), f"RSQRT in {VELA}"),
    "8-bit operands": (_byte_operands, f"BATCH_MATMUL in {VELA}"),
    "8-bit weights": (_byte_weights, VELA),
    "constant bias of 32 or 64 bits": (_wide_constant_bias, VELA),
    "depth reduced in a row alone": (_depth_in_a_row, f"MEAN in {VELA}"),
    "factor 2, 4 or 8": (_factor_2_4_8, f"RESIZE_NEAREST_NEIGHBOR in {VELA}"),
    "factor 2, or 4 or 8 without half pixels": (_bilinear_factor, f"RESIZE_BILINEAR in {VELA}"),
    "height times width below 65536": (_small_softmax, f"SOFTMAX in {VELA}"),
    "output is input times stride": (_transposed_shape, f"TRANSPOSE_CONV in {VELA}"),
    "all sides but two make 65536 at most": (_pairs_of_sides, f"TRANSPOSE in {VELA}"),
    "pooling window": (_pooling_window, f"AVERAGE_POOL_2D, MAX_POOL_2D in {VELA}"),
    "positive strides": (_positive_strides, f"STRIDED_SLICE in {VELA}"),
    "power-of-two factor": (_power_of_two, f"RESIZE_BILINEAR in {VELA}, Ethos-U85"),
    "reduced axes below 4096": (_small_axes, f"MEAN in {VELA}"),
    "same factor both ways": (_same_factor, f"RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR in {VELA}"),
    "same type and shape": (_same_type_and_shape, f"GELU in {VELA}"),
    "sides of 65536 at most": (lambda op: max(op.outputs[0].shape) <= 65536, f"BATCH_MATMUL in {VELA}"),
    "scales on feature maps": (_scaled_maps, f"{VELA}, generic"),
    "stride 3 at most unless valid": (_stride_3_unless_valid, f"CONV_2D and pools in {VELA}"),
    "strides 1 to 3": (lambda op: all(1 <= stride <= 3 for stride in _strides(op)), f"DEPTHWISE_CONV_2D in {VELA}"),
    "strides 1x1 or 2x2": (_transposed_strides, f"TRANSPOSE_CONV in {VELA}"),
    # Edge TPU
    "batch not padded": (_batch_not_padded, f"Pad at {CORAL}"),
    "batch not reduced": (lambda op: len(op.inputs[0].shape) < 4 or 0 not in _axes(op), f"Mean at {CORAL}"),
    "constant part is zeros": (_zeros_part, f"Concatenation at {CORAL}"),
    "depth reduced in fours": (_depth_in_fours, f"Mean at {CORAL}"),
    "no fused activation": (lambda op: _activation(op) == 0, f"AveragePool2d, MaxPool2d, Concatenation at {CORAL}"),
    "one dimension of at most 16000": (_short_line, f"Softmax at {CORAL}"),
    "one-dimensional output": (_line, f"FullyConnected at {CORAL}"),
    "same dilation both ways": (_same_dilation, f"Conv2d, DepthwiseConv2d at {CORAL}"),
    "three inner dimensions": (_three_inner, f"{CORAL}: of more than 3 dimensions only the innermost 3 exceed 1"),
    "unit strides": (lambda op: bool(np.all(op.inputs[3].values() == 1)), f"StridedSlice at {CORAL}"),
    "version 3 at most": (lambda op: op.version <= 3, "https://github.com/google-coral/edgetpu/issues/845"),
    # Microcontrollers
    "float operands": (lambda op: op.inputs[0].dtype == "float32", f"EXP, LOG and SQRT in {MICRO} have no int8 kernel"),
    "CMSIS-NN: top padding a multiple of the stride, or over 16 channels and strides of 2 at most": (
        _in_cmsis_nn(lambda op: cmsis_nn.transposed(op).rows_aligned),
        f"arm_transpose_conv_s8.c of {CMSIS}: rows are handed on by whole strides; issue 230, mended in July 2026",
    ),
    "CMSIS-NN: just the rows that it writes, or over 16 channels and strides of 2 at most": (
        _in_cmsis_nn(lambda op: cmsis_nn.transposed(op).rows_written),
        f"arm_transpose_conv_s8.c of {CMSIS}: it writes (rows of the input) * stride - padding rows at least and what "
        "the kernel reaches at most, whatever the output has",
    ),
    "CMSIS-NN: a buffer as wide as a row, or over 16 channels and strides of 2 at most": (
        _in_cmsis_nn(lambda op: cmsis_nn.transposed(op).buffer_suffices),
        f"arm_transpose_conv_get_buffer_sizes_s8.c of {CMSIS}: the width is taken with the vertical stride",
    ),
    "CMSIS-NN: activation implied by the output's range": (
        _in_cmsis_nn(cmsis_nn.activation_in_range),
        "tensorflow/lite/micro/kernels/cmsis_nn/transpose_conv.cc of tflite-micro: it passes kTfLiteActNone",
    ),
    # The int8 kernels everywhere
    "int32 bias": (_bias_32, f"{SPEC}: (scale, zero point) = (input scale * weight scale, 0)"),
    "no negative input": (_no_negative_input, "RsqrtEvalQuantized in tensorflow/lite/kernels/elementwise.cc"),
    "one scale a feature map": (_one_scale, f"{SPEC}: activations are per tensor"),
    "output on its input's scale": (_on_input_scale, f"{SPEC}: input and outputs must have the same scale"),
    "output scale 1/128, zero point 0": (_fixed_scale(1 / 128, 0), f"TANH in {SPEC}"),
    "output scale 1/256, zero point -128": (_fixed_scale(1 / 256, -128), f"LOGISTIC, SOFTMAX in {SPEC}"),
    "output scale 16/256, zero point 127": (_fixed_scale(16 / 256, 127), f"LOG_SOFTMAX in {SPEC}"),
    "symmetric int8 weights": (_symmetric_weights, f"{SPEC}: zero point 0, values from -127 on"),
    "weight scales on axis 0": (_scales_on_axis(0), f"CONV_2D, FULLY_CONNECTED in {SPEC}; TRANSPOSE_CONV alike"),
    "weight scales on axis 3": (_scales_on_axis(3), f"DEPTHWISE_CONV_2D in {SPEC}"),
}


def audit(info: FileInfo, target_name: str, target: Target, dtype: str, keeps_float: bool = False) -> None:
    """Check every op of a file against a target's table.

    Args:
        info: The file, with the names of its tensors.
        target_name: Key of ``TARGETS``, for the message.
        target: Its row.
        dtype: Arithmetic the file claims; in an "int8" file no op may touch a float tensor, except the conversion of a
            float input or output, and every op follows the int8 specification.
        keeps_float: Whether some layers were to stay float: then ops may.

    Raises:
        UnsupportedOpError: names every op that breaks a rule, its output tensor and the rule, and what to use instead.
    """
    faults: list[str] = []
    seen: Counter[tuple[str, str]] = Counter()
    culprits, advised = set(), set()
    boundary = {tensor.name for tensor in (*info.inputs, *info.outputs)}
    for index, op in enumerate(info.ops):
        found = _faults(op, target, dtype, boundary, keeps_float)
        where = describe(index, op)
        seen.update((op.name, fault) for fault in found)
        faults += [f"{where} {fault}" for fault in found if seen[op.name, fault] <= ALIKE_SHOWN]
        advised |= {words for source, words in ADVICE.items() if any(source in fault for fault in found)}
        if found:
            culprits.add(op.name)
    if not faults:
        return
    more = [f"{count - ALIKE_SHOWN} more {name} alike" for (name, _), count in seen.items() if count > ALIKE_SHOWN]
    instead = [f"instead of {name} use {INSTEAD[name]}" for name in sorted(culprits) if name in INSTEAD]
    rewrite = "write the layers that are named in another way, or choose a target that runs these ops (docs/targets.md)"
    advice = "; ".join([*instead, *sorted(advised)] or [rewrite])
    raise UnsupportedOpError(
        f"The file does not fit target {target_name!r}: {'; '.join(faults + more)}."
        + (f" {advice[0].upper()}{advice[1:]}." if advice else "")
    )


def describe(index: int, op: OpInfo) -> str:
    """How messages name an op: "op 3 CONV_2D (model/block1_reduce/BiasAdd)"."""
    return f"op {index} {op.name} ({op.outputs[0].name.rsplit(';', 1)[-1]})"


def _faults(op: OpInfo, target: Target, dtype: str, boundary: set[str], keeps_float: bool) -> list[str]:
    if op.name not in target.ops:
        return ["is not among the ops it runs"]
    faults = []
    tensors = (*op.inputs, *op.outputs)
    if any(-1 in tensor.shape for tensor in tensors):
        return ["has a side that is unknown until run time"]
    converts = op.name in ("QUANTIZE", "DEQUANTIZE") and any(tensor.name in boundary for tensor in tensors)
    floats = any(tensor.dtype.startswith("float") for tensor in tensors)
    if dtype in ("int8", "int16x8") and floats and not converts and not keeps_float:
        faults.append(f"computes in float in an {dtype} file")
    rules = (*target.every_op, *target.ops[op.name])
    if dtype == "int8" and not floats:
        rules += INT8_RULES.get(op.name, ())
    # A rule may lean on what the one before it has established, so that only the first broken one is told.
    broken = next((rule for rule in rules if not CONSTRAINTS[rule][0](op)), None)
    if broken is not None:
        faults.append(f"breaks its rule: {broken}")
    return faults
