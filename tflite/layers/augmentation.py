"""Augmentation inside a model: it acts only in training, so a quantized model keeps it and a file omits it.

Whether a layer does nothing at inference is measured, so Keras's own layers and a user's are treated equally.
"""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np

# Scales of the test values that an inactive layer must return unchanged: about zero, pixels, much larger.
SCALES = (1.0, 255.0, 1e4)


def passes_at_inference(node: Any) -> bool:
    """Whether the layer of a ``Node`` acts only in training and returns its input at inference.

    Only layers without weights whose ``call`` takes ``training`` are tested, by running them on random numbers.
    """
    layer = node.layer
    if isinstance(layer, keras.layers.Dropout):  # known, and in nearly every model
        return False
    if not isinstance(layer, keras.Layer) or len(node.inputs) != 1 or len(node.outputs) != 1 or layer.weights:
        return False
    if node.args[:1] != (node.inputs[0],) or not takes_training(layer):
        return False
    shape, dtype = node.inputs[0].shape[1:], node.inputs[0].dtype
    if node.outputs[0].shape[1:] != shape or None in shape or dtype == "string":
        return False
    rng = np.random.default_rng(0)
    for scale in SCALES:
        sample = rng.normal(0, scale, (2, *shape)).astype("float32")
        sample = np.abs(sample) % 256 if "int" in dtype else sample
        sample = keras.ops.convert_to_tensor(sample, dtype=dtype)
        try:
            result = layer(sample, training=False)
        except Exception:  # a user's layer may fail outside its model
            return False
        if not keras.ops.is_tensor(result) or tuple(result.shape) != tuple(sample.shape):
            return False
        one, other = (np.asarray(keras.ops.convert_to_numpy(part), np.float32) for part in (sample, result))
        if not np.array_equal(one, other):
            return False
    return True


def takes_training(operation: Any) -> bool:
    """Whether a layer's ``call`` takes ``training``, so that it may compute something else in training."""
    return isinstance(operation, keras.Layer) and "training" in inspect.signature(operation.call).parameters


@keras.saving.register_keras_serializable(package="wavemix_tf")
class RandomThenCentreCrop(keras.layers.RandomCrop):
    """``keras.layers.RandomCrop`` in training, a crop of the center at inference.

    At inference Keras 3.15's own layer returns whole pictures, which contradicts the shape that it declares.

    Input shape:
        (B, H, W, C).

    Output shape:
        (B, height, width, C).
    """

    def call(self, data: Any, training: bool | None = None) -> Any:
        if training:
            return super().call(data, training=True)
        top, left = (margins[0] for margins in crop_margins(self, tuple(data.shape)))
        crop = data[:, top : top + self.height, left : left + self.width, :]
        return keras.ops.cast(crop, self.compute_dtype)


def crop_margins(layer: Any, shape: tuple[int | None, ...]) -> list[tuple[int, int]]:
    """((top, bottom), (left, right)) that a CenterCrop or RandomCrop removes at inference; negative: too small."""
    margins = []
    for have, want in zip(shape[1:3], (layer.height, layer.width), strict=True):
        spare = int(have or 0) - want
        margins.append((spare // 2, spare - spare // 2))
    return margins
