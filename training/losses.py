"""Losses and accuracy that Keras lacks: for soft labels, and for masks with void pixels."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def cross_entropy(labels: Any, logits: Any) -> Any:
    """Cross-entropy from logits (B, K); `labels` integers (B,) or (B, 1), or shares of the classes (B, K)."""
    if _soft(labels, logits):
        return keras.losses.categorical_crossentropy(labels, logits, from_logits=True)
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def accuracy(labels: Any, logits: Any) -> Any:
    """1 where the largest logit is at the label's class; for soft labels, at the class with the largest share."""
    expected = ops.argmax(labels, axis=-1) if _soft(labels, logits) else ops.reshape(labels, (-1,))
    return ops.cast(ops.equal(ops.cast(expected, "int32"), ops.cast(ops.argmax(logits, axis=-1), "int32")), "float32")


def _soft(labels: Any, logits: Any) -> bool:
    return len(labels.shape) == 2 and labels.shape[-1] == logits.shape[-1] and logits.shape[-1] > 1


class PixelCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy of the pixels that have a class; void pixels do not count in the mean.

    Args:
        ignore_index: Value of mask pixels without a class; None: all have one.
        label_smoothing: Share of each label spread over all classes, in [0, 1).
    """

    def __init__(self, ignore_index: int | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__(name="pixel_cross_entropy", reduction="sum_over_batch_size")
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        labels, logits = ops.cast(y_true, "int32"), ops.cast(y_pred, "float32")
        counted = ops.ones_like(labels, "float32")
        if self.ignore_index is not None:
            valid = ops.not_equal(labels, self.ignore_index)
            counted, labels = ops.cast(valid, "float32"), ops.where(valid, labels, 0)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)  # (B, H, W)
        if self.label_smoothing:
            spread = -ops.mean(ops.log_softmax(logits, axis=-1), axis=-1)
            losses = (1.0 - self.label_smoothing) * losses + self.label_smoothing * spread
        # Keras takes the mean over all pixels of the batch.
        return losses * counted / ops.maximum(ops.mean(counted), 1e-6)
