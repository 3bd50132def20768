"""Instructions of an inference on a Cortex-M, estimated op by op from counts that an emulator made.

The table is a fit of ``benchmarks/emulated.py`` to TensorFlow Lite Micro at revision 90b983c2 with gcc 12.2 -O2,
emulated with one tick an instruction. The counts of MobileNetV2, digits, ConvMixer and ViT are not in the fit, but the
features were chosen with their errors in view: -1 to +10 % (Cortex-M4, reference kernels), -7 to +1 % (Cortex-M4,
CMSIS-NN), -3 to +12 % (Cortex-M55, CMSIS-NN). On another network it was off by 18 %. An instruction is not a cycle:
memories, caches and the pipeline decide how many it takes.
"""

from __future__ import annotations

import math

from ai_edge_litert import schema_py_generated as schema

from ..file.flatbuffer import FileInfo, OpInfo
from ..file.op_costs import count_macs
from ..names import CMSIS_NN, REFERENCE_KERNELS

LANES = 16  # values of 8 bits in a vector of Helium
Features = tuple[float, float, float, float, float, float]
# (core, kernels) -> op -> instructions for each multiply-accumulate, each window of filters or of a pool, each value of
# the output, each value that is copied into columns, each vector of Helium, and each call. LOGISTIC takes less where
# its input is far from zero: the table has the most.
TABLE: dict[tuple[str, str], dict[str, Features]] = {
    ("cortex-m4", REFERENCE_KERNELS): {
        "ABS": (0, 0, 50.62, 0, 0, 0),
        "ADD": (0, 0, 91.42, 0, 0, 480.34),
        "ARG_MAX": (0, 0, 115, 0, 0, 0),
        "AVERAGE_POOL_2D": (0, 3.32, 90.97, 0, 0, 5.96),
        "BATCH_MATMUL": (2.35, 113.93, 0, 0, 0, 903.16),
        "BROADCAST_TO": (0, 0, 2.4, 0, 0, 0),
        "CONCATENATION": (0, 0, 0, 0, 0, 1440),
        "CONV_2D": (5.86, 40.38, 102.47, 4.11, 0, 614.5),
        "DEPTHWISE_CONV_2D": (30.69, 0, 122.94, 4.77, 0, 642.72),
        "DEPTH_TO_SPACE": (0, 0, 5.5, 0, 0, 728.06),
        "FULLY_CONNECTED": (6.07, 0, 59.54, 0, 0, 464.47),
        "GATHER": (0, 0, 26.22, 0, 0, 0),
        "HARD_SWISH": (0, 0, 80.7, 0, 0, 176.31),
        "LEAKY_RELU": (0, 0, 47.19, 0, 0, 0),
        "LOGISTIC": (0, 0, 366, 0, 0, 300),
        "MAXIMUM": (0, 0, 13.75, 0, 0, 0),
        "MAX_POOL_2D": (0, 4.45, 105.95, 0, 0, 0),
        "MEAN": (0, 124.79, 0, 0, 0, 1005.25),
        "MINIMUM": (0, 0, 13.75, 0, 0, 0),
        "MIRROR_PAD": (0, 0, 132.35, 0, 0, 484.44),
        "MUL": (0, 0, 50.04, 0, 0, 732.27),
        "PACK": (0, 0, 10.19, 0, 0, 0),
        "PAD": (0, 0, 34.05, 0, 0, 0),
        "PADV2": (0, 0, 33.75, 0, 0, 0),
        "PRELU": (0, 0, 57.19, 0, 0, 0),
        "QUANTIZE": (0, 0, 42.5, 0, 0, 0),
        "REDUCE_MAX": (0, 139.96, 0, 0, 0, 2322.75),
        "RELU": (0, 0, 45.85, 0, 0, 290.73),
        "RELU6": (0, 0, 15.94, 0, 0, 0),
        "RESHAPE": (0, 0, 0.58, 0, 0, 213.63),
        "RESIZE_BILINEAR": (0, 0, 72.71, 0, 0, 1247.32),
        "RESIZE_NEAREST_NEIGHBOR": (0, 0, 10.32, 0, 0, 1704.83),
        "REVERSE_V2": (0, 0, 4.69, 0, 0, 0),
        "RSQRT": (0, 0, 432.61, 0, 0, 206.93),
        "SLICE": (0, 0, 22.5, 0, 0, 0),
        "SOFTMAX": (0, 458.9, 0, 0, 0, 448.77),
        "SPACE_TO_DEPTH": (0, 0, 8.44, 0, 0, 0),
        "SPLIT": (0, 0, 21.41, 0, 0, 0),
        "SQUARED_DIFFERENCE": (0, 0, 105, 0, 0, 0),
        "STRIDED_SLICE": (0, 0, 7.45, 0, 0, 1329.41),
        "SUB": (0, 0, 99.11, 0, 0, 692.65),
        "SUM": (0, 139.51, 0, 0, 0, 1222.44),
        "TANH": (0, 0, 367.54, 0, 0, 0),
        "TRANSPOSE": (0, 0, 1.22, 0, 0, 2016.62),
        "TRANSPOSE_CONV": (41.62, 0, 84.65, 0, 0, 16576.7),
        "UNPACK": (0, 0, 6.88, 0, 0, 0),
    },
    ("cortex-m4", CMSIS_NN): {
        "ADD": (0, 0, 81.35, 0, 0, 725.7),
        "AVERAGE_POOL_2D": (0, 0.32, 67.48, 0, 0, 0),
        "BATCH_MATMUL": (0, 22.65, 55.45, 0, 0, 2191.93),
        "CONV_2D": (0.96, 4.88, 41.3, 17.63, 0, 1002.13),
        "DEPTHWISE_CONV_2D": (12.72, 0, 41.44, 0, 0, 3145.04),
        "DEPTH_TO_SPACE": (0, 0, 5.51, 0, 0, 728.97),
        "FULLY_CONNECTED": (1.02, 0, 54.65, 0, 0, 656.97),
        "HARD_SWISH": (0, 0, 83.28, 0, 0, 158.51),
        "LOGISTIC": (0, 0, 366, 0, 0, 300),
        "MEAN": (0, 121.88, 0, 0, 0, 1024.78),
        "MUL": (0, 0, 38.17, 0, 0, 967.45),
        "PAD": (0, 0, 0.68, 0, 0, 1181.67),
        "RESHAPE": (0, 0, 0.57, 0, 0, 213.64),
        "RESIZE_BILINEAR": (0, 0, 72.55, 0, 0, 1283.66),
        "RESIZE_NEAREST_NEIGHBOR": (0, 0, 10.33, 0, 0, 2153.56),
        "RSQRT": (0, 0, 433.59, 0, 0, 198.41),
        "SOFTMAX": (0, 515.61, 131.92, 0, 0, 0),
        "STRIDED_SLICE": (0, 0, 7.24, 0, 0, 1689.88),
        "SUB": (0, 0, 92.98, 0, 0, 3468.93),
        "TRANSPOSE": (0, 0, 5.93, 0, 0, 0),
        "TRANSPOSE_CONV": (0.38, 41.23, 0, 0, 0, 0),
    },
    ("cortex-m55", CMSIS_NN): {
        "ADD": (0, 0, 13.76, 0, 0, 761.17),
        "AVERAGE_POOL_2D": (0, 0, 25.83, 0, 0, 955.42),
        "BATCH_MATMUL": (0, 57.85, 0, 0, 0, 1450.01),
        "CONV_2D": (0, 1.87, 16.73, 6.34, 0, 564.28),
        "DEPTHWISE_CONV_2D": (0, 0, 11.66, 0, 47.34, 577.09),
        "DEPTH_TO_SPACE": (0, 0, 4.54, 0, 0, 700.81),
        "FULLY_CONNECTED": (0.03, 0, 15.3, 0, 0, 1128.74),
        "HARD_SWISH": (0, 0, 81.97, 0, 0, 173.64),
        "LOGISTIC": (0, 0, 366, 0, 0, 300),
        "MEAN": (0, 114.7, 0, 0, 0, 973.12),
        "MUL": (0, 0, 6.27, 0, 0, 1536.17),
        "PAD": (0, 0, 0.23, 0, 0, 622.33),
        "RESHAPE": (0, 0, 0.54, 0, 0, 232.67),
        "RESIZE_BILINEAR": (0, 0, 70.14, 0, 0, 1261.14),
        "RESIZE_NEAREST_NEIGHBOR": (0, 0, 7.03, 0, 0, 1846.73),
        "RSQRT": (0, 0, 454.02, 0, 0, 202.38),
        "SOFTMAX": (0, 547.15, 167.11, 0, 0, 0),
        "STRIDED_SLICE": (0, 0, 7.34, 0, 0, 1724.05),
        "SUB": (0, 0, 97.07, 0, 0, 3345.57),
        "TRANSPOSE": (0, 0, 5.28, 0, 0, 0),
        "TRANSPOSE_CONV": (0.45, 24.25, 0, 0, 0, 0),
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


def features(op: OpInfo) -> Features:
    """What an op's instructions depend on, in the order of ``TABLE``."""
    out = sum(math.prod(tensor.shape) for tensor in op.outputs)
    read = math.prod(op.inputs[0].shape) if op.inputs else 0
    if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return _convolution(op, out)
    if op.name == "TRANSPOSE_CONV":
        return (count_macs(op), math.prod(op.inputs[2].shape) * math.prod(op.inputs[1].shape[1:3]), out, 0, 0, 1)
    if op.name in ("FULLY_CONNECTED", "BATCH_MATMUL"):
        return (count_macs(op), read if op.name == "BATCH_MATMUL" else 0, out, 0, 0, 1)
    if op.name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        return (0, out * op.options.filterHeight * op.options.filterWidth, out, 0, 0, 1)
    if op.name == "SOFTMAX":
        return (0, out, out / op.outputs[0].shape[-1], 0, 0, 1)
    if op.name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
        return (0, read, 0, 0, 0, 1)
    return (0, 0, max(out, read if op.name in ("PACK", "CONCATENATION") else 0), 0, 0, 1)


def _convolution(op: OpInfo, out: int) -> Features:
    depthwise, options = op.name == "DEPTHWISE_CONV_2D", op.options
    (_, *source, channels), (_, *result, filters) = op.inputs[0].shape, op.outputs[0].shape
    kernel = op.inputs[1].shape[1:3]
    steps = ((options.strideH, options.dilationHFactor), (options.strideW, options.dilationWFactor))
    same = options.padding == schema.Padding.SAME
    taps = math.prod(_taps_inside(source[axis], kernel[axis], *steps[axis], result[axis], same) for axis in (0, 1))
    columns = 0 if kernel == (1, 1) and not depthwise else math.prod(result) * math.prod(kernel) * channels
    depth = 1 if depthwise else op.inputs[1].shape[3]
    vectors = (
        math.prod(result) * math.prod(kernel) * -(-filters // LANES)
        if depthwise
        else out * -(-math.prod(op.inputs[1].shape[1:]) // LANES)
    )
    return (taps * filters * depth, 0 if depthwise else taps * filters, out, columns, vectors, 1)


def _taps_inside(side: int, kernel: int, stride: int, dilation: int, out: int, same: bool) -> int:
    """Taps along an axis that lie in the map, over all output pixels."""
    reach = (kernel - 1) * dilation + 1
    before = max(0, (out - 1) * stride + reach - side) // 2 if same else 0
    return sum(0 <= pixel * stride - before + tap * dilation < side for pixel in range(out) for tap in range(kernel))
