"""What differs from task to task, one class for each: a new task is a class here and a row of `TASKS`.

A task says what its targets look like, its metric, its loss, its augmentation, how a network is built and checked, and
what its reports count. A kind of target that no task has yet also needs a reader in ``training/data/datasets.py``.
Loads no Keras: listing recipes needs none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wavemix_tf.preprocessing import NONE, Preprocessing

from .array_checks import check_pixels, is_one_hot

if TYPE_CHECKING:
    from .recipe import Recipe

# What `run` exports: target, dtype. A microcontroller has no room for the images that others return: `export` tries.
EXPORTS = (("android-cpu", "float32"), ("android-cpu", "int8"), ("android-gpu", "float16"), ("mcu", "int8"))
PICTURE_EXPORTS = EXPORTS[:3]
MASK_FIELDS = ("mask_name", "mask_values", "mask_void", "mask_resize")
MOVING_FIELDS = ("shift", "rotation", "zoom", "crop_area", "policy", "mixup", "cutmix", "erase")


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of target, and how a network learns it.

    Attributes:
        recipe: Of the run.
        num_classes: K; 0 where the targets are images.
        name: As in ``Recipe.task``.
        metric: Chooses the best epoch; larger is better.
        metric_title: As reports name it.
        metric_unit: "%" of a share, or "dB".
        targets: "labels", "masks" or "images": what the data is read as.
        target_dtype, target_rank: Of a batch of targets as the data has them.
        has_classes: Whether the targets are classes.
        large_outputs: Whether a network returns as much as an image: too much to be kept for a whole test set.
        keeps_size: Whether an image of another size is run as it is, tile by tile, instead of being resized.
        soft_targets: Whether the augmenter takes shares of the classes (B, K), which carry an image's weight with them.
        example_unit: What the size of a set counts.
        class_unit: What the counts of the classes count.
        excluded_fields: Fields of a recipe that the task's targets do not have, or augmentation they do not follow.
        channels: Of the images that a network may take.
        network_name: Name of the ``network``.
        exports: (target, dtype) of each file that ``run`` makes.
        takes_normalize: Whether its networks take a mean and std by which they standardise images.
        default_shape: (height, width, channels) of a published network on own images, where it has none of its own.
        default_classes: Their number, likewise.
        folder_recipe: Named recipe that own images begin from; "" for the command's own defaults.
        folder_changes: Fields that it does not share with own images.
        one_device: What is said where several devices are to train it; "" where they can.
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

    # --- of a recipe, before there is data ---

    @classmethod
    def preprocessing(cls, recipe: Recipe) -> Preprocessing:
        """How images are brought to the network's size."""
        return Preprocessing(crop_to_aspect_ratio=recipe.crop_to_aspect_ratio)

    @classmethod
    def known_classes(cls, recipe: Recipe) -> int | None:
        """Number of classes that the recipe says; 0 without classes, None where the data says."""
        return recipe.num_classes or len(recipe.mask_values) or None

    @classmethod
    def output_classes(cls, output_shape: tuple[int | None, ...]) -> int | None:
        """Number of classes that a model with this output tells apart; 0 without classes."""
        return output_shape[-1]

    @classmethod
    def void(cls, recipe: Recipe) -> int | None:
        """Value of the targets that has no class; None: all have one."""
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
        """The targets of images as the data has them, one-hot ones as class numbers.

        Args:
            recipe: Of the run.
            targets: (N, ...).
            image_shape: (N, H, W, C) of the images.
            classes: How many there are; None: not known.
            where: What messages call the arrays.
            received: What messages say of them.

        Raises:
            ValueError: another shape or dtype.
        """
        raise NotImplementedError

    # --- the network ---

    @property
    def network(self) -> Any:
        """Class of this package that a recipe without a named model builds."""
        import wavemix_tf

        return getattr(wavemix_tf, self.network_name)

    def build(self) -> Any:
        """The network of the recipe, freshly initialised."""
        import wavemix_tf

        options = {**self._arguments(), **self.recipe.model_args}
        if self.recipe.dtype_policy != "float32":
            options["dtype"] = self.recipe.dtype_policy
        return wavemix_tf.build_model(self.recipe.model or self.network_name, **options)

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
        raise NotImplementedError

    def _output_name(self) -> str:
        """What a model must return, in words."""
        raise NotImplementedError

    # --- training ---

    def check_devices(self, count: int) -> None:
        """ValueError if so many devices cannot train it."""
        if count > 1 and self.one_device:
            raise ValueError(f"{self.one_device}. Received: task={self.recipe.task!r}, devices={count}")

    def augmenter(self, crop: bool, framework: str) -> Any:
        """Callable (images, targets, seed) -> the same, augmented; see ``Augmenter``."""
        raise NotImplementedError

    def augmenter_targets(self, labels: Any, framework: str) -> Any:
        """What the augmenter takes, of a batch of labels; tensors of TensorFlow, or NumPy arrays for other backends."""
        return labels

    def smoothed(self, targets: Any) -> Any:
        """Targets as the loss takes them, of those that the augmenter returned."""
        return targets

    def compile_arguments(self) -> dict[str, Any]:
        """``loss`` and ``metrics`` for training."""
        return self.plain_compile_arguments()

    def plain_compile_arguments(self) -> dict[str, Any]:
        """``loss`` and ``metrics`` of a saved model: Keras's own or the core's, on targets as the data has them."""
        raise NotImplementedError


class Classification(Task):
    """A class for an image: labels (B,)."""

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
        labels = targets.reshape(len(targets), -1)
        if labels.shape[1] > 1 and is_one_hot(labels, classes):
            return labels.argmax(-1)
        if labels.shape[1] != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                "Labels must be integers, one an image, or one-hot rows of 0 and 1 (mixup, cutmix and label_smoothing "
                f"make soft ones). Received: {received}"
            )
        return labels[:, 0].astype(np.int64)

    def _output_shape(self) -> tuple[int, ...]:
        return (self.num_classes,)

    def _output_name(self) -> str:
        return f"{self.num_classes} logits, one a class"

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

        from .losses import accuracy, cross_entropy

        metric = keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")
        set_larger_is_better(metric)
        return {"loss": cross_entropy, "metrics": [metric]}

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
        "Several devices train classifiers and super-resolution: the IoU of masks is that of one confusion matrix, "
        "which they would have to share"
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

        # One confusion matrix over all batches, without the void pixels: means of images' IoUs are another number.
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

        # The absolute error gives sharper pictures than its square (Lim et al., EDSR, arXiv 1707.02921, section 4.2).
        return {"loss": keras.losses.MeanAbsoluteError(), "metrics": [LumaPSNR(shave=self.recipe.scale)]}


TASKS: Mapping[str, type[Task]] = MappingProxyType(
    {task.name: task for task in (Classification, Segmentation, SuperResolution)}
)
METRICS = tuple(task.metric for task in TASKS.values())


def task_type(recipe: Recipe) -> type[Task]:
    """The task of a recipe, before the number of classes is known."""
    return TASKS[recipe.task]


def task_of(recipe: Recipe, num_classes: int) -> Task:
    """The task of a recipe on data of so many classes."""
    return task_type(recipe)(recipe, num_classes)
