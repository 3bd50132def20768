"""Added constants, squares, and zero padding of tokens."""

from __future__ import annotations

import numpy as np
from keras import layers

from ...layers.token_layers import AddConstant, with_constant
from ..graph import Graph, Node, Value
from .constants import constant_of, operands


def square(graph: Graph, node: Node) -> Value | None:
    return graph.add(layers.Multiply(name=node.name), node.inputs[0], node.inputs[0])


def add_constant(graph: Graph, node: Node) -> Value | None:
    """Add a constant that has more than one number per channel."""
    if len(node.inputs) != 1 or node.inputs[0].shape != node.output.shape:
        return None
    found = [constant_of(leaf) for leaf in operands(node)]
    constant = next((part for part in found if part is not None), None)
    return None if constant is None else added(graph, node.inputs[0], constant, node.name)


def added(graph: Graph, value: Value, constant: tuple[np.ndarray, bool], name: str) -> Value | None:
    values, trains = constant
    rank = len(value.shape)
    values = values.reshape((1,) * (rank - values.ndim) + values.shape)
    if values.shape[0] != 1 or not np.isfinite(values).all():
        return None
    layer = with_constant(AddConstant(values.shape[1:], name=name), values[0])
    layer.trainable = trains
    return graph.add(layer, value)


def pad_tokens(graph: Graph, node: Node) -> Value | None:
    """Zeros before and after the tokens."""
    operation = node.layer
    widths = np.asarray(operation.pad_width)
    if operation.mode != "constant" or len(node.inputs) != 1 or widths.shape != (3, 2) or widths[[0, 2]].any():
        return None
    if any(np.any(leaf) for leaf in node.kwargs.values() if not isinstance(leaf, Value)):
        return None  # a constant other than zero
    before, behind = (int(width) for width in widths[1])
    return graph.add(layers.ZeroPadding1D((before, behind), name=node.name), node.inputs[0])
