"""Checks of the user's images, targets and weights before training or testing.

Arrays are checked as a whole, a ``tf.data.Dataset`` or a ``keras.utils.PyDataset`` batch by batch. The gate scales
uint8 images, turns one-hot targets into labels, and refuses data that would train without an error: wrong ranges,
values that are not finite, labels without a class.
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
    """The checks of one dataset.

    Attributes:
        recipe: Gives the shape of the images and the task.
        classes: Number of classes; None: derived from the labels.
        name: Name of the data in messages.
        shape: (height, width, channels) of the images, None for a side of any length; None: the recipe's shape.
        warned: Warnings already issued.
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
            (images, uint8 or float32; targets; weights or None; number of classes, 0 if the targets are images).
        """
        images, targets, weights = self.check_parts(given, self.name)
        if weights is not None and not weights.any():
            raise ValueError(f"A weight must be above 0. Received: {self.name} with {len(weights)} weights of 0")
        known = self.classes or self._count(targets) if self._task.has_classes else 0
        self._warn_of_black(images)
        return images, targets, weights, known

    def check_batch(self, index: int, given: Any) -> tuple[np.ndarray, ...]:
        """Check one batch.

        Args:
            index: Number of the batch, from 0.
            given: (images, targets) or (images, targets, weights), see ``check_parts``.

        Returns:
            float32 images in [0, 1], targets for the losses and, if given, float32 weights (B,).
        """
        images, targets, weights = self.check_parts(given, f"{self.name}, batch {index}")
        if index == 0:
            self._warn_of_black(images)
        found = (float_array(images), target_array(targets))
        return found if weights is None else (*found, weights)

    def check_parts(self, given: Any, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Check images, targets and weights, and return them as arrays.

        Args:
            given: Images (N, H, W, C), uint8 or floating point in [0, 1]; integer labels (N,) or (N, 1), or one-hot
                (N, classes); masks (N, H, W) or (N, H, W, 1), or one-hot (N, H, W, classes); or enlarged images;
                weights (N,) or (N, 1), one per image.
            where: Name of the data in messages.

        Raises:
            ValueError: any other shape, dtype or value.
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
            raise ValueError(f"{where} must contain images. Received: none")
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
        """Number of classes in the labels of whole arrays; each class must occur."""
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
                "Labels must be 0, 1, 2, ... without gaps, and two or more, if the recipe has no num_classes: each "
                "number below the largest is a class (np.unique(labels, return_inverse=True) renumbers them; "
                "num_classes allows more classes). "
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
                f"{labels.min()} to {labels.max()}, the first invalid one in image {first}"
            )


UNBATCHED = "A dataset must yield batches: use dataset.batch(batch_size)"


def structure(given: Any) -> str:
    """Describe the structure of a batch for a message."""
    if isinstance(given, dict):
        keys = ", ".join(map(str, given))
        return f"a dict of {keys}: use dataset.map(lambda batch: (batch[{next(iter(given), 'image')!r}], ...))"
    if isinstance(given, (tuple, list)):
        return f"{len(given)} parts"
    return f"a single {type(given).__name__}"


def _suits(found: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    return len(found) == len(shape) and all(a in (None, b) for a, b in zip(shape, found, strict=True))


def _array(part: Any) -> np.ndarray:
    if isinstance(part, dict):
        raise ValueError(f"{BATCHES}. Received: {structure(part)} in one of them")
    if hasattr(part, "detach"):  # a PyTorch tensor, perhaps on a device
        part = part.detach().cpu()
    array = np.asarray(part)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _weights(weights: Any, count: int, where: str) -> np.ndarray:
    found = _array(weights)
    if found.size != count or found.ndim not in (1, 2) or len(found) != count or found.dtype.kind not in "iufb":
        raise ValueError(
            f"Weights must be numbers (N,), one per image; class_weight weights the pixels of masks. Received: {where} "
            f"with weights {describe_array(found)} of {count} images"
        )
    found = found.reshape(count).astype(np.float32)
    wrong = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if len(wrong):
        raise ValueError(
            f"Weights must be finite and 0 or more. Received: {where} with {found[wrong[0]]} for image {wrong[0]}"
        )
    return found
