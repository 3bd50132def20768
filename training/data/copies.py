"""Copies of one picture in several sets or classes of a folder: a test on them says less than it seems."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .splits import SETS

if TYPE_CHECKING:
    from .bundle import DataBundle

DIGEST_SIGNS = 16  # of an image in `Files.digests`; what follows is its mask's


def copy_notes(data: DataBundle) -> list[str]:
    """What to tell of pictures that are there more than once, a sentence or two each; of files alone.

    Args:
        data: Of which data; a copy is a file with the same digest as another, whatever its name.
    """
    pictures = {name: _pictures(getattr(data, f"{name}_source")) for name in SETS}
    trained = {digest: name for digest, name, _ in pictures["train"]}
    told = []
    for kind in ("test", "validation"):
        copies = [(name, trained[digest]) for digest, name, _ in pictures[kind] if digest in trained]
        if copies:
            scored = "the test" if kind == "test" else "the score that chooses the epoch"
            are = "is a copy of a training image" if len(copies) == 1 else "are copies of training images"
            of = f"{len(copies):,} of {len(pictures[kind]):,} {kind} images"
            told.append(f"{of} {are} ({' is '.join(copies[0])}): {scored} says less than it seems")
    told += _in_two_classes([picture for name in SETS for picture in pictures[name]])
    return told


def _in_two_classes(pictures: Iterable[tuple[str, str, int | None]]) -> list[str]:
    firsts: dict[str, tuple[str, int | None]] = {}
    twice: dict[str, tuple[str, str]] = {}
    for digest, name, label in pictures:
        first, known = firsts.setdefault(digest, (name, label))
        if known != label:
            twice.setdefault(digest, (first, name))
    if not twice:
        return []
    example = " is ".join(next(iter(twice.values())))
    some = "1 picture lies" if len(twice) == 1 else f"{len(twice):,} pictures lie"
    return [f"{some} in two classes ({example}): one of the two is wrong"]


def _pictures(source: Any) -> list[tuple[str, str, int | None]]:
    """(digest, name, class or None) of each file of a source; of other sources none."""
    files = getattr(source, "files", None)
    if files is None:
        return []
    labels = getattr(source, "labels", None)
    classes: list[int | None] = [None] * len(files.names)
    if isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu":
        classes = [int(label) for label in labels]
    return [
        (digest[:DIGEST_SIGNS], name, label)
        for digest, name, label in zip(files.digests, files.names, classes, strict=True)
    ]
