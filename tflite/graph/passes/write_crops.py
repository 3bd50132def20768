"""CenterCrop -> Cropping2D; RandomCrop -> the same at inference, a crop of the centre."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from wavemix_tf.keras_internals import flatten_layers
from wavemix_tf.warning import warn_user

from ...layers.augmentation import RandomThenCentreCrop, crop_margins
from ...layers.copying import config_of
from ..graph import Graph


def write_crops(graph: Graph, inference: bool = False) -> None:
    """CenterCrop and RandomCrop that cut and do not enlarge -> what they are at inference: a crop of the centre.

    Args:
        graph: Edited.
        inference: Whether a random crop need not be random in training.
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
                node.layer.generator.state.assign(layer.generator.state)
            continue
        crop = layers.Cropping2D(margins, name=node.name, dtype=layer.dtype_policy)
        graph.replace(node.output, graph.add(crop, node.inputs[0]))


def crop_at_inference(model: Any) -> Any:
    """``model`` with random crops that cut out the centre at inference; the model itself where it has no random crop.

    Keras's own returns the whole picture there, against the shape that it declares and that every layer behind was
    built for.
    """
    if not any(type(layer) is layers.RandomCrop for layer in flatten_layers(model)):
        return model
    graph = Graph.from_model(model)
    names = [node.name for node in graph.nodes() if node.kind == "RandomCrop"]
    write_crops(graph)
    warn_user(
        f"At inference the file crops the centre where layer {', '.join(map(repr, names))} of type RandomCrop returns "
        f"whole pictures under Keras {keras.__version__}: put keras.layers.CenterCrop there to have both alike.",
    )
    return graph.to_model(model.name)
