"""layer(activation=f) -> layer, then Activation(f)."""

from __future__ import annotations

import keras
from keras import layers

from ...layers.copying import copy_layer
from ..graph import Graph
from ..layer_kinds import WEIGHTED

# Layers whose `activation=` is separated.
WITH_ACTIVATION = (*WEIGHTED, "SeparableConv2D")


def split_activations(graph: Graph) -> None:
    """Give every activation fused into a weighted layer (``activation=``) a separate node."""
    fused = [(node, node.layer.activation) for node in graph.nodes() if node.kind in WITH_ACTIVATION]
    for node, function in fused:
        if function is keras.activations.linear:
            continue
        node.layer.activation = keras.activations.linear  # changed in place: calls that share the layer keep sharing it
        name, dtype = f"{node.name}_activation", node.layer.dtype_policy
        if isinstance(function, keras.Layer):  # activation=layers.LeakyReLU(0.1)
            act = copy_layer(function)  # it may have weights, such as a PReLU
            act.name = name
        else:
            act = layers.Activation(function, name=name, dtype=dtype)
        graph.replace(node.output, new := graph.add(act, node.output), keep=[new.node])
