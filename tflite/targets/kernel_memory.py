"""What each kernel of TensorFlow Lite Micro keeps in the arena: its parameters, its own data and its scratch memory.

Taken from the kernels' sources at revision 90b983c2 (August 2026). A size is that of a C++ structure on a 32-bit
device whose enumerations take as few bytes as they can, as Arm's ABI for bare metal has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ..file.flatbuffer import OpInfo
from ..file.op_costs import tensor_bytes
from ..names import CMSIS_NN, REFERENCE_KERNELS
from . import cmsis_nn

WORD = 4
INTEGER = ("int8", "int16")
LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
LSTM_BUFFERS = {REFERENCE_KERNELS: 4, CMSIS_NN: 3}  # of the cell state's size; CMSIS-NN's kernel takes integers only
LSTM_GATE_BIASES = 8  # two for each gate, with the zero points folded in; CMSIS-NN only

# Op -> (bytes, alignment) of its parsed options (``tensorflow/lite/c/builtin_op_data.h``); others have none.
OPTIONS_BYTES: dict[str, tuple[int, int]] = {
    "ADD": (2, 1),
    "ARG_MAX": (1, 1),
    "AVERAGE_POOL_2D": (40, 4),
    "BATCH_MATMUL": (3, 1),
    "CAST": (2, 1),
    "CONCATENATION": (8, 4),
    "CONV_2D": (28, 4),
    "CUMSUM": (2, 1),
    "DEPTHWISE_CONV_2D": (28, 4),
    "DEPTH_TO_SPACE": (4, 4),
    "DIV": (1, 1),
    "FULLY_CONNECTED": (5, 1),
    "GATHER": (8, 4),
    "LEAKY_RELU": (4, 4),
    "MAX_POOL_2D": (40, 4),
    "MEAN": (1, 1),
    "MIRROR_PAD": (1, 1),
    "MUL": (1, 1),
    "PACK": (8, 4),
    "REDUCE_MAX": (1, 1),
    "REDUCE_MIN": (1, 1),
    "RESHAPE": (36, 4),
    "RESIZE_BILINEAR": (2, 1),
    "RESIZE_NEAREST_NEIGHBOR": (2, 1),
    "SOFTMAX": (4, 4),
    "SPACE_TO_DEPTH": (4, 4),
    "SPLIT": (4, 4),
    "SQUEEZE": (36, 4),
    "STRIDED_SLICE": (24, 4),
    "SUB": (2, 1),
    "SUM": (1, 1),
    "TRANSPOSE_CONV": (16, 4),
    LSTM: (16, 4),
    "UNPACK": (8, 4),
}

# Op -> bytes of the kernel's own data (``OpData`` and the like), with the reference kernels. Others have none.
DATA_BYTES: dict[str, int] = {
    "ABS": 28,
    "ADD": 60,
    "AVERAGE_POOL_2D": 32,
    "BATCH_MATMUL": 16,
    "CONCATENATION": 24,
    "CONV_2D": 56,
    "CUMSUM": 36,
    "DEPTHWISE_CONV_2D": 56,
    "DEQUANTIZE": 32,
    "DIV": 28,
    "ELU": 256,
    **dict.fromkeys(("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"), 32),
    "FULLY_CONNECTED": 48,
    "HARD_SWISH": 20,
    "LEAKY_RELU": 24,
    "LOGISTIC": 16,
    "LOG_SOFTMAX": 28,
    "MAX_POOL_2D": 32,
    "MEAN": 44,
    "MIRROR_PAD": 20,
    "MUL": 36,
    "PAD": 56,
    "PADV2": 56,
    "PRELU": 28,
    "QUANTIZE": 32,
    "REDUCE_MAX": 44,
    "REDUCE_MIN": 44,
    "RELU": 28,
    "RELU6": 8,
    "RSQRT": 28,
    "SELECT_V2": 1,
    "SOFTMAX": 56,
    "SQUARED_DIFFERENCE": 112,
    "STRIDED_SLICE": 84,
    "SUB": 52,
    "SUM": 44,
    "TANH": 16,
    "TRANSPOSE_CONV": 72,
    LSTM: 688,
}
# The same with CMSIS-NN's kernels, where it differs.
CMSIS_NN_DATA_BYTES: dict[str, int] = {
    "ABS": 28,
    "ADD": 64,
    "AVERAGE_POOL_2D": 36,
    "BATCH_MATMUL": 36,
    "CONV_2D": 60,
    "DEPTHWISE_CONV_2D": 60,
    "FULLY_CONNECTED": 72,
    "MAX_POOL_2D": 36,
    "TRANSPOSE_CONV": 76,
    LSTM: 912,
}
# Ops that copy the shape of their output into the arena.
COPIES_SHAPE = ("BATCH_MATMUL", "DEPTH_TO_SPACE", "GATHER", "GATHER_ND", "SPACE_TO_DEPTH")
EVAL_TENSOR_BYTES = 12
BATCH_MATMUL_QUANTIZATION_BYTES = 28
SOFTMAX_TABLE_BYTES = 2 * 513  # each of the two tables of an int16 SOFTMAX


@dataclass(frozen=True)
class KernelMemory:
    """Arena memory of one op.

    Args:
        options: (bytes, alignment) of its parsed options.
        data_bytes: Of its kernel's own data.
        prepared: Bytes of each further part that it keeps.
        scratch: Bytes of each buffer that it needs while it runs.
    """

    options: tuple[int, int]
    data_bytes: int
    prepared: tuple[int, ...]
    scratch: tuple[int, ...]


def kernel_memory(op: OpInfo, kernels: str, build: str) -> KernelMemory:
    """Arena memory of an op.

    Args:
        op: The op.
        kernels: Key of ``names.KERNELS``.
        build: Of CMSIS-NN, a name of ``cmsis_nn.BUILDS``.
    """
    data = DATA_BYTES.get(op.name, 0)
    scratch = reference_scratch(op)
    if kernels == CMSIS_NN:
        data = CMSIS_NN_DATA_BYTES.get(op.name, data)
        scratch = cmsis_nn.scratch(op, build) if op.name in cmsis_nn.SCRATCH else scratch
    prepared = tuple(_prepared(op))
    if op.name == LSTM:
        prepared, scratch = _lstm(op, kernels)
    return KernelMemory(OPTIONS_BYTES.get(op.name, (0, 1)), data, prepared, scratch)


def _lstm(op: OpInfo, kernels: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(bytes of each part that it keeps, bytes of each scratch buffer) of an LSTM."""
    cell = [tensor for tensor in op.inputs if tensor.variable][-1]  # (batch, units), after the hidden state
    if kernels != CMSIS_NN or cell.dtype not in INTEGER:
        return (), (tensor_bytes(cell),) * LSTM_BUFFERS[REFERENCE_KERNELS]
    bias_bytes = 2 * WORD if op.inputs[0].dtype == "int16" else WORD
    return (bias_bytes * cell.shape[-1],) * LSTM_GATE_BIASES, (tensor_bytes(cell),) * LSTM_BUFFERS[CMSIS_NN]


def reference_scratch(op: OpInfo) -> tuple[int, ...]:
    """Bytes of each scratch buffer of a reference kernel."""
    kind = op.inputs[0].dtype if op.inputs else ""
    if op.name == "TRANSPOSE_CONV":
        accumulator = {"int8": 4, "int16": 8}.get(op.outputs[0].dtype)
        return (accumulator * math.prod(op.outputs[0].shape),) if accumulator else ()
    if op.name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
        walks = (WORD * len(op.inputs[0].shape), WORD * math.prod(op.inputs[1].shape))
        sums = op.name in ("MEAN", "SUM") and kind in INTEGER
        return (WORD * math.prod(op.outputs[0].shape), *walks) if sums else walks
    if op.name == "MIRROR_PAD":
        return (WORD * len(op.inputs[0].shape),) * 2
    return ()


def _prepared(op: OpInfo) -> Iterator[int]:
    """Bytes of what a kernel keeps after it has seen its tensors."""
    kind = op.inputs[0].dtype if op.inputs else ""
    if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D") and kind in INTEGER:
        yield from (WORD * op.inputs[1].shape[0 if op.name == "CONV_2D" else -1],) * 2
    if op.name == "TRANSPOSE_CONV":
        yield from (WORD * op.inputs[1].shape[0],) * 2
    if op.name == "FULLY_CONNECTED" and op.inputs[1].channel_scales > 1:
        yield from (WORD * op.inputs[1].channel_scales,) * 2
    if op.name == "SOFTMAX" and kind == "int16":
        yield from (SOFTMAX_TABLE_BYTES,) * 2
    if op.name == "BATCH_MATMUL":
        if kind in INTEGER:
            yield BATCH_MATMUL_QUANTIZATION_BYTES
        for tensor, turned in zip(op.inputs, (op.options.adjX, not op.options.adjY), strict=True):
            if turned:  # a copy with the last two axes exchanged
                yield from (EVAL_TENSOR_BYTES, WORD + WORD * len(tensor.shape), tensor_bytes(tensor))
    if op.name in COPIES_SHAPE:
        yield WORD + WORD * len(op.outputs[0].shape)
