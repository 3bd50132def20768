"""x * sigmoid(b x) -> y * sigmoid(y) / b with y = b x; b and 1 / b go into the neighboring weights."""

from __future__ import annotations

import numpy as np
from keras import layers

from ...layers.fake_quant import FakeQuant
from ..activation_names import activation_name
from ..graph import Graph, Node, Value
from ..layer_kinds import SCALE_COMMUTING, WEIGHTED
from ..weights import bias_of, is_restrained, kernel_of, with_weights

SWISH_SLOPES = {"quick_gelu": 1.702, "silu": 1.0}  # b in x * sigmoid(b x)


def decompose_swish(graph: Graph) -> None:
    """Write silu and quick_gelu, x * sigmoid(b x), as y * sigmoid(y) with y = b x; b moves into neighboring weights.

    If a neighbor cannot take the factor b, a multiplication by it stays. Quantized graphs keep their grids: ranges and
    weights are scaled together.
    """
    shared = graph.shared()
    for node in graph.nodes():
        slope = SWISH_SLOPES.get(activation_name(node) or "")
        if slope is None:
            continue
        dtype, name, value = node.layer.dtype_policy, node.name, node.inputs[0]
        sigmoid = layers.Activation("sigmoid", name=f"{name}_sigmoid", dtype=dtype)
        gate, quantized = value, value.node.kind == "FakeQuant"
        if slope != 1.0:
            consumers = graph.consumers()
            above = _scalable_above(graph, value, consumers)
            below = _scalable_below(graph, node.output, consumers)
            around = (*(above or ()), *(below or ()))
            fixed = any(id(n.layer) in shared or is_restrained(n.layer) for n in around)
            if above is None or below is None or fixed:
                gate = graph.add(layers.Rescaling(slope, name=f"{name}_slope", dtype=dtype), value)
                if quantized:
                    gate = graph.add(value.node.layer.scaled(slope, f"{name}_slope_quant"), gate)
            else:
                for scaled in above:
                    _scale_node(scaled, slope, scale_bias=True)
                for scaled in below:
                    linear = scaled.kind.removeprefix("Quant") in WEIGHTED
                    _scale_node(scaled, 1.0 / slope if linear else slope, scale_bias=False)
        gate = graph.add(sigmoid, gate)
        if quantized:
            gate = graph.add(FakeQuant.for_activation("sigmoid", f"{name}_sigmoid_quant", value.node.layer.bits), gate)
        product = layers.Multiply(name=f"{name}_product", dtype=dtype)
        graph.replace(node.output, graph.add(product, value, gate))


def _scalable_above(graph: Graph, value: Value, consumers: dict[Value, list[Node]]) -> list[Node] | None:
    """Nodes to rescale so that ``value`` is multiplied by a factor and nothing else changes; None if impossible."""
    nodes: list[Node] = []
    while graph.sole_consumer(value, consumers) is not None:
        nodes.append(value.node)
        if value.node.kind.removeprefix("Quant") in WEIGHTED:
            return nodes
        if value.node.kind == "Add":
            for part in value.node.inputs:
                branch = _scalable_above(graph, part, consumers)
                if branch is None:
                    return None
                nodes += branch
            return nodes
        if value.node.kind not in SCALE_COMMUTING:
            return None
        value = value.node.inputs[0]
    return None


def _scalable_below(graph: Graph, value: Value, consumers: dict[Value, list[Node]]) -> list[Node] | None:
    """Nodes to rescale so that they undo a factor on ``value``; None if some consumer cannot undo it."""
    if value in graph.outputs:
        return None
    nodes: list[Node] = []
    for reader in consumers.get(value, []):
        nodes.append(reader)
        if reader.kind.removeprefix("Quant") in WEIGHTED:
            continue
        further = _scalable_below(graph, reader.output, consumers) if reader.kind in SCALE_COMMUTING else None
        if further is None:
            return None
        nodes += further
    return nodes


def _scale_node(node: Node, factor: float, scale_bias: bool) -> None:
    if node.kind == "FakeQuant":
        node.layer = node.layer.scaled(factor)
    elif node.kind.removeprefix("Quant") in WEIGHTED:
        bias = bias_of(node.layer)
        if scale_bias and bias is not None:
            bias = bias * np.float32(factor)
        step = getattr(node.layer, "input_step", 0.0)
        changes = {"input_step": step / factor} if step and not scale_bias else {}
        node.layer = with_weights(node.layer, kernel_of(node.layer) * np.float32(factor), bias, **changes)
        if node.grid is not None:
            node.grid = node.grid * np.float32(factor)
