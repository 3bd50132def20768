"""The tasks, one class each: a new task is a class here and a row of `TASKS`.

A task defines its targets, metric, loss and augmentation, how a network is built and checked, and what its reports
count. A new kind of target also needs a reader in ``training/data/datasets.py``. Imports neither Keras nor NumPy:
listing recipes does not need them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from wavemix_tf.preprocessing import NONE, Preprocessing

if TYPE_CHECKING:
    import numpy as np

    from .recipe import Recipe

# Exports of `run`: target, dtype. Other tasks return images, which do not fit a microcontroller: no mcu (see `export`).
EXPORTS = (("android-cpu", "float32"), ("android-cpu", "int8"), ("android-gpu", "float16"), ("mcu", "int8"))
PICTURE_EXPORTS = EXPORTS[:3]
MASK_FIELDS = ("mask_name", "mask_values", "mask_void", "mask_resize")
MOVING_FIELDS = ("shift", "rotation", "zoom", "crop_area", "policy", "mixup", "cutmix", "erase")


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of target, and how a network learns it.

    Attributes:
        recipe: The recipe of the run.
        num_classes: K; 0 if the targets are images.
        name: As in ``Recipe.task``.
        metric: Chooses the best epoch; larger is better.
        metric_title: Name of the metric in reports.
        metric_unit: "%" for a share, or "dB".
        targets: Kind of targets in the data: "labels", "masks" or "images".
        target_dtype, target_rank: Dtype and rank of a batch of targets in the data.
        has_classes: Whether the targets are classes.
        large_outputs: Whether the outputs are as large as images: too large to keep for a whole test set.
        keeps_size: Whether an image of another size is processed in tiles, instead of being resized.
        soft_targets: Whether the augmenter takes shares of the classes (B, K), which include an image's weight.
        example_unit: Unit of the size of a set.
        class_unit: Unit of the class counts.
        excluded_fields: Recipe fields that do not apply to the task's targets, or augmentation that cannot move them.
        channels: Numbers of channels that a network's images may have.
        network_name: Name of the ``network``.
        exports: (target, dtype) of each file that ``run`` writes.
        takes_normalize: Whether its networks take a mean and std to standardize images.
        default_shape: (height, width, channels) of a published network on the user's images, if the variant has none.
        default_classes: Number of classes for the same case.
        folder_recipe: Named recipe that the user's images start from; "" for the command's defaults.
        folder_changes: Fields of that recipe that are replaced for the user's images.
        one_device: Error message if several devices are to train it; "" if they can.
    """

    recipe: Recipe
    num_classes: int

    name: ClassVar[str]
    metric: ClassVar[str]
    metric_title: ClassVar[str]
    metric_unit: ClassVar[str]
    targets: ClassVar[str]
    target_dtype: ClassVar[str]
    target_rank: ClassVar[int]
    has_classes: ClassVar[bool] = True
    large_outputs: ClassVar[bool] = True
    keeps_size: ClassVar[bool] = False
    soft_targets: ClassVar[bool] = False
    example_unit: ClassVar[str] = "images"
    class_unit: ClassVar[str] = "images"
    excluded_fields: ClassVar[tuple[str, ...]] = ()
    channels: ClassVar[tuple[int, ...]] = (1, 3)
    network_name: ClassVar[str]
    one_device: ClassVar[str] = ""
    exports: ClassVar[tuple[tuple[str, str], ...]] = PICTURE_EXPORTS
    takes_normalize: ClassVar[bool] = True
    default_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)
    default_classes: ClassVar[int | None] = None
    folder_recipe: ClassVar[str] = ""
    folder_changes: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    # --- before the data is loaded ---

    @classmethod
    def preprocessing(cls, recipe: Recipe) -> Preprocessing:
        """How images are brought to the network's size."""
        return Preprocessing(crop_to_aspect_ratio=recipe.crop_to_aspect_ratio)

    @classmethod
    def known_classes(cls, recipe: Recipe) -> int | None:
        """Number of classes that the recipe states; 0 without classes, None if the data determines it."""
        return recipe.num_classes or len(recipe.mask_values) or None

    @classmethod
    def output_classes(cls, output_shape: tuple[int | None, ...]) -> int | None:
        """Number of classes of a model with this output; 0 without classes."""
        return output_shape[-1]

    @classmethod
    def void(cls, recipe: Recipe) -> int | None:
        """Target value without a class; None: every value has a class."""
        return None

    @classmethod
    def check_targets(
        cls,
        recipe: Recipe,
        targets: np.ndarray,
        image_shape: tuple[int, ...],
        classes: int | None,
        where: str,
        received: str,
    ) -> np.ndarray:
        """Check the targets of images and return them; one-hot targets become class numbers.

        Args:
            recipe: The recipe of the run.
            targets: (N, ...).
            image_shape: (N, H, W, C) of the images.
            classes: Number of classes; None: unknown.
            where: Name of the arrays in messages.
            received: Description of the arrays in messages.

        Raises:
            ValueError: wrong shape or dtype.
        """
        raise NotImplementedError

    # --- the network ---

    @property
    def network(self) -> Any:
        """Network class of this package for a recipe without a named model."""
        import wavemix_tf

        return getattr(wavemix_tf, self.network_name)

    def build(self) -> Any:
        """Build the network of the recipe, with initial weights."""
        import wavemix_tf

        from .dtypes import chosen_policy

        options = {**self._arguments(), **self.recipe.model_args}
        policy = chosen_policy(self.recipe.dtype_policy)
        if policy != "float32":
            options["dtype"] = policy
        return wavemix_tf.build_model(self.recipe.model or self.network_name, **options)

    def _arguments(self) -> dict[str, Any]:
        return {"num_classes": self.num_classes, "image_shape": self.recipe.image_shape}

    def check_model(self, model: Any) -> None:
        """Raise ValueError unless a model takes the recipe's images and its output fits the task's loss."""
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
        raise NotImplementedError

    def _output_name(self) -> str:
        """What a model must return, in words."""
        raise NotImplementedError

    # --- training ---

    def check_devices(self, count: int) -> None:
        """Raise ValueError if this number of devices cannot train the task."""
        if count > 1 and self.one_device:
            raise ValueError(f"{self.one_device}. Received: task={self.recipe.task!r}, devices={count}")

    def augmenter(self, crop: bool, framework: str) -> Any:
        """Callable (images, targets, seed) -> the same, augmented; see ``Augmenter``."""
        raise NotImplementedError

    def augmenter_targets(self, labels: Any, framework: str) -> Any:
        """Convert a batch of labels for the augmenter: TensorFlow tensors, or NumPy arrays for other backends."""
        return labels

    def smoothed(self, targets: Any) -> Any:
        """Convert targets that the augmenter returned to those of the loss."""
        return targets

    def compile_arguments(self) -> dict[str, Any]:
        """``loss`` and ``metrics`` for training."""
        return self.plain_compile_arguments()

    def plain_compile_arguments(self) -> dict[str, Any]:
        """``loss`` and ``metrics`` of a saved model, from Keras or the core package, for unconverted targets."""
        raise NotImplementedError


class Classification(Task):
    """One class per image: labels (B,)."""

    name = "classification"
    metric, metric_title, metric_unit = "accuracy", "top-1", "%"
    targets = "labels"
    target_dtype, target_rank = "int64", 1
    large_outputs = False
    soft_targets = True
    excluded_fields = ("smallest_scale", "largest_scale", *MASK_FIELDS)
    network_name = "WaveMixClassifier"
    exports = EXPORTS
    default_classes = 10

    @classmethod
    def check_targets(
        cls,
        recipe: Recipe,
        targets: np.ndarray,
        image_shape: tuple[int, ...],
        classes: int | None,
        where: str,
        received: str,
    ) -> np.ndarray:
        from .array_checks import is_one_hot

        labels = targets.reshape(len(targets), -1)
        if labels.shape[1] > 1 and is_one_hot(labels, classes):
            return labels.argmax(-1)
        if labels.shape[1] != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                "Labels must be integers, one per image, or one-hot rows of 0 and 1 (mixup, cutmix and label_smoothing "
                f"make soft labels). Received: {received}"
            )
        return labels[:, 0].astype("int64")

    def _output_shape(self) -> tuple[int, ...]:
        return (self.num_classes,)

    def _output_name(self) -> str:
        return f"{self.num_classes} logits, one per class"

    def augmenter(self, crop: bool, framework: str) -> Any:
        from .augment import Augmenter

        return Augmenter(self.recipe, crop=crop, framework=framework)

    def augmenter_targets(self, labels: Any, framework: str) -> Any:
        if framework == "tensorflow":
            import tensorflow as tf

            return tf.one_hot(tf.reshape(labels, [-1]), self.num_classes)
        from keras import ops

        return ops.one_hot(ops.reshape(ops.convert_to_tensor(labels), (-1,)), self.num_classes)

    def smoothed(self, targets: Any) -> Any:
        """Spread ``label_smoothing`` of each label over all classes (Szegedy et al., arXiv 1512.00567)."""
        share = self.recipe.label_smoothing
        return targets * (1.0 - share) + share / self.num_classes

    def compile_arguments(self) -> dict[str, Any]:
        import keras

        from wavemix_tf.keras_internals import set_larger_is_better

        from .losses import Distillation, accuracy, cross_entropy

        metric = keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")
        set_larger_is_better(metric)
        recipe = self.recipe
        taught = recipe.teacher is not None
        loss = Distillation(recipe.teacher_weight, recipe.teacher_temperature) if taught else cross_entropy
        return {"loss": loss, "metrics": [metric]}

    def plain_compile_arguments(self) -> dict[str, Any]:
        import keras

        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        }


class Segmentation(Task):
    """A class for every pixel: masks (B, H, W)."""

    name = "segmentation"
    metric, metric_title, metric_unit = "mean_iou", "mIoU", "%"
    targets = "masks"
    target_dtype, target_rank = "int32", 3
    class_unit = "pixels"
    excluded_fields = MOVING_FIELDS
    network_name = "WaveMixSegmenter"
    default_classes = 20
    folder_recipe = "camvid"
    folder_changes = MappingProxyType({"ignore_index": 255, "num_classes": None})
    one_device = (
        "Segmentation must be trained on one device: the IoU comes from one confusion matrix, which several devices "
        "would have to share"
    )

    @classmethod
    def void(cls, recipe: Recipe) -> int | None:
        return recipe.void

    @classmethod
    def check_targets(
        cls,
        recipe: Recipe,
        targets: np.ndarray,
        image_shape: tuple[int, ...],
        classes: int | None,
        where: str,
        received: str,
    ) -> np.ndarray:
        from .array_checks import is_one_hot

        masks, sides = targets, image_shape[1:3]
        if masks.ndim == 4 and masks.shape[-1] == 1:
            masks = masks[..., 0]
        elif masks.ndim == 4 and is_one_hot(masks, classes):
            masks = masks.argmax(-1)
        if masks.shape[1:] != sides or masks.dtype.kind not in "iu":
            raise ValueError(
                f"Masks must be integers (N, {', '.join(map(str, sides))}), or one-hot. Received: {received}"
            )
        return masks

    def _output_shape(self) -> tuple[int, ...]:
        return (*self.recipe.image_shape[:2], self.num_classes)

    def _output_name(self) -> str:
        return f"{self.num_classes} logits for every pixel"

    def augmenter(self, crop: bool, framework: str) -> Any:
        from .augment import MaskAugmenter

        return MaskAugmenter(self.recipe, framework)

    def compile_arguments(self) -> dict[str, Any]:
        from .losses import PixelCrossEntropy

        loss = PixelCrossEntropy(self.recipe.void, self.recipe.label_smoothing)
        return {**self.plain_compile_arguments(), "loss": loss}

    def plain_compile_arguments(self) -> dict[str, Any]:
        import keras

        from wavemix_tf.keras_internals import set_larger_is_better

        # One confusion matrix over all batches, without the void pixels: the mean of the images' IoUs would differ.
        iou = keras.metrics.MeanIoU(
            self.num_classes, ignore_class=self.recipe.void, sparse_y_pred=False, name="mean_iou"
        )
        set_larger_is_better(iou)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=self.recipe.void)
        return {"loss": loss, "metrics": [iou]}


class SuperResolution(Task):
    """An enlarged image: targets RGB (B, scale*H, scale*W, 3) in [0, 1]."""

    name = "super_resolution"
    metric, metric_title, metric_unit = "psnr_y", "PSNR-Y", "dB"
    targets = "images"
    target_dtype, target_rank = "float32", 4
    has_classes = False
    keeps_size = True
    example_unit = "patches"
    excluded_fields = (
        *MOVING_FIELDS,
        *("smallest_scale", "largest_scale", "brightness", "contrast", "saturation", "label_smoothing"),
        *MASK_FIELDS,
    )
    channels = (3,)
    network_name = "WaveMixSuperResolver"
    takes_normalize = False
    default_shape = (48, 48, 3)
    folder_recipe = "super_resolution_x2"

    @classmethod
    def preprocessing(cls, recipe: Recipe) -> Preprocessing:
        return Preprocessing(NONE)  # patches are cut out

    @classmethod
    def known_classes(cls, recipe: Recipe) -> int | None:
        return 0

    @classmethod
    def output_classes(cls, output_shape: tuple[int | None, ...]) -> int | None:
        return 0

    @classmethod
    def check_targets(
        cls,
        recipe: Recipe,
        targets: np.ndarray,
        image_shape: tuple[int, ...],
        classes: int | None,
        where: str,
        received: str,
    ) -> np.ndarray:
        from .array_checks import check_pixels

        shape = (*(recipe.scale * side for side in image_shape[1:3]), image_shape[3])
        if targets.shape[1:] != shape:
            raise ValueError(f"Targets must be images (N, {', '.join(map(str, shape))}). Received: {received}")
        check_pixels(targets, where, "target")
        return targets

    def _arguments(self) -> dict[str, Any]:
        return {"scale": self.recipe.scale, "image_shape": self.recipe.image_shape}

    def _output_shape(self) -> tuple[int, ...]:
        height, width, channels = self.recipe.image_shape
        return (self.recipe.scale * height, self.recipe.scale * width, channels)

    def _output_name(self) -> str:
        return f"images {self.recipe.scale} times as large"

    def augmenter(self, crop: bool, framework: str) -> Any:
        from .augment import PairAugmenter

        return PairAugmenter(self.recipe, framework)

    def plain_compile_arguments(self) -> dict[str, Any]:
        import keras

        from wavemix_tf.metrics import LumaPSNR

        # The absolute error gives sharper images than the squared error (Lim et al., EDSR, arXiv 1707.02921, sec. 4.2).
        return {"loss": keras.losses.MeanAbsoluteError(), "metrics": [LumaPSNR(shave=self.recipe.scale)]}


TASKS: Mapping[str, type[Task]] = MappingProxyType(
    {task.name: task for task in (Classification, Segmentation, SuperResolution)}
)
METRICS = tuple(task.metric for task in TASKS.values())


def task_type(recipe: Recipe) -> type[Task]:
    """The task of a recipe, before the number of classes is known."""
    return TASKS[recipe.task]


def task_of(recipe: Recipe, num_classes: int) -> Task:
    """The task of a recipe on data with this number of classes."""
    return task_type(recipe)(recipe, num_classes)
