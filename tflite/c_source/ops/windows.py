"""Pools, sums, extremes and resizes: kernels that walk over a map."""

from __future__ import annotations

import math

import numpy as np

from ...file.flatbuffer import TensorInfo
from ..fixed_point import activation_range, quantize_multiplier
from ..program import REQUANTIZE, Program
from .channels import same_padding


def pool(program: Program) -> None:
    """AVERAGE_POOL_2D, MAX_POOL_2D."""
    op = program.op
    source, result, options = op.inputs[0], op.outputs[0], op.options
    batches, in_h, in_w, depth = source.shape
    _, out_h, out_w, _ = result.shape
    low, high = activation_range(options.fusedActivationFunction, result.scale, result.zero_point)
    same = options.padding == 0
    kernel, function = {
        "AVERAGE_POOL_2D": ("average_pool", "pool_average"),
        "MAX_POOL_2D": ("max_pool", "pool_max"),
    }[op.name]
    program.emit(
        ("clamp", "pool", "pool_window", kernel),
        f"{function}(&{{k}}, {{r0}}, {{w0}});",
        [program.read(source)],
        [program.new_map(result)],
        struct="pooling",
        fields={
            "batches": batches,
            "in_h": in_h,
            "in_w": in_w,
            "depth": depth,
            "out_h": out_h,
            "out_w": out_w,
            "kernel_h": options.filterHeight,
            "kernel_w": options.filterWidth,
            "stride_h": options.strideH,
            "stride_w": options.strideW,
            "pad_h": same_padding(in_h, out_h, options.filterHeight, options.strideH) if same else 0,
            "pad_w": same_padding(in_w, out_w, options.filterWidth, options.strideW) if same else 0,
            "low": low,
            "high": high,
        },
    )


def reduced(program: Program, source: TensorInfo, axes: TensorInfo) -> tuple[int, int, int]:
    """(outer, count, inner) of constant axes that lie beside each other."""
    program.require(axes.constant, "has axes that are no constant")
    shape = source.shape
    taken = sorted({int(axis) % len(shape) for axis in axes.values()})
    kept = [axis for axis in range(taken[0], taken[-1] + 1) if axis not in taken and shape[axis] != 1]
    program.require(not kept, "reduces axes that do not lie beside each other")
    count = math.prod(shape[axis] for axis in taken)
    outer = math.prod(shape[: taken[0]])
    return outer, count, math.prod(shape) // outer // count


def mean_or_sum(program: Program) -> None:
    """MEAN, whose multiplier holds the division, and SUM."""
    op = program.op
    source, result = op.inputs[0], op.outputs[0]
    outer, count, inner = reduced(program, source, op.inputs[1])
    multiplier, shift = quantize_multiplier(source.scale / result.scale)
    if op.name == "MEAN":
        bits = min(count.bit_length() - 1, 32, 31 + shift)
        multiplier, shift = (multiplier << bits) // count, shift - bits
    program.reach(255 * count << max(shift, 0))
    program.emit(
        ("clamp", *REQUANTIZE, "sum"),
        "sum_axes(&{k}, {r0}, {w0});",
        [program.read(source)],
        [program.new_map(result)],
        struct="summation",
        fields={
            "outer": outer,
            "count": count,
            "inner": inner,
            "offset": count * source.zero_point,
            "multiplier": multiplier,
            "shift": shift,
            "zero": result.zero_point,
        },
    )


def reduce_extreme(program: Program) -> None:
    """REDUCE_MAX, REDUCE_MIN."""
    op = program.op
    outer, count, inner = reduced(program, op.inputs[0], op.inputs[1])
    sign = 1 if op.name == "REDUCE_MAX" else -1
    program.emit(
        ("extreme",),
        f"extreme({{r0}}, {{w0}}, {outer}, {count}, {inner}, {sign});",
        [program.read(op.inputs[0])],
        [program.new_map(op.outputs[0])],
    )


def arg_max(program: Program) -> None:
    """ARG_MAX: an int32 output."""
    op = program.op
    program.require(op.inputs[0].dtype == "int8" and op.outputs[0].dtype == "int32", "is not from int8 to int32")
    outer, count, inner = reduced(program, op.inputs[0], op.inputs[1])
    program.emit(
        ("arg_max",),
        f"arg_max({{r0}}, (int32_t *)(void *){{w0}}, {outer}, {count}, {inner});",
        [program.read(op.inputs[0])],
        [program.new_map(op.outputs[0])],
    )


def resize_bilinear(program: Program) -> None:
    """Places and distances in 1/1024, as the integer kernel finds them."""
    op = program.op
    batches, in_h, in_w, depth = op.inputs[0].shape
    _, out_h, out_w, _ = op.outputs[0].shape
    tables = []
    for size, out, step in ((in_h, out_h, in_w * depth), (in_w, out_w, depth)):
        corners = op.options.alignCorners and out > 1
        last, parts = (size - 1, out - 1) if corners else (size, out)
        scale = ((last << 10) + parts // 2) // parts
        rows = []
        for index in range(out):
            at = index * scale + (scale // 2 - (1 << 9) if op.options.halfPixelCenters else 0)
            low = max(int(at / (1 << 10)), 0)  # C's division
            high = min(int((at + (1 << 10) - 1) / (1 << 10)), size - 1)
            rows.append((low * step, high * step, at - (low << 10)))
        tables.append(np.array(rows, np.int32))
    program.emit(
        ("resize_bilinear",),
        "resize_bilinear(&{k}, {r0}, {w0});",
        [program.read(op.inputs[0])],
        [program.new_map(op.outputs[0])],
        struct="bilinear",
        fields={
            "rows": tables[0],
            "columns": tables[1],
            "batches": batches,
            "out_h": out_h,
            "out_w": out_w,
            "depth": depth,
            "in_batch": in_h * in_w * depth,
        },
    )
