"""CenterCrop -> Cropping2D; RandomCrop -> its function at inference, a crop of the center."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from wavemix_tf.keras_internals import flatten_layers
from wavemix_tf.warning import warn_user

from ...layers.augmentation import RandomThenCentreCrop, crop_margins
from ...layers.copying import config_of, own_value
from ..graph import Graph


def write_crops(graph: Graph, inference: bool = False) -> None:
    """CenterCrop and RandomCrop that cut and do not enlarge -> their function at inference: a crop of the center.

    Args:
        graph: Changed in place.
        inference: Whether random crops are also replaced; False keeps them random in training.
    """
    for node in graph.nodes():
        random = node.kind in ("RandomCrop", "RandomThenCentreCrop")
        if not (random or node.kind == "CenterCrop") or len(node.output.shape) != 4:
            continue
        layer = node.layer
        margins = crop_margins(layer, node.inputs[0].shape)
        if layer.data_format != "channels_last" or min(min(pair) for pair in margins) < 0:
            continue
        if random and not inference:
            if node.kind == "RandomCrop":
                node.layer = RandomThenCentreCrop.from_config(config_of(layer))
                node.layer.generator.state.assign(own_value(layer.generator.state))
            continue
        crop = layers.Cropping2D(margins, name=node.name, dtype=layer.dtype_policy)
        graph.replace(node.output, graph.add(crop, node.inputs[0]))


def crop_at_inference(model: Any) -> Any:
    """``model`` with random crops that crop the center at inference; the model itself if it has no random crop.

    Keras's own layer returns the whole picture there, which contradicts the shape that it declares and that every later
    layer was built for.
    """
    if not any(type(layer) is layers.RandomCrop for layer in flatten_layers(model)):
        return model
    graph = Graph.from_model(model)
    names = [node.name for node in graph.nodes() if node.kind == "RandomCrop"]
    write_crops(graph)
    warn_user(
        f"At inference the file crops the center where layer {', '.join(map(repr, names))} of type RandomCrop returns "
        f"whole pictures under Keras {keras.__version__}: use keras.layers.CenterCrop to get the same in both.",
    )
    return graph.to_model(model.name)
