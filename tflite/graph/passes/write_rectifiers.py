"""max(a x, x) -> LeakyReLU(a); min(max(x, 0), m) -> m / 6 * relu6(6 / m * x)."""

from __future__ import annotations

from keras import layers

from ..affines import rescaling
from ..graph import Graph


def write_rectifiers(graph: Graph) -> None:
    """``ReLU(negative_slope=a)`` -> LeakyReLU; ``ReLU(max_value=m)`` -> relu6 between two scalings, an equivalent."""
    for node in graph.nodes():
        if node.kind != "ReLU" or node.layer.threshold:
            continue
        layer, name, dtype = node.layer, node.name, node.layer.dtype_policy
        if layer.negative_slope and layer.max_value is None:
            leaky = layers.LeakyReLU(negative_slope=float(layer.negative_slope), name=name, dtype=dtype)
            graph.replace(node.output, graph.add(leaky, node.inputs[0]))
        elif not layer.negative_slope and layer.max_value not in (None, 6.0) and layer.max_value > 0:
            factor = 6.0 / float(layer.max_value)
            value = graph.add(rescaling(factor, 0.0, f"{name}_scale", dtype), node.inputs[0])
            value = graph.add(layers.Activation("relu6", name=f"{name}_relu6", dtype=dtype), value)
            graph.replace(node.output, graph.add(rescaling(1 / factor, 0.0, name, dtype), value))
