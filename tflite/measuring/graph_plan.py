"""The plan of any network, read from the graph after the passes.

It contains only what a file certainly has. Layers that the converter may remove or merge (a reshape, a transposition,
an added constant, a relu) count as nothing, and so do layers without an op in ``layer_kinds.KINDS``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph.activation_names import activation_name
from ..graph.graph import Graph, Node, Value
from ..graph.inputs import value_ranges
from ..graph.layer_kinds import KINDS
from ..graph.pipeline import finishing_passes, lowering_passes, quantizing_passes, run
from ..graph.weights import bias_of, kernel_of
from ..targets import cmsis_nn
from ..targets.table import Target
from .file_plan import Plan, Step, filled, taps_inside

# Activations that become one op of the file. A relu is mostly part of the op before it.
ACTIVATION_OPS = {
    "gelu": "GELU",
    "hard_silu": "HARD_SWISH",
    "leaky_relu": "LEAKY_RELU",
    "sigmoid": "LOGISTIC",
    "softmax": "SOFTMAX",
    "tanh": "TANH",
}
RESIZE_OPS = {"bilinear": "RESIZE_BILINEAR", "nearest": "RESIZE_NEAREST_NEIGHBOR"}
# The converter may remove these: their output is then their input under another name.
MAY_BE_GONE = ("FixedQuant", "Reshape", "Flatten", "Permute", "AddConstant", "FixedConstant", "NegatedTwice")


def graph_plans(model: Any, row: Target) -> list[Plan]:
    """Minimum content of the int8 file of ``model``, in each upsample form that ``export`` would try.

    Args:
        model: Functional Keras model, float, of any layers.
        row: Row of the target.

    Raises:
        UnsupportedLayerError: the model is not functional, its sides are unknown, or a layer has no form in a file.
    """
    graph = Graph.from_model(model, dtype="float32")
    # Without quantizers, which need ranges and are not ops; layers merge less often across a quantizer.
    run(graph, quantizing_passes(value_ranges((0.0, 1.0), graph.inputs), None, substitutes=row.substitutes)[:-1])
    transposed = any(node.kind == "Conv2DTranspose" for node in graph.nodes())
    run(graph, lowering_passes(row.substitutes))
    plans = []
    for form in row.upsample_forms if transposed else row.upsample_forms[:1]:
        written = graph.copy()
        run(written, finishing_passes(form, row.max_stride, row.dense_as_convolution))
        plans.append(read_plan(written))
    return plans


def read_plan(graph: Graph) -> Plan:
    """The plan of a graph after the passes of a target.

    Args:
        graph: From ``target_passes``; not changed.
    """
    made = Plan()
    readers = graph.consumers()
    tensors: dict[Value, int] = {}
    known: set[bytes] = set()  # constants of earlier ops

    def tensor(value: Value, size: int | None = None) -> int:
        made.sizes.append(_size(value) if size is None else size)
        tensors[value] = len(made.sizes) - 1
        return tensors[value]

    for value in graph.inputs:
        tensor(value)
    for node in graph.nodes():
        if node.layer is None:
            continue
        source = _before_padding(graph, node, readers)
        padding = node.kind == "ZeroPadding2D" and _merges(graph, node, readers)
        if node.kind in MAY_BE_GONE or activation_name(node) in ("relu", "relu6", "linear") or padding:
            tensors[node.output] = tensors[node.inputs[0]]
            continue
        reads = tuple(dict.fromkeys(tensors[value] for value in (node.inputs if source is None else [source])))
        op = _op(node)
        if op is None:  # it is not known to become an op
            for value in node.outputs:
                made.steps.append(Step("", reads, tensor(value, 0)))
            continue
        holds = _holds(node, source) if node.kind in WEIGHTED_KINDS else {}
        if holds:
            constants = kernel_of(node.layer).tobytes() + (
                b"" if (bias := bias_of(node.layer)) is None else bias.tobytes()
            )
            holds["again"] = constants in known
            known.add(constants)
        made.steps.append(Step(op, reads, tensor(node.output), **holds))
    return made


WEIGHTED_KINDS = ("GridConv2D", *(name for name, kind in KINDS.items() if kind.weights))


def _size(value: Value) -> int:
    return math.prod(int(side or 0) for side in value.shape[1:])


def _op(node: Node) -> str | None:
    if node.kind == "GridConv2D":
        return "CONV_2D"
    if node.kind == "Resize2D":
        return RESIZE_OPS[node.layer.interpolation]
    activation = activation_name(node)
    if activation is not None:
        return ACTIVATION_OPS.get(activation)
    row = KINDS.get(node.kind)
    return None if row is None else row.op


def _merges(graph: Graph, node: Node, readers: dict[Value, list[Node]]) -> bool:
    """Whether the converter merges a padding with zeros and the convolution after it into one op of "same" padding."""
    reader = graph.sole_consumer(node.output, readers)
    return reader is not None and _before_padding(graph, reader, readers) is not None


def _before_padding(graph: Graph, node: Node, readers: dict[Value, list[Node]]) -> Value | None:
    """Input of a padding that becomes part of the convolution ``node``; None if there is no such padding."""
    before = node.inputs[0].node if node.inputs else None
    if before is None or before.kind != "ZeroPadding2D" or graph.sole_consumer(node.inputs[0], readers) is not node:
        return None
    layer = node.layer
    if node.kind not in ("Conv2D", "GridConv2D", "DepthwiseConv2D") or layer.padding != "valid":
        return None
    sides = before.inputs[0].shape[1:3]
    for side, pads, kernel, stride, dilation in zip(
        sides, before.layer.padding, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        reach = (kernel - 1) * dilation + 1
        spare = max((-(-int(side or 0) // stride) - 1) * stride + reach - int(side or 0), 0)
        if tuple(pads) != (spare // 2, spare - spare // 2):
            return None
    return before.inputs[0]


def _holds(node: Node, source: Value | None) -> dict[str, Any]:
    """Weights, channels, products and scratch memory of an op with weights."""
    layer, kind = node.layer, node.kind
    kernel = np.shape(layer.kernel)
    value = node.inputs[0] if source is None else source
    channels = int(node.output.shape[-1] or 0)
    holds: dict[str, Any] = {"weights": math.prod(kernel), "channels": channels, "biased": bool(layer.use_bias)}
    if kind == "Dense":
        return holds | {"macs": _size(node.output) // channels * math.prod(kernel)}
    given, result = ([int(side or 0) for side in part.shape[1:3]] for part in (value, node.output))
    size, stride = layer.kernel_size, layer.strides
    if max(layer.dilation_rate) > 1:
        return holds
    if kind == "Conv2DTranspose":
        same = layer.padding == "same"
        figures = cmsis_nn.Transposed(
            tuple(size), tuple(stride), (given[0], given[1]), (result[0], result[1]), same, kernel[3], kernel[2]
        )
        # Each input pixel meets each tap, except those whose output is cropped.
        pairs = math.prod(
            sum(0 <= at * step + tap - before < side for at in range(have) for tap in range(reach))
            for have, side, reach, step, before in zip(given, result, size, stride, figures.padding, strict=True)
        )
        return holds | {
            "macs": pairs * kernel[2] * kernel[3],
            "npu_macs": math.prod(result) * math.prod(size) * filled(kernel[3], 32) * filled(channels),
            "scratch_bytes": max(figures.reference_scratch_bytes, figures.scratch_bytes),
        }
    depthwise = kind == "DepthwiseConv2D"
    inner = 1 if depthwise else kernel[2]
    pairs = math.prod(
        taps_inside(have, reach, step, out) if layer.padding == "same" or source is not None else reach * out
        for have, reach, step, out in zip(given, size, stride, result, strict=True)
    )
    holds["macs"] = pairs * inner * channels
    holds["npu_macs"] = (
        math.prod(result) * math.prod(size) * (1 if inner == 1 else filled(inner, 32)) * filled(channels)
    )
    taps = math.prod(size)
    if depthwise and layer.depth_multiplier == 1:
        holds["scratch_bytes"] = cmsis_nn.depthwise_scratch_bytes(taps, channels)
    elif not depthwise and layer.groups == 1:
        pointwise = taps == 1 and tuple(stride) == (1, 1)
        holds["scratch_bytes"] = cmsis_nn.convolution_scratch_bytes(taps * inner, pointwise=pointwise)
    return holds
