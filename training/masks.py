"""Images and their masks, which have a class for every pixel: from a folder, or from a TFDS data set."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from .folders import SPLIT_FOLDERS, list_images, readable
from .images import peek, read_mask
from .recipe import Recipe
from .sources import FileSource, RecordSource, in_memory

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
MASKS_LOOKED_AT = 64  # of a streamed TFDS split, before training
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
    counts: dict[str, np.ndarray] = {}
    for split, pairs in found.items():
        kept = readable([image for image, _ in pairs], recipe, streamed, notes)
        rows, counts[split] = _look_at_masks([pair for pair in pairs if pair[0] in kept], recipe, notes)
        sources[split] = FileSource(
            paths=tuple(image for image, _ in rows),
            labels=np.array([mask for _, mask in rows], dtype=np.str_),
            image_shape=recipe.image_shape,
            crop_to_aspect_ratio=recipe.crop_to_aspect_ratio,
        )
    names = _class_names(root, recipe, counts["train"])
    for split, count in counts.items():
        check_masks(count, names, recipe, every_class=split == "train")
    return names, [sources.get(split) for split in SPLIT_FOLDERS]


def count_pixels(masks: np.ndarray) -> np.ndarray:
    """How many pixels of masks have each number, (256,)."""
    return np.bincount(np.asarray(masks).reshape(-1).astype(np.int64), minlength=256)


def check_masks(counts: np.ndarray, class_names: tuple[str, ...], recipe: Recipe, every_class: bool) -> None:
    """ValueError if masks hold a number that is neither a class nor ``ignore_index``, or hardly any class at all.

    Args:
        counts: Of ``count_pixels``.
        class_names: Name of each class.
        recipe: Its ``ignore_index``.
        every_class: Whether the masks are those to train on, in which a class that is missing cannot be learnt.
    """
    classes, void = len(class_names), recipe.ignore_index
    if void is not None and void < classes:
        raise ValueError(
            f"ignore_index must not be the number of a class, which are [0, {classes}). Received: ignore_index={void}"
        )
    strange = [int(value) for value in np.flatnonzero(counts) if value >= classes and value != void]
    if strange:
        raise ValueError(
            f"A mask's pixels must be classes in [0, {classes}), or ignore_index. Received: "
            f"{', '.join(map(str, strange[:8]))}, ignore_index={void}"
        )
    missing = [name for name, count in zip(class_names, counts, strict=False) if not count]
    if not every_class or not missing:
        return
    ignored = 0.0 if void is None else counts[void] / max(counts.sum(), 1)
    received = f"no pixel of {', '.join(missing[:8])}; {ignored:.0%} of the pixels are ignore_index={void}"
    if classes - len(missing) < 2:
        raise ValueError(f"Two classes or more must occur in the training masks. Received: {received}")
    warnings.warn(f"Classes that do not occur in the training masks cannot be learnt: {received}", stacklevel=2)


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
        found: dict[str, str] = {}
        for path in map(Path, list_images(folder)):
            name = str(path.relative_to(folder).with_suffix(""))
            if name in found:
                raise ValueError(f"Files must differ in more than their extension. Received: {found[name]} and {path}")
            found[name] = str(path)
        return found

    pictures, answers = listed(images), listed(masks)
    lossy = next((path for path in answers.values() if path.lower().endswith((".jpg", ".jpeg", ".webp"))), None)
    if lossy is not None:
        raise ValueError(f"A mask must be saved without loss, as .png: JPEG mixes class numbers. Received: {lossy}")
    alone = sorted(set(pictures) - set(answers))
    if alone or not pictures:
        raise ValueError(
            f"Every image must have a mask of its name. Received: {len(alone)} of {len(pictures)} images in {images} "
            f"without one in {masks}{', the first: ' + alone[0] if alone else ''}"
        )
    return [(path, answers[name]) for name, path in pictures.items()]


def _look_at_masks(
    pairs: list[tuple[str, str]], recipe: Recipe, notes: list[str]
) -> tuple[list[tuple[str, str]], np.ndarray]:
    """(pairs whose mask can be read, pixels of each number); a mask that cannot is an error, or skipped and noted."""

    def look(pair: tuple[str, str]) -> np.ndarray | str:
        image, path = pair
        try:
            mask, size = read_mask(path), peek(image)[:2]
        except ValueError as error:
            return str(error)
        if mask.shape != size:
            return f"A mask must have its image's size. Received: {image} {size}, {path} {mask.shape}"
        return count_pixels(mask)

    with ThreadPoolExecutor(max_workers=8) as pool:
        seen = list(pool.map(look, pairs, chunksize=16))
    bad = [answer for answer in seen if isinstance(answer, str)]
    if bad and recipe.on_bad_image == "error":
        raise ValueError(bad[0] if len(bad) == 1 else f"{bad[0]} (and {len(bad) - 1} more)")
    if bad:
        notes.append(f"{len(bad)} unreadable masks left out with their images, the first: {bad[0]}")
        warnings.warn(notes[-1], UserWarning, stacklevel=2)
    rows = [pair for pair, answer in zip(pairs, seen, strict=True) if not isinstance(answer, str)]
    return rows, sum((answer for answer in seen if not isinstance(answer, str)), np.zeros(256, np.int64))


def _class_names(root: Path, recipe: Recipe, counts: np.ndarray) -> tuple[str, ...]:
    path = root / CLASSES_FILE
    if path.is_file():
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        names = tuple(line for line in lines if line)
        if recipe.ignore_index is not None and recipe.ignore_index == len(names) - 1:
            names = names[:-1]
    elif recipe.num_classes is not None:
        names = tuple(map(str, range(recipe.num_classes)))
    else:
        values = np.flatnonzero(counts)
        names = tuple(map(str, range(int(values[values != recipe.ignore_index].max(initial=0)) + 1)))
        if len(names) < 2:
            raise ValueError(
                "Masks must hold two classes or more, numbers from 0 on. Received: the numbers "
                f"{', '.join(map(str, values[:8]))} with ignore_index={recipe.ignore_index}"
            )
    if recipe.num_classes is not None and recipe.num_classes != len(names):
        raise ValueError(
            f"num_classes must be the number of classes in {path}, that of ignore_index left out. Received: "
            f"num_classes={recipe.num_classes}, {len(names)} names"
        )
    return names
