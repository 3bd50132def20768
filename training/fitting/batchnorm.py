"""Recompute batch norm statistics for a moving average of the weights."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from wavemix_tf.keras_internals import flatten_layers

from ..distribution import to_devices

BATCHES = 8  # 128 images of 28x28 each give means over 800,000 values per channel


class BatchNormRecalibration:
    """Sets every batch norm's moving statistics to their mean over `BATCHES` training batches.

    The moving statistics belong to the trained weights; averaged weights compute other activations (Izmailov et al.,
    arXiv 1803.05407, section 3.2). Nothing else in the model changes.

    Args:
        model: The model; each call uses its current weights.
    """

    def __init__(self, model: Any) -> None:
        layers = flatten_layers(model, include_self=False)
        self._norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
        self._statistics = [v for norm in self._norms for v in (norm.moving_mean, norm.moving_variance)]
        ours = {id(variable) for variable in self._statistics}
        # For example dropout's seeds, which must not change.
        self._others = [v for v in model.non_trainable_variables if id(v) not in ours]
        self._forward = _compiled(model)

    def __call__(self, batches: Any) -> None:
        """Recompute the statistics from `batches`, an iterable of (images, labels, ...)."""
        if not self._norms:
            return
        kept = [keras.ops.convert_to_numpy(variable) for variable in self._others]
        momentum = [norm.momentum for norm in self._norms]
        sums = [np.zeros(v.shape) for v in self._statistics]
        count = 0
        try:
            for norm in self._norms:
                norm.momentum = 0.0  # makes the moving statistics those of the batch
            for images, *_ in batches:
                self._forward(images)
                count += 1
                values = (np.array(keras.ops.convert_to_numpy(v), np.float64) for v in self._statistics)
                sums = [total + value for total, value in zip(sums, values, strict=True)]
        finally:
            for norm, value in zip(self._norms, momentum, strict=True):
                norm.momentum = value
            for variable, array in zip(self._others, kept, strict=True):
                variable.assign(array)
        for variable, total in zip(self._statistics, sums, strict=True):
            variable.assign(total / count)


def _compiled(model: Any) -> Any:
    """Images -> None: the fastest forward pass in training mode that the backend has without gradients."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        def forward(images: Any) -> None:
            model(images, training=True)

        return tf.function(forward, reduce_retracing=True)
    if backend == "torch":
        import torch

        return torch.no_grad()(lambda images: model(images, training=True))
    return lambda images: model(to_devices(images), training=True)
