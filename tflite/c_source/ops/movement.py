"""Ops that compute nothing: reshapes are names of the same bytes, all else is copied by kernels/copy.c and pick.c."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...file.flatbuffer import TensorInfo
from ..program import Program

AXES = 5  # of kernels/copy.c
COPY = "copy(&{k}, {r0}, {w0});"


def same_bytes(program: Program) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS."""
    op = program.op
    program.require(not op.inputs[0].constant, "reshapes a constant")
    program.alias(op.outputs[0], op.inputs[0])


def strides(shape: Sequence[int]) -> list[int]:
    """Bytes from one index to the next, of each axis of an int8 map."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def emit_copy(
    program: Program,
    source: TensorInfo,
    target: int,
    sides: Sequence[int],
    in_steps: Sequence[int],
    out_steps: Sequence[int],
    in_start: int = 0,
    out_start: int = 0,
    before: str = "",
    form: tuple[Any, ...] = (),
) -> None:
    """Copy a block of ``sides``, in the fewest axes.

    Args:
        program: At the op.
        source: What is read.
        target: Key of what is written.
        sides: Of the block, in any order of axes.
        in_steps: Bytes from one index to the next where it is read.
        out_steps: Where it is written.
        in_start: Offset of its first byte where it is read.
        out_start: Where it is written.
        before: C that fills what is not copied.
        form: As of ``Step``.
    """
    axes = sorted(
        (entry for entry in zip(sides, in_steps, out_steps, strict=True) if entry[0] != 1), key=lambda entry: -entry[2]
    )
    run = 1
    while axes and axes[-1][1:] == (run, run):
        run *= axes.pop()[0]
    merged: list[tuple[int, int, int]] = []
    for side, inner, outer in axes:
        if merged and merged[-1][1] == inner * side and merged[-1][2] == outer * side:
            merged[-1] = (merged[-1][0] * side, inner, outer)
        else:
            merged.append((side, inner, outer))
    if not merged:
        text = f"memcpy({{w0}} + {out_start}, {{r0}} + {in_start}, {run});"
        program.emit((), before + text, [program.read(source)], [target], form=form)
        return
    program.require(len(merged) <= AXES, f"moves blocks along more than {AXES} axes")
    merged = [(1, 0, 0)] * (AXES - len(merged)) + merged
    columns = [list(column) for column in zip(*merged, strict=True)]
    program.emit(
        ("copy",),
        before + COPY,
        [program.read(source)],
        [target],
        struct="movement",
        fields={
            "sides": columns[0],
            "in_steps": columns[1],
            "out_steps": columns[2],
            "in_start": in_start,
            "out_start": out_start,
            "run": run,
        },
        form=form,
    )


def transpose(program: Program) -> None:
    """By the strides of its input."""
    op = program.op
    program.require(op.inputs[1].constant, "has a permutation that is no constant")
    order = [int(axis) for axis in op.inputs[1].values()]
    steps = strides(op.inputs[0].shape)
    out = op.outputs[0].shape
    emit_copy(program, op.inputs[0], program.new_map(op.outputs[0]), out, [steps[axis] for axis in order], strides(out))


def _copy_slice(program: Program, source: TensorInfo, target: int, slices: Sequence[range], out: Sequence[int]) -> None:
    """``out``: the shape with every axis."""
    steps = strides(source.shape)
    start = sum(part.start * step for part, step in zip(slices, steps, strict=True))
    in_steps = [part.step * step for part, step in zip(slices, steps, strict=True)]
    form: tuple[Any, ...] = ()
    if (
        len(out) == 4
        and all(part.step == 1 for part in slices)
        and (out[0], out[3]) == (source.shape[0], source.shape[3])
    ):
        form = ("crop", slices[1].start, slices[2].start, out[1], out[2])
    emit_copy(program, source, target, out, in_steps, strides(out), start, form=form)


def slice_of(program: Program) -> None:
    """SLICE with constant begin and size."""
    op = program.op
    program.require(all(tensor.constant for tensor in op.inputs[1:]), "has a begin or size that is no constant")
    begins = [int(value) for value in op.inputs[1].values()]
    out = op.outputs[0].shape
    slices = [range(begin, begin + side) for begin, side in zip(begins, out, strict=True)]
    _copy_slice(program, op.inputs[0], program.new_map(op.outputs[0]), slices, out)


def strided_slice(program: Program) -> None:
    """STRIDED_SLICE with constant parameters, without an ellipsis or a new axis."""
    op = program.op
    program.require(all(tensor.constant for tensor in op.inputs[1:]), "has a begin, end or stride that is no constant")
    options = op.options
    program.require(not options.ellipsisMask and not options.newAxisMask, "has an ellipsis or a new axis")
    slices = []
    limits = zip(*(tensor.values() for tensor in op.inputs[1:4]), op.inputs[0].shape, strict=True)
    for axis, (begin, end, step, side) in enumerate(limits):
        first, last = int(begin), int(end)
        if options.shrinkAxisMask >> axis & 1:
            first %= side
            slices.append(range(first, first + 1))
            continue
        taken = slice(
            None if options.beginMask >> axis & 1 else first, None if options.endMask >> axis & 1 else last, int(step)
        )
        slices.append(range(*taken.indices(side)))
    out = [len(part) for part in slices]
    program.require(math.prod(out) == math.prod(op.outputs[0].shape), "has bounds beyond its input")
    _copy_slice(program, op.inputs[0], program.new_map(op.outputs[0]), slices, out)


def _parts(
    program: Program, source: TensorInfo, axis: int, sizes: Sequence[int], outputs: Sequence[TensorInfo]
) -> None:
    start = 0
    for size, result in zip(sizes, outputs, strict=True):
        slices = [range(side) for side in source.shape]
        slices[axis] = range(start, start + size)
        _copy_slice(program, source, program.new_map(result), slices, [len(part) for part in slices])
        start += size


def split(program: Program) -> None:
    """SPLIT into equal parts."""
    op = program.op
    program.require(op.inputs[0].constant, "has an axis that is no constant")
    axis, source = int(op.inputs[0].values()[0]), op.inputs[1]
    size = source.shape[axis] // len(op.outputs)
    _parts(program, source, axis, [size] * len(op.outputs), op.outputs)


def unpack(program: Program) -> None:
    """UNPACK: parts of one, without the axis."""
    op = program.op
    _parts(program, op.inputs[0], op.options.axis, [1] * len(op.outputs), op.outputs)


def _join(program: Program, axis: int, shapes: Sequence[Sequence[int]], out: Sequence[int]) -> None:
    op = program.op
    target, start, steps = program.new_map(op.outputs[0]), 0, strides(out)
    for source, shape in zip(op.inputs, shapes, strict=True):
        emit_copy(program, source, target, shape, strides(shape), steps, 0, start * steps[axis])
        start += shape[axis]


def concatenation(program: Program) -> None:
    """CONCATENATION: each input to its place."""
    op = program.op
    program.require(op.options.fusedActivationFunction == 0, "has a fused activation")
    out = op.outputs[0].shape
    _join(program, op.options.axis % len(out), [tensor.shape for tensor in op.inputs], out)


def pack(program: Program) -> None:
    """PACK: a concatenation along a new axis."""
    op = program.op
    out = op.outputs[0].shape
    axis = op.options.axis % len(out)
    _join(program, axis, [(*one.shape[:axis], 1, *one.shape[axis:]) for one in op.inputs], out)


def pad(program: Program) -> None:
    """PAD with the zero point, PADV2 with its value."""
    op = program.op
    source, result = op.inputs[0], op.outputs[0]
    program.require(all(tensor.constant for tensor in op.inputs[1:]), "has paddings that are no constant")
    value = int(op.inputs[2].values()[0]) if len(op.inputs) > 2 else result.zero_point
    steps = strides(result.shape)
    start = sum(int(lead) * step for (lead, _), step in zip(op.inputs[1].values().reshape(-1, 2), steps, strict=True))
    fill = f"memset({{w0}}, {value}, {math.prod(result.shape)});\n  "
    target = program.new_map(result)
    form: tuple[Any, ...] = ()
    leads = op.inputs[1].values().reshape(-1, 2).tolist()
    if len(leads) == 4 and not any((*leads[0], *leads[3])):
        form = ("pad", leads[1][0], leads[2][0], source.shape[1], source.shape[2], value)
    emit_copy(program, source, target, source.shape, strides(source.shape), steps, 0, start, fill, form)


def depth_to_space(program: Program) -> None:
    """(B, H, W, b * b * C) -> (B, H * b, W * b, C)."""
    op = program.op
    batches, rows, columns, depth = op.inputs[0].shape
    block = op.options.blockSize
    inner = depth // block**2
    steps = strides((batches, rows, columns, block, block, inner))
    b, y, x, i, j, c = strides((batches, rows, block, columns, block, inner))
    emit_copy(
        program,
        op.inputs[0],
        program.new_map(op.outputs[0]),
        (batches, rows, columns, block, block, inner),
        steps,
        (b, y, i, x, j, c),
        form=("blocks", block, rows * block, columns * block),
    )


def space_to_depth(program: Program) -> None:
    """(B, H * b, W * b, C) -> (B, H, W, b * b * C)."""
    op = program.op
    batches, rows, columns, inner = op.inputs[0].shape
    block = op.options.blockSize
    sides = (batches, rows // block, block, columns // block, block, inner)
    b, y, x, i, j, c = strides((batches, rows // block, columns // block, block, block, inner))
    emit_copy(program, op.inputs[0], program.new_map(op.outputs[0]), sides, strides(sides), (b, y, i, x, j, c))


def broadcast_to(program: Program) -> None:
    """BROADCAST_TO: a step of 0 along the axes that repeat."""
    op = program.op
    out = op.outputs[0].shape
    shape = (1,) * (len(out) - len(op.inputs[0].shape)) + op.inputs[0].shape
    steps = [0 if side == 1 else step for side, step in zip(shape, strides(shape), strict=True)]
    emit_copy(program, op.inputs[0], program.new_map(op.outputs[0]), out, steps, strides(out))


def reverse(program: Program) -> None:
    """REVERSE_V2 along constant axes: negative steps."""
    op = program.op
    program.require(op.inputs[1].constant, "has axes that are no constant")
    shape = op.inputs[0].shape
    axes = {int(axis) % len(shape) for axis in op.inputs[1].values()}
    slices = [range(side - 1, -1, -1) if axis in axes else range(side) for axis, side in enumerate(shape)]
    _copy_slice(program, op.inputs[0], program.new_map(op.outputs[0]), slices, shape)


# --- by tables of places ----------------------------------------------------------------------------------------------


def _pick(program: Program, outer: int, rows: np.ndarray, columns: np.ndarray, run: int, outer_step: int) -> None:
    op = program.op
    program.emit(
        ("pick",),
        "pick(&{k}, {r0}, {w0});",
        [program.read(op.inputs[0])],
        [program.new_map(op.outputs[0])],
        struct="picking",
        fields={
            "rows": rows.astype(np.int32),
            "columns": columns.astype(np.int32),
            "outer": outer,
            "row_count": len(rows),
            "column_count": len(columns),
            "outer_step": outer_step,
            "run": run,
        },
    )


def gather(program: Program) -> None:
    """GATHER of constant indices along one axis."""
    op = program.op
    program.require(op.inputs[1].constant, "has indices that are no constant")
    program.require(not op.options.batchDims, "has batch axes")
    shape = op.inputs[0].shape
    axis = op.options.axis % len(shape)
    inner = math.prod(shape[axis + 1 :])
    indices = op.inputs[1].values().astype(np.int64)
    _pick(program, math.prod(shape[:axis]), indices * inner, np.zeros(1), inner, shape[axis] * inner)


def mirror_pad(program: Program) -> None:
    """MIRROR_PAD of two axes that lie beside each other."""
    op = program.op
    program.require(op.inputs[1].constant, "has paddings that are no constant")
    shape, pads = op.inputs[0].shape, op.inputs[1].values().reshape(-1, 2).tolist()
    padded = [axis for axis, pair in enumerate(pads) if any(pair)] or [0]
    first = min(padded[0], max(len(shape) - 2, 0))
    program.require(padded[-1] <= first + 1, "pads axes that do not lie beside each other")
    places = []
    for axis in (first, first + 1):
        side, (lead, trail) = (shape[axis], pads[axis]) if axis < len(shape) else (1, (0, 0))
        places.append(np.pad(np.arange(side), (lead, trail), "symmetric" if op.options.mode == 1 else "reflect"))
    run = math.prod(shape[first + 2 :])
    columns = shape[first + 1] if first + 1 < len(shape) else 1
    _pick(
        program, math.prod(shape[:first]), places[0] * columns * run, places[1] * run, run, shape[first] * columns * run
    )


def resize_nearest(program: Program) -> None:
    """RESIZE_NEAREST_NEIGHBOR, in single precision as the kernel finds its places."""
    op = program.op
    batches, in_h, in_w, depth = op.inputs[0].shape
    _, out_h, out_w, _ = op.outputs[0].shape
    align, half = op.options.alignCorners, np.float32(0.5 if op.options.halfPixelCenters else 0)
    places = []
    for size, out in ((in_h, out_h), (in_w, out_w)):
        corners = align and out > 1
        scale = np.float32(size - 1 if corners else size) / np.float32(out - 1 if corners else out)
        at = (np.arange(out).astype(np.float32) + half) * scale
        found = np.floor(at + np.float32(0.5)) if align else np.floor(at)
        places.append(np.clip(found, 0, size - 1).astype(np.int64))
    _pick(program, batches, places[0] * in_w * depth, places[1] * depth, depth, in_h * in_w * depth)
