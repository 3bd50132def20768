"""What images, targets and weights pass before anything is trained or tested on them, whoever gave them.

Arrays pass it whole, a ``tf.data.Dataset`` or a ``keras.utils.PyDataset`` batch by batch. It scales uint8 images,
turns one-hot targets into labels and refuses what would be trained on in silence: other ranges, values that are no
numbers, labels that are no class.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..recipe import Recipe
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
    """

    recipe: Recipe
    classes: int | None = None
    name: str = "data"
    shape: tuple[int | None, ...] | None = None

    def whole(self, given: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int]:
        """Check arrays.

        Args:
            given: (images, targets) or (images, targets, weights), see ``parts``.

        Returns:
            (images, uint8 or float32; targets; weights or None; number of classes, 0 of pictures).
        """
        images, targets, weights = self.parts(given, self.name)
        if weights is not None and not weights.any():
            raise ValueError(f"Some weights must be above 0. Received: {self.name} with {len(weights)} weights of 0")
        if self.recipe.task == "super_resolution":
            return images, targets, weights, 0
        return images, targets, weights, self.classes or self._count(targets)

    def batch(self, index: int, given: Any) -> tuple[np.ndarray, ...]:
        """Check one batch.

        Args:
            index: Its number, from 0.
            given: (images, targets) or (images, targets, weights), see ``parts``.

        Returns:
            float32 images in [0, 1], targets as the losses take them and, where there are some, float32 weights (B,).
        """
        images, targets, weights = self.parts(given, f"{self.name}, batch {index}")
        found = (float_array(images), target_array(targets))
        return found if weights is None else (*found, weights)

    def parts(self, given: Any, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
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
        received = f"{where} with images {_kind(images)}, targets {_kind(targets)}"
        shape = self.shape or self.recipe.image_shape
        if images.ndim == 3 and (_suits(images.shape, shape) or targets.ndim == 0):
            raise ValueError(f"{UNBATCHED}. Received: {received}")
        if not _suits(images.shape[1:], shape) or targets.ndim == 0 or len(images) != len(targets):
            raise ValueError(
                f"{where} must be images (N, *image_shape={shape}) and N labels or other targets. Received: {received}"
            )
        if not len(images):
            raise ValueError(f"{where} must hold images. Received: none")
        _check_pixels(images, where, "image")
        if self.recipe.task == "super_resolution":
            scale = self.recipe.scale
            self._check_pictures(
                targets, (*(scale * side for side in images.shape[1:3]), images.shape[3]), where, received
            )
        elif self.recipe.task == "segmentation":
            targets = self._masks(targets, images.shape[1:3], received)
        else:
            targets = self._labels(targets, received)
        if self.recipe.task != "super_resolution" and self.classes is not None:
            self._check_range(targets, self.classes, received)
        weights = None if len(given) == 2 else _weights(given[2], len(images), where)
        return images, targets, weights

    def _labels(self, labels: np.ndarray, received: str) -> np.ndarray:
        labels = labels.reshape(len(labels), -1)
        if labels.shape[1] > 1 and _is_one_hot(labels, self.classes):
            return labels.argmax(-1)
        if labels.shape[1] != 1 or labels.dtype.kind not in "iu":
            raise ValueError(
                "Labels must be integers, one an image, or one-hot rows of 0 and 1 (mixup, cutmix and label_smoothing "
                f"make soft ones). Received: {received}"
            )
        return labels[:, 0].astype(np.int64)

    def _masks(self, masks: np.ndarray, sides: tuple[int, ...], received: str) -> np.ndarray:
        if masks.ndim == 4 and masks.shape[-1] == 1:
            masks = masks[..., 0]
        elif masks.ndim == 4 and _is_one_hot(masks, self.classes):
            masks = masks.argmax(-1)
        if masks.shape[1:] != sides or masks.dtype.kind not in "iu":
            raise ValueError(
                f"Masks must be integers (N, {', '.join(map(str, sides))}), or one-hot. Received: {received}"
            )
        return masks

    def _check_pictures(self, pictures: np.ndarray, shape: tuple[int, ...], where: str, received: str) -> None:
        if pictures.shape[1:] != shape:
            raise ValueError(f"Targets must be images (N, {', '.join(map(str, shape))}). Received: {received}")
        _check_pixels(pictures, where, "target")

    def _count(self, labels: np.ndarray) -> int:
        """Number of classes that labels of whole arrays show, each of which must occur."""
        recipe = self.recipe
        if recipe.num_classes is not None or recipe.mask_values:
            classes = recipe.num_classes or len(recipe.mask_values)
            self._check_range(labels, classes, self.name)
            return classes
        counted = labels if recipe.void is None or recipe.task != "segmentation" else labels[labels != recipe.void]
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
        void = self.recipe.void if self.recipe.task == "segmentation" else None
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


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


def _check_pixels(images: np.ndarray, where: str, part: str) -> None:
    if images.dtype == np.uint8:
        return
    rule = "Images must be uint8, or floating point and finite"
    if images.dtype.kind != "f":
        raise ValueError(f"{rule}. Received: {where} with {part}s {_kind(images)}")
    low, high = (images.min(), images.max()) if images.size else (0.0, 0.0)
    if not np.isfinite(low) or not np.isfinite(high):
        first = int(np.flatnonzero(~np.isfinite(images).reshape(len(images), -1).all(1))[0])
        raise ValueError(f"{rule}. Received: {where} with a value that is no finite number in {part} {first}")
    if low < 0 or high > 1:
        wrong = ((images < 0) | (images > 1)).reshape(len(images), -1).any(1)
        raise ValueError(
            f"Floating-point images must be in [0, 1] (pixel / 255). Received: {where} from {low:.4g} to {high:.4g}, "
            f"the first outside in {part} {int(np.flatnonzero(wrong)[0])}"
        )


def _is_one_hot(rows: np.ndarray, classes: int | None) -> bool:
    if classes not in (None, rows.shape[-1]) or rows.dtype.kind not in "iufb":
        return False
    return bool(((rows == 0) | (rows == 1)).all() and (rows.sum(-1) == 1).all())


def _weights(weights: Any, count: int, where: str) -> np.ndarray:
    found = _array(weights)
    if found.size != count or found.ndim not in (1, 2) or len(found) != count or found.dtype.kind not in "iufb":
        raise ValueError(
            f"Weights must be numbers (N,), one an image; class_weight weighs the pixels of masks. Received: {where} "
            f"with weights {_kind(found)} of {count} images"
        )
    found = found.reshape(count).astype(np.float32)
    wrong = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if len(wrong):
        raise ValueError(
            f"Weights must be finite and 0 or more. Received: {where} with {found[wrong[0]]} for image {wrong[0]}"
        )
    return found
