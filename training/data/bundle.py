"""`DataBundle`: the train, validation, test and calibration images of one dataset."""

from __future__ import annotations

import dataclasses
import functools
import math
import unicodedata
from typing import Any

import numpy as np

from ..recipe import Recipe
from .identity import CALIBRATION, SETS
from .listing import first_names
from .sources import ArraySource, float_array, target_array

EVALUATION_BATCH = 256
EVALUATION_PIXELS = 1 << 20  # per batch: the activations for large images take gigabytes
NO_TEST_SET = "The data must have a test set to be tested. Received: arrays without one"
SAMPLE_BYTES = 1 << 30  # limit of the images that `DataBundle.sample` returns
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")  # Unicode categories: control characters, surrogates, line separators


@dataclasses.dataclass(frozen=True)
class DataBundle:
    """The sets of one dataset. They are disjoint, except that small datasets calibrate with training images.

    Attributes:
        class_names: Name of each label; empty if the targets are images.
        image_shape: (height, width, channels) of every image.
        calibration: float32 (N, H, W, C) in [0, 1], for quantization.
        notes: What was done to the data: images skipped, converted, resized.
        left_out: (path, reason) of every skipped image of a folder.
        calibration_source: Source of ``calibration``; None if the images were passed directly.
        calibration_shared: Whether these images are also trained on, because there are few images.
        dealt: Which of "validation" and "test" were split from a folder's training images.
        train_source, validation_source, test_source: See ``wavemix_tf.training.data.sources``; ``fit`` shuffles and
            augments the first. The test source is None for arrays without a test set.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_source: Any
    validation_source: Any
    test_source: Any
    calibration: np.ndarray
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    calibration_source: Any = None
    calibration_shared: bool = False
    dealt: tuple[str, ...] = ()

    @property
    def train(self) -> Any:
        """tf.data of batches (images float32 (B, H, W, C) in [0, 1], targets): in order, not augmented.

        Targets are labels int64 (B,), masks int32 (B, H, W), or the enlarged images float32 (B, s*H, s*W, C).
        """
        return self.train_source.batches(self._batch)

    @property
    def validation(self) -> Any:
        """As ``train``; chooses the best epoch."""
        return self.validation_source.batches(self._batch)

    @property
    def test(self) -> Any:
        """As ``train``; read it once, after training."""
        if self.test_source is None:
            raise ValueError(NO_TEST_SET)
        return self.test_source.batches(self._batch)

    @property
    def _batch(self) -> int:
        return max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // math.prod(self.image_shape[:2])))

    @property
    def validation_arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The validation set as (images float32, targets), or None if it is streamed."""
        return _float_arrays(self.validation_source)

    @property
    def test_arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The test set as (images float32, targets), or None if it is streamed."""
        return _float_arrays(self.test_source)

    def sample(self, split: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Return images of a split in an order in which any leading part is a fair sample.

        Args:
            split: "validation" or "test".
            limit: Largest number of images; ``SAMPLE_BYTES`` limits it further.

        Returns:
            float32 (N, H, W, C) in [0, 1], and the targets: see ``train``.
        """
        source = {"validation": self.validation_source, "test": self.test_source}[split]
        if source is None:
            raise ValueError(NO_TEST_SET)
        limit = min(limit, max(SAMPLE_BYTES // (4 * int(np.prod(self.image_shape))), 1))
        images, labels = source.sample(limit)
        return float_array(images), target_array(labels)

    def fingerprint(self) -> dict[str, Any]:
        """Classes, sizes and checksums, in JSON types; a resumed or finished run must find the same again."""
        found: dict[str, Any] = {"classes": list(self.class_names)}
        for name in (*SETS, CALIBRATION):
            source = self._set_aside if name == CALIBRATION else getattr(self, f"{name}_source")
            if source is None:
                found[name] = None
                continue
            origin = source.origin_checksum() if isinstance(source, ArraySource) else None
            found[name] = {"size": source.size, "checksum": source.checksum(), "origin": origin}
        return found

    @property
    def _set_aside(self) -> Any:
        """The source of the held-out calibration images; None if there are none."""
        if self.calibration_shared or not len(self.calibration):
            return None
        if self.calibration_source is not None:
            return self.calibration_source
        return ArraySource(self.calibration, np.zeros(len(self.calibration), np.int64))

    @functools.cached_property
    def class_counts(self) -> dict[str, list[int]]:
        """Set -> number of images (for masks: pixels) of each class, if known without reading the data."""
        found = {}
        for name in SETS:
            source = getattr(self, f"{name}_source")
            labels, counts = getattr(source, "labels", None), getattr(source, "counts", None)
            if counts is not None:
                found[name] = counts.sum(0).tolist()
            elif self.class_names and isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.ndim < 4:
                found[name] = _count(labels, len(self.class_names))
        return found


def _count(labels: np.ndarray, classes: int) -> list[int]:
    """Count each class; one mask at a time, because whole sets would be copied."""
    counts = np.zeros(classes, np.int64)
    for part in labels if labels.ndim > 1 else [labels]:
        values = part[(part >= 0) & (part < classes)]
        counts += np.bincount(values.reshape(-1).astype(np.int64), minlength=classes)
    return counts.tolist()


def _float_arrays(source: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if not isinstance(source, ArraySource):
        return None
    return float_array(source.images), target_array(source.labels)


def missing_classes(data: DataBundle, of_train: bool = False) -> list[str]:
    """Return notes about classes without an image (a pixel) in a split.

    Args:
        data: The data.
        of_train: Whether to include the training set; for folders and records an earlier check covers it.
    """
    notes = []
    for name, counts in data.class_counts.items():
        lacking = [label for label, count in zip(data.class_names, counts, strict=True) if not count]
        if lacking and (of_train or name != "train"):
            notes.append(f"the {name} set lacks {len(lacking):,} classes: {first_names(lacking)}")
    return notes


def check_sets(data: DataBundle) -> None:
    """Raise ValueError if an existing set has no images."""
    for name in SETS:
        source = getattr(data, f"{name}_source")
        if source is not None and not source.size:
            raise ValueError(f"Every set must contain images. Received: the {name} set is empty")


def check_classes(recipe: Recipe, class_names: tuple[str, ...]) -> None:
    """Raise ValueError unless the data has the recipe's number of classes, and at least two."""
    check_names(class_names)
    received = f"{recipe.dataset} has {len(class_names)}: {', '.join(class_names[:12])}"
    if len(class_names) < 2:
        raise ValueError(f"There must be at least two classes. Received: {received}")
    if recipe.num_classes is not None and recipe.num_classes != len(class_names):
        raise ValueError(
            "num_classes must be the number of classes in the data. Received: "
            f"num_classes={recipe.num_classes}, {received}"
        )


def check_names(class_names: tuple[str, ...]) -> None:
    """Raise ValueError if a name would break the lines of labels.txt, or of a terminal."""
    strange = [name for name in class_names if any(unicodedata.category(sign) in UNPRINTABLE for sign in name)]
    if strange:
        raise ValueError(
            "A class name must have no control characters and must be valid text: labels.txt has one name per line. "
            f"Received: {', '.join(map(ascii, strange[:8]))}"
        )
