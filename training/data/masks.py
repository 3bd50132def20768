"""Images and their masks, which have a class for every pixel: from a folder, or from a TFDS dataset."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from wavemix_tf.warning import warn_user

from ..images import read_header
from ..recipe import Recipe
from . import mask_formats
from .folders import SPLIT_FOLDERS, raises_on_bad_image, readable
from .listing import Notes, bad_images_text, describe, relative_name
from .mask_formats import UNLISTED, VOID, MaskFormat, Pixels, read_pixels
from .mask_names import mixed_pattern, pair_files
from .records import RecordSource
from .sources import FileSource, in_memory

IMAGE_FOLDERS = ("images", "image", "img", "imgs", "JPEGImages")
MASK_FOLDERS = ("masks", "mask", "annotations", "labels", "label", "gt", "SegmentationClass")
# As in SegNet's CamVid: train/ and trainannot/.
MASK_SUFFIXES = ("annot", "_masks", "_mask", "_labels", "_annotations")
CLASSES_FILE = "classes.txt"
LAYOUT = (
    "data_dir of a segmentation must have images/ and masks/ (each with train/, val/ and test/, or none of them), or "
    "train/ and trainannot/ and so on, or train/images/ and train/masks/, or images and masks in one folder; a mask "
    "has its image's name, or a name by mask_name"
)
MASKS_LOOKED_AT = 64  # masks of a streamed TFDS split that are read before training
CITYSCAPES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# TFDS datasets whose masks do not hold class numbers from 0: class names, and the number of each class in a mask.
KNOWN = {
    "cityscapes": (CITYSCAPES, CITYSCAPES_IDS),
    "oxford_iiit_pet": (("pet", "background", "border"), (1, 2, 3)),
}


def scan_masks(
    recipe: Recipe, notes: Notes, only: frozenset[str] | None = None, training: bool = True
) -> tuple[tuple[str, ...], list[FileSource | None]]:
    """List the images and masks of ``recipe.data_dir``.

    Args:
        recipe: Gives ``data_dir`` and the format of the masks.
        notes: Gains notes about the files.
        only: Names of the files to use; None: all.
        training: Whether a network will be trained on them, so that every class must occur.

    Returns:
        (class names; sources of the training, validation and test images, None where the folder has none).

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: unknown layout, an image without a mask or of another size than its mask, an unreadable file.
    """
    if recipe.data_dir is None:
        raise ValueError(f"{LAYOUT}. Received: data_dir=None")
    root = Path(recipe.data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"data_dir must be a folder. Received: data_dir={recipe.data_dir!r}")
    folders = _folders(root, recipe)
    if "train" not in folders:
        raise ValueError(f"{LAYOUT}. Received: data_dir={recipe.data_dir!r}")
    found = {
        split: pair_files(*pair, recipe.mask_name, notes, raises_on_bad_image(recipe, only))
        for split, pair in folders.items()
    }
    total = sum(map(len, found.values()))
    streamed = not in_memory(recipe, total + total // recipe.image_shape[2])
    form = MaskFormat.of(recipe)
    kept: dict[str, list[_Seen]] = {}
    for split, pairs in found.items():
        if only is not None:
            pairs = [pair for pair in pairs if relative_name(pair[0], root) in only]
        good = readable([image for image, _ in pairs], recipe, streamed, notes)
        kept[split] = _look_at_masks([pair for pair in pairs if pair[0] in good], recipe, form, notes)
    if not form.values:
        _check_kind([seen for part in kept.values() for seen in part])
    counts = {split: _sum(part) for split, part in kept.items()}
    every = sum(counts.values(), collections.Counter())
    names = _class_names(root, recipe, counts["train"], every)
    for split, count in counts.items():
        check_masks(_as_classes(count, form), names, recipe, training and split == "train", every)
    sources = {
        split: FileSource(
            paths=tuple(seen.image for seen in part),
            labels=np.array([seen.mask for seen in part], dtype=np.str_),
            image_shape=recipe.image_shape,
            crop_to_aspect_ratio=recipe.crop_to_aspect_ratio,
            masks=form,
            files=describe([seen.image for seen in part], root, [seen.mask for seen in part]),
            counts=np.array([_as_classes(seen.counts, form)[: len(names)] for seen in part]),
        )
        for split, part in kept.items()
    }
    return names, [sources.get(split) for split in SPLIT_FOLDERS]


def count_pixels(masks: np.ndarray) -> np.ndarray:
    """Number of mask pixels with each value, (256,) or more."""
    return np.bincount(np.asarray(masks).reshape(-1).astype(np.int64), minlength=256)


def check_masks(
    counts: np.ndarray,
    class_names: tuple[str, ...],
    recipe: Recipe,
    every_class: bool,
    values: Mapping[int, int] | None = None,
) -> None:
    """Raise ValueError if masks have a value that is neither a class nor ``ignore_index``, or fewer than two classes.

    Args:
        counts: From ``count_pixels``.
        class_names: Name of each class.
        recipe: Gives ``ignore_index`` and ``mask_values``.
        every_class: Whether these are the training masks, where a missing class cannot be learned.
        values: Value -> pixels of all splits, to propose ``mask_values``; None: those of ``counts``.
    """
    classes, void = len(class_names), recipe.void
    if values is None:
        values = dict(enumerate(counts.tolist()))
    advice = "" if recipe.mask_values else mask_formats.proposal(values, recipe, classes)
    if void is not None and void < classes:
        raise ValueError(f"ignore_index must not be a class number, in [0, {classes}). Received: ignore_index={void}")
    strange = [int(value) for value in np.flatnonzero(counts) if value >= classes and value != void]
    if strange and recipe.mask_values:
        raise ValueError(
            "A mask's pixels must be in mask_values, mask_void or ignore_index. Received: "
            f"{counts[strange].sum():,} pixels of other numbers, mask_values={recipe.mask_values}"
        )
    if strange:
        raise ValueError(
            f"A mask's pixels must be classes in [0, {classes}), or ignore_index. Received: "
            f"{', '.join(map(str, strange[:8]))}, ignore_index={void}{advice}"
        )
    missing = [name for name, count in zip(class_names, counts, strict=False) if not count]
    if not every_class or not missing:
        return
    ignored = 0.0 if void is None else counts[void] / max(counts.sum(), 1)
    received = f"no pixel of {', '.join(missing[:8])}; {ignored:.0%} of the pixels are ignore_index={void}{advice}"
    if classes - len(missing) < 2:
        raise ValueError(f"Two classes or more must occur in the training masks. Received: {received}")
    warn_user(f"Classes that do not occur in the training masks cannot be learned: {received}")


def record_masks(builder: Any, recipe: Recipe) -> tuple[tuple[str, ...], Any]:
    """(class names, split -> ``RecordSource``) of a prepared TFDS dataset with an image and a mask."""
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
    if features[masks[0]].shape[-1] not in (1, None) or MaskFormat.of(recipe).colored:
        raise ValueError(
            "Masks from TFDS must have one channel of numbers; color masks are only read from folders. Received: "
            f"{recipe.dataset} with {masks[0]} {features[masks[0]].shape}, mask_values={recipe.mask_values}"
        )
    known = KNOWN.get(builder.name)
    if recipe.mask_values:
        form = MaskFormat.of(recipe).table
        names = tuple(map(str, recipe.mask_values))
        table = tuple(form.get(value, UNLISTED) for value in range(256))
    elif known is not None:
        names, ids = known
        void = VOID if recipe.ignore_index is None else recipe.ignore_index
        table = tuple(ids.index(value) if value in ids else void for value in range(256))
    elif recipe.num_classes is not None:
        names = tuple(map(str, range(recipe.num_classes)))
    else:
        raise ValueError(f"num_classes must be set for masks of TFDS. Received: {recipe.dataset}, num_classes=None")

    def split(name: str) -> RecordSource:
        keys = (pictures[0], masks[0])
        return RecordSource(builder, name, keys, recipe.image_shape, recipe.crop_to_aspect_ratio, table)

    return names, split


def _folders(root: Path, recipe: Recipe) -> dict[str, tuple[Path, Path]]:
    """Split -> (folder of its images, folder of its masks), from the layout that is found."""

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
    return found or _mixed_folders(root, recipe)


def _mixed_folders(root: Path, recipe: Recipe) -> dict[str, tuple[Path, Path]]:
    """As ``_folders``, for images and masks in one folder."""
    splits = {
        split: next((root / name for name in names if (root / name).is_dir()), None)
        for split, names in SPLIT_FOLDERS.items()
    }
    if splits["train"] is None:
        splits = {"train": root}
    fitting = {}
    for split, folder in splits.items():
        pattern = mixed_pattern(folder, recipe.mask_name) if folder is not None else None
        if folder is None or pattern is None:
            continue
        if pattern != recipe.mask_name:
            raise ValueError(
                f"{LAYOUT}. Received: data_dir={recipe.data_dir!r}, mask_name={recipe.mask_name!r}; "
                f"`--set mask_name={pattern}` fits all files in {folder}"
            )
        fitting[split] = (folder, folder)
    return fitting


@dataclasses.dataclass(frozen=True)
class _Seen:
    """The content of a mask, and the paths."""

    image: str
    mask: str
    pixels: Pixels
    counts: dict[int, int]  # value -> pixels
    resized: str = ""  # the two sizes, for the warning


def _look_at_masks(pairs: list[tuple[str, str]], recipe: Recipe, form: MaskFormat, notes: Notes) -> list[_Seen]:
    """The pairs with a readable mask, and the contents; an unreadable mask is an error, or skipped and noted."""

    def look(pair: tuple[str, str]) -> _Seen | str:
        image, path = pair
        try:
            pixels, size = read_pixels(path, form.colored), read_header(image)[:2]
            if form.values:
                form.classes(pixels.values, path)
            counts = mask_formats.count_values(pixels, path)
        except (ValueError, OSError) as error:
            return str(error)
        shape, resized = pixels.values.shape, ""
        if shape != size:
            turned = shape == size[::-1]
            if turned or not form.resize:
                advice = "" if turned else "; `--set mask_resize=true` resizes masks to their images' size"
                return f"A mask must have its image's size. Received: {image} {size}, {path} {shape}{advice}"
            resized = f"{path} from {shape[0]}x{shape[1]} to {size[0]}x{size[1]}"
        empty = dataclasses.replace(pixels, values=np.zeros((0, 0), np.int64))
        return _Seen(image, path, empty, counts, resized)

    with ThreadPoolExecutor(max_workers=8) as pool:
        seen = list(pool.map(look, pairs, chunksize=16))
    bad = [(pair[0], answer) for pair, answer in zip(pairs, seen, strict=True) if isinstance(answer, str)]
    if bad and recipe.on_bad_image == "error":
        raise ValueError(bad_images_text(bad))
    notes.leave_out(bad, "unreadable masks skipped with their images")
    good = [answer for answer in seen if not isinstance(answer, str)]
    resized = [one.resized for one in good if one.resized]
    if resized:
        notes.warn(f"{len(resized)} masks resized to the size of their image, the first: {resized[0]}")
    return good


def _sum(seen: list[_Seen]) -> collections.Counter[int]:
    total: collections.Counter[int] = collections.Counter()
    for one in seen:
        total.update(one.counts)
    return total


def _as_classes(counts: Mapping[int, int], form: MaskFormat) -> np.ndarray:
    """Pixels of each class number, (256,) or more."""
    table = form.table if form.values else {}
    found = np.zeros(max([256, *(value + 1 for value in counts if not table)]), np.int64)
    for value, count in counts.items():
        found[table.get(value, value)] += count
    return found


def _check_kind(seen: list[_Seen]) -> None:
    """Raise ValueError if pixel values are not class numbers: colors, or palettes with different orders."""
    colored = [one for one in seen if one.pixels.colored]
    differing = not colored and mask_formats.palettes_differ(one.pixels.palette for one in seen)
    if not colored and not differing:
        return
    shown: collections.Counter[int] = collections.Counter()
    for one in seen:
        shown.update(
            one.counts
            if one.pixels.colored
            else mask_formats.count_values(read_pixels(one.mask, as_colors=True), one.mask)
        )
    what = (
        f"{len(colored)} of {len(seen)} with colors, the first: {colored[0].mask} (mode {colored[0].pixels.mode})"
        if colored
        else f"palettes that show one number in different colors, including {seen[0].mask}"
    )
    raise ValueError(f"{mask_formats.RULE}. Received: {what}{mask_formats.color_proposal(shown)}")


def _class_names(root: Path, recipe: Recipe, counts: Mapping[int, int], every: Mapping[int, int]) -> tuple[str, ...]:
    """The class names from classes.txt, mask_values, num_classes or the values in the masks.

    Args:
        root: The data folder.
        recipe: The recipe of the run.
        counts: Value -> pixels of the training masks.
        every: Value -> pixels of all masks.
    """
    path, table = root / CLASSES_FILE, recipe.mask_values
    if path.is_file():
        names = _listed_names(path)
        if not table and recipe.ignore_index is not None and recipe.ignore_index == len(names) - 1:
            names = names[:-1]
    elif table:
        names = tuple(map(str, table))
    elif recipe.num_classes is not None:
        names = tuple(map(str, range(recipe.num_classes)))
    else:
        values = sorted(value for value in counts if value != recipe.ignore_index)
        names = tuple(map(str, range(len(values))))
        if values != list(range(len(values))) or len(values) < 2:
            raise ValueError(
                "Masks must have two classes or more, numbered from 0 without gaps, unless num_classes, "
                f"{CLASSES_FILE} or mask_values is given. Received: the numbers "
                f"{', '.join(map(str, sorted(every)[:12]))}{', ...' if len(every) > 12 else ''} with "
                f"ignore_index={recipe.ignore_index}{mask_formats.proposal(every, recipe)}"
            )
    if table and len(names) != len(table):
        raise ValueError(
            f"{path} must name each of mask_values, in their order. Received: {len(names)} names, {len(table)} values"
        )
    if recipe.num_classes is not None and recipe.num_classes != len(names):
        raise ValueError(
            f"num_classes must be the number of classes in {path}, without that of ignore_index. Received: "
            f"num_classes={recipe.num_classes}, {len(names)} names"
        )
    return names


def _listed_names(path: Path) -> tuple[str, ...]:
    """The class names in classes.txt."""
    rule = f"{CLASSES_FILE} must name the classes, one per line, each once, in UTF-8"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{rule} ({error}). Received: {path}") from None
    names = tuple(name for line in lines if (name := line.strip()))
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        received = f"{path} with {', '.join(twice[:8])} more than once" if twice else f"{path} without names"
        raise ValueError(f"{rule}. Received: {received}")
    return names
