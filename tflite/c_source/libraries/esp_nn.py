"""ESP-NN's calls, for the ESP32-S3 and P4. Checked with revision d45b843c (April 2026), its plain C alone.

The assembly of the S3 and the P4 was not run. Its sources decide which forms are left to it: those whose padding they
make themselves, with buffers of 16-byte alignment.
"""

from __future__ import annotations

from dataclasses import replace

from ..program import Fields, Step
from . import layers

PIXELS = 8  # that its matrix product takes at a time
KERNELS_ALIGNMENT = 16


def translate(step: Step) -> Step | None:
    """The same step by ESP-NN; None: the generator's own kernel computes it."""
    if step.struct == "convolution":
        return _convolution(step)
    for kernel in ("add", "multiply"):
        if step.struct == "binary" and kernel in step.kernels:
            made = layers.pair(step, f"{kernel}_by_library")
            if made is None or made.fields["shift"] > 0:
                return None
            return replace(made, kernels=("apply_table", "library_binary", f"esp_nn_{kernel}"), channels=None)
    return None


def _convolution(step: Step) -> Step | None:
    fields = step.fields
    plain = fields["groups"] == fields["dilation_h"] == fields["dilation_w"] == fields["batches"] == 1
    if not plain or not layers.is_small(fields) or fields["out_h"] * fields["out_w"] < PIXELS:
        return None
    if not _pads_itself(fields):
        return None
    made = layers.convolution(step, buffer_bytes(fields))
    kernels = ("blocks", "library", "apply_table", "spread", "esp_nn_convolution", "library_convolution")
    return replace(made, kernels=kernels, channels=None)


def _overhang(fields: Fields, axis: str) -> int:
    """Rows or columns beyond the last that windows reach."""
    last = (fields[f"out_{axis}"] - 1) * fields[f"stride_{axis}"] + fields[f"kernel_{axis}"] - fields[f"pad_{axis}"]
    return max(last - fields[f"in_{axis}"], 0)


def _pads_itself(fields: Fields) -> bool:
    """Where it pads before the map, it pads as much behind it, on both axes; 1x1 filters it never pads."""
    if fields["pad_h"] == fields["pad_w"] == 0:
        return fields["kernel_h"] * fields["kernel_w"] > 1 or not any(_overhang(fields, axis) for axis in "hw")
    return fields["kernel_h"] * fields["kernel_w"] > 1 and all(
        _overhang(fields, axis) <= fields[f"pad_{axis}"] for axis in "hw"
    )


def buffer_bytes(fields: Fields) -> int:
    """At least what ``esp_nn_get_conv_scratch_size`` of the S3 and of the P4 return."""
    rows, columns, depth, outputs = fields["in_h"], fields["in_w"], fields["in_c"], fields["group_out"]
    taps = fields["kernel_h"] * fields["kernel_w"]
    wide = -(-depth // 16) * 16
    padded_h = max(rows + 2 * fields["pad_h"], fields["out_h"] * fields["stride_h"] + fields["kernel_h"])
    padded_w = max(columns + 2 * fields["pad_w"], fields["out_w"] * fields["stride_w"] + fields["kernel_w"])
    if taps == fields["stride_h"] == fields["stride_w"] == 1:  # pixels and filters of whole vectors, a transposition
        return rows * columns * wide + wide * outputs + 16 * wide + 4 * outputs + 16 * outputs + 128
    row = -(-fields["kernel_w"] * depth // 16) * 16 * fields["kernel_h"]  # of a filter, its rows aligned
    window = -(-taps * depth // 16) * 16
    maps = 2 * padded_h * padded_w * wide  # padded at all sides; padded behind
    return maps + (taps * wide + row + window) * outputs + window + 4 * outputs + 128
