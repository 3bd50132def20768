"""hard_sigmoid(x) -> relu6(x + 3) / 6."""

from __future__ import annotations

from keras import layers

from ..activation_names import activation_name
from ..affines import rescaling
from ..graph import Graph


def split_hard_sigmoid(graph: Graph) -> None:
    """hard_sigmoid(x) = relu6(x + 3) / 6: three steps with int8 kernels, because the file format has no such op."""
    for node in graph.nodes():
        if activation_name(node) != "hard_sigmoid":
            continue
        name, dtype = node.name, node.layer.dtype_policy
        value = graph.add(rescaling(1.0, 3.0, f"{name}_shift", dtype), node.inputs[0])
        value = graph.add(layers.Activation("relu6", name=f"{name}_relu6", dtype=dtype), value)
        graph.replace(node.output, graph.add(rescaling(1 / 6, 0.0, name, dtype), value))
