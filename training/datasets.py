"""`load_data`: images of a recipe as train, validation, test and calibration sets that never overlap."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from .recipe import Recipe

IN_MEMORY_BYTES = 2 << 30  # decoded training images up to this size are kept in memory when Recipe.in_memory is None
EVALUATION_BATCH = 256


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Images decoded into memory.

    Args:
        images: uint8 (N, H, W, C), or float32 in [0, 1].
        labels: int64 (N,).
    """

    images: Any
    labels: Any

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, batch_size: int) -> Any:
        """tf.data of (images float32 [0, 1], labels int64), in order."""
        import tensorflow as tf

        dataset = tf.data.Dataset.range(0, len(self), batch_size)
        images, labels = self._tensors()

        def read(start: Any) -> Any:
            stop = tf.minimum(start + batch_size, len(self))
            return as_float(images[start:stop]), labels[start:stop]

        dataset = dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
        return dataset.apply(tf.data.experimental.assert_cardinality(-(-len(self) // batch_size)))

    def shuffled(self, batch_size: int, seed: int, epoch: Any) -> Any:
        """tf.data of one epoch: full batches of (images, labels) in an order that (seed, epoch) alone decides."""
        import tensorflow as tf

        images, labels = self._tensors()
        order = tf.numpy_function(lambda e: epoch_order(len(self), seed, int(e)), [epoch], tf.int64)
        dataset = tf.data.Dataset.from_tensor_slices(tf.ensure_shape(order, [len(self)]))
        return dataset.batch(batch_size, drop_remainder=True).map(
            lambda rows: (as_float(tf.gather(images, rows)), tf.gather(labels, rows)),
            num_parallel_calls=tf.data.AUTOTUNE,
        )

    def _tensors(self) -> tuple[Any, Any]:
        import tensorflow as tf

        with tf.device("CPU"):
            return tf.convert_to_tensor(self.images), tf.convert_to_tensor(self.labels, tf.int64)


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the training images in an epoch; int64 (count,)."""
    return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int64)


def as_float(images: Any) -> Any:
    """float32 in [0, 1] of a uint8 or floating-point image tensor."""
    import tensorflow as tf

    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else tf.cast(images, tf.float32)


@dataclasses.dataclass(frozen=True)
class DataBundle:
    """The four sets of one data set; no image is in two of them.

    Attributes:
        train, validation, test: tf.data datasets of batches (images float32 (B, H, W, C) in [0, 1], labels int64
            (B,)), in a fixed order and unaugmented; ``fit`` shuffles and augments from ``train_source``.
        calibration: float32 (N, H, W, C) in [0, 1].
        class_names: Name of each label.
        test_arrays, validation_arrays: (images float32, labels int64), or None where the set is streamed.
    """

    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train_source: Any
    validation_source: Any
    test_source: Any
    calibration: np.ndarray

    @property
    def train(self) -> Any:
        return self.train_source.batches(EVALUATION_BATCH)

    @property
    def validation(self) -> Any:
        return self.validation_source.batches(EVALUATION_BATCH)

    @property
    def test(self) -> Any:
        return self.test_source.batches(EVALUATION_BATCH)

    @property
    def validation_arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        return _float_arrays(self.validation_source)

    @property
    def test_arrays(self) -> tuple[np.ndarray, np.ndarray] | None:
        return _float_arrays(self.test_source)


def _float_arrays(source: Any) -> tuple[np.ndarray, np.ndarray] | None:
    if not isinstance(source, ArraySource):
        return None
    images = np.asarray(source.images)
    if images.dtype == np.uint8:
        images = images.astype(np.float32) / np.float32(255.0)
    return images, np.asarray(source.labels)


def load_data(recipe: Recipe) -> DataBundle:
    """The data of a recipe: decoded, resized, and split with the recipe's seed.

    Args:
        recipe: Fields ``dataset`` to ``download`` say what to read and how.

    Returns:
        A ``DataBundle``.

    Raises:
        ValueError: unknown data set, wrong number of classes, too few images for the splits.
        FileNotFoundError: the data is not on this machine and ``recipe.download`` is False.

    Example:
    >>> data = wm.training.load_data(wm.training.RECIPES["digits"])
    """
    builder = _prepared_builder(recipe)
    _, label_key = _supervised_keys(builder)
    class_names = tuple(builder.info.features[label_key].names)
    check_classes(recipe, class_names)
    images, labels = _read(builder, recipe.train_split, recipe)
    test = ArraySource(*_read(builder, recipe.test_split, recipe))
    return split_arrays(recipe, images, labels, test, class_names)


def split_arrays(
    recipe: Recipe, images: np.ndarray, labels: np.ndarray, test: Any, class_names: tuple[str, ...]
) -> DataBundle:
    """Carve validation and calibration images out of the training images, class by class."""
    train, validation, calibration = split_indices(
        labels, recipe.validation_fraction, recipe.calibration_images, recipe.seed
    )
    return DataBundle(
        class_names=class_names,
        image_shape=recipe.image_shape,
        train_source=ArraySource(images[train], labels[train]),
        validation_source=ArraySource(images[validation], labels[validation]),
        test_source=test,
        calibration=images[calibration].astype(np.float32) / np.float32(255.0),
    )


def split_indices(
    labels: np.ndarray, validation_fraction: float, calibration_images: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Disjoint sorted (train, validation, calibration) row numbers, each with the classes in the data's proportion."""
    count = len(labels)
    validation_images = max(round(count * validation_fraction), 1)
    if validation_images + calibration_images >= count:
        raise ValueError(
            "validation and calibration images must leave images to train on. Received: "
            f"validation_fraction={validation_fraction}, calibration_images={calibration_images} of {count} images"
        )
    # Rank every image within its shuffled class, as a share of that class: the smallest shares, over all classes,
    # are a sample in proportion whatever the class sizes.
    generator = np.random.default_rng([seed, 0x5911])
    order = generator.permutation(count)
    order = order[np.argsort(labels[order], kind="stable")]
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(count) - np.repeat(starts, counts)
    share = (rank + generator.random(len(counts)).repeat(counts)) / counts.repeat(counts)
    chosen = order[np.argsort(share, kind="stable")]
    validation, calibration, train = np.split(chosen, [validation_images, validation_images + calibration_images])
    return np.sort(train), np.sort(validation), np.sort(calibration)


def check_classes(recipe: Recipe, class_names: tuple[str, ...]) -> None:
    if recipe.num_classes is not None and recipe.num_classes != len(class_names):
        raise ValueError(
            "num_classes must be the number of classes in the data. Received: "
            f"num_classes={recipe.num_classes}, {recipe.dataset} has {len(class_names)}: {', '.join(class_names[:12])}"
        )


def _prepared_builder(recipe: Recipe) -> Any:
    import tensorflow_datasets as tfds

    if recipe.dataset == "digits":
        from .digits import prepared_builder

        return prepared_builder(recipe.data_dir)
    builder = tfds.builder(recipe.dataset, data_dir=recipe.data_dir)
    if not builder.is_prepared():
        if not recipe.download:
            raise FileNotFoundError(
                f"{recipe.dataset} is not prepared on this machine: set download=True to fetch it, or data_dir to the "
                f"TFDS folder that holds it. Received: data_dir={recipe.data_dir!r}, looked in {builder.data_path}"
            )
        builder.download_and_prepare()
    return builder


def _supervised_keys(builder: Any) -> tuple[str, str]:
    image, label = builder.info.supervised_keys
    return image, label


def _read(builder: Any, split: str, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """All images of a split, uint8 (N, H, W, C), and labels, int64 (N,), in the order on disk."""
    import tensorflow as tf

    dataset = builder.as_dataset(split=split, as_supervised=True, shuffle_files=False)
    dataset = dataset.map(lambda image, label: (fit_image(image, recipe.image_shape), label), tf.data.AUTOTUNE)
    batches: Iterator[Any] = dataset.batch(1024).prefetch(2).as_numpy_iterator()
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels).astype(np.int64)


def fit_image(image: Any, image_shape: tuple[int, int, int]) -> Any:
    """uint8 (h, w, c) -> uint8 `image_shape`: resized with antialiasing, grey to RGB or RGB to grey as needed."""
    import tensorflow as tf

    height, width, channels = image_shape
    if image.shape[-1] != channels:
        image = tf.image.grayscale_to_rgb(image) if channels == 3 else tf.image.rgb_to_grayscale(image)
    if tuple(image.shape[:2]) != (height, width):
        image = tf.image.resize(image, (height, width), antialias=True)
        image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
    return tf.ensure_shape(image, image_shape)
