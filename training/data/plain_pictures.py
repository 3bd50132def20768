"""Find classes and sets whose images all have a single color: they have little or nothing to learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..images import read_image
from .identity import SETS
from .listing import first_names

if TYPE_CHECKING:
    from .bundle import DataBundle


def plain_notes(data: DataBundle) -> list[str]:
    """Return notes about sets, and classes of the training set, in which every image has a single color.

    Images are read only up to the first other one of a class. Streamed records and the user's datasets are not checked.
    """
    notes = []
    for name in SETS:
        source = getattr(data, f"{name}_source")
        read = _reader(source)
        if read is None or data.image_shape[0] * data.image_shape[1] < 2:
            continue
        plain = [group for group, rows in _groups(source, data.class_names) if _all_plain(read, rows)]
        if not plain:
            continue
        if len(plain) == len(_groups(source, data.class_names)):
            notes.append(f"every image of the {name} set has a single color: there are no shapes to learn")
        elif name == "train":
            which = f"{len(plain):,} classes" if len(plain) > 1 else "a class"
            notes.append(f"every image of {which} of the train set has a single color: {first_names(plain)}")
    return notes


def _reader(source: Any) -> Callable[[int], np.ndarray] | None:
    """Return a reader, row of a source -> its image; None if reading single rows is expensive."""
    if hasattr(source, "images"):
        return lambda row: source.images[row]
    if hasattr(source, "pictures"):
        return lambda row: source.pictures.read(row)[0]
    if hasattr(source, "paths"):
        return lambda row: read_image(source.paths[row], source.image_shape[2])
    return None


def _groups(source: Any, class_names: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
    """(class, its rows) for the classes of a source; one group of all rows if the targets are not labels."""
    labels = getattr(source, "labels", None)
    if not class_names or not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iu":
        count = len(source.pictures.names) if hasattr(source, "pictures") else source.size
        return [("", np.arange(count))] if count else []
    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(labels[order], return_index=True)
    return [
        (class_names[label], rows)
        for label, rows in zip(found, np.split(order, starts[1:]), strict=True)
        if 0 <= label < len(class_names)
    ]


def _all_plain(read: Callable[[int], np.ndarray], rows: np.ndarray) -> bool:
    try:
        return all(_is_plain(read(int(row))) for row in rows)
    except (OSError, ValueError):  # an unreadable image; the error is raised when it is needed
        return False


def _is_plain(picture: np.ndarray) -> bool:
    return bool((picture == picture[:1, :1]).all())
