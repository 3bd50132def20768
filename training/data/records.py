"""TFDS datasets: found or downloaded, with their splits as sources."""

from __future__ import annotations

import dataclasses
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..images import fit_image, fit_mask, random_resized_crop
from ..recipe import Recipe
from .sources import SAMPLE_SEED, ArraySource, element_seed, epoch_order, floats, permutation, shuffled

READ_AT_ONCE = 64  # records of an ArrayRecord file
NETWORK_PROBE = "https://storage.googleapis.com"  # host of TFDS's files


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """A TFDS split, read from disk in every epoch.

    An epoch's order is a shuffle through a buffer of ``Recipe.shuffle_buffer`` encoded images: TFDS shuffled the
    records themselves when it wrote them. Of ArrayRecord files, which can be read at any place, the order is a
    permutation of the whole split.

    Args:
        builder: A prepared TFDS builder.
        split: For example "train[5000:]".
        keys: Names of the image feature and of the label or mask feature.
        image_shape: (height, width, channels) that each image is converted to.
        crop_to_aspect_ratio: See ``fit_image``.
        mask_table: Class of each of the 256 values of a mask pixel; None: the value itself. Empty if the labels are not
            masks.
    """

    builder: Any
    split: str
    keys: tuple[str, str]
    image_shape: tuple[int, int, int]
    crop_to_aspect_ratio: bool = False
    mask_table: tuple[int, ...] | None = ()

    @property
    def size(self) -> int:
        return int(self.builder.info.splits[self.split].num_examples)

    def steps(self, batch_size: int) -> int:
        return self.size // batch_size

    def batches(self, batch_size: int) -> Any:
        import tensorflow as tf

        whole = self._records().map(
            lambda encoded, label: (self._fit(self._decode(encoded)), self._target(label)), tf.data.AUTOTUNE
        )
        return whole.batch(batch_size).map(floats, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def epoch(self, recipe: Recipe, epoch: Any) -> Any:
        import tensorflow as tf

        def read(index: Any, record: Any) -> Any:
            image = self._decode(record[0])
            if recipe.crop_area is None:
                return self._fit(image), self._target(record[1])
            seed = element_seed(recipe.seed, epoch, index)
            return random_resized_crop(image, self.image_shape, recipe.crop_area, seed), record[1]

        if self._random_access:
            mixed = self._records(permutation(self.size, recipe.seed, epoch))
        else:
            mixed = shuffled(self._records(), recipe.shuffle_buffer, recipe.seed, epoch)
        batches = mixed.enumerate().map(read, tf.data.AUTOTUNE).batch(recipe.step_images, drop_remainder=True)
        return batches.map(floats, tf.data.AUTOTUNE)

    def checksum(self) -> int:
        return zlib.crc32(f"{self.builder.info.full_name} {self.split}".encode())

    def sample(self, limit: int) -> tuple[np.ndarray, np.ndarray]:
        import tensorflow as tf

        # At equal distances over the whole split: TFDS shuffled the training records, but not every test set.
        rows = self._sampled(limit)
        chosen = self._records().enumerate().filter(lambda number, _: tf.reduce_any(rows == number))
        images, labels = self._read(chosen.map(lambda _, record: record), len(rows))
        order = epoch_order(len(rows), SAMPLE_SEED, 0)
        return images[order], labels[order]

    def sample_names(self, limit: int) -> list[str]:
        """Names of the images of ``sample``: their numbers in the split."""
        rows = self._sampled(limit)
        return [str(row) for row in rows[epoch_order(len(rows), SAMPLE_SEED, 0)]]

    def _sampled(self, limit: int) -> np.ndarray:
        return np.linspace(0, self.size, min(limit, self.size), endpoint=False).astype(np.int64)

    @property
    def origin(self) -> str:
        """Name of the dataset, its split, and the split's size."""
        info = self.builder.info
        split = info.splits[self.split]
        return f"{info.full_name} {self.split} {split.num_examples} {getattr(split, 'num_bytes', 0)}"

    def in_memory(self) -> ArraySource:
        """The whole split, decoded."""
        return ArraySource(*self.arrays(), origin=self.origin)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The whole split: uint8 (N, H, W, C) and int64 (N,) or uint8 masks (N, H, W), in the order on disk."""
        return self._read(self._records(), self.size)

    def _read(self, records: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
        import tensorflow as tf

        whole = records.map(
            lambda encoded, label: (self._fit(self._decode(encoded)), self._target(label)), tf.data.AUTOTUNE
        )
        images = np.empty((count, *self.image_shape), np.uint8)
        labels = np.empty((count, *self.image_shape[:2]), np.uint8) if self.has_masks else np.empty(count, np.int64)
        position = 0
        at_once = max(1, min(1024, (64 << 20) // int(np.prod(self.image_shape))))
        batches: Iterator[Any] = whole.batch(at_once).prefetch(2).as_numpy_iterator()
        for image, label in batches:
            images[position : position + len(label)], labels[position : position + len(label)] = image, label
            position += len(label)
        return images, labels

    @property
    def _random_access(self) -> bool:
        return self.builder.info.file_format == self.builder.info.file_format.ARRAY_RECORD

    def _records(self, rows: Any = None) -> Any:
        """tf.data of (encoded image, label) in the order on disk; of ArrayRecord files also of some `rows`, int64."""
        import tensorflow as tf
        import tensorflow_datasets as tfds

        image, label = self.keys
        decoders = {name: tfds.decode.SkipDecoding() for name in (self.keys if self.has_masks else (image,))}
        if not self._random_access:
            dataset = self.builder.as_dataset(split=self.split, shuffle_files=False, decoders=decoders)
            return dataset.map(lambda example: (example[image], example[label]))
        source = self.builder.as_data_source(self.split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)

        def read(numbers: np.ndarray) -> np.ndarray:
            return np.array(source.__getitems__(numbers.tolist()), object)

        def parse(record: Any) -> tuple[Any, Any]:
            example = self.builder.info.features.deserialize_example(record, decoders=decoders)
            return example[image], example[label]

        rows = tf.data.Dataset.range(self.size) if rows is None else rows
        records = rows.batch(READ_AT_ONCE).map(
            lambda numbers: tf.ensure_shape(tf.numpy_function(read, [numbers], tf.string), [None])
        )
        return records.prefetch(2).unbatch().map(parse, tf.data.AUTOTUNE)

    @property
    def has_masks(self) -> bool:
        return self.mask_table != ()

    def _decode(self, encoded: Any) -> Any:
        return self.builder.info.features[self.keys[0]].decode_example(encoded)

    def _target(self, label: Any) -> Any:
        import tensorflow as tf

        if not self.has_masks:
            return label
        mask = self.builder.info.features[self.keys[1]].decode_example(label)[..., 0]
        if self.mask_table is not None:
            mask = tf.gather(tf.constant(self.mask_table, tf.uint8), tf.cast(mask, tf.int32))
        return fit_mask(tf.cast(mask, tf.uint8), self.image_shape, self.crop_to_aspect_ratio)

    def _fit(self, image: Any) -> Any:
        return fit_image(image, self.image_shape, self.crop_to_aspect_ratio)


def prepared_builder(recipe: Recipe) -> Any:
    """Return the TFDS builder of a recipe, with its records on this machine."""
    import tensorflow_datasets as tfds

    data_dir = None if recipe.data_dir is None else os.path.expanduser(recipe.data_dir)
    if recipe.dataset == "digits":
        from . import digits

        return digits.prepared_builder(data_dir)
    try:
        builder = tfds.builder(recipe.dataset, data_dir=data_dir)
    except (ValueError, AssertionError, FileNotFoundError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            "dataset must be 'digits', 'folder' or a name of TFDS (tensorflow.org/datasets/catalog). Received: "
            f"dataset={recipe.dataset!r} ({reason})"
        ) from None
    if not builder.is_prepared():
        if not recipe.download:
            # TFDS itself would retry for minutes on a machine without network.
            manual = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
            by_hand = f"; put its archives into {_manual_dir(builder)} first" if manual else ""
            raise FileNotFoundError(
                f"{recipe.dataset} is not prepared on this machine: set download=True to download it, or data_dir to "
                f"its TFDS folder{by_hand}. Received: data_dir={recipe.data_dir!r}; looked for "
                f"{builder.data_path}"
            )
        _check_network(builder, recipe)
        builder.download_and_prepare()
    return builder


def _check_network(builder: Any, recipe: Recipe) -> None:
    """Raise ConnectionError at once without a network; TFDS would retry for minutes before it fails."""
    manual = _manual_dir(builder)
    downloads = manual.parent
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        if not manual.is_dir() or not any(manual.iterdir()):
            raise FileNotFoundError(
                f"{recipe.dataset} must be downloaded manually: {_one_line(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)} "
                f"Received: nothing in {manual}"
            )
        return
    if downloads.is_dir() and any(downloads.iterdir()):
        return  # the needed files may exist already
    try:
        urllib.request.urlopen(NETWORK_PROBE, timeout=5).close()
    except urllib.error.HTTPError:
        return  # any answer shows that there is a network
    except OSError as error:
        raise ConnectionError(
            f"download=True requires a network. Received: {recipe.dataset}, {NETWORK_PROBE} is unreachable ({error})"
        ) from None


def _manual_dir(builder: Any) -> Path:
    """The folder where TFDS looks for archives that it may not download."""
    return Path(builder.data_dir).parents[_depth(builder)] / "downloads" / "manual"


def _depth(builder: Any) -> int:
    """Number of folder levels between the data folder and this version: name, and configuration if there is one."""
    return 2 if builder.builder_config is not None else 1


def _one_line(text: str) -> str:
    return " ".join(text.split())


def feature_names(builder: Any, recipe: Recipe) -> tuple[str, str]:
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
