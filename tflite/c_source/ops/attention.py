"""SOFTMAX and BATCH_MATMUL."""

from __future__ import annotations

import math

import numpy as np

from ..fixed_point import exp_on_negative_values, input_radius, quantize_multiplier, requantize
from ..program import REQUANTIZE, Program

BATCH_AXES = 3
INTEGER_BITS = 5  # of the fixed-point difference to the largest value


def softmax(program: Program) -> None:
    """The exponentials by table: a difference of int8 values has 256 of them at most."""
    op = program.op
    source, result = op.inputs[0], op.outputs[0]
    depth = source.shape[-1]
    real = min(op.options.beta * source.scale * (1 << (31 - INTEGER_BITS)), (1 << 31) - 1.0)
    multiplier, shift = quantize_multiplier(real)
    entries = min(input_radius(INTEGER_BITS, shift) + 1, 256)
    differences = -np.arange(entries, dtype=np.int64)
    exponentials = exp_on_negative_values(requantize(differences, multiplier, shift), INTEGER_BITS)
    program.emit(
        ("clamp", "reciprocal", "softmax"),
        "softmax(&{k}, {r0}, {w0});",
        [program.read(source)],
        [program.new_map(result)],
        struct="normalization",
        fields={
            "exponentials": exponentials.astype(np.int32),
            "rows": math.prod(source.shape) // depth,
            "depth": depth,
            "entries": entries,
        },
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
        ("clamp", *REQUANTIZE, "matmul"),
        "matmul(&{k}, {r0}, {r1}, {w0});",
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
    )
