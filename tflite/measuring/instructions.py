"""Instructions of an inference on a Cortex-M, estimated op by op from counts that an emulator made.

The table is a fit of ``benchmarks/emulated.py`` to TensorFlow Lite Micro at revision 90b983c2 with gcc 12.2 -O2,
emulated with one tick an instruction. For MobileNetV2, digits, ConvMixer and ViT, which it was not fitted to, the
estimate was off by -1 to +10 % (Cortex-M4, reference kernels), -12 to -1 % (Cortex-M4, CMSIS-NN) and -3 to +8 %
(ConvMixer and ViT, Cortex-M55, CMSIS-NN), and for the networks of the fit by up to 22 %. An instruction is not a cycle:
memories, caches and the pipeline decide how many cycles it takes.
"""

from __future__ import annotations

import math

from ..file.flatbuffer import FileInfo, OpInfo, schema
from ..file.op_costs import count_macs
from ..names import CMSIS_NN, REFERENCE_KERNELS

# (core, kernels) -> op -> instructions for each multiply-accumulate, each window of filters or of a pool, each value of
# the output, each value that is copied into columns, and each call. LOGISTIC takes less where its input is far from
# zero: the table has the most.
TABLE: dict[tuple[str, str], dict[str, tuple[float, float, float, float, float]]] = {
    ("cortex-m4", REFERENCE_KERNELS): {
        "ABS": (0, 0, 50.62, 0, 0),
        "ADD": (0, 0, 91.51, 0, 469.18),
        "ARG_MAX": (0, 0, 115, 0, 0),
        "AVERAGE_POOL_2D": (0, 3.32, 90.97, 0, 5.96),
        "BATCH_MATMUL": (2.35, 113.93, 0, 0, 903.16),
        "BROADCAST_TO": (0, 0, 2.4, 0, 0),
        "CONCATENATION": (0, 0, 0, 0, 1440),
        "CONV_2D": (5.77, 40.17, 104.1, 4.46, 614.11),
        "DEPTHWISE_CONV_2D": (30.57, 0, 122.82, 4.69, 664.92),
        "DEPTH_TO_SPACE": (0, 0, 5.46, 0, 835.14),
        "FULLY_CONNECTED": (6.07, 0, 59.53, 0, 465.51),
        "GATHER": (0, 0, 26.22, 0, 0),
        "HARD_SWISH": (0, 0, 78.91, 0, 188.99),
        "LEAKY_RELU": (0, 0, 47.19, 0, 0),
        "LOGISTIC": (0, 0, 366, 0, 300),
        "MAXIMUM": (0, 0, 13.75, 0, 0),
        "MAX_POOL_2D": (0, 4.45, 105.95, 0, 0),
        "MEAN": (0, 123.92, 0, 0, 1026),
        "MINIMUM": (0, 0, 13.75, 0, 0),
        "MIRROR_PAD": (0, 0, 132.35, 0, 484.44),
        "MUL": (0, 0, 50, 0, 742.89),
        "PACK": (0, 0, 10.19, 0, 0),
        "PAD": (0, 0, 34.18, 0, 0),
        "PADV2": (0, 0, 33.75, 0, 0),
        "PRELU": (0, 0, 57.19, 0, 0),
        "QUANTIZE": (0, 0, 42.5, 0, 0),
        "REDUCE_MAX": (0, 88, 182.86, 0, 3400),
        "RELU": (0, 0, 45.85, 0, 290.73),
        "RELU6": (0, 0, 15.94, 0, 0),
        "RESHAPE": (0, 0, 0.58, 0, 213.63),
        "RESIZE_BILINEAR": (0, 0, 72.76, 0, 1235),
        "RESIZE_NEAREST_NEIGHBOR": (0, 0, 10.37, 0, 1503),
        "REVERSE_V2": (0, 0, 4.69, 0, 0),
        "RSQRT": (0, 0, 432.61, 0, 206.93),
        "SLICE": (0, 0, 22.5, 0, 0),
        "SOFTMAX": (0, 458.9, 0, 0, 448.77),
        "SPACE_TO_DEPTH": (0, 0, 8.44, 0, 0),
        "SPLIT": (0, 0, 21.41, 0, 0),
        "SQUARED_DIFFERENCE": (0, 0, 105, 0, 0),
        "STRIDED_SLICE": (0, 0, 7.49, 0, 1325),
        "SUB": (0, 0, 99.11, 0, 692.65),
        "SUM": (0, 139.51, 0, 0, 1222),
        "TANH": (0, 0, 367.54, 0, 0),
        "TRANSPOSE": (0, 0, 1.22, 0, 2017),
        "TRANSPOSE_CONV": (41.62, 0, 84.65, 0, 16577),
        "UNPACK": (0, 0, 6.88, 0, 0),
    },
    ("cortex-m4", CMSIS_NN): {
        "ADD": (0, 0, 81.36, 0, 711.45),
        "AVERAGE_POOL_2D": (0, 0.32, 67.48, 0, 0),
        "BATCH_MATMUL": (0, 22.65, 55.45, 0, 2192),
        "CONV_2D": (0.95, 4.75, 41.96, 17.5, 955.16),
        "DEPTHWISE_CONV_2D": (10.41, 0, 41.95, 0, 3336),
        "DEPTH_TO_SPACE": (0, 0, 5.46, 0, 837.49),
        "FULLY_CONNECTED": (1.02, 0, 54.53, 0, 671.81),
        "HARD_SWISH": (0, 0, 83.28, 0, 158.51),
        "LOGISTIC": (0, 0, 366, 0, 300),
        "MEAN": (0, 121.04, 0, 0, 1048),
        "MUL": (0, 0, 38.07, 0, 1068),
        "PAD": (0, 0, 0.68, 0, 1183),
        "RESHAPE": (0, 0, 0.57, 0, 213.64),
        "RESIZE_BILINEAR": (0, 0, 72.57, 0, 1285),
        "RESIZE_NEAREST_NEIGHBOR": (0, 0, 10.33, 0, 2154),
        "RSQRT": (0, 0, 433.59, 0, 198.41),
        "SOFTMAX": (0, 515.61, 131.92, 0, 0),
        "STRIDED_SLICE": (0, 0, 7.27, 0, 1689),
        "SUB": (0, 0, 92.98, 0, 3469),
        "TRANSPOSE": (0, 0, 5.93, 0, 0),
        "TRANSPOSE_CONV": (0.38, 41.23, 0, 0, 0),
    },
    ("cortex-m55", CMSIS_NN): {
        "ADD": (0, 0, 13.76, 0, 761.25),
        "AVERAGE_POOL_2D": (0, 0, 25.83, 0, 955.42),
        "BATCH_MATMUL": (0, 57.85, 0, 0, 1450),
        "CONV_2D": (0, 1.42, 17.33, 7.32, 563.55),
        "DEPTHWISE_CONV_2D": (10.51, 0, 1.82, 0, 1840),
        "DEPTH_TO_SPACE": (0, 0, 4.51, 0, 813.66),
        "FULLY_CONNECTED": (0.03, 0, 15.16, 0, 1163),
        "HARD_SWISH": (0, 0, 81.97, 0, 173.64),
        "LOGISTIC": (0, 0, 366, 0, 300),
        "MEAN": (0, 114.05, 0, 0, 992.86),
        "MUL": (0, 0, 6.27, 0, 1536),
        "PAD": (0, 0, 0.23, 0, 609.42),
        "RESHAPE": (0, 0, 0.54, 0, 232.67),
        "RESIZE_BILINEAR": (0, 0, 70.14, 0, 1261),
        "RESIZE_NEAREST_NEIGHBOR": (0, 0, 7.03, 0, 1847),
        "RSQRT": (0, 0, 454.02, 0, 202.38),
        "SOFTMAX": (0, 547.15, 167.11, 0, 0),
        "STRIDED_SLICE": (0, 0, 7.42, 0, 1721),
        "SUB": (0, 0, 97.07, 0, 3346),
        "TRANSPOSE": (0, 0, 5.28, 0, 0),
        "TRANSPOSE_CONV": (0.45, 24.25, 0, 0, 0),
    },
}
# Cores that have the instructions of a measured one.
SAME_INSTRUCTIONS = {
    "cortex-m4": "cortex-m4",
    "cortex-m7": "cortex-m4",
    "cortex-m33": "cortex-m4",
    "cortex-m55": "cortex-m55",
}


def estimate_instructions(info: FileInfo, core: str, kernels: str) -> int | None:
    """Instructions of an inference; None if the core, its kernels or an op of the file were not measured.

    Args:
        info: The file, with 8-bit arithmetic.
        core: Key of ``boards.CORES``.
        kernels: Key of ``names.KERNELS``.
    """
    own = TABLE.get((SAME_INSTRUCTIONS.get(core, ""), kernels))
    if own is None:
        return None
    rows = TABLE["cortex-m4", REFERENCE_KERNELS] | own  # ops that CMSIS-NN lacks run by the reference kernels
    if any(op.name not in rows or op.outputs[0].dtype != "int8" for op in info.ops):
        return None
    return round(sum(math.fsum(map(math.prod, zip(features(op), rows[op.name], strict=True))) for op in info.ops))


def features(op: OpInfo) -> tuple[float, float, float, float, float]:
    """What an op's instructions depend on, in the order of ``TABLE``."""
    out = sum(math.prod(tensor.shape) for tensor in op.outputs)
    read = math.prod(op.inputs[0].shape) if op.inputs else 0
    if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return _convolution(op, out)
    if op.name == "TRANSPOSE_CONV":
        return (count_macs(op), math.prod(op.inputs[2].shape) * math.prod(op.inputs[1].shape[1:3]), out, 0, 1)
    if op.name in ("FULLY_CONNECTED", "BATCH_MATMUL"):
        return (count_macs(op), read if op.name == "BATCH_MATMUL" else 0, out, 0, 1)
    if op.name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        return (0, out * op.options.filterHeight * op.options.filterWidth, out, 0, 1)
    if op.name == "SOFTMAX":
        return (0, out, out / op.outputs[0].shape[-1], 0, 1)
    if op.name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
        return (0, read, 0, 0, 1)
    return (0, 0, max(out, read if op.name in ("PACK", "CONCATENATION") else 0), 0, 1)


def _convolution(op: OpInfo, out: int) -> tuple[float, float, float, float, float]:
    depthwise, options = op.name == "DEPTHWISE_CONV_2D", op.options
    (_, *source, channels), (_, *result, filters) = op.inputs[0].shape, op.outputs[0].shape
    kernel = op.inputs[1].shape[1:3]
    steps = ((options.strideH, options.dilationHFactor), (options.strideW, options.dilationWFactor))
    same = options.padding == schema.Padding.SAME
    taps = math.prod(_taps_inside(source[axis], kernel[axis], *steps[axis], result[axis], same) for axis in (0, 1))
    columns = 0 if kernel == (1, 1) and not depthwise else math.prod(result) * math.prod(kernel) * channels
    depth = 1 if depthwise else op.inputs[1].shape[3]
    return (taps * filters * depth, 0 if depthwise else taps * filters, out, columns, 1)


def _taps_inside(side: int, kernel: int, stride: int, dilation: int, out: int, same: bool) -> int:
    """Taps along an axis that lie in the map, over all output pixels."""
    reach = (kernel - 1) * dilation + 1
    before = max(0, (out - 1) * stride + reach - side) // 2 if same else 0
    return sum(0 <= pixel * stride - before + tap * dilation < side for pixel in range(out) for tap in range(kernel))
