"""Transpositions, and operations along an axis: ``softmax``, ``mean``, ``stack``."""

from __future__ import annotations

from keras import layers

from ...layers.token_layers import Mean
from ..graph import Graph, Node, Value
from ..shapes import permuted, reshaped, sides_of


def transpose(graph: Graph, node: Node) -> Value | None:
    rank = len(node.inputs[0].shape)
    operation, kind = node.layer, node.kind
    if kind == "ops.Swapaxes":
        order = list(range(rank))
        first, second = operation.axis1 % rank, operation.axis2 % rank
        order[first], order[second] = order[second], order[first]
    elif kind == "ops.Moveaxis":
        pairs = sorted(
            (to % rank, source % rank) for source, to in zip(operation.source, operation.destination, strict=True)
        )
        order = [axis for axis in range(rank) if axis not in [source for _, source in pairs]]
        for to, source in pairs:
            order.insert(to, source)
    else:
        order = [axis % rank for axis in operation.axes] if operation.axes is not None else list(range(rank))[::-1]
    return permuted(graph, node.inputs[0], order, node.name) if order[0] == 0 else None


def mean(graph: Graph, node: Node) -> Value | None:
    rank, axis = len(node.inputs[0].shape), node.layer.axis
    if axis is None:
        return None
    axes = tuple(sorted(a % rank for a in (axis if isinstance(axis, (tuple, list)) else (axis,))))
    if 0 in axes:
        return None
    return graph.add(Mean(axes, bool(node.layer.keepdims), name=node.name), node.inputs[0])


def softmax(graph: Graph, node: Node) -> Value | None:
    rank = len(node.inputs[0].shape)
    axis = node.layer.axis
    if not isinstance(axis, int) or axis % rank == 0:
        return None
    axis %= rank
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    value = permuted(graph, node.inputs[0], order, f"{node.name}_to_last")
    value = graph.add(layers.Activation("softmax", name=node.name), value)
    return permuted(graph, value, order, f"{node.name}_back")


def stack(graph: Graph, node: Node) -> Value | None:
    rank = len(node.output.shape)
    axis = node.layer.axis % rank
    if axis == 0 or len(node.inputs) < 2:
        return None
    sides = list(sides_of(node.output))
    sides[axis - 1] = 1
    parts = [reshaped(graph, value, sides, f"{node.name}_{index}") for index, value in enumerate(node.inputs)]
    return graph.add(layers.Concatenate(axis=axis, name=node.name), *parts)
