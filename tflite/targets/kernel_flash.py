"""Flash of TensorFlow Lite Micro's code by the ops of a file: one table, from linked programs.

Each op of ``MCU_OPS`` was linked alone with the interpreter (tflite-micro 90b983c2, CMSIS-NN 99f736a6,
arm-none-eabi-gcc 12.2, the core ``-Os`` and the kernels ``-O2``, sections without a reference removed), and the
sections of the linker's map were added up by the ops that need them. docs/budgets.md has the errors for networks.
"""

from __future__ import annotations

from typing import NamedTuple


class CodeBytes(NamedTuple):
    """Bytes of flash of some code.

    Args:
        reference: With the reference kernels, on a Cortex-M4, built without messages and assertions
            (``BUILD_TYPE=release``).
        cmsis_nn: The same with CMSIS-NN: the larger of a Cortex-M4 and a Cortex-M55.
        small_core: What a Cortex-M0+ needs more: it has no floating point and fewer instructions (reference kernels).
        messages: What the default build needs more on a Cortex-M4: messages and assertions.
    """

    reference: int
    cmsis_nn: int
    small_core: int
    messages: int


# Ops -> the code that is linked if a file has at least one of them. (): the interpreter, start-up code, a short main,
# and what at least five kinds of ops share, such as arithmetic with double precision for scales.
CODE_BYTES: dict[tuple[str, ...], CodeBytes] = {
    (): CodeBytes(18_268, 18_168, 9_564, 20_284),
    ("ABS",): CodeBytes(800, 824, 8, 1_108),
    ("ADD",): CodeBytes(8_036, 9_948, 916, 1_784),
    ("ARG_MAX",): CodeBytes(1_316, 1_484, 0, 688),
    ("AVERAGE_POOL_2D",): CodeBytes(1_692, 2_932, 276, 716),
    ("BATCH_MATMUL",): CodeBytes(6_176, 7_888, 260, 2_504),
    ("BROADCAST_TO",): CodeBytes(1_284, 1_336, 264, 1_092),
    ("CAST",): CodeBytes(1_680, 2_096, 192, 264),
    ("CONCATENATION",): CodeBytes(3_132, 3_436, 584, 2_384),
    ("CONV_2D",): CodeBytes(5_476, 19_660, 348, 2_364),
    ("CUMSUM",): CodeBytes(1_748, 1_792, 52, 1_048),
    ("DEPTHWISE_CONV_2D",): CodeBytes(4_408, 16_224, 484, 2_408),
    ("DEPTH_TO_SPACE",): CodeBytes(1_096, 1_176, 140, 1_272),
    ("DEQUANTIZE",): CodeBytes(784, 784, 196, 740),
    ("DIV",): CodeBytes(5_644, 5_952, 812, 1_464),
    ("ELU",): CodeBytes(588, 624, 44, 584),
    ("EQUAL",): CodeBytes(7_220, 7_704, 984, 1_028),
    ("EXP",): CodeBytes(376, 376, 8, 784),
    ("EXPAND_DIMS",): CodeBytes(496, 528, 0, 1_068),
    ("FLOOR",): CodeBytes(340, 340, 16, 212),
    ("FULLY_CONNECTED",): CodeBytes(4_240, 9_784, 336, 3_112),
    ("GATHER",): CodeBytes(1_424, 1_448, 132, 1_028),
    ("GATHER_ND",): CodeBytes(964, 1_036, 56, 880),
    ("GREATER",): CodeBytes(8_744, 9_388, 1_516, 1_160),
    ("GREATER_EQUAL",): CodeBytes(6_096, 6_548, 924, 828),
    ("HARD_SWISH",): CodeBytes(1_232, 1_304, 152, 716),
    ("LEAKY_RELU",): CodeBytes(1_036, 1_056, 0, 648),
    ("LESS",): CodeBytes(6_096, 6_548, 892, 828),
    ("LESS_EQUAL",): CodeBytes(6_096, 6_548, 932, 828),
    ("LOG",): CodeBytes(252, 252, 0, 264),
    ("LOGICAL_AND",): CodeBytes(96, 96, 0, 0),
    ("LOGICAL_NOT",): CodeBytes(260, 260, 0, 260),
    ("LOGICAL_OR",): CodeBytes(96, 96, 0, 0),
    ("LOGISTIC",): CodeBytes(2_268, 2_300, 164, 880),
    ("LOG_SOFTMAX",): CodeBytes(2_232, 2_344, 260, 720),
    ("MAXIMUM",): CodeBytes(500, 2_452, 52, 56),
    ("MAX_POOL_2D",): CodeBytes(1_816, 2_516, 360, 652),
    ("MEAN",): CodeBytes(1_672, 1_772, 316, 984),
    ("MINIMUM",): CodeBytes(500, 2_452, 52, 56),
    ("MIRROR_PAD",): CodeBytes(892, 932, 72, 340),
    ("MUL",): CodeBytes(6_264, 8_008, 760, 2_844),
    ("NEG",): CodeBytes(204, 224, 4, 80),
    ("NOT_EQUAL",): CodeBytes(7_160, 7_652, 1_036, 1_040),
    ("PACK",): CodeBytes(1_268, 1_420, 0, 272),
    ("PAD",): CodeBytes(84, 84, 0, 0),
    ("PADV2",): CodeBytes(84, 84, 0, 0),
    ("PRELU",): CodeBytes(3_692, 3_764, 456, 824),
    ("QUANTIZE",): CodeBytes(1_804, 1_804, 136, 1_132),
    ("REDUCE_MAX",): CodeBytes(340, 340, 16, 1_312),
    ("REDUCE_MIN",): CodeBytes(340, 340, 16, 1_312),
    ("RELU",): CodeBytes(872, 876, 0, 576),
    ("RELU6",): CodeBytes(764, 764, 0, 452),
    ("RESHAPE",): CodeBytes(568, 588, 24, 888),
    ("RESIZE_BILINEAR",): CodeBytes(2_648, 2_648, 180, 1_644),
    ("RESIZE_NEAREST_NEIGHBOR",): CodeBytes(2_476, 2_476, 312, 1_360),
    ("REVERSE_V2",): CodeBytes(4_376, 4_772, 52, 1_244),
    ("RSQRT",): CodeBytes(1_604, 1_604, 184, 1_348),
    ("SELECT_V2",): CodeBytes(5_968, 6_448, 312, 1_456),
    ("SLICE",): CodeBytes(2_316, 2_544, 236, 1_684),
    ("SOFTMAX",): CodeBytes(3_924, 6_308, 504, 1_672),
    ("SPACE_TO_DEPTH",): CodeBytes(1_096, 1_176, 172, 1_288),
    ("SPLIT",): CodeBytes(1_480, 1_580, 284, 532),
    ("SQRT",): CodeBytes(360, 364, 140, 264),
    ("SQUARE",): CodeBytes(252, 268, 4, 264),
    ("SQUARED_DIFFERENCE",): CodeBytes(5_860, 6_048, 748, 2_252),
    ("SQUEEZE",): CodeBytes(584, 584, 0, 716),
    ("STRIDED_SLICE",): CodeBytes(10_768, 11_360, 1_268, 2_812),
    ("SUB",): CodeBytes(8_056, 8_512, 964, 1_584),
    ("SUM",): CodeBytes(996, 1_020, 104, 1_880),
    ("TANH",): CodeBytes(2_004, 2_064, 284, 992),
    ("TRANSPOSE",): CodeBytes(1_092, 2_088, 0, 1_056),
    ("TRANSPOSE_CONV",): CodeBytes(4_756, 8_856, 548, 2_680),
    ("UNIDIRECTIONAL_SEQUENCE_LSTM",): CodeBytes(8_452, 13_748, 268, 4_884),
    ("UNPACK",): CodeBytes(1_080, 1_216, 0, 256),
    ("ADD", "DIV", "MUL", "SUB"): CodeBytes(504, 592, 0, 112),
    ("AVERAGE_POOL_2D", "MAX_POOL_2D"): CodeBytes(836, 836, 60, 600),
    ("BATCH_MATMUL", "DEPTH_TO_SPACE", "GATHER", "GATHER_ND", "RESHAPE", "SPACE_TO_DEPTH"): CodeBytes(324, 324, 0, 0),
    ("BATCH_MATMUL", "FULLY_CONNECTED"): CodeBytes(0, 3_736, 0, 0),
    ("BATCH_MATMUL", "TRANSPOSE"): CodeBytes(460, 344, 28, 0),
    ("CONV_2D", "DEPTHWISE_CONV_2D"): CodeBytes(36, 1_528, 0, 0),
    ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"): CodeBytes(360, 1_568, 0, 572),
    ("CONV_2D", "FULLY_CONNECTED"): CodeBytes(0, 2_452, 0, 0),
    ("CONV_2D", "TRANSPOSE_CONV"): CodeBytes(0, 3_968, 0, 0),
    ("DIV", "LOGISTIC", "LOG_SOFTMAX", "SOFTMAX", "TANH"): CodeBytes(1_792, 1_392, 224, 0),
    ("ELU", "EXP", "LOGISTIC", "LOG_SOFTMAX", "SOFTMAX", "TANH", "UNIDIRECTIONAL_SEQUENCE_LSTM"): CodeBytes(
        644, 644, 72, 0
    ),
    ("ELU", "TANH", "UNIDIRECTIONAL_SEQUENCE_LSTM"): CodeBytes(948, 948, 172, 0),
    ("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"): CodeBytes(168, 168, 0, 416),
    ("LOG", "LOGISTIC", "LOG_SOFTMAX", "TANH", "UNIDIRECTIONAL_SEQUENCE_LSTM"): CodeBytes(708, 1_612, 180, 444),
    ("LOGICAL_AND", "LOGICAL_OR"): CodeBytes(1_144, 1_212, 160, 180),
    ("MAXIMUM", "MINIMUM"): CodeBytes(6_060, 5_164, 788, 484),
    ("MEAN", "SUM"): CodeBytes(2_388, 2_404, 228, 128),
    ("PAD", "PADV2"): CodeBytes(3_928, 4_116, 172, 996),
    ("REDUCE_MAX", "REDUCE_MIN"): CodeBytes(1_500, 1_520, 208, 248),
}
