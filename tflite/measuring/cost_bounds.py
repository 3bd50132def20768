"""Bounds of a candidate's device costs without converting it, from the number of its ops and tensors.

A runtime needs at least the memory of the tensors of one moment, an NPU at least the cycles of its multipliers, and a
file at least the bytes of its constants: those are the lower bounds. They apply to any network, whose plan
``graph_plan`` reads from its lowered graph. The upper bounds add measured overheads with a margin. They apply to a
``WaveMixClassifier``, whose plan ``wavemix_plan`` makes without a graph.
"""

from __future__ import annotations

import math
from typing import Any

from wavemix_tf.keras_internals import flatten_layers
from wavemix_tf.networks.wavemix import WaveMixClassifier

from ..errors import ExportError
from ..graph.layer_kinds import WEIGHTED
from ..names import ARENA_BYTES, FILE_BYTES, FLASH_BYTES, NPU_CYCLES, SRAM_BYTES
from ..targets.firmware import COST_KERNELS, runtime_bytes
from ..targets.table import DEVICE_COSTS, NAMED_COSTS, Target
from .file_plan import Plan, transposed_4x4
from .graph_plan import graph_plans
from .wavemix_plan import wavemix_plan

# Minimum content of a file beside its constants: for an op its tables and those of its output, for weights and for a
# bias their tables; and for each channel the bias, and a step and a zero point of weights and bias.
OP_TABLE_BYTES, WEIGHTS_TABLE_BYTES = 112, 100
STEP_BYTES = 4 + 8
CHANNEL_BYTES = 4 + 2 * STEP_BYTES
# Maximum: measured 204 to 407 bytes per op over 45 networks of width 4 to 32, depth 1 to 8 and side 8 to 32.
OP_BYTES_HIGH, FILE_BYTES_HIGH = 340, 4608
# Minimum content of TensorFlow Lite Micro's arena beside feature maps: a node per op, the short form of a tensor, and
# the multiplier and shift of a channel. Maximum: 199 to 448 bytes per op of those networks on a 64-bit host, more than
# on a 32-bit device; the planner left up to 7 % of the feature maps' peak unused.
NODE_BYTES, TENSOR_BYTES, MULTIPLIER_BYTES = 32, 12, 8
NODE_BYTES_HIGH, ARENA_BYTES_HIGH, ARENA_SLACK = 400, 4096, 1.15
# The ops of a ``WaveMixClassifier``'s file for "mcu", whatever its arguments.
WAVEMIX_OPS = (
    *("ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEPTH_TO_SPACE", "FULLY_CONNECTED"),
    *("HARD_SWISH", "LOGISTIC", "MEAN", "MUL", "PAD", "RELU", "RELU6", "RESHAPE", "RESIZE_BILINEAR"),
    *("RESIZE_NEAREST_NEIGHBOR", "SLICE", "STRIDED_SLICE", "TRANSPOSE_CONV"),
)
NPU_CHANNEL_BYTES = 10  # bytes of a channel's bias and scale in every Ethos-U's format


def bounds(model: Any, target: str, row: Target, accelerator: str | None) -> dict[str, tuple[float, float]]:
    """(low, high) of each cost of a target; see ``DeviceCosts.bounds``.

    Args:
        model: Functional Keras model.
        target: Key of ``DEVICE_COSTS``.
        row: Row of the target in ``TARGETS``.
        accelerator: Accelerator of an Ethos-U.
    """
    found = dict.fromkeys((*DEVICE_COSTS[target], *NAMED_COSTS.get(target, ())), (0.0, math.inf))
    if row.writes_c:  # the program contains every weight; its plan of the memory is not known before it is written
        return found | {FLASH_BYTES: (float(_constants(model)), math.inf)}
    macs_per_cycle = row.macs_per_cycle(accelerator)
    if type(model) is WaveMixClassifier and model.block == "wavemix" and None not in model.image_shape:
        return found | _wavemix_bounds(model, row, macs_per_cycle, tuple(found))
    return found | _lower_bounds(model, row, macs_per_cycle, tuple(found))


def _wavemix_bounds(
    model: WaveMixClassifier, row: Target, macs_per_cycle: int, names: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """Bounds for the network whose plan needs no graph."""
    forms = row.upsample_forms if model.upsample == "deconv" else row.upsample_forms[:1]
    if len(forms) > 1 and not transposed_4x4((1, 1), model.ff_dim or model.width, model.width).rows_aligned:
        forms = tuple(form for form in forms if form != "transposed_conv")  # the audit refuses it
    plans = [wavemix_plan(model, row, form) for form in forms]
    if NPU_CYCLES in names:
        return _npu_bounds(plans[0], macs_per_cycle)
    # The form that export will choose is unknown.
    size = (min(map(_least_file_bytes, plans)), max(_most_file_bytes(made, len(model.name)) for made in plans))
    if ARENA_BYTES in names:
        peaks = [made.peak_bytes() for made in plans]
        low = min(map(_least_arena_bytes, plans, peaks))
        return {ARENA_BYTES: (low, min(map(_most_arena_bytes, plans, peaks))), FLASH_BYTES: size, **_firmware(size)}
    # Names of inner tensors are kept: paths through the model, of up to three layers each.
    tensor_names = 9 * (len(model.name) + 50) * len(plans[0].steps)
    class_names = 8 * model.num_classes if row.holds_class_names else 0  # numbers, a line each
    return {FILE_BYTES: (size[0], size[1] + tensor_names + class_names)}


def _lower_bounds(
    model: Any, row: Target, macs_per_cycle: int, names: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """Bounds for any network. Its ops were never measured, so upper bounds are infinite."""
    try:
        plans = graph_plans(model, row)
    except ExportError:  # measuring the network raises the error
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
    """Bounds of whole firmware from those of its file: the ops are known after conversion."""
    return {
        name: (file[0] + runtime_bytes((), kernels)[1], file[1] + runtime_bytes(WAVEMIX_OPS, kernels)[1])
        for name, kernels in COST_KERNELS.items()
    }


def _constants(model: Any) -> int:
    """Bytes of the weights and biases that the file of any network contains at least."""
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
    """Bounds for an Ethos-U. The upper ones are twice a fit to Vela's figures of 37 networks for 32 and 256 MACs.

    They were widened until they held for nine networks and every Ethos-U65 and Ethos-U85 too: large NPUs pad the
    weights of small networks with zeros, and need some thousand cycles for any network.
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
