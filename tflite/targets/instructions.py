"""Instructions of an inference on a Cortex-M, estimated op by op from counts that an emulator made.

An op has a row of ``instruction_table.TABLE``: instructions for each of its ``FEATURES``. CMSIS-NN and the programs in
C have several kernels for one op, so a form of an op may have a row of its own (``row_name``). docs/budgets.md says how
the rows were fitted and how far the estimate is off on networks that are not in the fit. An instruction is not a
cycle: memories, caches and the pipeline decide how many it takes (``published_times``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ai_edge_litert import schema_py_generated as schema

from ..file.flatbuffer import FileInfo, OpInfo
from ..file.op_costs import count_macs
from ..names import C_PROGRAM, REFERENCE_KERNELS
from .instruction_table import TABLE

LANES = 16  # values of 8 bits in a vector of Helium
WORD = 4  # values of 8 bits in a register
REVERSED_ABOVE = 16  # input channels: above, CMSIS-NN computes a transposed convolution as a convolution
# What an op's instructions depend on: calls; values of the output; multiply-accumulates in the map, and with the
# padding; those of the last one to three values that do not fill a register; windows of filters or of a pool, or what
# a reduction reads; values that are copied into columns; vectors of Helium; output pixels, and these times the window;
# weights.
FEATURES = ("call", "value", "mac", "product", "rest", "window", "column", "vector", "pixel", "tap", "weight")
Features = Mapping[str, float]
# Cores that have the instructions of a measured one.
SAME_INSTRUCTIONS = {
    "cortex-m0+": "cortex-m0+",
    "cortex-m4": "cortex-m4",
    "cortex-m7": "cortex-m4",
    "cortex-m33": "cortex-m4",
    "cortex-m55": "cortex-m55",
}


def table_rows(core: str, runtime: str) -> Mapping[str, Mapping[str, float]] | None:
    """The rows for a core, by ``row_name``; None if it was not measured with this runtime.

    Args:
        core: Key of ``boards.CORES``.
        runtime: One of ``names.BOARD_RUNTIMES``.
    """
    measured = SAME_INSTRUCTIONS.get(core, "")
    own = TABLE.get((measured, runtime))
    if own is None:
        return None
    reference = TABLE.get((measured, REFERENCE_KERNELS), TABLE["cortex-m4", REFERENCE_KERNELS])
    if runtime == C_PROGRAM:
        return own
    return {**reference, **own}  # ops that CMSIS-NN lacks run by the reference kernels


def kernel_instructions(info: FileInfo, core: str, kernels: str) -> list[int] | None:
    """Instructions of each op under TensorFlow Lite Micro; None if the core, its kernels or an op were not measured.

    Args:
        info: The file, with 8-bit arithmetic.
        core: Key of ``boards.CORES``.
        kernels: Key of ``names.KERNELS``.
    """
    rows = table_rows(core, kernels)
    if rows is None or any(op.outputs[0].dtype != "int8" for op in info.ops):
        return None
    found = [op_instructions(op, rows) for op in info.ops]
    known = [round(count) for count in found if count is not None]
    return known if len(known) == len(found) else None


def op_instructions(op: OpInfo, rows: Mapping[str, Mapping[str, float]], name: str | None = None) -> float | None:
    """Instructions of an op, by the row of this name (None: ``row_name``); None if there is none."""
    row = rows.get(name or row_name(op), rows.get(op.name))
    if row is None:
        return None
    known = features(op)
    return math.fsum(each * known.get(name, 0.0) for name, each in row.items())


def row_name(op: OpInfo) -> str:
    """The op's name, with the form that CMSIS-NN or a program in C has a kernel for; that row may be missing."""
    if op.name == "CONV_2D":
        return "CONV_2D 1x1" if op.inputs[1].shape[1:3] == (1, 1) else op.name
    if op.name == "DEPTHWISE_CONV_2D":
        channels, filters = op.inputs[0].shape[3], op.outputs[0].shape[3]
        dilated = op.options.dilationHFactor != 1 or op.options.dilationWFactor != 1
        if channels == 1 or channels != filters or dilated:
            return op.name
        return f"{op.name} {'3x3' if op.inputs[1].shape[1:3] == (3, 3) else 'others'}"
    if op.name == "TRANSPOSE_CONV":
        strides = op.options.strideH, op.options.strideW
        return f"{op.name} reversed" if op.inputs[2].shape[3] > REVERSED_ABOVE and max(strides) <= 2 else op.name
    return op.name


def features(op: OpInfo) -> Features:
    """The op's ``FEATURES``; those that are missing are 0."""
    value = sum(math.prod(tensor.shape) for tensor in op.outputs)
    read = math.prod(op.inputs[0].shape) if op.inputs else 0
    if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return {"call": 1, "value": value, **_convolution(op)}
    if op.name == "TRANSPOSE_CONV":
        return {"call": 1, "value": value, **_transposed(op)}
    if op.name == "FULLY_CONNECTED":
        return {"call": 1, "value": value, **_dense(op, value)}
    if op.name == "BATCH_MATMUL":
        return {"call": 1, "value": value, "mac": count_macs(op), "window": read}
    if op.name in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        window = value * op.options.filterHeight * op.options.filterWidth
        return {"call": 1, "value": value, "window": window, "pixel": value / op.outputs[0].shape[-1]}
    if op.name in ("SOFTMAX", "LOG_SOFTMAX"):
        return {"call": 1, "window": value, "value": value / op.outputs[0].shape[-1]}
    if op.name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"):
        return {"call": 1, "window": read, "value": value}
    return {"call": 1, "value": max(value, read if op.name in ("PACK", "CONCATENATION") else 0)}


def _transposed(op: OpInfo) -> Features:
    """A product for each input pixel and weight; in reverse, one for each output pixel and weight."""
    (_, *result, filters), (_, rows, columns, channels) = op.outputs[0].shape, op.inputs[2].shape
    window = math.prod(op.inputs[1].shape[1:3])
    taps = rows * columns * channels * window  # of a filter, with one input channel
    pixels = rows * columns * window
    return {
        "mac": count_macs(op),
        "window": taps,
        "tap": pixels * filters,
        "rest": pixels * filters * (channels % WORD),
        "pixel": rows * (columns % WORD) * window * filters * channels,  # of the columns beyond the last four
        "vector": pixels * filters * -(-channels // LANES),
        "column": math.prod(result) * window * channels,
        "product": math.prod(result) * window * channels * filters,
        "weight": window * channels * filters,
    }


def _dense(op: OpInfo, value: int) -> Features:
    units, depth = op.inputs[1].shape
    rows = value // units
    return {
        "mac": value * depth,
        "rest": value * (depth % WORD),
        "column": rows * depth,
        "vector": rows * -(-units // WORD) * -(-depth // LANES),
        "weight": value * -(-depth // LANES),
    }


def _convolution(op: OpInfo) -> Features:
    depthwise, options = op.name == "DEPTHWISE_CONV_2D", op.options
    (_, *source, channels), (_, *result, filters) = op.inputs[0].shape, op.outputs[0].shape
    kernel = op.inputs[1].shape[1:3]
    steps = ((options.strideH, options.dilationHFactor), (options.strideW, options.dilationWFactor))
    same = options.padding == schema.Padding.SAME
    taps = math.prod(_taps_inside(source[axis], kernel[axis], *steps[axis], result[axis], same) for axis in (0, 1))
    pixels, window = math.prod(result), math.prod(kernel)
    shared = {"pixel": pixels, "tap": pixels * window}
    if depthwise:
        return {
            **shared,
            "mac": taps * filters,
            "product": pixels * window * filters,
            "rest": pixels * window * (filters % WORD),
            "vector": pixels * window * -(-filters // LANES),
            "weight": window * filters,
        }
    depth = window * op.inputs[1].shape[3]  # of one group
    return {
        **shared,
        "mac": taps * filters * op.inputs[1].shape[3],
        "product": pixels * filters * depth,
        "rest": pixels * filters * (depth % WORD),
        "window": taps * filters,
        "column": 0 if kernel == (1, 1) else pixels * window * channels,
        "vector": pixels * filters * -(-depth // LANES),
        "weight": filters * depth,
    }


def _taps_inside(side: int, kernel: int, stride: int, dilation: int, out: int, same: bool) -> int:
    """Taps along an axis that lie in the map, over all output pixels."""
    reach = (kernel - 1) * dilation + 1
    before = max(0, (out - 1) * stride + reach - side) // 2 if same else 0
    return sum(0 <= pixel * stride - before + tap * dilation < side for pixel in range(out) for tap in range(kernel))
