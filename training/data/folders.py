"""A folder of images, one sub-folder a class, looked through before anything is trained."""

from __future__ import annotations

import collections
import dataclasses
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..images import EXTENSIONS, Header, read_header, read_image, read_peak
from ..recipe import Recipe
from .listing import (
    Notes,
    bad_images_text,
    describe,
    first_names,
    folders_in,
    list_files,
    note_other_files,
    relative_name,
)
from .sources import FileSource, in_memory

SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
DEEP_LOOKED_AT = 512  # pictures of more than 8 bits whose pixels a scan of a split reads, at equal distances
GREY_MODES = ("1", "L", "LA", "I", "I;16")


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """What `scan_folder` found: sources of the splits that are there."""

    class_names: tuple[str, ...]
    train: FileSource
    validation: FileSource | None
    test: FileSource | None


def scan_folder(recipe: Recipe, notes: Notes, only: frozenset[str] | None = None) -> ImageFolder:
    """List the images of ``recipe.data_dir`` and read every file's header.

    The folder has one sub-folder a class, or sub-folders train, val (or validation) and test that have them. Images
    may lie deeper; files without an image's extension are counted and left alone.

    Args:
        recipe: Its ``data_dir``.
        notes: Where to tell what was done to the files.
        only: Names of the files to take; None: all.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no classes, a class without images, splits whose classes differ, an unreadable image.
    """
    root = data_folder(recipe, "a folder with one sub-folder of images a class")
    splits = split_folders(root)
    if splits["train"] is None or not folders_in(splits["train"]):
        splits = {"train": root, "validation": None, "test": None}

    found = _list_classes(
        {split: folder for split, folder in splits.items() if folder is not None}, recipe, notes, only
    )
    if only is not None:
        found = {
            split: [(path, name) for path, name in files if relative_name(path, root) in only]
            for split, files in found.items()
        }
    class_names = tuple(sorted({name for _, name in found["train"]}))
    for split, files in found.items():
        strange = sorted({name for _, name in files} - set(class_names))
        if strange:
            raise ValueError(_strange_classes(strange, class_names, splits[split] or root, splits["train"] or root))
    alike = _lookalikes(class_names)
    if alike:
        notes.warn(f"Classes whose names look alike are kept apart; rename the folder where they are one: {alike}")
    labels = {name: index for index, name in enumerate(class_names)}
    streamed = not in_memory(recipe, sum(map(len, found.values())))

    def source(split: str) -> FileSource:
        kept = readable([path for path, _ in found[split]], recipe, streamed, notes)
        rows = [(path, labels[name]) for path, name in found[split] if path in kept]
        paths = tuple(path for path, _ in rows)
        return FileSource(
            paths=paths,
            labels=np.array([label for _, label in rows], np.int64),
            image_shape=recipe.image_shape,
            crop_to_aspect_ratio=recipe.crop_to_aspect_ratio,
            files=describe(paths, root),
        )

    train = source("train")
    for name, label in labels.items():
        count = int((train.labels == label).sum())
        if count < 2:
            raise ValueError(
                "Every class needs at least two training images: add some, or take its folder out of every split. "
                f"Received: {splits['train']} with {count} of {name!r}"
            )
    validation, test = (source(split) if split in found else None for split in ("validation", "test"))
    return ImageFolder(class_names, train, validation, test)


def _strange_classes(strange: Sequence[str], class_names: Sequence[str], split: Path, train: Path) -> str:
    """What is wrong with class folders that the training images lack, and what to do."""
    told = []
    for name in strange[:8]:
        twin = next((other for other in class_names if _shown(other).casefold() == _shown(name).casefold()), None)
        if twin is None:
            told.append(repr(name))
        elif _shown(twin) == _shown(name):
            told.append(f"{name!a} (looks alike: {twin!a})")
        else:
            told.append(f"{name!r} (differs only by case: {twin!r})")
    return (
        "Every split must have the same classes: add images of them to the training folder, rename the folders, or "
        f"take them out. Received: {train} lacks {', '.join(told)}, which {split} has"
    )


def _shown(name: str) -> str:
    """A name as it looks: composed, without characters of no width, spaces as one and none at the end."""
    visible = (character for character in name if unicodedata.category(character) != "Cf")
    return " ".join(unicodedata.normalize("NFC", "".join(visible)).split())


def _lookalikes(names: Iterable[str]) -> str:
    """Names that look the same, written so that they differ; "" where there are none."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_shown(name), []).append(name)
    return "; ".join(" and ".join(map(ascii, group)) for group in groups.values() if len(group) > 1)


def data_folder(recipe: Recipe, what: str) -> Path:
    """The folder that ``recipe.data_dir`` names."""
    if recipe.data_dir is None:
        raise ValueError(f"dataset='folder' needs data_dir, {what}. Received: data_dir=None")
    root = Path(recipe.data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            "data_dir must be a folder: if it was moved, --set data_dir=NEW says where to. "
            f"Received: data_dir={recipe.data_dir!r}"
        )
    return root


def raises_on_bad_image(recipe: Recipe, only: frozenset[str] | None) -> bool:
    """Whether an image that cannot be read is an error; where only known files are taken, other ones stop nothing."""
    return recipe.on_bad_image == "error" and only is None


def check_files(recipe: Recipe, names: frozenset[str]) -> None:
    """ValueError if one of the files that a run knows is missing."""
    root = data_folder(recipe, "the folder that the run's images are in")
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise ValueError(
            f"Every file of the run's list must be there: put it back, or train anew with `wavemix-tf fit` and "
            f"--overwrite. Received: {len(missing):,} of {len(names):,} missing: {first_names(missing)}"
        )


def split_folders(root: Path) -> dict[str, Path | None]:
    """The sub-folders of training, validation and test images; ValueError where there are but the last two."""
    splits = {
        split: next((root / name for name in names if (root / name).is_dir()), None)
        for split, names in SPLIT_FOLDERS.items()
    }
    held_out = [folder.name for folder in splits.values() if folder is not None]
    if held_out and splits["train"] is None and {folder.name for folder in folders_in(root)} <= set(held_out):
        raise ValueError(
            f"data_dir with {' and '.join(held_out)} must have train too. Received: data_dir={str(root)!r}"
        )
    return splits


def _list_classes(
    splits: dict[str, Path], recipe: Recipe, notes: Notes, only: frozenset[str] | None
) -> dict[str, list[tuple[str, str]]]:
    """Split -> (path, class name) of every image, in a fixed order."""
    places: list[tuple[str, Path]] = []
    for split, root in splits.items():
        classes = folders_in(root)
        if not classes:
            raise ValueError(
                f"data_dir must have one sub-folder of images a class. Received: {root} without sub-folders"
            )
        places += [(split, folder) for folder in classes]
    listings = list_files([folder for _, folder in places])
    files: dict[str, list[tuple[str, str]]] = {split: [] for split in splits}
    for (split, folder), listing in zip(places, listings, strict=True):
        if not listing.images and split == "train":
            unread = f" and {len(listing.unread)} of HEIC or AVIF, which are not read" if listing.unread else ""
            raise ValueError(
                f"Every class folder must hold images ({', '.join(EXTENSIONS)}). Received: {folder} with "
                f"{len(listing.others)} other files{unread}"
            )
        files[split] += [(path, folder.name) for path in listing.images]
    for split, root in splits.items():
        of_split = [one for (of, _), one in zip(places, listings, strict=True) if of == split]
        note_other_files(of_split, root, notes, raises_on_bad_image(recipe, only))
    return files


def readable(paths: list[str], recipe: Recipe, streamed: bool, notes: Notes, resized: bool = True) -> set[str]:
    """The paths whose header can be read, and in a streamed data set with skipping, whose every pixel can."""
    thorough = recipe.on_bad_image == "skip" and streamed

    def look(path: str) -> Header | str:
        try:
            if thorough:
                read_image(path, recipe.image_shape[2])
            return read_header(path)
        except (ValueError, OSError) as error:
            return str(error)

    with ThreadPoolExecutor(max_workers=8) as pool:
        seen = dict(zip(paths, pool.map(look, paths, chunksize=64), strict=True))
        deep = [path for path, answer in seen.items() if isinstance(answer, Header) and answer.deep]
        deep = deep[:: -(-len(deep) // DEEP_LOOKED_AT) or 1]
        notes.deep.update(zip(deep, pool.map(read_peak, deep), strict=True))
    bad = [(path, answer) for path, answer in seen.items() if isinstance(answer, str)]
    if bad and recipe.on_bad_image == "error":
        raise ValueError(bad_images_text(bad))
    notes.leave_out(bad, "unreadable images left out")
    good = {path: answer for path, answer in seen.items() if not isinstance(answer, str)}
    grey = [path for path, header in good.items() if header.mode in GREY_MODES]
    if grey and len(grey) < len(good) and recipe.image_shape[2] == 3:
        notes.warn(f"{len(grey)} of {len(good)} images are grey and become RGB, the first: {grey[0]}")
    sizes = collections.Counter(header[:2] for header in good.values())
    if resized and set(sizes) - {recipe.image_shape[:2]}:
        smallest, largest = min(sizes, key=np.prod), max(sizes, key=np.prod)
        notes.append(
            (f"images of {len(sizes)} sizes, {_size(smallest)} to " if len(sizes) > 1 else "images of ")
            + f"{_size(largest)} (height x width) resized to {_size(recipe.image_shape[:2])}"
        )
    return set(good)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
