"""Layers as libraries take them: weights in their own order, the bias without the input's zero point."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..ops.channels import in_order
from ..program import Fields, Step

INT16_SIDES = 1 << 15  # libraries keep sides in 16 bits
ALMOST_ONE = (1 << 31) - 1
HALF = (1 << 30, 0)  # multiplier, shift


def convolution(step: Step, buffer_bytes: int, rows: int | None = None) -> Step:
    """A step of kernels/convolution.c as one of library_convolution.c.

    Args:
        step: As the generator wrote it.
        buffer_bytes: Of the library.
        rows: Of the output that a call computes where its pixels are placed afterwards; None: all.
    """
    fields = step.fields
    outputs, groups = fields["groups"] * fields["group_out"], fields["groups"]
    parts = np.split(fields["c"]["weights"], groups)
    weights = np.concatenate([in_order(part, fields["group_out"]) for part in parts])
    placed = is_placed(fields)
    rows = min(rows or fields["out_h"], fields["out_h"]) if placed else fields["out_h"]
    return replace(
        step,
        call=step.call.replace("convolve(", "convolve_by_library("),
        struct="layer",
        fields={
            **_channels(fields["c"], weights, weights.ravel(), fields["pad_value"]),
            **{name: fields[name] for name in ("batches", "in_h", "in_w", "in_c", "out_h", "out_w")},
            "out_c": outputs,
            **_window(fields, fields["group_in"]),
            "rows": rows,
            "placed": int(placed),
            **{name: fields[name] for name in ("out_batch", "out_row", "out_pixel")},
            "b": dict(fields["b"]),
            "buffer_bytes": _aligned(buffer_bytes),
        },
        scratch_bytes=_aligned(buffer_bytes) + (rows * fields["out_w"] * outputs if placed else 0),
    )


def depthwise(step: Step, buffer_bytes: int) -> Step:
    """A step of kernels/depthwise.c as one of ``filter_by_library``."""
    fields = step.fields
    depth = fields["depth"]
    weights = in_order(fields["c"]["weights"], depth, whole=False)
    return replace(
        step,
        call="filter_by_library(&{k}, {r0}, {w0}, {scratch});",
        struct="layer",
        fields={
            **_channels(fields["c"], weights, weights.T.ravel(), fields["pad_value"]),
            **{name: fields[name] for name in ("batches", "in_h", "in_w")},
            "in_c": depth,
            "out_h": fields["out_h"],
            "out_w": fields["out_w"],
            "out_c": depth,
            **_window(fields, 1),
            "rows": fields["out_h"],
            "placed": 0,
            "out_batch": fields["out_h"] * fields["out_w"] * depth,
            "out_row": 0,
            "out_pixel": 0,
            "b": dict.fromkeys(("block", "crop_h", "crop_w", "shown_h", "shown_w"), 0),
            "buffer_bytes": _aligned(buffer_bytes),
        },
        scratch_bytes=_aligned(buffer_bytes),
    )


def pair(step: Step, function: str) -> Step | None:
    """A step of two maps of one shape as one of library_binary.c; None where a side repeats."""
    fields = step.fields
    if fields["sides"][:3] != [1, 1, 1] or fields["a_steps"][3] != 1 or fields["b_steps"][3] != 1:
        return None
    a, b = (0, 0), (fields["b_multiplier"], fields["b_shift"])
    if function == "add_by_library":  # the first has the larger scale: that of the sum, halved
        a, b = HALF, HALF if b == (ALMOST_ONE, -1) else b
    return replace(
        step,
        call=f"{function}(&{{k}}, {{r0}}, {{r1}}, {{w0}});",
        struct="pair",
        fields={
            "count": fields["sides"][3],
            "a_zero": fields["a_zero"],
            "a_multiplier": a[0],
            "a_shift": a[1],
            "b_zero": fields["b_zero"],
            "b_multiplier": b[0],
            "b_shift": b[1],
            **{name: fields[name] for name in ("zero", "multiplier", "shift", "table")},
        },
    )


def is_placed(fields: Fields) -> bool:
    """Whether the pixels that a convolution computes do not lie beside each other."""
    outputs = fields["groups"] * fields["group_out"]
    return (
        fields["b"]["block"] > 1
        or fields["out_pixel"] != outputs
        or (fields["out_row"] != fields["out_w"] * outputs and fields["out_h"] > 1)
    )


def is_small(fields: Fields) -> bool:
    """Whether every side fits the library's integers."""
    sides = ("in_h", "in_w", "in_c", "depth", "out_h", "out_w", "kernel_h", "kernel_w", "pad_h", "pad_w")
    taps = fields["kernel_h"] * fields["kernel_w"] * fields.get("group_in", 1)
    outputs = fields["groups"] * fields["group_out"] if "groups" in fields else 0
    return max(taps, outputs, *(fields[name] for name in sides if name in fields)) < INT16_SIDES


def rows_reach(fields: Fields, axis: str = "h") -> bool:
    """Whether every window lies at least partly inside its map."""
    last = (fields[f"out_{axis}"] - 1) * fields[f"stride_{axis}"] - fields[f"pad_{axis}"]
    reach = (fields[f"kernel_{axis}"] - 1) * fields[f"dilation_{axis}"]
    return reach >= fields[f"pad_{axis}"] and last < fields[f"in_{axis}"]


def _channels(channels: Fields, weights: np.ndarray, flat: np.ndarray, in_zero: int) -> dict[str, Any]:
    folded = channels["bias"][: len(weights)].astype(np.int64) + in_zero * weights.sum(1, dtype=np.int64)
    return {
        "weights": flat,
        "bias": ((folded + (1 << 31)) % (1 << 32) - (1 << 31)).astype(np.int32),
        "multiplier": channels["multiplier"],
        "shift": channels["shift"].astype(np.int32),
        "table": channels["table"],
        "in_zero": in_zero,
        "zero": channels["zero"],
    }


def _window(fields: Fields, depth: int) -> dict[str, Any]:
    names = ("stride_h", "stride_w", "dilation_h", "dilation_w", "pad_h", "pad_w")
    return {
        "kernel_h": fields["kernel_h"],
        "kernel_w": fields["kernel_w"],
        "kernel_c": depth,
        **{name: fields[name] for name in names},
    }


def _aligned(size: int) -> int:
    return -(-size // 16) * 16
