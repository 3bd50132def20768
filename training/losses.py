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


class Distillation:
    """Cross-entropy and the difference from a teacher: labels (B, 2K) are shares of the classes, then its logits.

    Hinton et al. (arXiv 1503.02531, section 2): ``(1 - weight) * cross-entropy(labels, softmax(z)) +
    weight * T^2 * KL(softmax(teacher / T), softmax(z / T))``. Other labels, as in a validation, give the plain
    cross-entropy.

    Args:
        weight: Of the teacher's term, in [0, 1].
        temperature: T > 0.
    """

    def __init__(self, weight: float, temperature: float) -> None:
        self.weight, self.temperature = weight, temperature
        self.__name__ = "distillation"  # Keras names a loss after its function

    def __call__(self, labels: Any, logits: Any) -> Any:
        if not _is_taught(labels, logits):
            return cross_entropy(labels, logits)
        shares, teacher = ops.split(labels, 2, axis=-1)
        expected = ops.log_softmax(teacher / self.temperature, axis=-1)
        found = ops.log_softmax(logits / self.temperature, axis=-1)
        difference = ops.sum(ops.exp(expected) * (expected - found), axis=-1)
        plain = keras.losses.categorical_crossentropy(shares, logits, from_logits=True)
        return (1.0 - self.weight) * plain + self.weight * self.temperature**2 * difference


def accuracy(labels: Any, logits: Any) -> Any:
    """1 where the largest logit is at the label's class; for soft labels, at the class with the largest share."""
    if _is_taught(labels, logits):
        labels = labels[:, : logits.shape[-1]]
    expected = ops.argmax(labels, axis=-1) if _soft(labels, logits) else ops.reshape(labels, (-1,))
    return ops.cast(ops.equal(ops.cast(expected, "int32"), ops.cast(ops.argmax(logits, axis=-1), "int32")), "float32")


def _is_taught(labels: Any, logits: Any) -> bool:
    """Whether labels hold a teacher's logits behind the shares of the classes."""
    return len(labels.shape) == 2 and labels.shape[-1] == 2 * logits.shape[-1]


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
