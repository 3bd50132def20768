"""Images for super-resolution: patches cut out on the fly, their small versions, and whole images for the test."""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..images import read_header, read_image
from ..recipe import Recipe
from .folders import data_folder, raises_on_bad_image, readable, split_folders
from .listing import Files, Notes, describe, list_files, name_hash, note_other_files, relative_name
from .sources import SAMPLE_SEED, as_float, epoch_order, shuffled

CALIBRATION_SHARE = 0.02  # share of the training images that is held out for calibration
WHOLE_BYTES = 2 << 30  # most bytes of a split's decoded images that stay in memory if Recipe.in_memory is None
PATCHES_OF_AN_IMAGE = 4  # patches of each image in a fixed set: validation, the test's patches, calibration


def reduced(image: np.ndarray, scale: int) -> np.ndarray:
    """uint8 (s*h, s*w, 3) -> (h, w, 3): bicubic with antialiasing, as in the usual datasets (made with MATLAB)."""
    from PIL import Image

    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((width // scale, height // scale), Image.Resampling.BICUBIC)
    return np.asarray(small)


def enlarged(image: np.ndarray, scale: int) -> np.ndarray:
    """uint8 (h, w, 3) -> (s*h, s*w, 3) by bicubic interpolation, the baseline for a network."""
    from PIL import Image

    height, width = image.shape[:2]
    large = Image.fromarray(image).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    return np.asarray(large)


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Whole images and their small versions.

    Args:
        read: Number of an image -> (small, large), uint8; their sizes differ by the scale.
        names: Names of the images, by which a resumed run identifies them.
        streamed: Whether ``read`` decodes an image at every call.
        files: The files, if the images are files.
    """

    read: Callable[[int], tuple[np.ndarray, np.ndarray]]
    names: tuple[str, ...]
    streamed: bool = False
    files: Files | None = None

    def take(self, rows: np.ndarray) -> Pictures:
        """Select images, numbered from 0."""
        names = tuple(self.names[row] for row in rows)
        files = None if self.files is None else self.files.take(rows)
        return dataclasses.replace(self, read=lambda number: self.read(int(rows[number])), names=names, files=files)


@dataclasses.dataclass(frozen=True)
class PatchSource:
    """Patches of images as (small, large): float32 (B, h, w, 3) and (B, s*h, s*w, 3) in [0, 1].

    An epoch has ``patches`` of every image, at positions that depend only on (seed, epoch, number of the patch).

    Args:
        pictures: The images.
        image_shape: (h, w, 3) of a small patch.
        scale: Ratio of large to small patches.
        patches: Number of patches of each image per epoch.
    """

    pictures: Pictures
    image_shape: tuple[int, int, int]
    scale: int
    patches: int

    @property
    def size(self) -> int:
        """Number of patches per epoch."""
        return len(self.pictures.names) * self.patches

    @property
    def files(self) -> Files | None:
        """The files of the images, if they are files."""
        return self.pictures.files

    def checksum(self) -> int | str:
        if self.files is not None:
            return self.files.checksum()
        return zlib.crc32("\n".join(self.pictures.names).encode())

    def steps(self, batch_size: int) -> int:
        return self.size // batch_size

    def pairs(self, order: Iterable[int] | None = None) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(name, small, large) of every whole image, uint8; in the order of their numbers or in the given order."""
        for number in range(len(self.pictures.names)) if order is None else order:
            yield self.pictures.names[number], *self.pictures.read(int(number))

    def sample(self, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 patches, evenly from all images."""
        rows = epoch_order(self.size, SAMPLE_SEED, 0)
        if self.files is not None:  # one patch of every image, then the next: an added image moves none
            rows = (self.files.order("sample") * self.patches + np.arange(self.patches)[:, None]).reshape(-1)
        cut = [self.cut(int(row), SAMPLE_SEED, 0) for row in rows[:limit]]
        return np.stack([small for small, _ in cut]), np.stack([large for _, large in cut])

    def cut(self, row: int, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(small, large) of a patch of the image ``row // patches``, uint8."""
        small, large = self.pictures.read(row // self.patches)
        height, width, _ = self.image_shape
        generator = np.random.default_rng([seed, epoch, *self._key(row)])
        top = int(generator.integers(small.shape[0] - height + 1))
        left = int(generator.integers(small.shape[1] - width + 1))
        s = self.scale
        corner = large[s * top : s * (top + height), s * left : s * (left + width)]
        return small[top : top + height, left : left + width], corner

    def _key(self, row: int) -> tuple[int, ...]:
        """Seed of a patch's position: for a file its name, so that other files have no influence."""
        if self.files is None:
            return (row,)
        return name_hash(self.files.names[row // self.patches], "patch"), row % self.patches

    def batches(self, batch_size: int) -> Any:
        import tensorflow as tf

        rows = tf.data.Dataset.range(self.size)
        cut = rows.map(lambda row: self._cut(row, SAMPLE_SEED, 0), num_parallel_calls=tf.data.AUTOTUNE)
        return cut.batch(batch_size).map(_floats, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def epoch(self, recipe: Recipe, epoch: Any) -> Any:
        import tensorflow as tf

        # Image by image if they are read from disk, so that each is decoded once; shuffled again below.
        def order(number: Any) -> np.ndarray:
            if not self.pictures.streamed:
                return epoch_order(self.size, recipe.seed, int(number))
            images = epoch_order(len(self.pictures.names), recipe.seed, int(number))
            return (images[:, None] * self.patches + np.arange(self.patches)).reshape(-1)

        rows = tf.ensure_shape(tf.numpy_function(order, [epoch], tf.int64), [self.size])
        cut = tf.data.Dataset.from_tensor_slices(rows).map(
            lambda row: self._cut(row, recipe.seed, epoch), num_parallel_calls=None if self.pictures.streamed else 2
        )
        if self.pictures.streamed:
            cut = shuffled(cut, min(recipe.shuffle_buffer, 64 * self.patches), recipe.seed, epoch)
        return cut.batch(recipe.step_images, drop_remainder=True).map(_floats, tf.data.AUTOTUNE)

    def _cut(self, row: Any, seed: int, epoch: Any) -> Any:
        import tensorflow as tf

        height, width, channels = self.image_shape
        small, large = tf.numpy_function(
            lambda number, turn: self.cut(int(number), seed, int(turn)), [row, epoch], (tf.uint8, tf.uint8)
        )
        shape = (self.scale * height, self.scale * width, channels)
        return tf.ensure_shape(small, self.image_shape), tf.ensure_shape(large, shape)


def _floats(small: Any, large: Any) -> tuple[Any, Any]:
    return as_float(small), as_float(large)


def scan_pictures(
    recipe: Recipe, notes: Notes, only: frozenset[str] | None = None
) -> list[tuple[list[str], Files] | None]:
    """List the training, validation and test images of ``recipe.data_dir``; None for a missing folder.

    Args:
        recipe: Gives ``data_dir``.
        notes: Gains notes about the files.
        only: Names of the files to use; None: all.

    Returns:
        For each split (paths, ``Files``).

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no images, or an image that is unreadable or smaller than a patch.
    """
    root = data_folder(recipe, "a folder of images to enlarge")
    places = split_folders(root)
    if places["train"] is None:
        places = {"train": root, "validation": None, "test": None}
    there = [place for place in places.values() if place is not None]
    listings = dict(zip(there, list_files(there), strict=True))
    found: list[tuple[list[str], Files] | None] = []
    for place in places.values():
        if place is None:
            found.append(None)
            continue
        note_other_files([listings[place]], place, notes, raises_on_bad_image(recipe, only))
        paths = listings[place].images
        if only is not None:
            paths = [path for path in paths if relative_name(path, root) in only]
        # As a streamed dataset: if bad images are to be skipped, all pixels are read now, not during training.
        kept = readable(paths, recipe, True, notes, resized=False)
        sizes = {path: read_header(path)[:2] for path in paths if path in kept}
        large = large_enough(sizes, recipe, notes)
        paths = [path for path in paths if path in large]
        if not paths:
            raise ValueError(f"A folder of images must contain images. Received: none in {place}")
        found.append((paths, describe(paths, root)))
    return found


def large_enough(sizes: Mapping[str, tuple[int, int]], recipe: Recipe, notes: Notes) -> set[str]:
    """The images that are large enough for a patch; others are an error, or skipped and noted by name.

    Args:
        sizes: Name of an image -> (height, width) in pixels, before it is reduced.
        recipe: Gives ``image_shape``, ``scale`` and ``on_bad_image``.
        notes: Gains the skipped images.
    """
    least = [recipe.scale * side for side in recipe.image_shape[:2]]
    small = [name for name, size in sizes.items() if size[0] < least[0] or size[1] < least[1]]
    if not small:
        return set(sizes)
    rule = (
        f"An image must be at least {recipe.scale} times as large as a patch, image_shape={recipe.image_shape}: "
        f"{least[0]}x{least[1]} pixels"
    )
    named = ", ".join(f"{name} {sizes[name][0]}x{sizes[name][1]}" for name in small)
    if recipe.on_bad_image == "error":
        raise ValueError(f"{rule}. Received: {named}; `--set on_bad_image=skip` skips such images")
    notes.left_out += [(name, f"{rule}. Received: {name} {sizes[name][0]}x{sizes[name][1]}") for name in small]
    notes.warn(f"{rule}; {len(small)} skipped: {named}")
    return set(sizes) - set(small)


def file_pictures(paths: Sequence[str], files: Files, recipe: Recipe) -> Pictures:
    """The pictures of image files; kept in memory if they take less than ``WHOLE_BYTES``."""

    def load(number: int) -> tuple[np.ndarray, np.ndarray]:
        image = read_image(paths[number], recipe.image_shape[2])
        return as_pair(image, recipe, paths[number])

    size = sum(math.prod(read_header(path)[:2]) for path in paths) * recipe.image_shape[2]
    keep = recipe.in_memory if recipe.in_memory is not None else size <= WHOLE_BYTES
    if not keep:
        return Pictures(functools.lru_cache(maxsize=2)(load), files.names, streamed=True, files=files)
    pairs = [load(number) for number in range(len(paths))]
    return Pictures(pairs.__getitem__, files.names, files=files)


def as_pair(image: np.ndarray, recipe: Recipe, name: str, small: np.ndarray | None = None) -> Any:
    """(small, large) of an image, cropped to a multiple of the scale."""
    s = recipe.scale
    if small is None:
        height, width = (side // s * s for side in image.shape[:2])
        image = np.ascontiguousarray(image[:height, :width])
        small = reduced(image, s) if min(height, width) else image
    else:
        beyond = [large - s * side for large, side in zip(image.shape[:2], small.shape[:2], strict=True)]
        if not all(0 <= side < s for side in beyond):
            raise ValueError(
                f"scale must be that of the dataset. Received: scale={s}, {name} with images of "
                f"{small.shape[0]}x{small.shape[1]} and {image.shape[0]}x{image.shape[1]}"
            )
        image = image[: s * small.shape[0], : s * small.shape[1]]
    return small, image


def record_pictures(builder: Any, recipe: Recipe, splits: Sequence[str], notes: Notes) -> list[Pictures]:
    """The pictures of each TFDS split with an image, or with images "lr" and "hr" as in div2k.

    Records have no random access: a split is decoded into memory.
    """
    if recipe.in_memory is False:
        raise ValueError("TFDS images for super-resolution must be decoded into memory. Received: in_memory=False")
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [name for name in features if isinstance(features[name], tfds.features.Image)]
    if not images:
        raise ValueError(f"dataset must have an image. Received: {recipe.dataset} with {', '.join(features)}")
    given = "lr" in images and "hr" in images
    found = []
    for split in splits:
        pairs: dict[str, Any] = {}
        for number, example in enumerate(builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator()):
            name = f"{split} {number}"
            if given:
                pairs[name] = as_pair(example["hr"], recipe, name, example["lr"])
            else:
                pairs[name] = as_pair(example[images[0]], recipe, name)
        large = large_enough({name: image.shape[:2] for name, (_, image) in pairs.items()}, recipe, notes)
        kept = [pair for name, pair in pairs.items() if name in large]
        if not kept:
            raise ValueError(f"A split must have images to enlarge. Received: none in {recipe.dataset} {split!r}")
        found.append(Pictures(kept.__getitem__, tuple(name for name in pairs if name in large)))
    return found
