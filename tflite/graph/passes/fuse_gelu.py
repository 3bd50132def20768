"""Activation(gelu) -> FusedActivation(gelu), which trains in less memory and time."""

from __future__ import annotations

import keras

from wavemix_tf.layers.elementwise import FusedActivation

from ..graph import Graph


def fuse_gelu(graph: Graph) -> None:
    """Give every exact GELU the layer whose gradient keeps one tensor."""
    for node in graph.nodes():
        if type(node.layer) is keras.layers.Activation and node.layer.activation is keras.activations.gelu:
            node.layer = FusedActivation("gelu", name=node.layer.name, dtype=node.layer.dtype_policy)
