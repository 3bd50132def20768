"""(x - mean(x)) / sqrt(var(x) + e) * s + t -> mean, difference, square, mean, 1 / sqrt, product."""

from __future__ import annotations

import math

import numpy as np
from keras import layers

from ...layers.token_layers import AddConstant, ChannelAffine, Mean, Rsqrt, with_constant
from ..graph import Graph, Node, Value
from ..shapes import sides_of
from ..weights import bias_of, is_restrained, kernel_of, to_float64, with_weights

# A smaller epsilon is less than a step of an int8 variance.
LEAST_EPSILON = 1e-4
NORMS = ("LayerNormalization", "GroupNormalization")


def has_steps(node: Node) -> bool:
    """Whether ``write_norms`` can write the norm of ``node``: over the last axis, or over groups of channels."""
    layer, rank = node.layer, len(node.output.shape)
    if node.kind == "LayerNormalization":
        axis = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        return not getattr(layer, "rms_scaling", False) and [a % rank for a in axis] == [rank - 1] and rank > 1
    return node.kind == "GroupNormalization" and layer.axis % rank == rank - 1 and rank == 4


def write_norms(graph: Graph, skipped: frozenset[Node] | set[Node] = frozenset(), integer: bool = False) -> None:
    """Layer and group norms -> mean, difference, square, mean, 1 / sqrt, product: ops with int8 kernels.

    Scale and offset merge into the dense layers after the norm if only these read it, else into a 1x1 depthwise
    convolution.

    Args:
        graph: Changed in place.
        skipped: Nodes that do not change.
        integer: Whether each step will be rounded to its own range: a smaller epsilon than a step there is omitted.
    """
    for node in graph.nodes():
        if node.kind in NORMS and node not in skipped and has_steps(node):
            _write_norm(graph, node, integer)


def _write_norm(graph: Graph, node: Node, integer: bool) -> None:
    layer, name, value = node.layer, node.name, node.inputs[0]
    dtype, sides = layer.dtype_policy, sides_of(value)

    def mean(source: Value, role: str) -> Value:
        for index, axes in enumerate(steps):
            last = index == len(steps) - 1
            source = graph.add(Mean(axes, True, name=f"{name}_{role}{'' if last else index}", dtype=dtype), source)
        return source

    def shape(source: Value, target: tuple[int, ...], role: str) -> Value:
        if sides_of(source) == target:
            return source
        return graph.add(layers.Reshape(target, name=f"{name}_{role}", dtype=dtype), source)

    # NPUs reduce only the channels of a row of pixels, and up to 4095 elements of an axis.
    if node.kind == "LayerNormalization":
        steps: list[tuple[int, ...]] = [(2,)]
        value = shape(value, (math.prod(sides[:-1]), sides[-1]), "rows")
    elif layer.groups == 1:
        steps = [(1, 2), (3,)]
    else:
        steps = [(1,), (3,)]
        value = shape(value, (sides[0] * sides[1], layer.groups, sides[2] // layer.groups), "groups")
    centred = graph.add(layers.Subtract(name=f"{name}_centred", dtype=dtype), value, mean(value, "mean"))
    square = graph.add(layers.Multiply(name=f"{name}_square", dtype=dtype), centred, centred)
    variance = mean(square, "variance")
    floor = min(layer.epsilon, LEAST_EPSILON) or 1e-12 if integer else 0.0
    if layer.epsilon >= LEAST_EPSILON or not integer:
        epsilon = with_constant(AddConstant((1,) * (len(variance.shape) - 1), name=f"{name}_epsilon", dtype=dtype),
                                layer.epsilon)  # fmt: skip
        epsilon.trainable = False
        variance = graph.add(epsilon, variance)
    inverse = graph.add(Rsqrt(floor, name=f"{name}_rsqrt", dtype=dtype), variance)
    value = graph.add(layers.Multiply(name=f"{name}_product", dtype=dtype), centred, inverse)
    value = shape(value, sides, "sides")
    scale = np.ones(sides[-1]) if layer.gamma is None else to_float64(layer.gamma)
    offset = np.zeros(sides[-1]) if layer.beta is None else to_float64(layer.beta)
    if (layer.gamma is None and layer.beta is None) or _into_dense(graph, node, scale, offset):
        graph.replace(node.output, value)
        return
    affine = ChannelAffine(name=name, dtype=dtype)
    affine.build(node.output.shape)
    affine.set_weights([scale, offset])
    affine.trainable = layer.trainable
    graph.replace(node.output, graph.add(affine, value))


def _into_dense(graph: Graph, node: Node, scale: np.ndarray, offset: np.ndarray) -> bool:
    """Multiply the kernels of all consumers of a norm by its scale, if these are dense layers."""
    shared, readers = graph.shared(), graph.consumers().get(node.output, [])
    if node.output in graph.outputs or not readers:
        return False
    if any(r.kind != "Dense" or id(r.layer) in shared or is_restrained(r.layer) for r in readers):
        return False
    for reader in readers:
        kernel, bias = kernel_of(reader.layer).astype(np.float64), bias_of(reader.layer)
        moved = offset @ kernel + (0.0 if bias is None else bias)
        trains = reader.layer.trainable
        reader.layer = with_weights(
            reader.layer, (kernel * scale[:, None]).astype(np.float32), moved.astype(np.float32)
        )
        reader.layer.trainable = trains
    return True
