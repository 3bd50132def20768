"""Convolutions and dense layers: what they pass to kernels/convolution.c and depthwise.c."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..program import REQUANTIZE, Fields, Program
from .channels import channel_fields, check_weights, same_padding

ENDS = ("saturate", *REQUANTIZE, "channels")
KERNELS = (*ENDS, "blocks", "spread", "convolution", "convolve_separately", "convolve_pairs")
PIXELS = 2  # that it computes at a time
CALL = "convolve(&{k}, {r0}, {w0}, {scratch});"


def conv_2d(program: Program) -> None:
    """Of any groups and dilation."""
    op = program.op
    source, kernel = op.inputs[0], op.inputs[1]
    check_weights(program, kernel, source)
    outputs, rows, columns, depth = kernel.shape
    groups = source.shape[3] // depth
    weights = kernel.values().reshape(outputs, -1)
    bias = op.inputs[2].values() if len(op.inputs) > 2 else None
    channels = channel_fields(program, weights, kernel, source, bias, groups)
    options = op.options
    _emit_convolution(
        program,
        channels,
        window(program, rows, columns, (options.dilationHFactor, options.dilationWFactor)),
        groups,
        outputs,
    )


def window(program: Program, rows: int, columns: int, dilation: tuple[int, int]) -> Fields:
    """Sizes, steps and padding of a convolution, in the order of the structs."""
    op = program.op
    source, result, options = op.inputs[0], op.outputs[0], op.options
    _, in_h, in_w, _ = source.shape
    _, out_h, out_w, _ = result.shape
    return {
        "out_h": out_h,
        "out_w": out_w,
        "kernel_h": rows,
        "kernel_w": columns,
        "stride_h": options.strideH,
        "stride_w": options.strideW,
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        "pad_h": same_padding(in_h, out_h, rows, options.strideH, dilation[0]) if options.padding == 0 else 0,
        "pad_w": same_padding(in_w, out_w, columns, options.strideW, dilation[1]) if options.padding == 0 else 0,
        "pad_value": source.zero_point,
    }


def _emit_convolution(
    program: Program, channels: Fields, steps: Fields, groups: int, outputs: int, **placement: Any
) -> None:
    op = program.op
    source = op.inputs[2] if op.name == "TRANSPOSE_CONV" else op.inputs[0]
    batches, in_h, in_w, in_c = placement.pop("in_shape", source.shape)
    out_batch = math.prod(op.outputs[0].shape) // batches
    fields: Fields = {
        "c": channels,
        "batches": batches,
        "in_h": in_h,
        "in_w": in_w,
        "in_c": in_c,
        **steps,
        "groups": groups,
        "group_in": in_c // groups,
        "group_out": outputs // groups,
        "group_weights": len(channels["weights"]) // groups,
        "out_batch": out_batch,
        "out_row": placement.get("out_row", steps["out_w"] * outputs),
        "out_pixel": placement.get("out_pixel", outputs),
        "b": {"block": 1, "crop_h": 0, "crop_w": 0, "shown_h": 0, "shown_w": 0},
    }
    start = placement.get("start", 0)
    program.emit(
        KERNELS,
        CALL if not start else CALL.replace("{w0}", f"{{w0}} + {start}"),
        [program.read(source)],
        [program.key(op.outputs[0]) if placement else program.new_map(op.outputs[0])],
        struct="convolution",
        fields=fields,
        scratch_bytes=window_bytes(steps["kernel_h"] * steps["kernel_w"] * (in_c // groups)),
        channels=channels,
    )


def window_bytes(taps: int) -> int:
    """Of the windows that kernels/convolution.c lays out: two pixels are one number of 32 bits."""
    return 4 * taps


def _reaches_out(steps: Fields, size: int, axis: str) -> bool:
    last = (steps[f"out_{axis}"] - 1) * steps[f"stride_{axis}"] - steps[f"pad_{axis}"]
    return steps[f"pad_{axis}"] > 0 or last + (steps[f"kernel_{axis}"] - 1) * steps[f"dilation_{axis}"] >= size


def fully_connected(program: Program) -> None:
    """A 1x1 convolution over its rows."""
    op = program.op
    source, kernel = op.inputs[0], op.inputs[1]
    check_weights(program, kernel, source)
    program.require(op.options.weightsFormat == 0, "has shuffled weights")
    outputs, depth = kernel.shape
    bias = op.inputs[2].values() if len(op.inputs) > 2 else None
    rows = math.prod(source.shape) // depth
    steps = dict.fromkeys(("out_h", "out_w", "kernel_h", "kernel_w", "stride_h", "stride_w"), 1)
    steps.update(dilation_h=1, dilation_w=1, pad_h=0, pad_w=0, pad_value=source.zero_point, out_w=rows)
    channels = channel_fields(program, kernel.values().reshape(outputs, depth), kernel, source, bias)
    program.new_map(op.outputs[0])
    _emit_convolution(program, channels, steps, 1, outputs, in_shape=(1, 1, rows, depth), start=0)


def depthwise_conv_2d(program: Program) -> None:
    """One filter a channel by its own kernel; several as a convolution of as many groups as channels."""
    op = program.op
    source, kernel = op.inputs[0], op.inputs[1]
    check_weights(program, kernel, source)
    _, rows, columns, outputs = kernel.shape
    depth = source.shape[3]
    weights = kernel.values().reshape(rows * columns, outputs).T
    bias = op.inputs[2].values() if len(op.inputs) > 2 else None
    options = op.options
    steps = window(program, rows, columns, (options.dilationHFactor, options.dilationWFactor))
    if outputs != depth:
        _emit_convolution(program, channel_fields(program, weights, kernel, source, bias, depth), steps, depth, outputs)
        return
    channels = channel_fields(program, weights, kernel, source, bias, whole=False)
    batches, in_h, in_w, _ = source.shape
    one_tap = rows == columns == options.strideH == options.strideW == 1
    kernels, call = (
        (
            ("saturate", "scale", "round_shift", "channels", "filters", "depthwise_1x1"),
            "filter_points(&{k}, {r0}, {w0});",
        )
        if one_tap
        else ((*ENDS, "finish", "filters", "depthwise"), "filter_depthwise(&{k}, {r0}, {w0}, {scratch});")
    )
    program.emit(
        kernels,
        call,
        [program.read(source)],
        [program.new_map(op.outputs[0])],
        struct="depthwise",
        fields={"c": channels, "batches": batches, "in_h": in_h, "in_w": in_w, "depth": depth, **steps},
        scratch_bytes=rows * columns * depth if _reaches_out(steps, in_h, "h") or _reaches_out(steps, in_w, "w") else 0,
        in_place=(0,) if one_tap else (),
        channels=channels,
    )


def transpose_conv(program: Program) -> None:
    """One convolution for each place of an output pixel within a stride, of the weights that reach it.

    Output row ``stride * q + r`` gets ``kernel[t + stride * j] * input[q + base - j]`` where
    ``r + padding = stride * base + t``.
    """
    op = program.op
    kernel, source = op.inputs[1], op.inputs[2]
    check_weights(program, kernel, source)
    outputs, rows, columns, depth = kernel.shape
    _, out_h, out_w, _ = op.outputs[0].shape
    bias = op.inputs[3].values() if len(op.inputs) > 3 else None
    options, weights = op.options, kernel.values().reshape(kernel.shape)
    program.new_map(op.outputs[0])
    sides = (
        (options.strideH, rows, out_h),
        (options.strideW, columns, out_w),
    )
    for r_y in range(min(options.strideH, out_h)):
        for r_x in range(min(options.strideW, out_w)):
            parts = []
            for (stride, size, out), r in zip(sides, (r_y, r_x), strict=True):
                small = -(-out // stride) if options.padding == 0 else (out - size + stride) // stride
                base, t = divmod(r + (same_padding(out, small, size, stride) if options.padding == 0 else 0), stride)
                taps = list(range(t, size, stride))[::-1]
                parts.append((taps, len(taps) - 1 - base if taps else 0, -(-(out - r) // stride)))
            (taps_y, pad_y, count_y), (taps_x, pad_x, count_x) = parts
            if taps_y and taps_x:
                part = weights[:, taps_y][:, :, taps_x]
            else:  # nothing reaches these pixels: the bias alone
                part, pad_y, pad_x = np.zeros((outputs, 1, 1, depth), np.int8), 0, 0
            channels = channel_fields(program, part.reshape(outputs, -1), kernel, source, bias)
            steps: Fields = {
                "out_h": count_y,
                "out_w": count_x,
                "kernel_h": part.shape[1],
                "kernel_w": part.shape[2],
                "stride_h": 1,
                "stride_w": 1,
                "dilation_h": 1,
                "dilation_w": 1,
                "pad_h": pad_y,
                "pad_w": pad_x,
                "pad_value": source.zero_point,
            }
            _emit_convolution(
                program,
                channels,
                steps,
                1,
                outputs,
                out_row=options.strideH * out_w * outputs,
                out_pixel=options.strideW * outputs,
                start=(r_y * out_w + r_x) * outputs,
            )
