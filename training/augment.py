"""Augmentation by Keras's own layers, with seeds that are a pure function of (seed, epoch, batch).

Keras's layers count their draws in a variable; in a parallel tf.data pipeline that order is not repeatable and after
a restart it is lost. Here every batch gets its own stateless seed instead, so that a resumed run sees the same images.
"""

from __future__ import annotations

from typing import Any

import keras

from .recipe import Recipe


class BatchSeed(keras.random.SeedGenerator):
    """Seed generator without state: its draws are hashed from (seed, epoch, batch) and a count of its own.

    Passed to Keras's random functions in place of a ``SeedGenerator`` that would count in a variable.
    """

    def __init__(self, seed: int, epoch: Any, batch: Any) -> None:
        # The parent's constructor would make the variable.
        self._draws = 0
        self._base = _hashed(seed, epoch, batch)

    def next(self, ordered: bool = True) -> Any:
        self._draws += 1
        return self._base(self._draws)


def _hashed(seed: int, epoch: Any, batch: Any) -> Any:
    """Draw -> int32 (2,) tensor of TensorFlow, a function of (seed, epoch, batch, draw)."""
    import tensorflow as tf

    fold_in = tf.random.experimental.stateless_fold_in
    base = fold_in(fold_in(tf.constant([seed & 0x7FFFFFFF, 0x5EED], tf.int32), epoch), batch)
    return lambda draw: fold_in(base, draw)


class Augmenter:
    """The augmentation of a recipe: (images float32 [0, 1], labels float32 one-hot, seed) -> the same, augmented."""

    def __init__(self, recipe: Recipe) -> None:
        height, width, _ = recipe.image_shape
        layers = keras.layers
        fill = {"fill_mode": "constant", "fill_value": 0.0}
        self.image_layers: list[Any] = []
        if recipe.rotation:
            self.image_layers.append(layers.RandomRotation(recipe.rotation / 360.0, **fill))
        if recipe.shift:
            # "nearest" moves by whole pixels: pad and crop, without blurring.
            shift = recipe.shift
            self.image_layers.append(
                layers.RandomTranslation(shift / height, shift / width, interpolation="nearest", **fill)
            )
        if recipe.flip:
            self.image_layers.append(layers.RandomFlip("horizontal"))

    def __call__(self, images: Any, labels: Any, seed: BatchSeed) -> tuple[Any, Any]:
        for layer in self.image_layers:
            layer.backend.set_backend("tensorflow")
            transformation = layer.get_random_transformation(images, training=True, seed=seed)
            images = layer.transform_images(images, transformation, training=True)
        return images, labels
