"""A folder of images, one sub-folder a class, looked through before anything is trained."""

from __future__ import annotations

import collections
import dataclasses
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .images import EXTENSIONS, peek, read_image
from .recipe import Recipe
from .sources import FileSource, in_memory

SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
GREY_MODES = ("1", "L", "LA", "I", "I;16", "F")


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """What `scan_folder` found: sources of the splits that are there, and what was done to the files."""

    class_names: tuple[str, ...]
    train: FileSource
    validation: FileSource | None
    test: FileSource | None
    notes: tuple[str, ...]


def scan_folder(recipe: Recipe) -> ImageFolder:
    """List the images of ``recipe.data_dir`` and read every file's header.

    The folder has one sub-folder a class, or sub-folders train, val (or validation) and test that have them. Images
    may lie deeper; files without an image's extension are counted and left alone.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no classes, a class without images, splits whose classes differ, an unreadable image.
    """
    if recipe.data_dir is None:
        raise ValueError(
            "dataset='folder' needs data_dir, a folder with one sub-folder of images a class. Received: data_dir=None"
        )
    root = Path(recipe.data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"data_dir must be a folder. Received: data_dir={recipe.data_dir!r}")
    splits = {split: _first(root, names) for split, names in SPLIT_FOLDERS.items()}
    held_out = [folder.name for folder in (splits["validation"], splits["test"]) if folder is not None]
    if held_out and splits["train"] is None and {folder.name for folder in _folders(root)} <= set(held_out):
        raise ValueError(
            f"data_dir with {' and '.join(held_out)} must have train too. Received: data_dir={recipe.data_dir!r}"
        )
    if splits["train"] is None or not _folders(splits["train"]):
        splits = {"train": root, "validation": None, "test": None}

    notes: list[str] = []
    found: dict[str, list[tuple[str, str]]] = {}
    for split, folder in splits.items():
        if folder is not None:
            found[split] = _list(folder, notes)
    class_names = tuple(sorted({name for _, name in found["train"]}))
    for split, files in found.items():
        names = {name for _, name in files}
        if names != set(class_names):
            strange = sorted(names ^ set(class_names))
            raise ValueError(
                f"Every split must have the same classes. Received: {splits[split]} differs from {splits['train']} in "
                + ", ".join(strange[:8])
            )
    labels = {name: index for index, name in enumerate(class_names)}

    def optional(split: str) -> FileSource | None:
        return source(split) if split in found else None

    streamed = not in_memory(recipe, sum(map(len, found.values())))

    def source(split: str) -> FileSource:
        kept = readable([path for path, _ in found[split]], recipe, streamed, notes)
        rows = [(path, labels[name]) for path, name in found[split] if path in kept]
        return FileSource(
            paths=tuple(path for path, _ in rows),
            labels=np.array([label for _, label in rows], np.int64),
            image_shape=recipe.image_shape,
            crop_to_aspect_ratio=recipe.crop_to_aspect_ratio,
        )

    train, validation, test = source("train"), optional("validation"), optional("test")
    for name, label in labels.items():
        count = int((train.labels == label).sum())
        if count < 2:
            raise ValueError(
                f"Every class needs at least two training images. Received: {splits['train']} with {count} of {name!r}"
            )
    return ImageFolder(class_names, train, validation, test, tuple(notes))


def _first(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def list_images(root: Path) -> list[str]:
    """Every image file below a folder, sorted; hidden ones, such as a Mac's "._" files, are none."""
    paths = [Path(place) / name for place, _, names in os.walk(root, followlinks=True) for name in names]
    return sorted(str(p) for p in paths if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))


def _list(root: Path, notes: list[str]) -> list[tuple[str, str]]:
    """(path, class name) of every image below `root`, in a fixed order."""
    classes = _folders(root)
    if not classes:
        raise ValueError(f"data_dir must have one sub-folder of images a class. Received: {root} without sub-folders")
    files, others = [], 0
    for folder in classes:
        paths = [Path(place) / name for place, _, names in os.walk(folder) for name in names]
        images = sorted(str(path) for path in paths if path.suffix.lower() in EXTENSIONS)
        if not images:
            raise ValueError(
                f"Every class folder must hold images ({', '.join(EXTENSIONS)}). Received: {folder} with {len(paths)} "
                "other files"
            )
        others += len(paths) - len(images)
        files += [(path, folder.name) for path in images]
    if others:
        notes.append(f"{root}: {others} files without an image's extension left alone")
    return files


def readable(paths: list[str], recipe: Recipe, streamed: bool, notes: list[str], resized: bool = True) -> set[str]:
    """The paths whose header can be read, and in a streamed data set with skipping, whose every pixel can."""
    thorough = recipe.on_bad_image == "skip" and streamed

    def look(path: str) -> tuple[int, int, str] | str:
        try:
            if thorough:
                read_image(path, recipe.image_shape[2])
            return peek(path)
        except ValueError as error:
            return str(error)

    with ThreadPoolExecutor(max_workers=8) as pool:
        seen = dict(zip(paths, pool.map(look, paths, chunksize=64), strict=True))
    bad = [answer for answer in seen.values() if isinstance(answer, str)]
    if bad and recipe.on_bad_image == "error":
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise ValueError(f"{bad[0]}{more}; on_bad_image='skip' leaves such files out")
    if bad:
        notes.append(f"{len(bad)} unreadable images left out, the first: {bad[0]}")
        warnings.warn(notes[-1], UserWarning, stacklevel=2)
    good = {path: answer for path, answer in seen.items() if not isinstance(answer, str)}
    grey = [path for path, (_, _, mode) in good.items() if mode in GREY_MODES]
    if grey and len(grey) < len(good) and recipe.image_shape[2] == 3:
        notes.append(f"{len(grey)} of {len(good)} images are grey and become RGB, the first: {grey[0]}")
        warnings.warn(notes[-1], UserWarning, stacklevel=2)
    sizes = collections.Counter((height, width) for height, width, _ in good.values())
    if resized and set(sizes) - {recipe.image_shape[:2]}:
        smallest, largest = min(sizes, key=np.prod), max(sizes, key=np.prod)
        notes.append(
            (f"images of {len(sizes)} sizes, {_size(smallest)} to " if len(sizes) > 1 else "images of ")
            + f"{_size(largest)} (height x width) resized to {_size(recipe.image_shape[:2])}"
        )
    return set(good)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
