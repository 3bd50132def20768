"""Images and their masks, which have a class for every pixel: from a folder, or from a TFDS data set."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .folders import SPLIT_FOLDERS, readable
from .images import EXTENSIONS, peek, read_mask
from .recipe import Recipe
from .sources import ArraySource, FileSource, RecordSource, in_memory

IMAGE_FOLDERS = ("images", "image", "img")
MASK_FOLDERS = ("masks", "mask", "annotations", "labels")
# As SegNet's CamVid has them: train/ beside trainannot/.
MASK_SUFFIXES = ("annot", "_masks", "_mask", "_labels", "_annotations")
CLASSES_FILE = "classes.txt"
LAYOUT = (
    "data_dir of a segmentation must hold images/ and masks/ (each with train/, val/ and test/, or none of them), or "
    "train/ and trainannot/ and so on, or train/images/ and train/masks/; a mask has its image's name"
)
VOID = 255
CITYSCAPES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# TFDS data sets whose masks hold other numbers than classes from 0: names, and the number of each class in a mask.
KNOWN = {
    "cityscapes": (CITYSCAPES, CITYSCAPES_IDS),
    "oxford_iiit_pet": (("pet", "background", "border"), (1, 2, 3)),
}


def scan_masks(recipe: Recipe, notes: list[str]) -> tuple[tuple[str, ...], list[FileSource | None]]:
    """List the images and masks of ``recipe.data_dir``.

    Returns:
        (class names; sources of the training, validation and test images, None where the folder has none).

    Raises:
        FileNotFoundError: no such folder.
        ValueError: another layout, an image without its mask or of another size, an unreadable file.
    """
    if recipe.data_dir is None:
        raise ValueError(f"{LAYOUT}. Received: data_dir=None")
    root = Path(recipe.data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"data_dir must be a folder. Received: data_dir={recipe.data_dir!r}")
    folders = _folders(root)
    if "train" not in folders:
        raise ValueError(f"{LAYOUT}. Received: data_dir={recipe.data_dir!r}")
    found = {split: _pairs(*pair) for split, pair in folders.items()}
    total = sum(map(len, found.values()))
    streamed = not in_memory(recipe, total + total // recipe.image_shape[2])
    sources: dict[str, FileSource] = {}
    for split, pairs in found.items():
        kept = readable([image for image, _ in pairs], recipe, streamed, notes)
        rows = [(image, mask) for image, mask in pairs if image in kept]
        _check_sizes(rows)
        sources[split] = FileSource(
            paths=tuple(image for image, _ in rows),
            labels=np.array([mask for _, mask in rows], dtype=np.str_),
            image_shape=recipe.image_shape,
            crop_to_aspect_ratio=recipe.crop_to_aspect_ratio,
        )
    return _class_names(root, recipe, sources["train"]), [sources.get(split) for split in SPLIT_FOLDERS]


def check_masks(source: ArraySource, classes: int, recipe: Recipe) -> None:
    """ValueError if a mask holds a number that is neither a class nor ``ignore_index``."""
    counts = np.bincount(source.labels.reshape(-1), minlength=256)
    strange = [int(value) for value in np.flatnonzero(counts) if value >= classes and value != recipe.ignore_index]
    if strange:
        raise ValueError(
            f"A mask's pixels must be classes in [0, {classes}), or ignore_index. Received: "
            f"{', '.join(map(str, strange[:8]))}, ignore_index={recipe.ignore_index}"
        )


def record_masks(builder: Any, recipe: Recipe) -> tuple[tuple[str, ...], Any]:
    """(class names, split -> ``RecordSource``) of a prepared TFDS data set with an image and a mask."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [name for name in features if isinstance(features[name], tfds.features.Image)]
    masks = [
        name
        for name in images
        if type(features[name]).__name__ == "LabeledImage" or any(word in name for word in ("segment", "mask", "label"))
    ]
    pictures = [name for name in images if name not in masks]
    if not masks or not pictures:
        raise ValueError(
            f"dataset must have an image and a mask. Received: {recipe.dataset} with "
            + ", ".join(f"{name}: {type(features[name]).__name__}" for name in features)
        )
    names: tuple[str, ...]
    table: tuple[int, ...] | None = None
    known = KNOWN.get(builder.name)
    if known is not None:
        names, ids = known
        void = VOID if recipe.ignore_index is None else recipe.ignore_index
        table = tuple(ids.index(value) if value in ids else void for value in range(256))
    elif recipe.num_classes is not None:
        names = tuple(map(str, range(recipe.num_classes)))
    else:
        raise ValueError(f"num_classes must be given: masks do not tell. Received: {recipe.dataset}, num_classes=None")

    def split(name: str) -> RecordSource:
        keys = (pictures[0], masks[0])
        return RecordSource(builder, name, keys, recipe.image_shape, recipe.crop_to_aspect_ratio, table)

    return names, split


def _folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """Split -> (folder of its images, folder of its masks), by whichever layout is there."""

    def first(places: list[tuple[Path, Path]]) -> tuple[Path, Path] | None:
        return next((pair for pair in places if pair[0].is_dir() and pair[1].is_dir()), None)

    found = {}
    for split, names in SPLIT_FOLDERS.items():
        places = [(root / name, root / f"{name}{suffix}") for name in names for suffix in MASK_SUFFIXES]
        for images in IMAGE_FOLDERS:
            for masks in MASK_FOLDERS:
                places += [(root / images / name, root / masks / name) for name in names]
                places += [(root / name / images, root / name / masks) for name in names]
        pair = first(places)
        if pair is not None:
            found[split] = pair
    if not found:
        pair = first([(root / images, root / masks) for images in IMAGE_FOLDERS for masks in MASK_FOLDERS])
        if pair is not None:
            found["train"] = pair
    return found


def _pairs(images: Path, masks: Path) -> list[tuple[str, str]]:
    """(image, mask) paths by name, in a fixed order."""

    def listed(folder: Path) -> dict[str, str]:
        paths = [Path(place) / name for place, _, names in os.walk(folder) for name in names]
        paths = [path for path in paths if path.suffix.lower() in EXTENSIONS]
        return {str(path.relative_to(folder).with_suffix("")): str(path) for path in sorted(paths)}

    pictures, answers = listed(images), listed(masks)
    alone = sorted(set(pictures) - set(answers))
    if alone or not pictures:
        raise ValueError(
            f"Every image must have a mask of its name. Received: {len(alone)} of {len(pictures)} images in {images} "
            f"without one in {masks}{', the first: ' + alone[0] if alone else ''}"
        )
    return [(path, answers[name]) for name, path in pictures.items()]


def _check_sizes(rows: list[tuple[str, str]]) -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:
        sizes = list(pool.map(lambda row: (peek(row[0])[:2], peek(row[1])[:2]), rows, chunksize=64))
    for (image, mask), (first, second) in zip(rows, sizes, strict=True):
        if first != second:
            raise ValueError(f"A mask must have its image's size. Received: {image} {first}, {mask} {second}")


def _class_names(root: Path, recipe: Recipe, train: FileSource) -> tuple[str, ...]:
    path = root / CLASSES_FILE
    if path.is_file():
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        names = tuple(line for line in lines if line)
        if recipe.ignore_index is not None and recipe.ignore_index == len(names) - 1:
            names = names[:-1]
    elif recipe.num_classes is not None:
        names = tuple(map(str, range(recipe.num_classes)))
    else:
        values = np.zeros(256, np.int64)
        for mask in train.labels:
            values += np.bincount(read_mask(mask).reshape(-1), minlength=256)
        if recipe.ignore_index is not None:
            values[recipe.ignore_index] = 0
        names = tuple(map(str, range(int(np.flatnonzero(values).max(initial=0)) + 1)))
    if recipe.num_classes is not None and recipe.num_classes != len(names):
        raise ValueError(
            f"num_classes must be the number of classes in {path}, that of ignore_index left out. Received: "
            f"num_classes={recipe.num_classes}, {len(names)} names"
        )
    return names
