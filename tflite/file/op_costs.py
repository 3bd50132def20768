"""Costs of a file that can be counted: multiply-accumulates and bytes moved, op by op, and an energy proxy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .flatbuffer import FileInfo, OpInfo, TensorInfo

# Picojoules, 45 nm at 0.9 V: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014,
# figure 1.1.9. A multiply-accumulate is a multiplication and an addition: int8 0.2 + int32 0.1, float16 1.1 + 0.4,
# float32 3.7 + 0.9. The table has no 16-bit integers.
MAC_PJ = {"int8": 0.2 + 0.1, "float16": 1.1 + 0.4, "float32": 3.7 + 0.9}
# A 64-bit access to a cache of 1 MB, there 100 pJ: the on-chip memory that weights and activations of a small network
# pass through. Smaller caches cost less (32 KB: 20 pJ), DRAM 13 to 26 times as much.
BYTE_PJ = 100 / 8
ENERGY_SOURCE = "Horowitz, ISSCC 2014, figure 1.1.9 (45 nm): arithmetic, and 12.5 pJ per byte to a 1 MB cache"


@dataclass(frozen=True)
class OpCost:
    """One op of a file.

    Args:
        name: Op, as "CONV_2D".
        output: Name of its first output tensor.
        shape: Shape of that tensor.
        macs: Multiply-accumulates; 0 for an op that multiplies no weights or matrices.
        moved_bytes: Bytes of all tensors that it reads and writes, each once.
    """

    name: str
    output: str
    shape: tuple[int, ...]
    macs: int
    moved_bytes: int


def count_costs(info: FileInfo) -> tuple[OpCost, ...]:
    """The costs of each op, in execution order."""
    return tuple(
        OpCost(
            op.name,
            op.outputs[0].name.rsplit(";", 1)[-1] if op.outputs else "",
            op.outputs[0].shape if op.outputs else (),
            count_macs(op),
            sum(tensor_bytes(tensor) for tensor in (*op.inputs, *op.outputs)),
        )
        for op in info.ops
    )


def count_macs(op: OpInfo) -> int:
    """Multiply-accumulates of one op; taps on padding count, as usual in the literature.

    A transposed convolution has one for each input value, tap and output channel.
    """
    if op.name == "CONV_2D":  # weights (F, kh, kw, C / groups)
        return math.prod(op.outputs[0].shape) * math.prod(op.inputs[1].shape[1:])
    if op.name == "DEPTHWISE_CONV_2D":  # weights (1, kh, kw, C * multiplier)
        return math.prod(op.outputs[0].shape) * math.prod(op.inputs[1].shape[1:3])
    if op.name == "TRANSPOSE_CONV":  # output shape, weights (F, kh, kw, C), input (N, H, W, C)
        return math.prod(op.inputs[2].shape) * math.prod(op.inputs[1].shape[:3])
    if op.name == "FULLY_CONNECTED":  # weights (F, C)
        return math.prod(op.outputs[0].shape) * op.inputs[1].shape[-1]
    if op.name == "BATCH_MATMUL":  # (..., N, K) by (..., K, M), either possibly transposed
        inner = op.inputs[0].shape[-2 if op.options.adjX else -1]
        return math.prod(op.outputs[0].shape) * inner
    return 0


def tensor_bytes(tensor: TensorInfo) -> int:
    """Size of a tensor in memory; 4-bit integers take half a byte each."""
    count = math.prod(tensor.shape)
    if tensor.dtype == "int4":
        return -(-count // 2)
    try:
        return count * np.dtype(tensor.dtype).itemsize
    except TypeError:
        return 0  # strings and resources, which no network here has


def energy_proxy_uj(costs: Sequence[OpCost], dtype: str) -> float | None:
    """Microjoules of arithmetic and data movement by a published table: a proxy to rank files, not a measurement.

    The energy of a device depends on its process, its memories and how often each value is actually fetched.

    Args:
        costs: From ``count_costs``.
        dtype: Arithmetic; the result is None if the table (``MAC_PJ``) has no figure for it.
    """
    if dtype not in MAC_PJ:
        return None
    picojoules = sum(cost.macs * MAC_PJ[dtype] + cost.moved_bytes * BYTE_PJ for cost in costs)
    return picojoules / 1e6
