"""`load_data`: images of a recipe as train, validation, test and calibration sets that never overlap."""

from __future__ import annotations

import dataclasses
import math
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .folders import scan_folder
from .recipe import Recipe
from .sources import (
    ArraySource,
    DatasetSource,
    FileSource,
    NumpySource,
    RecordSource,
    float_array,
    in_memory,
    target_array,
)

EVALUATION_BATCH = 256
EVALUATION_PIXELS = 1 << 20  # of a batch's images: what a network keeps of large ones takes gigabytes
NO_TEST_SET = "The data must have a test set to be tested. Received: arrays without one"
SAMPLE_BYTES = 1 << 30  # of images that `DataBundle.sample` returns
NETWORK_PROBE = "https://storage.googleapis.com"  # where TFDS keeps its own files
TEST_SEED = 0  # a test set carved out of the data is the same for every recipe's seed


@dataclasses.dataclass(frozen=True)
class DataBundle:
    """The four sets of one data set; no image is in two of them.

    Attributes:
        class_names: Name of each label; none where images are to be enlarged.
        image_shape: (height, width, channels) of every image.
        calibration: float32 (N, H, W, C) in [0, 1], for quantisation.
        notes: What was done to the data: images skipped, converted, resized.
        train_source, validation_source, test_source: See ``wavemix_tf.training.sources``; ``fit`` shuffles and
            augments from the first. The test source is None for arrays that came without a test set.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_source: Any
    validation_source: Any
    test_source: Any
    calibration: np.ndarray
    notes: tuple[str, ...] = ()

    @property
    def train(self) -> Any:
        """tf.data of batches (images float32 (B, H, W, C) in [0, 1], targets): in order, unaugmented.

        Targets are labels int64 (B,), masks int32 (B, H, W), or the enlarged images float32 (B, s*H, s*W, C).
        """
        return self.train_source.batches(self._batch)

    @property
    def validation(self) -> Any:
        """As ``train``; chooses the best epoch."""
        return self.validation_source.batches(self._batch)

    @property
    def test(self) -> Any:
        """As ``train``; to be read once, after training."""
        if self.test_source is None:
            raise ValueError(NO_TEST_SET)
        return self.test_source.batches(self._batch)

    @property
    def _batch(self) -> int:
        return max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // math.prod(self.image_shape[:2])))

    @property
    def validation_arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The validation set as (images float32, targets), or None where it is streamed."""
        return _float_arrays(self.validation_source)

    @property
    def test_arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The test set as (images float32, targets), or None where it is streamed."""
        return _float_arrays(self.test_source)

    def sample(self, split: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Images of a split in an order of which any first part is a fair sample, whatever order the data has.

        Args:
            split: "validation" or "test".
            limit: Largest number of images; also no more than ``SAMPLE_BYTES`` hold.

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
        """What a resumed run must find again."""
        found: dict[str, Any] = {"classes": list(self.class_names)}
        for name, source in (("train", self.train_source), ("validation", self.validation_source)):
            found |= {name: source.size, f"{name}_checksum": source.checksum()}
        return found


def _float_arrays(source: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if not isinstance(source, ArraySource):
        return None
    return float_array(source.images), target_array(source.labels)


def load_data(recipe: Recipe) -> DataBundle:
    """The data of a recipe: decoded, resized, and split with the recipe's seed.

    Validation and calibration images, and test images where the data has no test split, are taken out of the training
    images class by class. A TFDS set that is streamed gives its first records instead (TFDS shuffled them).

    Args:
        recipe: Fields ``dataset`` to ``download`` say what to read and how.

    Returns:
        A ``DataBundle``.

    Raises:
        ValueError: unknown data set, wrong number of classes, too few images, an unreadable image.
        FileNotFoundError: the data is not on this machine and ``recipe.download`` is False.

    Example:
    >>> data = wm.training.load_data(wm.training.RECIPES["digits"])
    """
    if recipe.task == "segmentation":
        return _load_masks(recipe)
    if recipe.task == "super_resolution":
        return _load_pictures(recipe)
    if recipe.dataset == "folder":
        folder = scan_folder(recipe)
        check_classes(recipe, folder.class_names)
        splits: list[Any] = [folder.train, folder.validation, folder.test]
        notes = list(folder.notes)
        if in_memory(recipe, sum(source.size for source in splits if source is not None)):
            splits = [_decoded(source, recipe, notes) for source in splits]
        return _split(recipe, splits[0], splits[1], splits[2], folder.class_names, notes)

    builder = _prepared_builder(recipe)
    keys = _feature_names(builder, recipe)
    class_names = tuple(builder.info.features[keys[1]].names)
    check_classes(recipe, class_names)

    def split(name: str) -> RecordSource:
        return RecordSource(builder, name, keys, recipe.image_shape, recipe.crop_to_aspect_ratio)

    return _load_records(recipe, split, class_names)


def _load_records(recipe: Recipe, source: Any, class_names: tuple[str, ...]) -> DataBundle:
    """Of a TFDS data set; ``source``: name of a split -> ``RecordSource``."""

    def split(name: str) -> RecordSource:
        try:
            found = source(name)
            found.size  # noqa: B018
        except (ValueError, KeyError) as error:
            raise ValueError(f"{str(error).splitlines()[0]} Received: split {name!r} of {recipe.dataset}") from None
        return found

    train, test = split(recipe.train_split), split(recipe.test_split)
    images = train.size + test.size
    if in_memory(recipe, images + (images // recipe.image_shape[2] if train.has_masks else 0)):
        sources = [ArraySource(*one.arrays()) for one in (train, test)]
        return _split(recipe, sources[0], None, sources[1], class_names, [])
    return _split_records(recipe, split, train.size, test, class_names)


def _load_masks(recipe: Recipe) -> DataBundle:
    from .masks import MASKS_LOOKED_AT, check_masks, count_pixels, record_masks, scan_masks

    if recipe.dataset != "folder":
        class_names, source = record_masks(_prepared_builder(recipe), recipe)
        check_classes(recipe, class_names)
        data = _load_records(recipe, source, class_names)
        for part in (data.train_source, data.validation_source, data.test_source):
            whole = isinstance(part, ArraySource)
            masks = part.labels if whole else part.sample(MASKS_LOOKED_AT)[1]
            check_masks(count_pixels(masks), class_names, recipe, every_class=whole and part is data.train_source)
        return data
    notes: list[str] = []
    class_names, files = scan_masks(recipe, notes)
    check_classes(recipe, class_names)
    splits: list[Any] = list(files)
    images = sum(source.size for source in files if source is not None)
    if in_memory(recipe, images + images // recipe.image_shape[2]):
        splits = [_decoded(source, recipe, notes) for source in files]
    return _split(recipe, splits[0], splits[1], splits[2], class_names, notes)


def _load_pictures(recipe: Recipe) -> DataBundle:
    from . import patches

    notes: list[str] = []
    if recipe.dataset == "folder":
        listed = patches.scan_pictures(recipe, notes)
        found = [None if paths is None else patches.file_pictures(paths, recipe) for paths in listed]
    else:
        splits = (recipe.train_split, recipe.test_split)
        train_pictures, test_pictures = patches.record_pictures(_prepared_builder(recipe), recipe, splits, notes)
        found = [train_pictures, None, test_pictures]

    def source(pictures: Any, count: int) -> Any:
        return patches.PatchSource(pictures, recipe.image_shape, recipe.scale, count)

    train: Any = found[0]
    images = len(train.names)
    count = 0 if found[2] is not None else _share(images, recipe.test_fraction)
    (test,), left = carve(np.zeros(images, np.int64), [count], TEST_SEED)
    counts = [
        0 if found[1] is not None else _share(len(left), recipe.validation_fraction),
        _share(len(left), patches.CALIBRATION_SHARE),
    ]
    carved, remaining = carve(np.zeros(len(left), np.int64), counts, recipe.seed)
    validation, calibration, rest = (left[rows] for rows in (*carved, remaining))
    fixed = patches.PATCHES_OF_AN_IMAGE
    share = math.ceil(recipe.calibration_images / len(calibration))
    images_of, _ = source(train.take(calibration), share).sample(recipe.calibration_images)
    return DataBundle(
        class_names=(),
        image_shape=recipe.image_shape,
        train_source=source(train.take(rest), recipe.patches),
        validation_source=source(found[1] or train.take(validation), fixed),
        test_source=source(found[2] or train.take(test), fixed),
        calibration=float_array(images_of),
        notes=tuple(notes),
    )


def _decoded(source: FileSource | None, recipe: Recipe, notes: list[str]) -> ArraySource | None:
    if source is None:
        return None
    images, labels, failures = source.arrays(stop=recipe.on_bad_image == "error")
    if failures:
        notes.append(f"{len(failures)} unreadable images left out, the first: {failures[0]}")
        warnings.warn(notes[-1], UserWarning, stacklevel=2)
    return ArraySource(images, labels)


def _split(
    recipe: Recipe, train: Any, validation: Any, test: Any, class_names: tuple[str, ...], notes: Sequence[str]
) -> DataBundle:
    """Carve out of the training images what the data does not bring."""
    if test is None:
        (chosen,), rest = carve(_strata(train), [_share(train.size, recipe.test_fraction)], TEST_SEED)
        train, test = train.take(rest), train.take(chosen)
    counts = [
        0 if validation is not None else _share(train.size, recipe.validation_fraction),
        recipe.calibration_images,
    ]
    (chosen, calibration), rest = carve(_strata(train), counts, recipe.seed)
    if validation is None:
        validation = train.take(chosen)
    images = train.take(calibration)
    if isinstance(images, FileSource):
        images = ArraySource(*images.arrays()[:2])
    return DataBundle(
        class_names=class_names,
        image_shape=recipe.image_shape,
        train_source=train.take(rest),
        validation_source=validation,
        test_source=test,
        calibration=float_array(images.images),
        notes=tuple(notes),
    )


def _strata(source: Any) -> np.ndarray:
    """What a sample has in the data's proportion: classes, where an image has one."""
    labels = np.asarray(source.labels)
    return labels if labels.ndim == 1 and labels.dtype.kind in "iu" else np.zeros(len(labels), np.int64)


def _split_records(
    recipe: Recipe, split: Any, size: int, test: RecordSource, class_names: tuple[str, ...]
) -> DataBundle:
    name = recipe.train_split
    if "[" in name or "+" in name:
        raise ValueError(
            "train_split must be a plain split where the data is streamed; in_memory=True reads any. Received: "
            f"train_split={name!r}"
        )
    first = _share(size, recipe.validation_fraction)
    second = first + recipe.calibration_images
    _check_left(size, [first, recipe.calibration_images])
    calibration = np.zeros((0, *recipe.image_shape), np.uint8)
    if recipe.calibration_images:
        calibration, _ = split(f"{name}[{first}:{second}]").arrays()
    return DataBundle(
        class_names=class_names,
        image_shape=recipe.image_shape,
        train_source=split(f"{name}[{second}:]"),
        validation_source=split(f"{name}[:{first}]"),
        test_source=test,
        calibration=float_array(calibration),
    )


def _share(count: int, fraction: float) -> int:
    return max(round(count * fraction), 1)


def _check_left(size: int, counts: Sequence[int]) -> None:
    if sum(counts) >= size:
        raise ValueError(
            "Test, validation and calibration images must leave images to train on (test_fraction, "
            f"validation_fraction, calibration_images). Received: {' + '.join(map(str, counts))} of {size} images"
        )


def carve(labels: np.ndarray, counts: Sequence[int], seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Disjoint row numbers with the classes in the data's proportion.

    Args:
        labels: Integers (N,).
        counts: Rows in each sample.
        seed: The same seed gives the same rows.

    Returns:
        The samples, each sorted, and the rest, sorted.
    """
    _check_left(len(labels), counts)
    labels = np.asarray(labels)
    # Rank every image within its shuffled class, as a share of that class: the smallest shares, over all classes,
    # are a sample in proportion whatever the class sizes.
    generator = np.random.default_rng([seed, 0x5911])
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(starts, sizes)
    share = (rank + generator.random(len(sizes)).repeat(sizes)) / sizes.repeat(sizes)
    chosen = order[np.argsort(share, kind="stable")]
    *samples, rest = (np.sort(part) for part in np.split(chosen, np.cumsum(counts)))
    return samples, rest


def check_classes(recipe: Recipe, class_names: tuple[str, ...]) -> None:
    """ValueError unless the data has as many classes as the recipe says, and at least two."""
    received = f"{recipe.dataset} has {len(class_names)}: {', '.join(class_names[:12])}"
    if len(class_names) < 2:
        raise ValueError(f"There must be at least two classes. Received: {received}")
    if recipe.num_classes is not None and recipe.num_classes != len(class_names):
        raise ValueError(
            "num_classes must be the number of classes in the data. Received: "
            f"num_classes={recipe.num_classes}, {received}"
        )


def _prepared_builder(recipe: Recipe) -> Any:
    import tensorflow_datasets as tfds

    data_dir = None if recipe.data_dir is None else os.path.expanduser(recipe.data_dir)
    if recipe.dataset == "digits":
        from .digits import prepared_builder

        return prepared_builder(data_dir)
    try:
        builder = tfds.builder(recipe.dataset, data_dir=data_dir)
    except (ValueError, AssertionError, FileNotFoundError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            "dataset must be 'digits', 'folder' or a name that TFDS knows (tensorflow.org/datasets/catalog). Received: "
            f"dataset={recipe.dataset!r} ({reason})"
        ) from None
    if not builder.is_prepared():
        if not recipe.download:
            # TFDS itself would retry for minutes on a machine without network.
            manual = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
            by_hand = f"; its archives have to be put into {_manual_dir(builder)} first" if manual else ""
            raise FileNotFoundError(
                f"{recipe.dataset} is not prepared on this machine: set download=True to fetch it, or data_dir to the "
                f"TFDS folder that holds it{by_hand}. Received: data_dir={recipe.data_dir!r}; looked for "
                f"{builder.data_path}"
            )
        _check_network(builder, recipe)
        builder.download_and_prepare()
    return builder


def _check_network(builder: Any, recipe: Recipe) -> None:
    """Say at once that there is no network; TFDS retries a dead one for minutes before it does."""
    manual = _manual_dir(builder)
    downloads = manual.parent
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        if not manual.is_dir() or not any(manual.iterdir()):
            raise FileNotFoundError(
                f"{recipe.dataset} must be fetched by hand: {_one_line(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)} "
                f"Received: nothing in {manual}"
            )
        return
    if downloads.is_dir() and any(downloads.iterdir()):
        return  # what it needs may be there already
    try:
        urllib.request.urlopen(NETWORK_PROBE, timeout=5).close()
    except urllib.error.HTTPError:
        return  # an answer, whatever it says
    except OSError as error:
        raise ConnectionError(
            f"download=True needs a network. Received: {recipe.dataset}, and {NETWORK_PROBE} is out of reach ({error})"
        ) from None


def _manual_dir(builder: Any) -> Path:
    """Where TFDS looks for what it may not download."""
    return Path(builder.data_dir).parents[_depth(builder)] / "downloads" / "manual"


def _depth(builder: Any) -> int:
    """Folders between the data folder and that of this version: name, perhaps configuration."""
    return 2 if builder.builder_config is not None else 1


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _feature_names(builder: Any, recipe: Recipe) -> tuple[str, str]:
    """Names of the image feature and of the class label feature."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    names = list(features) if isinstance(features, tfds.features.FeaturesDict) else []
    supervised = [name for name in builder.info.supervised_keys or () if isinstance(name, str)]
    found = []
    for kind in (tfds.features.Image, tfds.features.ClassLabel):
        fitting = [name for name in [*supervised, *names] if isinstance(features[name], kind)]
        if not fitting:
            raise ValueError(
                "dataset must have an image and a class label. Received: "
                f"{recipe.dataset} with {', '.join(f'{name}: {type(features[name]).__name__}' for name in names)}"
            )
        found.append(fitting[0])
    return found[0], found[1]


def as_bundle(recipe: Recipe, data: Any, validation_data: Any = None) -> DataBundle:
    """What the user gave ``fit`` as a ``DataBundle``: arrays, a ``PyDataset`` or a ``tf.data.Dataset``."""
    if isinstance(data, DataBundle):
        if validation_data is not None:
            raise ValueError("validation_data goes with arrays and datasets. Received: a DataBundle has its own")
        return data
    if isinstance(data, (tuple, list)):
        source, classes = _array_source(recipe, data, "data")
        names = tuple(str(label) for label in range(classes))  # none where images are to be enlarged
        if validation_data is None:
            nothing = source.take(np.arange(0))  # no test set
            return dataclasses.replace(_split(recipe, source, None, nothing, names, []), test_source=None)
        validation, _ = _array_source(recipe, validation_data, "validation_data", classes)
        (calibration,), rest = carve(_strata(source), [recipe.calibration_images], recipe.seed)
        images = float_array(source.images[calibration])
        return DataBundle(names, recipe.image_shape, source.take(rest), validation, None, images)
    if validation_data is None or (recipe.num_classes is None and recipe.task != "super_resolution"):
        raise ValueError(
            "A dataset needs validation_data, and num_classes in the recipe. Received: "
            f"validation_data={validation_data}, num_classes={recipe.num_classes}"
        )
    names = tuple(str(label) for label in range(recipe.num_classes or 0))
    held_out: Any = DatasetSource(validation_data)
    if isinstance(validation_data, (tuple, list)):
        held_out, _ = _array_source(recipe, validation_data, "validation_data", recipe.num_classes)
    no_images = np.zeros((0, *recipe.image_shape), np.float32)
    return DataBundle(names, recipe.image_shape, DatasetSource(data), held_out, None, no_images)


def _array_source(recipe: Recipe, pair: Any, name: str, classes: int | None = None) -> tuple[ArraySource, int]:
    if len(pair) != 2:
        raise ValueError(f"{name} must be (images, labels). Received: {len(pair)} items")
    images, labels = (np.asarray(part) for part in pair)
    received = f"images {images.dtype} {images.shape}, labels {labels.dtype} {labels.shape}"
    if images.shape[1:] != recipe.image_shape or len(images) == 0 or len(images) != len(labels):
        raise ValueError(
            f"{name} must be images (N, *image_shape={recipe.image_shape}) and N labels. Received: {received}"
        )
    if images.dtype != np.uint8:
        if not np.issubdtype(images.dtype, np.floating) or not np.isfinite(images).all():
            raise ValueError(f"Images must be uint8, or floating point and finite. Received: {name} with {received}")
        if images.min() < 0 or images.max() > 1:
            raise ValueError(
                "Floating-point images must be in [0, 1] (pixel / 255). Received: "
                f"{name} from {images.min():.4g} to {images.max():.4g}"
            )
    labels, classes = _check_targets(recipe, labels, f"{name} with {received}", classes)
    kind = ArraySource if keras.backend.backend() == "tensorflow" else NumpySource
    return kind(images, labels), classes


def _check_targets(recipe: Recipe, labels: np.ndarray, received: str, classes: int | None) -> tuple[np.ndarray, int]:
    """(targets as the task has them, number of classes); ValueError if they are not the task's."""
    height, width, channels = recipe.image_shape
    if recipe.task == "super_resolution":
        shape = (recipe.scale * height, recipe.scale * width, channels)
        if labels.shape[1:] != shape or labels.dtype.kind not in "uf" or not np.isfinite(labels).all():
            raise ValueError(f"Targets must be images (N, {', '.join(map(str, shape))}). Received: {received}")
        return labels, 0
    if recipe.task == "segmentation":
        if labels.shape[1:] != (height, width) or labels.dtype.kind not in "iu":
            raise ValueError(f"Masks must be integers (N, {height}, {width}). Received: {received}")
        counted = labels if recipe.ignore_index is None else labels[labels != recipe.ignore_index]
    else:
        labels = labels.reshape(len(labels), -1)
        if labels.shape[1] != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"Labels must be integers, one an image. Received: {received}")
        labels = counted = labels[:, 0].astype(np.int64)
    low, high = (int(counted.min()), int(counted.max())) if counted.size else (0, 0)
    classes = classes or recipe.num_classes or high + 1
    if low < 0 or high >= classes or classes < 2:
        raise ValueError(
            f"Labels must be in [0, {classes}), with 2 classes or more. Received: {received}, labels from "
            f"{low} to {high}"
        )
    return labels, classes
