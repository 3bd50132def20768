"""Which ops the generator takes: op -> what makes steps of it."""

from __future__ import annotations

from ..program import Lowering
from .attention import batch_matmul, log_softmax, softmax
from .convolution import conv_2d, depthwise_conv_2d, fully_connected, transpose_conv
from .elementwise import BINARIES, binary
from .movement import (
    broadcast_to,
    concatenation,
    depth_to_space,
    gather,
    mirror_pad,
    pack,
    pad,
    resize_nearest,
    reverse,
    same_bytes,
    slice_of,
    space_to_depth,
    split,
    strided_slice,
    transpose,
    unpack,
)
from .unary import TABLES, unary
from .windows import arg_max, mean_or_sum, pool, reduce_extreme, resize_bilinear

LOWERINGS: dict[str, Lowering] = {
    **dict.fromkeys(BINARIES, binary),
    **dict.fromkeys(TABLES, unary),
    "ARG_MAX": arg_max,
    "AVERAGE_POOL_2D": pool,
    "BATCH_MATMUL": batch_matmul,
    "BROADCAST_TO": broadcast_to,
    "CONCATENATION": concatenation,
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "DEPTH_TO_SPACE": depth_to_space,
    "EXPAND_DIMS": same_bytes,
    "FULLY_CONNECTED": fully_connected,
    "GATHER": gather,
    "LOG_SOFTMAX": log_softmax,
    "MAX_POOL_2D": pool,
    "MEAN": mean_or_sum,
    "MIRROR_PAD": mirror_pad,
    "PACK": pack,
    "PAD": pad,
    "PADV2": pad,
    "REDUCE_MAX": reduce_extreme,
    "REDUCE_MIN": reduce_extreme,
    "RESHAPE": same_bytes,
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest,
    "REVERSE_V2": reverse,
    "SLICE": slice_of,
    "SOFTMAX": softmax,
    "SPACE_TO_DEPTH": space_to_depth,
    "SPLIT": split,
    "SQUEEZE": same_bytes,
    "STRIDED_SLICE": strided_slice,
    "SUM": mean_or_sum,
    "TRANSPOSE": transpose,
    "TRANSPOSE_CONV": transpose_conv,
    "UNPACK": unpack,
}
