"""Batch norm statistics taken anew for weights that were not the ones that trained: a moving average of them."""

from __future__ import annotations

from typing import Any

import keras

BATCHES = 16  # the statistics of a channel over 16 batches of 28x28 images are means over a million values


def recalibrate_batch_norm(model: Any, source: Any, batch_size: int) -> None:
    """Set every batch norm's moving statistics to their mean over `BATCHES` training batches.

    The moving statistics belong to the weights that trained; a moving average of the weights computes other
    activations (Izmailov et al., arXiv 1803.05407, section 3.2). Nothing else in the model changes.
    """
    norms = [layer for layer in _flatten(model) if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    statistics = {id(variable) for norm in norms for variable in (norm.moving_mean, norm.moving_variance)}
    others = [v for v in model.non_trainable_variables if id(v) not in statistics]
    kept = [keras.ops.convert_to_numpy(variable) for variable in others]
    momentum = [norm.momentum for norm in norms]
    try:
        for index, (images, _) in enumerate(source.batches(batch_size).take(BATCHES)):
            for norm in norms:
                norm.momentum = index / (index + 1)  # makes the moving average a plain mean
            model(images, training=True)
    finally:
        for norm, value in zip(norms, momentum, strict=True):
            norm.momentum = value
        for variable, value in zip(others, kept, strict=True):
            variable.assign(value)


def _flatten(model: Any) -> list[Any]:
    return model._flatten_layers(include_self=False, recursive=True)
