"""What images, targets and weights pass before anything is trained or tested on them, whoever gave them.

Arrays pass it whole, a ``tf.data.Dataset`` or a ``keras.utils.PyDataset`` batch by batch. It scales uint8 images,
turns one-hot targets into labels and refuses what would be trained on in silence: other ranges, values that are no
numbers, labels that are no class.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from wavemix_tf.warning import warn_user

from ..array_checks import check_pixels, describe_array, nearly_black_arrays
from ..recipe import Recipe
from ..tasks import Task, task_type
from .sources import float_array, target_array

BATCHES = "Batches must be (images, targets) or (images, targets, weights)"


@dataclasses.dataclass(frozen=True)
class Gate:
    """The checks of one data set.

    Attributes:
        recipe: Says the images' shape and the task.
        classes: How many there are; None: as many as the labels show.
        name: What messages call the data.
        shape: (height, width, channels) of the images, None for a side that may have any length; None: the recipe's.
        warned: What was warned of.
    """

    recipe: Recipe
    classes: int | None = None
    name: str = "data"
    shape: tuple[int | None, ...] | None = None
    warned: list[str] = dataclasses.field(default_factory=list, compare=False, repr=False)

    def check_arrays(self, given: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int]:
        """Check arrays.

        Args:
            given: (images, targets) or (images, targets, weights), see ``check_parts``.

        Returns:
            (images, uint8 or float32; targets; weights or None; number of classes, 0 of pictures).
        """
        images, targets, weights = self.check_parts(given, self.name)
        if weights is not None and not weights.any():
            raise ValueError(f"Some weights must be above 0. Received: {self.name} with {len(weights)} weights of 0")
        known = self.classes or self._count(targets) if self._task.has_classes else 0
        self._warn_of_black(images)
        return images, targets, weights, known

    def check_batch(self, index: int, given: Any) -> tuple[np.ndarray, ...]:
        """Check one batch.

        Args:
            index: Its number, from 0.
            given: (images, targets) or (images, targets, weights), see ``check_parts``.

        Returns:
            float32 images in [0, 1], targets as the losses take them and, where there are some, float32 weights (B,).
        """
        images, targets, weights = self.check_parts(given, f"{self.name}, batch {index}")
        if index == 0:
            self._warn_of_black(images)
        found = (float_array(images), target_array(targets))
        return found if weights is None else (*found, weights)

    def check_parts(self, given: Any, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Images, targets and weights as arrays, checked.

        Args:
            given: Images (N, H, W, C), uint8 or floating point in [0, 1]; integer labels (N,) or (N, 1), or one-hot
                (N, classes); masks (N, H, W) or (N, H, W, 1), or one-hot (N, H, W, classes); or larger
                pictures; weights (N,) or (N, 1), one an image.
            where: What messages call it.

        Raises:
            ValueError: anything else.
        """
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError(f"{BATCHES}. Received: {where} with {structure(given)}")
        images, targets = (_array(part) for part in given[:2])
        received = f"{where} with images {describe_array(images)}, targets {describe_array(targets)}"
        shape = self.shape or self.recipe.image_shape
        if images.ndim == 3 and (_suits(images.shape, shape) or targets.ndim == 0):
            raise ValueError(f"{UNBATCHED}. Received: {received}")
        if not _suits(images.shape[1:], shape) or targets.ndim == 0 or len(images) != len(targets):
            raise ValueError(
                f"{where} must be images (N, *image_shape={shape}) and N labels or other targets. Received: {received}"
            )
        if not len(images):
            raise ValueError(f"{where} must hold images. Received: none")
        check_pixels(images, where, "image")
        targets = self._task.check_targets(self.recipe, targets, images.shape, self.classes, where, received)
        if self._task.has_classes and self.classes is not None:
            self._check_range(targets, self.classes, received)
        weights = None if len(given) == 2 else _weights(given[2], len(images), where)
        return images, targets, weights

    def _warn_of_black(self, images: np.ndarray) -> None:
        text = nearly_black_arrays(images, self.name)
        if text and text not in self.warned:  # once, not in every epoch
            self.warned.append(text)
            warn_user(text)

    @property
    def _task(self) -> type[Task]:
        return task_type(self.recipe)

    def _count(self, labels: np.ndarray) -> int:
        """Number of classes that labels of whole arrays show, each of which must occur."""
        recipe = self.recipe
        if recipe.num_classes is not None or recipe.mask_values:
            classes = recipe.num_classes or len(recipe.mask_values)
            self._check_range(labels, classes, self.name)
            return classes
        void = self._task.void(recipe)
        counted = labels if void is None else labels[labels != void]
        seen = np.unique(counted)
        classes = int(seen.max(initial=0)) + 1
        self._check_range(labels, max(classes, 2), self.name)
        if len(seen) < 2 or len(seen) < classes:
            shown = f"{', '.join(map(str, seen[:12]))}{', ...' if len(seen) > 12 else ''}"
            raise ValueError(
                "Labels must be 0, 1, 2, ... without gaps, and two or more, where the recipe has no num_classes: each "
                "number below the largest is a class (np.unique(labels, return_inverse=True) numbers them anew, "
                "num_classes says that there are more). "
                f"Received: {self.name} with the labels {shown}"
            )
        return classes

    def _check_range(self, labels: np.ndarray, classes: int, received: str) -> None:
        void = self._task.void(self.recipe)
        wrong = (labels < 0) | (labels >= classes)
        if void is not None:
            wrong &= labels != void
        if wrong.any():
            first = int(np.flatnonzero(wrong.reshape(len(labels), -1).any(1))[0])
            raise ValueError(
                f"Labels must be in [0, {classes}), with 2 classes or more. Received: {received}, labels from "
                f"{labels.min()} to {labels.max()}, the first wrong one in image {first}"
            )


UNBATCHED = "A data set must give batches: dataset.batch(batch_size) makes some"


def structure(given: Any) -> str:
    """What a batch is made of, for a message."""
    if isinstance(given, dict):
        keys = ", ".join(map(str, given))
        return f"a dict of {keys}: dataset.map(lambda batch: (batch[{next(iter(given), 'image')!r}], ...)) makes one"
    if isinstance(given, (tuple, list)):
        return f"{len(given)} parts"
    return f"a {type(given).__name__} alone"


def _suits(found: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    return len(found) == len(shape) and all(a in (None, b) for a, b in zip(shape, found, strict=True))


def _array(part: Any) -> np.ndarray:
    if isinstance(part, dict):
        raise ValueError(f"{BATCHES}. Received: {structure(part)} in one of them")
    if hasattr(part, "detach"):  # a tensor of PyTorch, perhaps on a device
        part = part.detach().cpu()
    array = np.asarray(part)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _weights(weights: Any, count: int, where: str) -> np.ndarray:
    found = _array(weights)
    if found.size != count or found.ndim not in (1, 2) or len(found) != count or found.dtype.kind not in "iufb":
        raise ValueError(
            f"Weights must be numbers (N,), one an image; class_weight weighs the pixels of masks. Received: {where} "
            f"with weights {describe_array(found)} of {count} images"
        )
    found = found.reshape(count).astype(np.float32)
    wrong = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if len(wrong):
        raise ValueError(
            f"Weights must be finite and 0 or more. Received: {where} with {found[wrong[0]]} for image {wrong[0]}"
        )
    return found
