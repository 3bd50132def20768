"""Sources of batches: arrays in memory, or image files (TFDS records: ``records``; the user's datasets: ``given``).

Every source has:
    ``size``: number of images;
    ``steps(batch_size)``: full batches per epoch;
    ``batches(batch_size)``: all images in order, for evaluation;
    ``epoch(recipe, epoch)``: the shuffled full batches of an epoch, which depend only on (recipe, epoch);
    ``sample(limit)``: (images, labels) of at most ``limit`` images; any leading part is a fair sample;
    ``checksum()``: with it a resumed run checks that the images are the same.

Batches are (images float32 (B, H, W, C) in [0, 1], targets): labels int64 (B,), masks int32 (B, H, W), or images
float32 (B, H', W', C) in [0, 1]; if images are weighted, float32 weights (B,) follow. The ``labels`` of a source may be
any of these targets; the number of axes distinguishes them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..images import fit_image, fit_mask, random_resized_crop, read_image
from ..recipe import Recipe
from .listing import Files
from .mask_formats import AS_NUMBERED, MaskFormat

IN_MEMORY_BYTES = 1 << 30  # decoded images up to this size are kept in memory when Recipe.in_memory is None
SAMPLE_SEED = 0  # seed of the order in which `sample` takes images


def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the training images in an epoch; int64 (size,)."""
    return np.random.default_rng([seed, epoch]).permutation(size).astype(np.int64)


def sample_order(source: Any) -> np.ndarray:
    """The rows of a source in an order in which any leading part is a fair sample; an added file moves no other."""
    if getattr(source, "files", None) is not None:
        return np.asarray(source.files.order("sample"))
    return epoch_order(source.size, SAMPLE_SEED, 0)


def in_memory(recipe: Recipe, images: int) -> bool:
    """Whether this number of images is decoded once into memory."""
    if recipe.in_memory is not None:
        return recipe.in_memory
    return images * int(np.prod(recipe.image_shape)) <= IN_MEMORY_BYTES


def as_float(images: Any) -> Any:
    """Convert a uint8 or floating-point image tensor to float32 in [0, 1]."""
    import tensorflow as tf

    return tf.cast(images, tf.float32) / 255.0 if images.dtype == tf.uint8 else tf.cast(images, tf.float32)


def as_targets(labels: Any) -> Any:
    """Convert a batch of labels, masks or images to the tensors of a loss."""
    import tensorflow as tf

    if len(labels.shape) > 3:
        return as_float(labels)
    return tf.cast(labels, tf.int64 if len(labels.shape) == 1 else tf.int32)


def target_array(labels: Any) -> np.ndarray:
    """As ``as_targets``, for an array."""
    labels = np.asarray(labels)
    if labels.ndim > 3:
        return float_array(labels)
    return labels.astype(np.int64 if labels.ndim == 1 else np.int32)


def float_array(images: Any) -> np.ndarray:
    """Convert a uint8 or floating-point image array to float32 in [0, 1]."""
    images = np.asarray(images)
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Images in memory, read through tf.data.

    Args:
        images: uint8 (N, H, W, C), or floating point in [0, 1].
        labels: Integers (N,), masks (N, H, W), or images like ``images``, which may be larger.
        files: The files of the images, if they are files.
        origin: Name and size of the TFDS split of the images, if there is one; ``rows`` are their numbers in it.
        weights: float32 (N,), weight of each image's loss; None: equal weights.
    """

    images: np.ndarray
    labels: np.ndarray
    files: Files | None = None
    origin: str | None = None
    rows: np.ndarray | None = None
    weights: np.ndarray | None = None

    @property
    def size(self) -> int:
        return len(self.labels)

    def checksum(self) -> int | str:
        if self.files is not None:
            return self.files.checksum()
        parts = [part for part in (self.weights, self.labels, self.images) if part is not None]
        return functools.reduce(lambda crc, part: zlib.crc32(np.ascontiguousarray(part).data, crc), parts, 0)

    def origin_checksum(self) -> int | None:
        """Checksum of the images' origin: another machine may decode the same images to other pixels."""
        if self.origin is None:
            return None
        rows = np.arange(self.size) if self.rows is None else self.rows
        return zlib.crc32(rows.astype("<i8").tobytes(), zlib.crc32(self.origin.encode()))

    def take(self, rows: np.ndarray) -> ArraySource:
        """Select rows as a new source."""
        return dataclasses.replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            files=None if self.files is None else self.files.take(rows),
            rows=np.asarray(rows) if self.rows is None else self.rows[rows],
            weights=None if self.weights is None else self.weights[rows],
        )

    def steps(self, batch_size: int) -> int:
        return self.size // batch_size

    def sample(self, limit: int) -> tuple[np.ndarray, np.ndarray]:
        rows = sample_order(self)[:limit]
        return self.images[rows], self.labels[rows]

    def sample_names(self, limit: int) -> list[str]:
        """Names of the images of ``sample``: paths relative to the data folder, or numbers in the arrays or split."""
        rows = sample_order(self)[:limit]
        if self.files is not None:
            return [str(self.files.names[row]) for row in rows]
        return [str(row) for row in (rows if self.rows is None else self.rows[rows])]

    def batches(self, batch_size: int) -> Any:
        import tensorflow as tf

        parts = self._tensors

        def read(start: Any) -> Any:
            stop = tf.minimum(start + batch_size, self.size)
            return floats(*(part[start:stop] for part in parts))

        starts = tf.data.Dataset.range(0, self.size, batch_size)
        return starts.map(read, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def epoch(self, recipe: Recipe, epoch: Any) -> Any:
        import tensorflow as tf

        parts = self._tensors
        rows = permutation(self.size, recipe.seed, epoch).batch(recipe.step_images, drop_remainder=True)
        return rows.map(
            lambda row: floats(*(tf.gather(part, row) for part in parts)), num_parallel_calls=tf.data.AUTOTUNE
        )

    @functools.cached_property
    def _tensors(self) -> tuple[Any, ...]:
        import tensorflow as tf

        # init_scope: if a pipeline's function is being traced, its graph would otherwise own the tensors.
        with tf.init_scope(), tf.device("CPU"):
            parts = (self.images, self.labels, *(() if self.weights is None else (self.weights,)))
            return tuple(map(tf.convert_to_tensor, parts))


def permutation(size: int, seed: int, epoch: Any) -> Any:
    """tf.data of the row numbers of an epoch, in its order."""
    import tensorflow as tf

    order = tf.numpy_function(lambda number: epoch_order(size, seed, int(number)), [epoch], tf.int64)
    return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(order, [size]))


class NumpySource(ArraySource):
    """Images in memory for the JAX and PyTorch backends: no TensorFlow; batches are a ``keras.utils.PyDataset``."""

    def batches(self, batch_size: int) -> keras.utils.PyDataset:
        return _Rows(self, batch_size)

    def read(self, rows: Any) -> tuple[np.ndarray, ...]:
        """Images, labels and, if given, weights of some rows."""
        found = (float_array(self.images[rows]), target_array(self.labels[rows]))
        return found if self.weights is None else (*found, self.weights[rows])


class _Rows(keras.utils.PyDataset):
    """All images in order."""

    def __init__(self, source: NumpySource, batch_size: int) -> None:
        super().__init__()
        self._source, self._batch_size = source, batch_size

    def __len__(self) -> int:
        return math.ceil(self._source.size / self._batch_size)

    def __getitem__(self, index: int) -> Any:
        return self._source.read(slice(index * self._batch_size, (index + 1) * self._batch_size))


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Image files, decoded at every read.

    Args:
        paths: Path of each file.
        labels: Integers (N,), or paths (N,) of masks.
        image_shape: (height, width, channels) that each image is converted to.
        crop_to_aspect_ratio: See ``fit_image``.
        masks: How masks are read.
        failures: Errors of unreadable files; TensorFlow wraps the errors themselves in a long text.
        files: Their names and digests.
        counts: Pixels of each class in each mask, int (N, classes), if labels are masks.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    image_shape: tuple[int, int, int]
    crop_to_aspect_ratio: bool = False
    masks: MaskFormat = AS_NUMBERED
    failures: list[str] = dataclasses.field(default_factory=list, compare=False)
    files: Files | None = None
    counts: np.ndarray | None = None

    @property
    def size(self) -> int:
        return len(self.paths)

    def checksum(self) -> int | str:
        if self.files is not None:
            return self.files.checksum()
        # Of names, because contents would have to be read; only of the last two parts, because the folder may move.
        paths = [*self.paths, *self.labels] if self.has_masks else self.paths
        names = "\n".join("/".join(Path(path).parts[-2:]) for path in paths)
        return zlib.crc32(names.encode(), 0 if self.has_masks else zlib.crc32(self.labels.tobytes()))

    @property
    def has_masks(self) -> bool:
        """Whether labels are paths of masks."""
        return self.labels.dtype.kind == "U"

    @property
    def _tensor_labels(self) -> np.ndarray:
        return _as_bytes(self.labels) if self.has_masks else self.labels

    def take(self, rows: np.ndarray) -> FileSource:
        """Select files as a new source."""
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[row] for row in rows),
            labels=self.labels[rows],
            counts=None if self.counts is None else self.counts[rows],
            files=None if self.files is None else self.files.take(rows),
        )

    def steps(self, batch_size: int) -> int:
        return self.size // batch_size

    def sample(self, limit: int) -> tuple[np.ndarray, np.ndarray]:
        return self.take(sample_order(self)[:limit]).arrays()[:2]

    def sample_names(self, limit: int) -> list[str]:
        """Names of the images of ``sample``: paths, relative to the data folder if it is known."""
        names = self.paths if self.files is None else self.files.names
        return [str(names[row]) for row in sample_order(self)[:limit]]

    def batches(self, batch_size: int) -> Any:
        import tensorflow as tf

        files = tf.data.Dataset.from_tensor_slices((_as_bytes(self.paths), self._tensor_labels))
        whole = files.map(
            lambda path, label: (self._fit(self._decode(path)), self._target(path, label)), tf.data.AUTOTUNE
        )
        return whole.batch(batch_size).map(floats, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def epoch(self, recipe: Recipe, epoch: Any) -> Any:
        import tensorflow as tf

        paths, labels = tf.constant(_as_bytes(self.paths)), tf.convert_to_tensor(self._tensor_labels)

        def read(index: Any, row: Any) -> Any:
            image = self._decode(paths[row])
            if recipe.crop_area is None:
                image = self._fit(image)
            else:
                seed = element_seed(recipe.seed, epoch, index)
                image = random_resized_crop(image, self.image_shape, recipe.crop_area, seed)
            return image, self._target(paths[row], labels[row])

        rows = permutation(self.size, recipe.seed, epoch).enumerate()
        batches = rows.map(read, tf.data.AUTOTUNE).batch(recipe.step_images, drop_remainder=True)
        return batches.map(floats, tf.data.AUTOTUNE)

    def arrays(self, stop: bool = True) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        """Decode all files.

        Args:
            stop: Raise at the first unreadable file; otherwise skip such files.

        Returns:
            uint8 (N, H, W, C), int64 (N,) or uint8 masks (N, H, W), and row -> error of each skipped file.
        """
        import tensorflow as tf

        failures: dict[int, str] = {}
        channels = self.image_shape[2]

        def decode(row: Any) -> tuple[np.ndarray, np.ndarray]:
            try:
                name = self.paths[row]
                mask = self.masks.read(self.labels[row], name) if self.has_masks else np.zeros((1, 1), np.uint8)
                return read_image(name, channels), mask
            except ValueError as error:
                failures[int(row)] = str(error)
                return np.zeros((1, 1, channels), np.uint8), np.zeros((1, 1), np.uint8)

        def load(row: Any) -> Any:
            image, mask = tf.numpy_function(decode, [row], (tf.uint8, tf.uint8))
            image, mask = tf.ensure_shape(image, [None, None, channels]), tf.ensure_shape(mask, [None, None])
            fitted = fit_mask(mask, self.image_shape, self.crop_to_aspect_ratio) if self.has_masks else mask
            return self._fit(image), fitted

        images = np.empty((self.size, *self.image_shape), np.uint8)
        labels = np.empty((self.size, *self.image_shape[:2]), np.uint8) if self.has_masks else self.labels
        position = 0
        for batch, masks in tf.data.Dataset.range(self.size).map(load, tf.data.AUTOTUNE).batch(64).as_numpy_iterator():
            images[position : position + len(batch)] = batch
            if self.has_masks:
                labels[position : position + len(batch)] = masks
            position += len(batch)
            if failures and stop:
                raise ValueError(f"{failures[min(failures)]}; on_bad_image='skip' skips such files")
        kept = np.setdiff1d(np.arange(self.size), list(failures))
        if len(kept) < self.size:
            images, labels = images[kept], labels[kept]
        return images, labels, dict(sorted(failures.items()))

    def _fit(self, image: Any) -> Any:
        return fit_image(image, self.image_shape, self.crop_to_aspect_ratio)

    def _decode(self, path: Any) -> Any:
        import tensorflow as tf

        channels = self.image_shape[2]
        image = tf.numpy_function(self._recording_failures(lambda name: read_image(name, channels)), [path], tf.uint8)
        return tf.ensure_shape(image, [None, None, channels])

    def _target(self, path: Any, label: Any) -> Any:
        import tensorflow as tf

        if not self.has_masks:
            return label
        read = self._recording_failures(lambda mask, image: self.masks.read(mask, image))
        mask = tf.ensure_shape(tf.numpy_function(read, [label, path], tf.uint8), [None, None])
        return fit_mask(mask, self.image_shape, self.crop_to_aspect_ratio)

    def _recording_failures(self, read: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def recording(*names: bytes) -> np.ndarray:
            try:
                return read(*map(os.fsdecode, names))
            except (ValueError, OSError) as error:
                self.failures.append(f"{error}; on_bad_image='skip' skips such files")
                raise

        return recording


def _as_bytes(paths: Iterable[str]) -> np.ndarray:
    """Paths for TensorFlow, which takes bytes only: a name need not be UTF-8."""
    return np.array([os.fsencode(str(path)) for path in paths], object)


def whole_pictures(source: Any, recipe: Recipe, limit: int) -> list[np.ndarray] | None:
    """The images of ``sample(limit)`` at their original size, uint8 (h, w, C) each; None if they are not files."""
    if getattr(source, "files", None) is None or recipe.data_dir is None:
        return None
    root = Path(recipe.data_dir).expanduser()
    names = [source.files.names[row] for row in sample_order(source)[:limit]]
    return [read_image(root / name, recipe.image_shape[2]) for name in names]


def shuffled(dataset: Any, buffer_size: int, seed: int, epoch: Any) -> Any:
    """``dataset.shuffle`` whose order depends only on (seed, epoch): the method also uses TensorFlow's global seed."""
    import tensorflow as tf

    spec = dataset.element_spec
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=tf.constant(buffer_size, tf.int64),
        seed=tf.constant(seed, tf.int64),
        seed2=tf.cast(epoch, tf.int64) + 1,
        output_types=[part.dtype for part in spec],
        output_shapes=[part.shape for part in spec],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, spec)


def floats(images: Any, labels: Any, *weights: Any) -> tuple[Any, ...]:
    """Convert a batch for networks and losses, see ``as_float`` and ``as_targets``; weights stay unchanged."""
    return as_float(images), as_targets(labels), *weights


def element_seed(seed: int, epoch: Any, index: Any) -> Any:
    import tensorflow as tf

    key = tf.constant([seed & 0x7FFFFFFF, 0xC609], tf.int32)
    for part in (epoch, index):
        key = tf.random.experimental.stateless_fold_in(key, tf.cast(part, tf.int32))
    return key
