"""Bounds of a candidate's device costs without converting it: the file's ops and tensors, counted by hand.

``plan`` writes down what ``export`` makes of a ``WaveMixClassifier``: which ops, which tensors, which constants. A
runtime cannot do with less memory than the tensors of one moment, nor an NPU with fewer cycles than its multipliers
need, nor a file with fewer bytes than its constants: those are the lower bounds. The upper ones add what was measured
of what lies between, with a margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from wavemix_tf.keras_internals import flatten_layers
from wavemix_tf.networks.wavemix import WaveMixClassifier

from ..graph.passes.split_strides import stride_factors
from ..targets import cmsis_nn
from ..targets.firmware import COST_KERNELS, RUNTIME_BYTES
from ..targets.table import DEVICE_COSTS, FIRMWARE_COSTS, Target

ALIGNMENT_BYTES = 16  # of the tensors in an arena
RESIZES = {"bilinear": "RESIZE_BILINEAR", "nearest": "RESIZE_NEAREST_NEIGHBOR"}
Map = tuple[int, int, int, int]  # number of a tensor, height, width, channels


@dataclass(frozen=True)
class Step:
    """One op of the file: the tensors that it reads and writes, and what it holds beside them."""

    op: str
    reads: tuple[int, ...]
    writes: int
    weights: int = 0
    channels: int = 0  # of the output of an op with weights: each has a step, a bias and a multiplier
    macs: int = 0  # taps on padding left out: hardware may skip them
    npu_macs: int = 0  # with what an NPU fills up: 32 channels of input, 16 of output, zeros between upsampled pixels
    scratch_bytes: int = 0
    again: bool = False  # constants that another op has too: the file holds them once


@dataclass
class Plan:
    """The file of a network, as far as memory and time depend on it."""

    sizes: list[int] = field(default_factory=list)  # bytes of each feature map
    steps: list[Step] = field(default_factory=list)

    def tensor(self, height: int, width: int, channels: int) -> Map:
        """A new tensor of 8-bit values."""
        self.sizes.append(height * width * channels)
        return len(self.sizes) - 1, height, width, channels

    def add(self, op: str, reads: list[Map], sides: tuple[int, int, int], **holds: Any) -> Map:
        """An op without weights."""
        written = self.tensor(*sides)
        self.steps.append(Step(op, tuple(part[0] for part in reads), written[0], **holds))
        return written

    def conv(self, x: Map, channels: int, kernel: int, stride: int = 1, same: bool = False, op: str = "CONV_2D") -> Map:
        """A convolution, depthwise too."""
        sides = [-(-side // stride) if same else (side - kernel) // stride + 1 for side in x[1:3]]
        taps = math.prod(_taps(side, kernel, stride, out) for side, out in zip(x[1:3], sides, strict=True))
        inner = 1 if op == "DEPTHWISE_CONV_2D" else x[3]
        weights = kernel * kernel * inner * channels
        # Of CMSIS-NN's kernels; the reference kernels take none.
        scratch = cmsis_nn.convolution_scratch_bytes(kernel * kernel * x[3], pointwise=kernel == stride == 1)
        if op == "DEPTHWISE_CONV_2D":
            scratch = cmsis_nn.depthwise_scratch_bytes(kernel * kernel, channels)
        filled = math.prod(sides) * kernel * kernel * (inner if inner == 1 else _filled(inner, 32)) * _filled(channels)
        return self.add(
            op,
            [x],
            (sides[0], sides[1], channels),
            weights=weights,
            channels=channels,
            macs=taps * inner * channels,
            npu_macs=filled,
            scratch_bytes=scratch,
        )

    def transposed(self, x: Map, channels: int) -> Map:
        """A transposed 4x4 convolution of stride 2."""
        sides = (2 * x[1], 2 * x[2], channels)
        # Of the four taps an axis, those at the two ends are cropped.
        macs = (4 * x[1] - 2) * (4 * x[2] - 2) * x[3] * channels
        figures = transposed_4x4((x[1], x[2]), x[3], channels)
        return self.add(
            "TRANSPOSE_CONV",
            [x],
            sides,
            weights=16 * x[3] * channels,
            channels=channels,
            macs=macs,
            npu_macs=4 * x[1] * x[2] * 16 * _filled(x[3], 32) * _filled(channels),
            scratch_bytes=max(figures.reference_scratch_bytes, figures.scratch_bytes),
        )

    def peak_bytes(self, scratch: bool = True) -> int:
        """Largest sum of tensors that are needed at one time, and of the ``scratch`` of the op then running."""
        last = {tensor: index for index, step in enumerate(self.steps) for tensor in (*step.reads, step.writes)}
        held: set[int] = {0}
        peak = 0
        for index, step in enumerate(self.steps):
            held.add(step.writes)
            maps = sum(_aligned(self.sizes[tensor]) for tensor in held)
            peak = max(peak, maps + scratch * step.scratch_bytes)
            held = {tensor for tensor in held if last[tensor] > index}
        return peak

    def total(self, name: str) -> int:
        """Sum of a field of all steps."""
        return sum(getattr(step, name) for step in self.steps)


def transposed_4x4(source: tuple[int, int], channels: int, filters: int) -> cmsis_nn.Transposed:
    """A transposed 4x4 convolution of stride 2, as WaveMix has them."""
    result = (2 * source[0], 2 * source[1])
    return cmsis_nn.Transposed((4, 4), (2, 2), source, result, same=True, channels=channels, filters=filters)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _filled(channels: int, unit: int = 16) -> int:
    return -(-channels // unit) * unit


def _taps(side: int, kernel: int, stride: int, out: int) -> int:
    """Taps along an axis that lie in the image, over all output pixels."""
    before = max(0, (out - 1) * stride + kernel - side) // 2
    return sum(min(side, index * stride - before + kernel) - max(0, index * stride - before) for index in range(out))


def plan(model: WaveMixClassifier, row: Target, form: str) -> Plan:
    """What the int8 file of ``model`` holds in an upsample form.

    Args:
        model: With known image sides.
        row: The target's row.
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
            # A pixel of zeros on every side is "same" padding where the stride fits: the converter makes it one op.
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
        if activation == "quick_gelu":  # the norm behind it cannot take the slope: a convolution of its own
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


# --- bounds -----------------------------------------------------------------------------------------------------------

# What a file holds beside its constants, at least: for an op its tables and those of the tensor it writes, for the
# weights and the bias of one theirs; and for each channel the bias, and a step and a zero point of weights and bias.
OP_TABLE_BYTES, WEIGHTS_TABLE_BYTES = 112, 100
CHANNEL_BYTES = 4 + 2 * (4 + 8)
# At most: measured 204 to 407 bytes an op over 45 networks of width 4 to 32, depth 1 to 8 and side 8 to 32.
OP_BYTES_HIGH, FILE_BYTES_HIGH = 340, 4608
# What TensorFlow Lite Micro keeps in the arena beside feature maps, at least: a node for an op, the short form of a
# tensor, and the multiplier and shift of a channel. At most: measured 199 to 448 bytes an op over those networks, where
# the planner left up to 7 % of the feature maps' peak unused.
NODE_BYTES, TENSOR_BYTES, MULTIPLIER_BYTES = 64, 24, 8
NODE_BYTES_HIGH, ARENA_BYTES_HIGH, ARENA_SLACK = 400, 4096, 1.15
NPU_CHANNEL_BYTES = 10  # of bias and scale, in every Ethos-U's format


def bounds(model: Any, target: str, row: Target, accelerator: str | None) -> dict[str, tuple[float, float]]:
    """(low, high) of each cost that a target has; see ``DeviceCosts.bounds``.

    Args:
        model: Functional Keras model.
        target: Key of ``DEVICE_COSTS``.
        row: Its row of ``TARGETS``.
        accelerator: Of an Ethos-U.
    """
    found = dict.fromkeys((*DEVICE_COSTS[target], *FIRMWARE_COSTS.get(target, ())), (0.0, math.inf))
    if type(model) is not WaveMixClassifier or model.block != "wavemix" or None in model.image_shape:
        for name in ("flash_bytes", "file_bytes"):
            if name in found and row.npu is None:
                found[name] = (float(_constants(model)), math.inf)
        return found | (_firmware(found["flash_bytes"]) if target in FIRMWARE_COSTS else {})
    forms = row.upsample_forms if model.upsample == "deconv" else row.upsample_forms[:1]
    if len(forms) > 1 and not transposed_4x4((1, 1), model.ff_dim or model.width, model.width).rows_aligned:
        forms = tuple(form for form in forms if form != "transposed_conv")  # which the audit refuses
    plans = [plan(model, row, form) for form in forms]
    if row.npu is not None:
        return found | _npu_bounds(plans[0], int(str(accelerator).rsplit("-", 1)[1]))
    sizes = [_file_bytes(made, len(model.name)) for made in plans]
    size = (min(low for low, _ in sizes), max(high for _, high in sizes))  # which form it will be is not known
    if "arena_bytes" in found:
        arenas = [_arena_bytes(made) for made in plans]
        arena = (min(low for low, _ in arenas), min(high for _, high in arenas))
        return {"arena_bytes": arena, "flash_bytes": size, **_firmware(size)}
    # Names of inner tensors stay: paths through the model, of up to three layers each.
    names = 9 * (len(model.name) + 50) * len(plans[0].steps)
    return found | {"file_bytes": (size[0], size[1] + names)}


def _firmware(file: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """Bounds of whole firmware from those of its file."""
    return {
        name: (file[0] + RUNTIME_BYTES[kernels][1], file[1] + RUNTIME_BYTES[kernels][1])
        for name, kernels in COST_KERNELS.items()
    }


def _constants(model: Any) -> int:
    """Bytes of the weights and biases that the file of any network must hold."""
    total = 0
    for layer in flatten_layers(model, include_self=False):
        if type(layer).__name__ in ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense") and layer.built:
            total += math.prod(layer.kernel.shape)
            total += 4 * math.prod(layer.bias.shape) if layer.use_bias else 0
    return total


def _file_bytes(made: Plan, name: int) -> tuple[float, float]:
    own = [step for step in made.steps if step.weights and not step.again]
    constants = sum(step.weights + CHANNEL_BYTES * step.channels for step in own)
    weighted = len(own)
    low = constants + OP_TABLE_BYTES * len(made.steps) + WEIGHTS_TABLE_BYTES * weighted
    constants = made.total("weights") + CHANNEL_BYTES * made.total("channels")
    return float(low), float(constants + OP_BYTES_HIGH * len(made.steps) + FILE_BYTES_HIGH + 6 * name)


def _arena_bytes(made: Plan) -> tuple[float, float]:
    ops, peak = len(made.steps), made.peak_bytes()
    channels = MULTIPLIER_BYTES * made.total("channels")
    tensors = len(made.sizes) + 2 * sum(step.weights > 0 for step in made.steps)
    low = peak + channels + NODE_BYTES * ops + TENSOR_BYTES * tensors
    return float(low), float(ARENA_SLACK * peak + channels + NODE_BYTES_HIGH * ops + ARENA_BYTES_HIGH)


def _npu_bounds(made: Plan, macs_per_cycle: int) -> dict[str, tuple[float, float]]:
    """The upper bounds are twice a fit to what Vela said of 37 networks for an Ethos-U55 of 32 and of 256 multipliers.

    Widened until they held for nine networks and every Ethos-U65 and Ethos-U85 too: the large ones fill small networks'
    weights up with zeros, and take some thousand cycles for anything.
    """
    ops, weights, channels = len(made.steps), made.total("weights"), made.total("channels")
    maps = sum(made.sizes[step.writes] for step in made.steps)
    resized = sum(made.sizes[step.writes] for step in made.steps if step.op.startswith("RESIZE"))
    cycles = 0.25 * made.total("npu_macs") / macs_per_cycle + 0.9 * weights + 120 * ops + 4000
    cycles += 0.5 * maps * (1 + 256 / macs_per_cycle) + resized
    return {
        "npu_cycles": (made.total("macs") // macs_per_cycle, 2 * cycles),
        "sram_bytes": (float(made.sizes[0]), 2.4 * made.peak_bytes(scratch=False) + 8192),
        "flash_bytes": (
            float(NPU_CHANNEL_BYTES * channels),
            1.6 * weights + 24 * channels + 600 * ops + 4096,
        ),
    }
