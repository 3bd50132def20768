"""CMSIS-NN's calls: which steps of a program it computes as fast and as exactly.

Checked with revision 99f736a6 (July 2026). Transposed convolutions are convolutions here, one for each place within a
stride: ``arm_transpose_conv_s8``, which releases up to 7.0.0 compute wrongly, is never called.
"""

from __future__ import annotations

from dataclasses import replace

from ...targets.cmsis_nn import convolution_scratch_bytes, depthwise_scratch_bytes
from ..program import Fields, Step
from . import layers

LAYER = ("blocks", "library", "apply_table", "cmsis_nn")
WIDE_CHANNELS = 48
GROUP_CHANNELS = 4  # from so many input channels a group on


def translate(step: Step) -> Step | None:
    """For cores without Helium: wide products of matrices. The generator's other kernels take fewer instructions.

    Counted on an emulated Cortex-M4 with DSP (docs/targets.md).
    """
    if step.struct == "convolution" and _is_pointwise(step.fields) and step.fields["group_in"] >= WIDE_CHANNELS:
        return _convolution(step)
    return None


def translate_helium(step: Step) -> Step | None:
    """The same step by CMSIS-NN; None: the generator's own kernel computes it.

    The buffer is the largest that CMSIS-NN asks for in its plain, DSP and Helium builds.
    """
    if step.struct == "convolution":
        return _convolution(step)
    if step.struct == "depthwise":
        return _depthwise(step)
    if step.struct == "pooling":
        return _pool(step)
    if step.struct == "binary" and "add" in step.kernels:
        return _pair(step, "add")
    if step.struct == "binary" and "multiply" in step.kernels:
        return _pair(step, "multiply")
    return None


def _convolution(step: Step) -> Step | None:
    fields = step.fields
    if not layers.is_small(fields) or not layers.rows_reach(fields) or not layers.rows_reach(fields, "w"):
        return None
    if fields["groups"] > 1 and fields["group_in"] < GROUP_CHANNELS:
        return None
    pointwise = _is_pointwise(fields)
    if not pointwise and _is_one_row(fields):
        return None
    taps = fields["kernel_h"] * fields["kernel_w"] * fields["group_in"]
    made = layers.convolution(step, convolution_scratch_bytes(taps, pointwise), rows=1)
    return replace(made, kernels=(*LAYER, "spread", "cmsis_nn_convolution", "library_convolution"), channels=None)


def _is_pointwise(fields: Fields) -> bool:
    """What runs as a product of matrices."""
    steps = ("kernel_h", "kernel_w", "dilation_h", "dilation_w", "groups")
    return all(fields[name] == 1 for name in steps) and fields["pad_h"] == fields["pad_w"] == 0


def _is_one_row(fields: Fields) -> bool:
    """What runs as ``arm_convolve_1_x_n_s8``, which on Helium refuses some paddings."""
    return bool(fields["kernel_h"] == 1 and (fields["in_h"] == 1 or layers.is_placed(fields)))


def _depthwise(step: Step) -> Step | None:
    fields = step.fields
    if not layers.is_small(fields) or not layers.rows_reach(fields) or not layers.rows_reach(fields, "w"):
        return None
    taps = fields["kernel_h"] * fields["kernel_w"]
    made = layers.depthwise(step, depthwise_scratch_bytes(taps, fields["depth"]))
    return replace(made, kernels=(*LAYER, "cmsis_nn_depthwise"), channels=None, in_place=())


def _pool(step: Step) -> Step:
    average = "average_pool" in step.kernels
    function = "arm_avgpool_s8" if average else "arm_max_pool_s8"
    return replace(
        step,
        kernels=("pool", "cmsis_nn", "cmsis_nn_pool"),
        call=f"pool_by_library(&{{k}}, {function}, {{r0}}, {{w0}}, {{scratch}});",
        scratch_bytes=4 * step.fields["depth"] if average else 0,
    )


def _pair(step: Step, kernel: str) -> Step | None:
    made = layers.pair(step, f"{kernel}_by_library")
    if made is None:
        return None
    return replace(made, kernels=("apply_table", "library_binary", "cmsis_nn", f"cmsis_nn_{kernel}"), channels=None)
