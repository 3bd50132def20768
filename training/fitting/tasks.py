"""What differs from task to task: loss, metrics, augmentation, and how a network is built and checked."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

import wavemix_tf
from wavemix_tf.keras_internals import set_larger_is_better
from wavemix_tf.metrics import LumaPSNR

from ..data.augment import Augmenter, MaskAugmenter, PairAugmenter
from ..recipe import Recipe
from .optimizers import accuracy, cross_entropy


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of target, and how a network learns it.

    Attributes:
        recipe: Of the run.
        num_classes: K; 0 where the targets are pictures.
    """

    recipe: Recipe
    num_classes: int

    @property
    def metric(self) -> str:
        """Chooses the best epoch; larger is better."""
        return self.recipe.metric

    @property
    def network(self) -> Any:
        """Class of this package that a recipe without a named model builds."""
        return wavemix_tf.WaveMixClassifier

    def build(self) -> Any:
        """The network of the recipe, freshly initialised."""
        options = {**self._arguments(), **self.recipe.model_args}
        if self.recipe.dtype_policy != "float32":
            options["dtype"] = self.recipe.dtype_policy
        return wavemix_tf.build_model(self.recipe.model or self.network.__name__, **options)

    def _arguments(self) -> dict[str, Any]:
        return {"num_classes": self.num_classes, "image_shape": self.recipe.image_shape}

    def check_model(self, model: Any) -> None:
        """ValueError unless a model takes the recipe's images and returns what the task's loss takes."""
        if getattr(model, "input_shape", None) is None:
            raise ValueError(f"The model must be built, with one input and one output. Received: {model.name}")
        shape, images = tuple(model.input_shape[1:]), self.recipe.image_shape
        received = f"model input {model.input_shape}, output {model.output_shape}; images {images}"
        if len(shape) != 3 or any(a is not None and a != b for a, b in zip(shape, images, strict=True)):
            raise ValueError(f"The model must take the data's images. Received: {received}")
        wanted, found = self._output_shape(), tuple(model.output_shape[1:])
        if len(found) != len(wanted) or any(a is not None and a != b for a, b in zip(found, wanted, strict=True)):
            raise ValueError(f"The model must return {self._output_name()}. Received: {received}")

    def _output_shape(self) -> tuple[int, ...]:
        return (self.num_classes,)

    def _output_name(self) -> str:
        return f"{self.num_classes} logits, one a class"

    def augmenter(self, crop: bool, framework: str) -> Any:
        """Callable (images, targets, seed) -> the same, augmented; see ``Augmenter``."""
        return Augmenter(self.recipe, crop=crop, framework=framework)

    def targets(self, labels: Any, framework: str) -> Any:
        """What the augmenter takes, of a batch of labels; tensors of TensorFlow, or NumPy arrays for other backends."""
        if framework == "tensorflow":
            import tensorflow as tf

            return tf.one_hot(tf.reshape(labels, [-1]), self.num_classes)
        return ops.one_hot(ops.reshape(ops.convert_to_tensor(labels), (-1,)), self.num_classes)

    def smoothed(self, targets: Any) -> Any:
        """Spread ``label_smoothing`` of each label over all classes (Szegedy et al., arXiv 1512.00567)."""
        share = self.recipe.label_smoothing
        return targets * (1.0 - share) + share / self.num_classes

    def compile_arguments(self) -> dict[str, Any]:
        """``loss`` and ``metrics`` for training."""
        metric = keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")
        set_larger_is_better(metric)
        return {"loss": cross_entropy, "metrics": [metric]}

    def plain_compile_arguments(self) -> dict[str, Any]:
        """``loss`` and ``metrics`` of a saved model: Keras's own, on targets as the data has them."""
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        }


class Classification(Task):
    """A class for an image: labels (B,)."""


class Segmentation(Task):
    """A class for every pixel: masks (B, H, W)."""

    @property
    def network(self) -> Any:
        return wavemix_tf.WaveMixSegmenter

    def _output_shape(self) -> tuple[int, ...]:
        return (*self.recipe.image_shape[:2], self.num_classes)

    def _output_name(self) -> str:
        return f"{self.num_classes} logits for every pixel"

    def augmenter(self, crop: bool, framework: str) -> Any:
        return MaskAugmenter(self.recipe, framework)

    def targets(self, labels: Any, framework: str) -> Any:
        return labels

    def smoothed(self, targets: Any) -> Any:
        return targets

    def compile_arguments(self) -> dict[str, Any]:
        loss = PixelCrossEntropy(self.recipe.void, self.recipe.label_smoothing)
        return {**self.plain_compile_arguments(), "loss": loss}

    def plain_compile_arguments(self) -> dict[str, Any]:
        # One confusion matrix over all batches, without the void pixels: means of images' IoUs are another number.
        iou = keras.metrics.MeanIoU(
            self.num_classes, ignore_class=self.recipe.void, sparse_y_pred=False, name="mean_iou"
        )
        set_larger_is_better(iou)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=self.recipe.void)
        return {"loss": loss, "metrics": [iou]}


class SuperResolution(Task):
    """An enlarged image: targets RGB (B, scale*H, scale*W, 3) in [0, 1]."""

    @property
    def network(self) -> Any:
        return wavemix_tf.WaveMixSuperResolver

    def _arguments(self) -> dict[str, Any]:
        return {"scale": self.recipe.scale, "image_shape": self.recipe.image_shape}

    def _output_shape(self) -> tuple[int, ...]:
        height, width, channels = self.recipe.image_shape
        return (self.recipe.scale * height, self.recipe.scale * width, channels)

    def _output_name(self) -> str:
        return f"images {self.recipe.scale} times as large"

    def augmenter(self, crop: bool, framework: str) -> Any:
        return PairAugmenter(self.recipe, framework)

    def targets(self, labels: Any, framework: str) -> Any:
        return labels

    def smoothed(self, targets: Any) -> Any:
        return targets

    def compile_arguments(self) -> dict[str, Any]:
        return self.plain_compile_arguments()

    def plain_compile_arguments(self) -> dict[str, Any]:
        # The absolute error gives sharper pictures than its square (Lim et al., EDSR, arXiv 1707.02921, section 4.2).
        return {"loss": keras.losses.MeanAbsoluteError(), "metrics": [LumaPSNR(shave=self.recipe.scale)]}


TASKS = {
    "classification": Classification,
    "segmentation": Segmentation,
    "super_resolution": SuperResolution,
}


def task_of(recipe: Recipe, num_classes: int) -> Task:
    """The task of a recipe on data of so many classes."""
    return TASKS[recipe.task](recipe, num_classes)


class PixelCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy of the pixels that have a class; the void ones do not thin it out.

    Args:
        ignore_index: Value of a mask without a class; None: all have one.
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
