"""Affine maps of the channels, ``scale * x + shift``: the nodes that compute one, and the weights that absorb it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from .graph import Graph, Node, Value
from .layer_kinds import AFFINE_COMMUTING, WEIGHTED
from .weights import to_float64


def affine_of(node: Node) -> tuple[np.ndarray, np.ndarray] | None:
    """(scale, shift) per channel if ``node`` computes ``scale * x + shift`` at inference; otherwise None."""
    layer = node.layer
    channels = int(node.inputs[0].shape[-1] or 0) if node.inputs else 0
    if node.kind == "BatchNormalization" and layer.axis in (-1, len(node.output.shape) - 1):
        mean, variance = to_float64(layer.moving_mean), to_float64(layer.moving_variance)
        scale = 1.0 / np.sqrt(variance + layer.epsilon)
        if layer.scale:
            scale = scale * to_float64(layer.gamma)
        shift = -mean * scale
        if layer.center:
            shift = shift + to_float64(layer.beta)
        return scale, shift
    last = ((), (-1,), (len(node.output.shape) - 1,))
    if node.kind == "Normalization" and not layer.invert and tuple(np.ravel(layer.axis or ())) in last:
        mean, variance = (to_float64(v).ravel() for v in (layer.mean, layer.variance))
        scale = 1.0 / np.maximum(np.sqrt(variance), keras.backend.epsilon())  # the layer computes it in this way
        return np.broadcast_to(scale, (channels,)), np.broadcast_to(-mean * scale, (channels,))
    if node.kind == "ChannelAffine":
        return to_float64(layer.scale), to_float64(layer.offset)
    if node.kind == "LayerScale":
        return to_float64(layer.gamma).ravel(), np.zeros(channels)
    if node.kind == "Rescaling":
        return np.broadcast_to(to_float64(layer.scale), (channels,)), np.broadcast_to(
            to_float64(layer.offset), (channels,)
        )
    return None


def affine_source(graph: Graph, node: Node, consumers: dict[Value, list[Node]]) -> tuple[Node, list[Node]] | None:
    """The weighted layer that can absorb the affine ``node``, and the nodes between them; None if there is none.

    Between them there may be layers that commute with an affine map of the channels (upsampling by copies or by linear
    interpolation, pixel shuffle, crop); nothing else may read any value on the way.
    """
    between: list[Node] = []
    value = node.inputs[0]
    while graph.sole_consumer(value, consumers) is not None:
        source = value.node
        if source.kind.removeprefix("Quant") in WEIGHTED:
            return source, between
        if source.kind not in AFFINE_COMMUTING:
            return None
        between.append(source)
        value = source.inputs[0]
    return None


def rescaling(scale: Any, offset: Any, name: str, dtype: Any = None) -> Any:
    def plain(part: Any) -> Any:
        array = np.asarray(part, np.float64)
        return float(array) if array.ndim == 0 else array.tolist()

    return layers.Rescaling(plain(scale), plain(offset), name=name, dtype=dtype)
