"""Pictures of one colour: where all of a class or of a set are, there is little or nothing to learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..images import read_image
from .listing import first_names
from .splits import SETS

if TYPE_CHECKING:
    from .bundle import DataBundle


def plain_notes(data: DataBundle) -> list[str]:
    """What to tell of sets, and of classes of the training set, whose every picture has the same colour everywhere.

    Pictures are read only up to the first of a class that is otherwise. Records and data sets of the user are not
    looked at.
    """
    told = []
    for name in SETS:
        source = getattr(data, f"{name}_source")
        read = _reader(source)
        if read is None or data.image_shape[0] * data.image_shape[1] < 2:
            continue
        plain = [group for group, rows in _groups(source, data.class_names) if _all_plain(read, rows)]
        if not plain:
            continue
        if len(plain) == len(_groups(source, data.class_names)):
            told.append(f"every picture of the {name} set has one colour everywhere: there are no shapes to see")
        elif name == "train":
            which = f"{len(plain):,} classes" if len(plain) > 1 else "a class"
            told.append(f"every picture of {which} of the train set has one colour everywhere: {first_names(plain)}")
    return told


def _reader(source: Any) -> Callable[[int], np.ndarray] | None:
    """Row of a source -> its picture; None where that takes more than a look."""
    if hasattr(source, "images"):
        return lambda row: source.images[row]
    if hasattr(source, "pictures"):
        return lambda row: source.pictures.read(row)[0]
    if hasattr(source, "paths"):
        return lambda row: read_image(source.paths[row], source.image_shape[2])
    return None


def _groups(source: Any, class_names: tuple[str, ...]) -> list[tuple[str, np.ndarray]]:
    """(class, its rows) of the classes that a source has; of other targets than labels all rows together."""
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
    except (OSError, ValueError):  # an image that cannot be read, which is told when it is needed
        return False


def _is_plain(picture: np.ndarray) -> bool:
    return bool((picture == picture[:1, :1]).all())
