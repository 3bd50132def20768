"""Softmax over axis a -> transpose, softmax over the last axis, transpose."""

from __future__ import annotations

from keras import layers

from ..graph import Graph
from ..shapes import permuted


def softmax_over_last(graph: Graph) -> None:
    """Softmax over another axis than the last -> a transposition, softmax over the last axis, a transposition back."""
    for node in graph.nodes():
        if node.kind != "Softmax" or not isinstance(node.layer.axis, int) or len(node.inputs) > 1:
            continue
        rank, axis = len(node.output.shape), node.layer.axis % len(node.output.shape)
        if axis in (0, rank - 1):
            continue
        order = list(range(rank))
        order[axis], order[-1] = order[-1], order[axis]
        value = permuted(graph, node.inputs[0], order, f"{node.name}_to_last")
        value = graph.add(layers.Activation("softmax", name=node.name, dtype=node.layer.dtype_policy), value)
        graph.replace(node.output, permuted(graph, value, order, f"{node.name}_back"))
