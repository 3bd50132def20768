"""The number of images in every set and class, which `fit` and the command print before training.

An accuracy means little without the accuracy of always predicting the most frequent class. Does not import Keras.
"""

from __future__ import annotations

import unicodedata
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wavemix_tf.escaping import printable

from ..tasks import task_type

if TYPE_CHECKING:
    from ..recipe import Recipe
    from .bundle import DataBundle

BATCHES = "batches"
SHOWN = 20  # classes; if there are more, the smallest and the largest

Counts = Mapping[str, Sequence[int]]  # set -> count of each class

_written: weakref.WeakValueDictionary[int, DataBundle] = weakref.WeakValueDictionary()


def write_counts(recipe: Recipe, data: DataBundle, write: Callable[[str], Any] = print) -> bool:
    """Write the sizes of the sets, a table of the classes, and the most frequent class; only once per bundle.

    Args:
        recipe: Names the task.
        data: The data.
        write: Takes a line.

    Returns:
        Whether this was the first time.
    """
    if _written.get(id(data)) is data:
        return False
    _written[id(data)] = data
    task = task_type(recipe)
    sizes = ", ".join(f"{count:,} {name}" for name, count in split_sizes(data).items())
    units = {_unit(source) for source in (data.train_source, data.validation_source)}
    if len(units) > 1:  # arrays together with a dataset
        write(f"  {_sizes_with_units(data)}")
    elif units == {BATCHES}:
        write(f"  {sizes} batches")
    elif task.has_classes:
        write(f"  {sizes} {task.example_unit} of {len(data.class_names)} classes")
    else:
        write(f"  {sizes} {task.example_unit}")
    for line in counts_lines(data.class_names, data.class_counts):
        write(f"  {line}")
    text = majority_text(data.class_names, data.class_counts, task.class_unit)
    if text:
        write(f"  {printable(text)}")
    return True


def _unit(source: Any) -> str:
    """Unit of a source's size: batches for the user's dataset, whose images are not counted before they are read."""
    return BATCHES if hasattr(source, "dataset") else "images"


def _sizes_with_units(data: DataBundle) -> str:
    units = {"train": _unit(data.train_source), "validation": _unit(data.validation_source)}
    parts = []
    for name, count in split_sizes(data).items():
        kind, _, shared = name.partition(" ")
        parts.append(f"{count:,} {kind} {units.get(kind, 'images')} {shared}".rstrip())
    return ", ".join(parts)


def split_sizes(data: DataBundle) -> dict[str, int]:
    """Number of images in each existing set."""
    sources = {"train": data.train_source, "validation": data.validation_source, "test": data.test_source}
    found = {name: source.size for name, source in sources.items() if source is not None}
    if len(data.calibration):
        shared = " (of the training images)" if data.calibration_shared else ""
        found[f"calibration{shared}"] = len(data.calibration)
    return found


def counts_lines(names: Sequence[str], counts: Counts) -> list[str]:
    """Lines of a table of classes by sets; empty if there are no counts.

    Args:
        names: The class names.
        counts: See ``DataBundle.class_counts``.
    """
    if not counts:
        return []
    rows = [["class", *counts]]
    rows += [
        [printable(names[index]), *(f"{of[index]:,}" for of in counts.values())] for index in shown_classes(counts)
    ]
    widths = [max(map(_columns, column)) for column in zip(*rows, strict=True)]
    lines = [
        row[0] + " " * (widths[0] - _columns(row[0])) + "".join(f"  {cell:>{width}}" for cell, width in cells)
        for row in rows
        for cells in [list(zip(row[1:], widths[1:], strict=True))]
    ]
    if len(names) > SHOWN:
        lines.append(f"{SHOWN} of {len(names):,} classes: the smallest and the largest of the training set.")
    return lines


def majority_text(names: Sequence[str], counts: Counts, unit: str) -> str:
    """The most frequent class and its share, in the test set or otherwise in validation or train.

    Args:
        names: The class names.
        counts: See ``DataBundle.class_counts``.
        unit: Unit of the counts: "images" or "pixels".
    """
    kind, of = next(((kind, counts[kind]) for kind in ("test", "validation", "train") if kind in counts), ("", []))
    if not sum(of):
        return ""
    most = max(range(len(of)), key=lambda index: of[index])
    share = 100 * of[most] / sum(of)
    return f"{names[most]} is {share:.2f} % of the {kind} {unit}: always predicting it is right as often."


def shown_classes(counts: Counts) -> list[int]:
    """All classes in their order, or the smallest and the largest of the first set."""
    first = next(iter(counts.values()))
    if len(first) <= SHOWN:
        return list(range(len(first)))
    order = sorted(range(len(first)), key=lambda index: (first[index], index))
    return [*order[: SHOWN // 2], *order[-SHOWN // 2 :]]


def _columns(text: str) -> int:
    """Terminal columns of a text: two for a wide character, none for a combining accent."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )
