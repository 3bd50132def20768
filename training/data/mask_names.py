"""Match masks to images by file names, including prefixes and suffixes that tools add."""

from __future__ import annotations

import collections
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from ..recipe import MASK_NAME, is_mask_name
from .listing import Notes, list_files, note_other_files

LOSSY = (".jpg", ".jpeg", ".webp")
LOOKED_AT = 200  # masks whose names are compared with an image's name in the search for a pattern


def patterns(mask_name: str) -> tuple[str, str]:
    """(pattern of images, pattern of masks): each with "{}" for their common part."""
    image, colon, mask = mask_name.partition(":")
    return (image, mask) if colon else (MASK_NAME, mask_name)


def pair_files(images: Path, masks: Path, mask_name: str, notes: Notes, stop: bool) -> list[tuple[str, str]]:
    """(image, mask) paths by name, in a fixed order.

    Args:
        images: Folder of the images, with its subfolders.
        masks: Folder of the masks, or the same one.
        mask_name: As ``Recipe.mask_name``.
        notes: Gains a note about masks without an image.
        stop: See ``note_other_files``.

    Raises:
        ValueError: no images, an image without its mask, or a mask saved with loss.
    """
    if images == masks:
        pictures, answers = _split_mixed_folder(_files_by_stem(images, notes, stop), mask_name)
    else:
        pictures = _unique(_files_by_stem(images, notes, stop))
        answers = _unique(_files_by_stem(masks, notes, stop, once=False))  # many images may share a mask
    image_pattern, mask_pattern = patterns(mask_name)
    keyed = {key: path for name, path in pictures.items() if (key := _key(name, image_pattern)) is not None}
    found = {key: path for name, path in answers.items() if (key := _key(name, mask_pattern)) is not None}
    alone = sorted(set(keyed) - set(found))
    if alone or not keyed:
        first = f", the first: {keyed[alone[0]]}" if alone else ""
        raise ValueError(
            f"Every image must have a mask with its name, or by mask_name. Received: {len(alone)} of {len(keyed)} "
            f"images in {images} without one in {masks} (mask_name={mask_name!r}){first}"
            + _advice(pictures, answers, mask_name)
        )
    lossy = next((found[key] for key in keyed if found[key].lower().endswith(LOSSY)), None)
    if lossy is not None:
        raise ValueError(f"A mask must be saved losslessly, as .png: JPEG mixes class numbers. Received: {lossy}")
    surplus = sorted(set(found) - set(keyed))
    if surplus and images != masks:
        notes.append(f"{len(surplus)} masks without an image ignored, the first: {found[surplus[0]]}")
    return [(path, found[key]) for key, path in keyed.items()]


def mixed_pattern(folder: Path, mask_name: str) -> str | None:
    """The pattern that pairs images and masks in one folder; None if it does not hold both.

    With the default ``mask_name`` it is the pattern that fits every file, if there is one: the user must set it.
    """
    files = _files_by_stem(folder)
    if not files:
        return None
    if mask_name != MASK_NAME or _are_photo_and_mask_pairs(files):
        return mask_name
    names = list(files)
    best = _best(names, names)
    return best if best is not None and 2 * _count_pairs(names, names, best) == len(names) else None


def _files_by_stem(
    folder: Path, notes: Notes | None = None, stop: bool = False, once: bool = True
) -> dict[str, list[str]]:
    """Name relative to the folder, without extension -> files; files that are not images are noted."""
    found: dict[str, list[str]] = {}
    (listing,) = list_files([folder], once)
    if notes is not None:
        note_other_files([listing], folder, notes, stop)
    for path in map(Path, listing.images):
        found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(str(path))
    return found


def _unique(files: Mapping[str, list[str]]) -> dict[str, str]:
    for paths in files.values():
        if len(paths) > 1:
            raise ValueError(f"Files must differ in more than their extension. Received: {paths[0]} and {paths[1]}")
    return {name: path for name, (path,) in files.items()}


def _are_photo_and_mask_pairs(files: Mapping[str, list[str]]) -> bool:
    """Whether every name has a lossy photograph and a lossless mask: x.jpg and x.png."""
    lossy = [sum(path.lower().endswith(LOSSY) for path in paths) for paths in files.values()]
    return all(len(paths) == 2 for paths in files.values()) and set(lossy) == {1}


def _split_mixed_folder(files: Mapping[str, list[str]], mask_name: str) -> tuple[dict[str, str], dict[str, str]]:
    """(images, masks) of a folder that holds both."""
    if mask_name == MASK_NAME and _are_photo_and_mask_pairs(files):
        pairs = {
            name: sorted(paths, key=lambda path: not path.lower().endswith(LOSSY)) for name, paths in files.items()
        }
        return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}
    single = _unique(files)
    image_pattern, mask_pattern = patterns(mask_name)
    keys = {key for name in single if (key := _key(name, image_pattern)) is not None}
    masks = {name: path for name, path in single.items() if _key(name, mask_pattern) in keys}
    return {name: path for name, path in single.items() if name not in masks}, masks


def _key(name: str, pattern: str) -> str | None:
    """The part of a file's name that matches "{}", with its folder; None if the pattern does not fit."""
    before, after = pattern.split("{}")
    path = PurePosixPath(name)
    fits = path.name.startswith(before) and path.name.endswith(after) and len(path.name) > len(before) + len(after)
    return str(path.with_name(path.name[len(before) : len(path.name) - len(after)])) if fits else None


def _advice(pictures: Mapping[str, str], answers: Mapping[str, str], mask_name: str) -> str:
    """The option that pairs more images, as the end of a message."""
    names, others = list(pictures), list(answers)
    before = _count_pairs(names, others, mask_name)
    best = _best(names, others) or mask_name
    count = _count_pairs(names, others, best)
    return f"; `--set mask_name={best}` fits {count} of {len(names)} images" if count > before else ""


def _count_pairs(names: Iterable[str], others: Iterable[str], mask_name: str) -> int:
    """Number of images that have a mask by a pattern."""
    image_pattern, mask_pattern = patterns(mask_name)
    keys = {key for name in others if (key := _key(name, mask_pattern)) is not None}
    return sum(_key(name, image_pattern) in keys for name in names)


def _best(names: list[str], others: list[str]) -> str | None:
    """The pattern that pairs most images; the shortest of several."""
    found = _candidates(names[:: max(1, len(names) // 8)], others)
    return max(sorted(found), key=lambda pattern: (_count_pairs(names, others, pattern), -len(pattern)), default=None)


def _candidates(names: Iterable[str], others: list[str]) -> set[str]:
    """Patterns that would pair some of the images."""
    found: collections.Counter[str] = collections.Counter()
    for name in names:
        path = PurePosixPath(name)
        near = [other for other in map(PurePosixPath, others) if other.parent == path.parent and str(other) != name]
        holding = [other.name for other in near if path.name in other.name]
        for other in holding[:LOOKED_AT]:
            found[other.replace(path.name, "{}", 1)] += 1
        for other in [] if holding else difflib.get_close_matches(path.name, [o.name for o in near[:LOOKED_AT]], n=3):
            match = difflib.SequenceMatcher(None, path.name, other, autojunk=False).find_longest_match()
            common = path.name[match.a : match.a + match.size]
            pair = (path.name.replace(common, "{}", 1), other.replace(common, "{}", 1))
            found[pair[1] if pair[0] == MASK_NAME else ":".join(pair)] += 1
    return {pattern for pattern, _ in found.most_common(16) if is_mask_name(pattern)}
