"""Activation(gelu) -> FusedActivation(gelu), which trains in less memory."""

from __future__ import annotations

import keras

from wavemix_tf.layers.elementwise import FusedActivation

from ...layers.copying import config_of
from ..graph import Graph


def fuse_gelu(graph: Graph) -> None:
    """Give every exact GELU the layer whose gradient keeps one tensor."""
    made: dict[int, FusedActivation] = {}  # calls that share a layer keep sharing it
    for node in graph.nodes():
        layer = node.layer
        if type(layer) is keras.layers.Activation and layer.activation is keras.activations.gelu:
            node.layer = made.setdefault(id(layer), FusedActivation.from_config(config_of(layer)))
