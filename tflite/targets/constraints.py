"""Every rule of the targets: the function that checks it, and its source.

``op_tables`` lists the rules of each op of a target; ``audit`` applies them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..file.flatbuffer import OpInfo
from . import cmsis_nn, op_checks

GPU = "tensorflow/lite/tools/versioning/gpu_compatibility.cc"
GPU_BUILDER = "tensorflow/lite/delegates/gpu/common/model_builder_helper.cc"
VELA = "SUPPORTED_OPS.md of ethos-u-vela 5.2.0"
CORAL = "https://coral.ai/docs/edgetpu/models-intro/"
SPEC = "https://ai.google.dev/edge/litert/models/quantization_spec"
MICRO = "tensorflow/lite/micro/kernels of tflite-micro"
CMSIS = "ARM-software/CMSIS-NN up to 7.0.0 and its revision 4ab83cc3, which tflite-micro names in August 2026"

# Rule -> (check of an op that must return True, source of the rule).
CONSTRAINTS: dict[str, tuple[Callable[[OpInfo], bool], str]] = {
    # The GPU delegate
    "at most 4 dimensions": (op_checks.ranks_1_to_4, f"ExtractTensorShape in {GPU_BUILDER}"),
    "at most two runtime inputs": (lambda op: op_checks.runtime_inputs(op) <= 2 and len(op.outputs) == 1, GPU),
    "beta 1": (lambda op: op.options.beta == 1, f"kTfLiteBuiltinSoftmax in {GPU}"),
    "block size above 1": (lambda op: op.options.blockSize > 1, f"kTfLiteBuiltinDepthToSpace in {GPU}"),
    "constant float16 input": (lambda op: op.inputs[0].constant and op.inputs[0].dtype == "float16", GPU),
    "corners aligned or half pixels, not both": (op_checks.corners_or_half_pixels, f"{GPU}; {VELA}"),
    "depth multiplier 1": (op_checks.depth_multiplier_1, f"CheckDepthwiseConvGpuDelegateCompatibility in {GPU}"),
    "depthwise shapes agree": (
        op_checks.depthwise_shapes_agree,
        f"CheckDepthwiseConvGpuDelegateCompatibility in {GPU}",
    ),
    "float feature maps": (op_checks.float_maps, "tensorflow/lite/delegates/gpu/common/model_builder.cc"),
    "known fused activation": (
        lambda op: op_checks.fused_activation(op) != schema.ActivationFunctionType.SIGN_BIT,
        f"IsActivationSupported in {GPU}",
    ),
    "one input covers the other": (op_checks.one_covers_other, f"kTfLiteBuiltinMul in {GPU}"),
    "one or two runtime operands": (op_checks.one_or_two_operands, f"two-argument elementwise ops in {GPU}"),
    "one runtime input": (
        lambda op: op_checks.runtime_inputs(op) == 1 and len(op.outputs) == 1,
        f"CheckInputsOutputs in {GPU}",
    ),
    "one runtime input and no constant": (
        lambda op: op_checks.runtime_inputs(op) == len(op.inputs) == len(op.outputs) == 1,
        f"CheckInputsConstsOutputs in {GPU}",
    ),
    "paddings of 3 or 4 dimensions": (op_checks.paddings, f"kTfLiteBuiltinPad in {GPU}"),
    "plain slice": (op_checks.plain_slice, f"kTfLiteBuiltinStridedSlice in {GPU}; {MICRO}"),
    "rank kept": (op_checks.rank_kept, f"kTfLiteBuiltinFullyConnected in {GPU}"),
    "runtime feature map": (
        lambda op: not op_checks.is_constant(op.inputs[0]),
        f"kTfLiteBuiltinFullyConnected in {GPU}",
    ),
    "strides and dilations positive": (
        lambda op: op_checks.positive(op, "strideH", "strideW", "dilationHFactor", "dilationWFactor"),
        f"CheckStridesAndDilation in {GPU}",
    ),
    "three or four dimensions": (lambda op: len(op.inputs[0].shape) in (3, 4), f"kTfLiteBuiltinSlice in {GPU}"),
    "two inputs": (lambda op: len(op.inputs) == 2, f"kTfLiteBuiltinAdd, kTfLiteBuiltinMul in {GPU}"),
    "window and strides positive": (
        lambda op: op_checks.positive(op, "filterHeight", "filterWidth", "strideH", "strideW"),
        f"CheckPooling2DGpuDelegateCompatibility in {GPU}",
    ),
    # Several devices
    "batch 1": (
        op_checks.batch_1,
        f"CheckBatchSizeForAllValues in tensorflow/lite/delegates/gpu/common/model.cc; MEAN in {VELA}; NPU delegates "
        "compile static shapes",
    ),
    "constant axes": (op_checks.constant_axes, f"CheckAxesAreInt32Const in {GPU}; MEAN in {VELA}; {MICRO}"),
    "constant parameters": (
        lambda op: all(map(op_checks.is_constant, op.inputs[1:])),
        f"{VELA}; {CORAL} (model parameters are constant at compile time); {MICRO}",
    ),
    "constant weights": (op_checks.constant_weights, f"{CORAL} (model parameters are constant at compile time)"),
    "default weights format": (lambda op: op.options.weightsFormat == 0, f"FullyConnected at {CORAL}; {GPU}"),
    "integer feature maps": (op_checks.integer_maps, f"{VELA}, generic; {CORAL} (tensors are 8-bit)"),
    "no ellipsis or new axis": (
        lambda op: not (op.options.ellipsisMask or op.options.newAxisMask),
        f"StridedSlice at {CORAL}; litert/vendors/mediatek/compiler/MediaTek_Neuro_Compiler.md",
    ),
    # Ethos-U
    "8 or 16 bits": (lambda op: op.inputs[0].dtype in ("int8", "int16"), f"RSQRT in {VELA}"),
    "8-bit operands": (op_checks.byte_operands, f"BATCH_MATMUL in {VELA}"),
    "8-bit weights": (op_checks.byte_weights, VELA),
    "constant bias of 32 or 64 bits": (op_checks.wide_constant_bias, VELA),
    "depth reduced only in a row": (op_checks.depth_in_a_row, f"MEAN in {VELA}"),
    "factor 2, 4 or 8": (op_checks.factor_2_4_8, f"RESIZE_NEAREST_NEIGHBOR in {VELA}"),
    "factor 2, or 4 or 8 without half pixels": (op_checks.bilinear_factor, f"RESIZE_BILINEAR in {VELA}"),
    "height times width below 65536": (op_checks.small_softmax, f"SOFTMAX in {VELA}"),
    "output is input times stride": (op_checks.transposed_shape, f"TRANSPOSE_CONV in {VELA}"),
    "all sides but two multiply to 65536 at most": (op_checks.pairs_of_sides, f"TRANSPOSE in {VELA}"),
    "pooling window": (op_checks.pooling_window, f"AVERAGE_POOL_2D, MAX_POOL_2D in {VELA}"),
    "positive strides": (op_checks.positive_strides, f"STRIDED_SLICE in {VELA}"),
    "power-of-two factor": (op_checks.power_of_two, f"RESIZE_BILINEAR in {VELA}, Ethos-U85"),
    "reduced axes below 4096": (op_checks.small_axes, f"MEAN in {VELA}"),
    "same factor both ways": (op_checks.same_factor, f"RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR in {VELA}"),
    "same type and shape": (op_checks.same_type_and_shape, f"GELU in {VELA}"),
    "sides of 65536 at most": (lambda op: max(op.outputs[0].shape) <= 65536, f"BATCH_MATMUL in {VELA}"),
    "scales on feature maps": (op_checks.scaled_maps, f"{VELA}, generic"),
    "stride 3 at most unless valid": (op_checks.stride_3_unless_valid, f"CONV_2D and pools in {VELA}"),
    "strides 1 to 3": (
        lambda op: all(1 <= stride <= 3 for stride in op_checks.strides(op)),
        f"DEPTHWISE_CONV_2D in {VELA}",
    ),
    "strides 1x1 or 2x2": (op_checks.transposed_strides, f"TRANSPOSE_CONV in {VELA}"),
    # Edge TPU
    "batch not padded": (op_checks.batch_not_padded, f"Pad at {CORAL}"),
    "batch not reduced": (lambda op: len(op.inputs[0].shape) < 4 or 0 not in op_checks.axes(op), f"Mean at {CORAL}"),
    "constant part is zeros": (op_checks.zeros_part, f"Concatenation at {CORAL}"),
    "depth reduced in fours": (op_checks.depth_in_fours, f"Mean at {CORAL}"),
    "no fused activation": (
        lambda op: op_checks.fused_activation(op) == 0,
        f"AveragePool2d, MaxPool2d, Concatenation at {CORAL}",
    ),
    "one dimension of at most 16000": (op_checks.short_line, f"Softmax at {CORAL}"),
    "one-dimensional output": (op_checks.line, f"FullyConnected at {CORAL}"),
    "same dilation both ways": (op_checks.same_dilation, f"Conv2d, DepthwiseConv2d at {CORAL}"),
    "three inner dimensions": (
        op_checks.three_inner,
        f"{CORAL}: of more than 3 dimensions only the innermost 3 exceed 1",
    ),
    "unit strides": (lambda op: bool(np.all(op.inputs[3].values() == 1)), f"StridedSlice at {CORAL}"),
    "version 3 at most": (lambda op: op.version <= 3, "https://github.com/google-coral/edgetpu/issues/845"),
    # Microcontrollers
    "float operands": (lambda op: op.inputs[0].dtype == "float32", f"EXP, LOG and SQRT in {MICRO} have no int8 kernel"),
    "CMSIS-NN: top padding a multiple of the stride, or over 16 channels and strides of 2 at most": (
        op_checks.in_cmsis_nn(lambda op: cmsis_nn.transposed(op).rows_aligned),
        f"arm_transpose_conv_s8.c of {CMSIS}: rows advance by whole strides; issue 230, fixed in July 2026",
    ),
    "CMSIS-NN: exactly the rows that it writes, or over 16 channels and strides of 2 at most": (
        op_checks.in_cmsis_nn(lambda op: cmsis_nn.transposed(op).rows_written),
        f"arm_transpose_conv_s8.c of {CMSIS}: it writes at least (rows of the input) * stride - padding rows and at "
        "most those that the kernel reaches, whatever the output's size",
    ),
    "CMSIS-NN: a buffer as wide as a row, or over 16 channels and strides of 2 at most": (
        op_checks.in_cmsis_nn(lambda op: cmsis_nn.transposed(op).buffer_suffices),
        f"arm_transpose_conv_get_buffer_sizes_s8.c of {CMSIS}: the width is computed with the vertical stride",
    ),
    "CMSIS-NN: activation implied by the output's range": (
        op_checks.in_cmsis_nn(cmsis_nn.activation_in_range),
        "tensorflow/lite/micro/kernels/cmsis_nn/transpose_conv.cc of tflite-micro: it passes kTfLiteActNone",
    ),
    "at most 4 dimensions (CMSIS-NN)": (
        op_checks.in_cmsis_nn(lambda op: len(op.inputs[0].shape) <= 4),
        "tensorflow/lite/micro/kernels/cmsis_nn of tflite-micro: transpose.cc drops its error and writes nothing, "
        "maximum_minimum.cc reads four sides of any shape, batch_matmul.cc fails to start",
    ),
    # The int8 kernels everywhere
    "int32 bias": (op_checks.bias_32, f"{SPEC}: (scale, zero point) = (input scale * weight scale, 0)"),
    "no negative input": (op_checks.no_negative_input, "RsqrtEvalQuantized in tensorflow/lite/kernels/elementwise.cc"),
    "one scale per feature map": (op_checks.one_scale, f"{SPEC}: activations are per tensor"),
    "output on its input's scale": (op_checks.on_input_scale, f"{SPEC}: input and outputs must have the same scale"),
    "output scale 1/128, zero point 0": (op_checks.fixed_scale(1 / 128, 0), f"TANH in {SPEC}"),
    "output scale 1/256, zero point -128": (op_checks.fixed_scale(1 / 256, -128), f"LOGISTIC, SOFTMAX in {SPEC}"),
    "output scale 16/256, zero point 127": (op_checks.fixed_scale(16 / 256, 127), f"LOG_SOFTMAX in {SPEC}"),
    "symmetric int8 weights": (op_checks.symmetric_weights, f"{SPEC}: zero point 0, values from -127 on"),
    "weight scales on axis 0": (
        op_checks.scales_on_axis(0),
        f"CONV_2D, FULLY_CONNECTED in {SPEC}; TRANSPOSE_CONV in the same way",
    ),
    "weight scales on axis 3": (op_checks.scales_on_axis(3), f"DEPTHWISE_CONV_2D in {SPEC}"),
}
