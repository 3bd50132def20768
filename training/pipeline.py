"""From a source of images to the batches of every epoch, each a pure function of (recipe, epoch)."""

from __future__ import annotations

from typing import Any

from .augment import Augmenter, BatchSeed
from .recipe import Recipe


def training_batches(source: Any, recipe: Recipe, first_epoch: int, epochs: int, num_classes: int) -> Any:
    """tf.data of all batches from `first_epoch` up to `epochs`, augmented; labels float32 (B, num_classes), smoothed.

    The image order and the augmentation of an epoch depend on (seed, epoch) alone: a run that starts again in the
    middle sees what the uninterrupted run would have seen.
    """
    import tensorflow as tf

    augmenter = Augmenter(recipe)
    smoothing = recipe.label_smoothing

    def epoch_batches(epoch: Any) -> Any:
        batches = source.shuffled(recipe.batch_size, recipe.seed, epoch)
        return batches.enumerate().map(
            lambda index, batch: prepare(epoch, index, *batch), num_parallel_calls=tf.data.AUTOTUNE
        )

    def prepare(epoch: Any, index: Any, images: Any, labels: Any) -> Any:
        targets = tf.one_hot(labels, num_classes)
        images, targets = augmenter(images, targets, BatchSeed(recipe.seed, epoch, index))
        return images, targets * (1.0 - smoothing) + smoothing / num_classes

    return tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_batches).prefetch(tf.data.AUTOTUNE)
