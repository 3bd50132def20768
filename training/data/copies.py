"""Find copies of an image in several sets or classes of a folder: they make a test result too optimistic."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from .identity import SETS

if TYPE_CHECKING:
    from .bundle import DataBundle

DIGEST_SIGNS = 16  # hex digits of an image in `Files.digests`; the digest of its mask follows


def copy_notes(data: DataBundle) -> list[str]:
    """Return notes about images that occur more than once; only files are compared.

    Args:
        data: The data; a copy is a file with the same digest as another.
    """
    pictures = {name: _pictures(getattr(data, f"{name}_source")) for name in SETS}
    trained = {digest: name for digest, name, _ in pictures["train"]}
    notes = []
    for kind in ("test", "validation"):
        copies = [(name, trained[digest]) for digest, name, _ in pictures[kind] if digest in trained]
        if copies:
            scored = "the test score" if kind == "test" else "the score that chooses the epoch"
            are = "is a copy of a training image" if len(copies) == 1 else "are copies of training images"
            of = f"{len(copies):,} of {len(pictures[kind]):,} {kind} images"
            notes.append(f"{of} {are} ({' is '.join(copies[0])}): {scored} is too optimistic")
    notes += _in_two_classes([picture for name in SETS for picture in pictures[name]])
    return notes


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
    some = "1 image is" if len(twice) == 1 else f"{len(twice):,} images are"
    return [f"{some} in two classes ({example}): one of the two is wrong"]


def _pictures(source: Any) -> list[tuple[str, str, int | None]]:
    """(digest, name, class or None) of each file of a source; empty for other sources."""
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
