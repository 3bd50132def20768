"""Bounds of a candidate's device costs without converting it: the file's ops and tensors, counted.

A runtime cannot do with less memory than the tensors of one moment, nor an NPU with fewer cycles than its multipliers
need, nor a file with fewer bytes than its constants: those are the lower bounds. They hold for any network, whose plan
``graph_plan`` reads from its lowered graph. The upper ones add what was measured of what lies between, with a margin;
they are for a ``WaveMixClassifier``, whose plan ``wavemix_plan`` knows without a graph.
"""

from __future__ import annotations

import math
from typing import Any

from wavemix_tf.keras_internals import flatten_layers
from wavemix_tf.networks.wavemix import WaveMixClassifier

from ..errors import ExportError
from ..graph.layer_kinds import WEIGHTED
from ..names import ARENA_BYTES, FILE_BYTES, FLASH_BYTES, NPU_CYCLES, SRAM_BYTES
from ..targets.firmware import COST_KERNELS, RUNTIME_BYTES
from ..targets.table import DEVICE_COSTS, FIRMWARE_COSTS, Target
from .graph_plan import graph_plans
from .plans import Plan, transposed_4x4
from .wavemix_plan import wavemix_plan

# What a file holds beside its constants, at least: for an op its tables and those of the tensor it writes, for the
# weights and the bias of one theirs; and for each channel the bias, and a step and a zero point of weights and bias.
OP_TABLE_BYTES, WEIGHTS_TABLE_BYTES = 112, 100
STEP_BYTES = 4 + 8
CHANNEL_BYTES = 4 + 2 * STEP_BYTES
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
    macs_per_cycle = 0 if row.npu is None else int(str(accelerator).rsplit("-", 1)[1])
    if type(model) is WaveMixClassifier and model.block == "wavemix" and None not in model.image_shape:
        return found | _wavemix_bounds(model, row, macs_per_cycle, tuple(found))
    return found | _lower_bounds(model, row, macs_per_cycle, tuple(found))


def _wavemix_bounds(
    model: WaveMixClassifier, row: Target, macs_per_cycle: int, names: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """Of the network whose plan needs no graph."""
    forms = row.upsample_forms if model.upsample == "deconv" else row.upsample_forms[:1]
    if len(forms) > 1 and not transposed_4x4((1, 1), model.ff_dim or model.width, model.width).rows_aligned:
        forms = tuple(form for form in forms if form != "transposed_conv")  # which the audit refuses
    plans = [wavemix_plan(model, row, form) for form in forms]
    if NPU_CYCLES in names:
        return _npu_bounds(plans[0], macs_per_cycle)
    # Which form it will be is not known.
    size = (min(map(_least_file_bytes, plans)), max(_most_file_bytes(made, len(model.name)) for made in plans))
    if ARENA_BYTES in names:
        peaks = [made.peak_bytes() for made in plans]
        low = min(map(_least_arena_bytes, plans, peaks))
        return {ARENA_BYTES: (low, min(map(_most_arena_bytes, plans, peaks))), FLASH_BYTES: size, **_firmware(size)}
    # Names of inner tensors stay: paths through the model, of up to three layers each.
    tensor_names = 9 * (len(model.name) + 50) * len(plans[0].steps)
    return {FILE_BYTES: (size[0], size[1] + tensor_names)}


def _lower_bounds(
    model: Any, row: Target, macs_per_cycle: int, names: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """Of any network, whose ops were never measured: infinite upper bounds."""
    try:
        plans = graph_plans(model, row)
    except ExportError:  # what it is refused for, who measures it is told
        plans = []
    if NPU_CYCLES in names:
        return {
            name: (low, math.inf) for name, (low, _) in (_npu_bounds(plans[0], macs_per_cycle) if plans else {}).items()
        }
    size = (min(map(_least_file_bytes, plans), default=float(_constants(model))), math.inf)
    if ARENA_BYTES in names:
        low = min((_least_arena_bytes(made, made.least_peak_bytes()) for made in plans), default=0.0)
        return {ARENA_BYTES: (low, math.inf), FLASH_BYTES: size, **_firmware(size)}
    return {FILE_BYTES: size}


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
        if type(layer).__name__ in WEIGHTED and layer.built:
            total += math.prod(layer.kernel.shape)
            total += 4 * math.prod(layer.bias.shape) if layer.use_bias else 0
    return total


def _least_file_bytes(made: Plan) -> float:
    own = [step for step in made.steps if step.weights and not step.again]
    constants = sum(step.weights + (CHANNEL_BYTES if step.biased else STEP_BYTES) * step.channels for step in own)
    return float(constants + OP_TABLE_BYTES * made.ops + WEIGHTS_TABLE_BYTES * sum(step.biased for step in own))


def _most_file_bytes(made: Plan, name: int) -> float:
    constants = made.total("weights") + CHANNEL_BYTES * made.total("channels")
    return float(constants + OP_BYTES_HIGH * len(made.steps) + FILE_BYTES_HIGH + 6 * name)


def _least_arena_bytes(made: Plan, peak: int) -> float:
    weighted = [step for step in made.steps if step.weights]
    tensors = len(made.inputs) + made.ops + sum(1 + step.biased for step in weighted)
    return float(peak + MULTIPLIER_BYTES * made.total("channels") + NODE_BYTES * made.ops + TENSOR_BYTES * tensors)


def _most_arena_bytes(made: Plan, peak: int) -> float:
    channels = MULTIPLIER_BYTES * made.total("channels")
    return float(ARENA_SLACK * peak + channels + NODE_BYTES_HIGH * len(made.steps) + ARENA_BYTES_HIGH)


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
        NPU_CYCLES: (made.total("macs") // macs_per_cycle, 2 * cycles),
        SRAM_BYTES: (float(made.sizes[0]), 2.4 * made.peak_bytes(scratch=False) + 8192),
        FLASH_BYTES: (
            float(NPU_CHANNEL_BYTES * channels),
            1.6 * weights + 24 * channels + 600 * ops + 4096,
        ),
    }
