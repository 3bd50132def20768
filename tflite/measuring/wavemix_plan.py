"""The plan of a ``WaveMixClassifier`` from its arguments only, for searches over thousands of networks.

``graph_plan`` reads the plan of any network from its lowered graph, which takes a hundred times as long; a test checks
that both are equal.
"""

from __future__ import annotations

from dataclasses import replace

from wavemix_tf.networks.wavemix import WaveMixClassifier

from ..graph.passes.split_strides import stride_factors
from ..targets.table import Target
from .file_plan import Map, Plan

RESIZES = {"bilinear": "RESIZE_BILINEAR", "nearest": "RESIZE_NEAREST_NEIGHBOR"}


def wavemix_plan(model: WaveMixClassifier, row: Target, form: str) -> Plan:
    """Content of the int8 file of ``model`` in an upsample form.

    Args:
        model: With known image sides.
        row: Row of the target.
        form: "transposed_conv" or "subpixel_crop".
    """
    made = Plan()
    height, across, colours = model.image_shape
    x = made.tensor(int(height or 0), int(across or 0), int(colours or 0))
    if model.normalize is not None:
        x = made.conv(x, x[3], 1, op="DEPTHWISE_CONV_2D")
    activation = str(row.substitutes.get(model.activation, model.activation))
    if model.stem == "strided":
        for filters in (model.width // 2, model.width):
            # A zero pixel on every side is "same" padding where the stride fits: the converter merges it.
            same = all((side - 1) % model.stride == 0 for side in x[1:3])
            if not same:
                x = made.add("PAD", [x], (x[1] + 2, x[2] + 2, x[3]))
            x = made.conv(x, filters, 3, model.stride, same=same)
    else:
        x = made.conv(x, model.width // 4, 3, same=True)
        x = made.conv(x, model.width // 2, 3, same=True)
        stride, *drops = stride_factors(model.patch_size, row.max_stride or model.patch_size) or [model.patch_size]
        x = made.conv(x, model.width, model.patch_size, stride)
        for drop in drops:
            x = made.add("MAX_POOL_2D", [x], (-(-x[1] // drop), -(-x[2] // drop), x[3]))
        gate = x
        if activation == "quick_gelu":  # the norm after it cannot absorb the slope: a separate convolution
            gate = made.conv(x, x[3], 1, op="DEPTHWISE_CONV_2D")
        x = _activate(made, x, activation, gate)
        x = made.conv(x, x[3], 1, op="DEPTHWISE_CONV_2D")  # that norm
    for index in range(model.depth):
        x = _block(made, x, model, activation, form)
        if index == 0:
            first = len(made.steps)
    for index in range(first, len(made.steps)):
        if made.steps[index].op == "DEPTHWISE_CONV_2D":  # the low-pass filters of every block are the same
            made.steps[index] = replace(made.steps[index], again=True)
    x = made.add("MEAN", [x], (1, 1, x[3]))
    made.add(
        "FULLY_CONNECTED",
        [x],
        (1, 1, model.num_classes),
        weights=x[3] * model.num_classes,
        channels=model.num_classes,
        macs=x[3] * model.num_classes,
    )
    return made


def _block(made: Plan, x: Map, model: WaveMixClassifier, activation: str, form: str) -> Map:
    width, levels = model.width, model.levels
    sides = [-(-side // 2**levels) * 2**levels for side in x[1:3]]
    padded = sides != [*x[1:3]]
    y = made.add("PAD", [x], (sides[0], sides[1], width)) if padded else x
    approximation, expanded = made.conv(y, width // 4, 1), []
    for level in range(levels):  # the order that the converter gives them
        if level:
            approximation = made.conv(approximation, width // 4, 2, 2, op="DEPTHWISE_CONV_2D")
        expanded.append(made.conv(approximation, model.expansion * width, 2, 2))
    up: Map | None = None
    for level in range(levels, 0, -1):
        out, hidden = width if level == 1 else width // 2, expanded[level - 1]
        if up is not None:
            hidden = made.add("ADD", [hidden, made.conv(up, model.expansion * width, 1)], hidden[1:])
        hidden = _activate(made, hidden, activation)
        weighted = model.upsample in ("deconv", "pixel_shuffle")
        if model.upsample != "pixel_shuffle_conv":
            hidden = made.conv(hidden, (model.ff_dim or width) if weighted else out, 1)
        elif model.ff_dim:
            hidden = made.conv(hidden, model.ff_dim, 1)
        up = _upsample(made, hidden, out, model, form)
    assert up is not None
    if padded:
        up = made.add("STRIDED_SLICE", [up], x[1:])
    return made.add("ADD", [x, up], x[1:])


def _activate(made: Plan, x: Map, activation: str, gate: Map | None = None) -> Map:
    if activation == "relu6":
        return x  # fused
    if activation == "quick_gelu":
        return made.add("MUL", [x, made.add("LOGISTIC", [gate or x], x[1:])], x[1:])
    return made.add(activation.upper(), [x], x[1:])


def _upsample(made: Plan, x: Map, channels: int, model: WaveMixClassifier, form: str) -> Map:
    sides = (2 * x[1], 2 * x[2], channels)
    if model.upsample == "pixel_shuffle":
        return made.add("DEPTH_TO_SPACE", [made.conv(x, 4 * channels, 1)], sides)
    if model.upsample == "pixel_shuffle_conv":
        return made.conv(made.add("DEPTH_TO_SPACE", [x], (*sides[:2], x[3] // 4)), channels, 3, same=True)
    if model.upsample != "deconv":
        return made.add(RESIZES[model.upsample], [x], sides)
    if form == "transposed_conv":
        return made.transposed(x, channels)
    x = made.conv(made.add("PAD", [x], (x[1] + 2, x[2] + 2, x[3])), 4 * channels, 2)
    x = made.add("DEPTH_TO_SPACE", [x], (2 * x[1], 2 * x[2], channels))
    return made.add("STRIDED_SLICE", [x], sides)
