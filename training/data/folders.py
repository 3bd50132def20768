"""A folder of images with one subfolder per class, scanned before training."""

from __future__ import annotations

import collections
import dataclasses
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..images import Header, read_header, read_image, read_peak
from ..recipe import Recipe
from .listing import (
    EXTENSIONS,
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
DEEP_LOOKED_AT = 512  # images of more than 8 bits whose pixels a scan of a split reads, at equal distances
GRAY_MODES = ("1", "L", "LA", "I", "I;16")


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The result of `scan_folder`: sources of the existing splits."""

    class_names: tuple[str, ...]
    train: FileSource
    validation: FileSource | None
    test: FileSource | None


def scan_folder(recipe: Recipe, notes: Notes, only: frozenset[str] | None = None) -> ImageFolder:
    """List the images of ``recipe.data_dir`` and read every file's header.

    The folder has one subfolder per class, or subfolders train, val (or validation) and test that have them. Images may
    be in deeper folders; files without an image extension are counted and ignored.

    Args:
        recipe: Gives ``data_dir``.
        notes: Gains notes about the files.
        only: Names of the files to use; None: all.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no classes, a class without images, splits whose classes differ, an unreadable image.
    """
    root = data_folder(recipe, "a folder with one subfolder of images per class")
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
        notes.warn(f"Classes with similar names are kept separate; rename a folder if they are the same: {alike}")
    labels = {name: index for index, name in enumerate(class_names)}
    streamed = not in_memory(recipe, sum(map(len, found.values())))

    def source(split: str) -> FileSource:
        return _source(found[split], labels, root, recipe, streamed, notes)

    train = source("train")
    for name, label in labels.items():
        count = int((train.labels == label).sum())
        if count < 2:
            raise ValueError(
                "Every class must have at least two training images: add some, or remove its folder from every split. "
                f"Received: {splits['train']} with {count} of {name!r}"
            )
    validation, test = (source(split) if split in found else None for split in ("validation", "test"))
    return ImageFolder(class_names, train, validation, test)


def scan_labelled(recipe: Recipe, notes: Notes, class_names: Sequence[str]) -> FileSource:
    """List the images of ``recipe.data_dir`` as one set, to evaluate a network that is trained elsewhere.

    The folder has one subfolder for each class of the network, or for some of them: a note names the others. If it has
    splits instead, its test images are listed. Files are read as ``scan_folder`` reads them; a class needs one image
    only.

    Args:
        recipe: Gives ``data_dir``.
        notes: Gains notes about the files.
        class_names: The classes of the network: a label is a position in them.

    Returns:
        A source that decodes the images at every read.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: a class that the network lacks, a subfolder without images, an unreadable image, or splits without
            test images.
    """
    whole = data_folder(recipe, "a folder with one subfolder of images per class")
    root = held_out_folder(whole, class_names)
    if root != whole:
        notes.append(f"{whole} has splits: only the test images are used, those in {root}")
    there = [folder.name for folder in folders_in(root)]
    strange, missing = sorted(set(there) - set(class_names)), [name for name in class_names if name not in there]
    if strange:
        raise ValueError(
            "The subfolders must be classes of the network: rename or remove folders. Received: "
            f"{root} with {_named(strange, class_names)}"
        )
    if missing and there:
        notes.warn(
            f"{root} has no images of {len(missing):,} of the {len(class_names):,} classes, {_named(missing, there)}: "
            "their recall is unknown"
        )
    files = _list_classes({"train": root}, recipe, notes, None)["train"]
    labels = {name: index for index, name in enumerate(class_names)}
    return _source(files, labels, whole, recipe, True, notes)


def held_out_folder(root: Path, class_names: Sequence[str]) -> Path:
    """The subfolder of test images if a folder has splits, and otherwise the folder itself.

    Args:
        root: The folder.
        class_names: Names of classes, which are no splits.

    Raises:
        ValueError: the folder has splits, but no test images.
    """
    splits = {
        split: folder
        for split, names in SPLIT_FOLDERS.items()
        for folder in (root / name for name in names)
        if folder.name not in class_names and folder.is_dir() and folders_in(folder)
    }
    if not splits:
        return root
    if "test" not in splits:
        raise ValueError(
            "A folder with splits must have test images: name one of its folders instead. Received: "
            f"{root} with {', '.join(folder.name for folder in splits.values())}"
        )
    return splits["test"]


def _source(
    found: Sequence[tuple[str, str]],
    labels: Mapping[str, int],
    root: Path,
    recipe: Recipe,
    streamed: bool,
    notes: Notes,
) -> FileSource:
    """The source of listed files, (path, class name) each, without the unreadable ones."""
    kept = readable([path for path, _ in found], recipe, streamed, notes)
    rows = [(path, labels[name]) for path, name in found if path in kept]
    paths = tuple(path for path, _ in rows)
    return FileSource(
        paths=paths,
        labels=np.array([label for _, label in rows], np.int64),
        image_shape=recipe.image_shape,
        crop_to_aspect_ratio=recipe.crop_to_aspect_ratio,
        files=describe(paths, root),
    )


def _strange_classes(strange: Sequence[str], class_names: Sequence[str], split: Path, train: Path) -> str:
    """Error message for class folders that the training images lack, with advice."""
    return (
        "Every split must have the same classes: add images of them to the training folder, rename the folders, or "
        f"remove them. Received: {train} lacks {_named(strange, class_names)}, which {split} has"
    )


def _named(strange: Sequence[str], class_names: Sequence[str]) -> str:
    """The first unknown class names; one that resembles a known name is shown with it."""
    described = []
    for name in strange[:8]:
        twin = next((other for other in class_names if _shown(other).casefold() == _shown(name).casefold()), None)
        if twin is None:
            described.append(repr(name))
        elif _shown(twin) == _shown(name):
            described.append(f"{name!a} (looks like {twin!a})")
        else:
            described.append(f"{name!r} (differs only by case: {twin!r})")
    more = f" and {len(strange) - len(described):,} more" if len(strange) > len(described) else ""
    return f"{', '.join(described)}{more}"


def _shown(name: str) -> str:
    """A name as it is displayed: composed, without zero-width characters, with single spaces and none at the ends."""
    visible = (character for character in name if unicodedata.category(character) != "Cf")
    return " ".join(unicodedata.normalize("NFC", "".join(visible)).split())


def _lookalikes(names: Iterable[str]) -> str:
    """Names that look the same, escaped so that they differ; "" if there are none."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_shown(name), []).append(name)
    return "; ".join(" and ".join(map(ascii, group)) for group in groups.values() if len(group) > 1)


def data_folder(recipe: Recipe, what: str) -> Path:
    """The folder that ``recipe.data_dir`` names."""
    if recipe.data_dir is None:
        raise ValueError(f"dataset='folder' requires data_dir, {what}. Received: data_dir=None")
    root = Path(recipe.data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            "data_dir must be a folder: if it was moved, use --set data_dir=NEW. "
            f"Received: data_dir={recipe.data_dir!r}"
        )
    return root


def raises_on_bad_image(recipe: Recipe, only: frozenset[str] | None) -> bool:
    """Whether an unreadable image is an error; not if only known files are used, because it may be another file."""
    return recipe.on_bad_image == "error" and only is None


def check_files(recipe: Recipe, names: frozenset[str]) -> None:
    """Raise ValueError if a file of a run's list is missing."""
    root = data_folder(recipe, "the folder of the run's images")
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise ValueError(
            f"Every file of the run's list must exist: restore it, or train again with `wavemix-tf fit` and "
            f"--overwrite. Received: {len(missing):,} of {len(names):,} missing: {first_names(missing)}"
        )


def split_folders(root: Path) -> dict[str, Path | None]:
    """The subfolders of training, validation and test images; ValueError if only the training folder is missing."""
    splits = {
        split: next((root / name for name in names if (root / name).is_dir()), None)
        for split, names in SPLIT_FOLDERS.items()
    }
    held_out = [folder.name for folder in splits.values() if folder is not None]
    if held_out and splits["train"] is None and {folder.name for folder in folders_in(root)} <= set(held_out):
        raise ValueError(
            f"data_dir with {' and '.join(held_out)} must also have train. Received: data_dir={str(root)!r}"
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
                f"data_dir must have one subfolder of images per class. Received: {root} without subfolders"
            )
        places += [(split, folder) for folder in classes]
    listings = list_files([folder for _, folder in places])
    files: dict[str, list[tuple[str, str]]] = {split: [] for split in splits}
    for (split, folder), listing in zip(places, listings, strict=True):
        if not listing.images and split == "train":
            unread = f" and {len(listing.unread)} of HEIC or AVIF, which is not supported" if listing.unread else ""
            raise ValueError(
                f"Every class folder must contain images ({', '.join(EXTENSIONS)}). Received: {folder} with "
                f"{len(listing.others)} other files{unread}"
            )
        files[split] += [(path, folder.name) for path in listing.images]
    for split, root in splits.items():
        of_split = [one for (of, _), one in zip(places, listings, strict=True) if of == split]
        note_other_files(of_split, root, notes, raises_on_bad_image(recipe, only))
    return files


def readable(paths: list[str], recipe: Recipe, streamed: bool, notes: Notes, resized: bool = True) -> set[str]:
    """The paths with a readable header; in a streamed dataset that skips bad images, with readable pixels too."""
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
    notes.leave_out(bad, "unreadable images skipped")
    good = {path: answer for path, answer in seen.items() if not isinstance(answer, str)}
    gray = [path for path, header in good.items() if header.mode in GRAY_MODES]
    if gray and len(gray) < len(good) and recipe.image_shape[2] == 3:
        notes.warn(f"{len(gray)} of {len(good)} images are gray and are converted to RGB, the first: {gray[0]}")
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
