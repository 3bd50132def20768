"""SOFTMAX, LOG_SOFTMAX and BATCH_MATMUL."""

from __future__ import annotations

import math

import numpy as np

from ...file.flatbuffer import TensorInfo
from ..fixed_point import exp_on_negative_values, input_radius, quantize_multiplier, requantize
from ..program import REQUANTIZE, Fields, Program

BATCH_AXES = 3
MOST_VALUES = 4095  # the sum of the exponentials, each at most 1, has 12 integer bits
INTEGER_BITS = 5  # of the fixed-point difference to the largest value
LOG_SCALE, LOG_ZERO = 16 / 256, 127  # of the outputs of LOG_SOFTMAX


def softmax(program: Program) -> None:
    """The exponentials by table: a difference of int8 values has 256 of them at most."""
    depth = program.op.inputs[0].shape[-1]
    program.require(depth <= MOST_VALUES, f"is over {depth} values, {MOST_VALUES} at most: their sum would overflow")
    fields, _ = _exponentials(program.op.inputs[0], program.op.options.beta)
    _emit(program, ("clamp", "inverse", "reciprocal", "softmax"), "normalization", fields)


def log_softmax(program: Program) -> None:
    """The exponentials by table, and one logarithm a row."""
    op = program.op
    depth = op.inputs[0].shape[-1]
    program.require(depth <= MOST_VALUES, f"is over {depth} values, {MOST_VALUES} at most: their sum would overflow")
    fields, (multiplier, shift) = _exponentials(op.inputs[0], 1.0)
    program.require(
        (op.outputs[0].scale, op.outputs[0].zero_point) == (LOG_SCALE, LOG_ZERO),
        f"has an output of another scale than {LOG_SCALE:g} or another zero point than {LOG_ZERO}",
    )
    program.require(shift > 0, "has an input of too small a scale")
    # What a step of the input is, the other way round, as the kernel prepares it.
    divisor, divisor_shift = quantize_multiplier((1 << (31 - shift)) / multiplier)
    fields |= {"multiplier": multiplier, "shift": shift, "divisor": divisor, "divisor_shift": -divisor_shift}
    _emit(program, ("clamp", "round_shift", "inverse", "log_softmax"), "log_normalization", fields)


def _exponentials(source: TensorInfo, beta: float) -> tuple[Fields, tuple[int, int]]:
    """Fields of a struct, and (multiplier, shift) from steps of the input to the fixed-point difference."""
    real = min(beta * source.scale * (1 << (31 - INTEGER_BITS)), (1 << 31) - 1.0)
    multiplier, shift = quantize_multiplier(real)
    entries = min(input_radius(INTEGER_BITS, shift) + 1, 256)
    differences = -np.arange(entries, dtype=np.int64)
    exponentials = exp_on_negative_values(requantize(differences, multiplier, shift), INTEGER_BITS)
    fields: Fields = {
        "exponentials": exponentials.astype(np.int32),
        "rows": math.prod(source.shape) // source.shape[-1],
        "depth": source.shape[-1],
        "entries": entries,
    }
    return fields, (multiplier, shift)


def _emit(program: Program, kernels: tuple[str, ...], struct: str, fields: Fields) -> None:
    """A step from the op's input to its output by the last kernel, which may write over the input."""
    program.emit(
        kernels,
        f"{kernels[-1]}(&{{k}}, {{r0}}, {{w0}});",
        [program.read(program.op.inputs[0])],
        [program.new_map(program.op.outputs[0])],
        struct=struct,
        fields=fields,
        in_place=(0,),
    )


def batch_matmul(program: Program) -> None:
    """Of any batch axes that repeat, either side transposed or not."""
    op = program.op
    first, second, result = op.inputs[0], op.inputs[1], op.outputs[0]
    program.require(all(tensor.dtype == "int8" for tensor in (*op.inputs, result)), "has a side that is not int8")
    rank = len(result.shape)
    program.require(rank - 2 <= BATCH_AXES, f"has more than {BATCH_AXES} batch axes")
    a_shape, b_shape = ((1,) * (BATCH_AXES + 2 - len(one.shape)) + one.shape for one in (first, second))
    a_row, a_depth = a_shape[-1], 1
    b_depth, b_column = b_shape[-1], 1
    rows, depth, columns = a_shape[-2], a_shape[-1], b_shape[-1]
    if op.options.adjX:
        rows, depth, a_row, a_depth = depth, rows, a_depth, a_row
    if op.options.adjY:
        columns, b_depth, b_column = b_shape[-2], b_column, b_depth
    # The kernel multiplies the scales in single precision.
    real = float(np.float32(first.scale) * np.float32(second.scale)) / result.scale
    multiplier, shift = quantize_multiplier(real)

    program.reach(depth * 255 * 255)

    def steps(shape: tuple[int, ...]) -> list[int]:
        return [0 if shape[axis] == 1 else math.prod(shape[axis + 1 :]) for axis in range(BATCH_AXES)]

    program.emit(
        ("saturate", *REQUANTIZE, "matmul"),
        "matmul(&{k}, {r0}, {r1}, {w0}, {scratch});",
        [program.read(first), program.read(second)],
        [program.new_map(result)],
        struct="product",
        fields={
            "batches": [max(a, b) for a, b in zip(a_shape[:BATCH_AXES], b_shape[:BATCH_AXES], strict=True)],
            "a_steps": steps(a_shape),
            "b_steps": steps(b_shape),
            "rows": rows,
            "columns": columns,
            "depth": depth,
            "a_row": a_row,
            "a_depth": a_depth,
            "b_column": b_column,
            "b_depth": b_depth,
            "a_zero": first.zero_point,
            "b_zero": second.zero_point,
            "multiplier": multiplier,
            "shift": shift,
            "zero": result.zero_point,
        },
        scratch_bytes=4 * depth,
    )
