"""How many images every set has, and of each class: what `fit` and the command print before they train.

An accuracy says little before one knows what always answering the commonest class would score. Loads no Keras.
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
SHOWN = 20  # classes; of more the smallest and the largest

Counts = Mapping[str, Sequence[int]]  # set -> of each class

_written: weakref.WeakValueDictionary[int, DataBundle] = weakref.WeakValueDictionary()


def write_counts(recipe: Recipe, data: DataBundle, write: Callable[[str], Any] = print) -> bool:
    """Write a line each of the sizes of the sets, of the classes and of the commonest one; of a bundle only once.

    Args:
        recipe: Names the task.
        data: Of which data.
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
    if len(units) > 1:  # arrays beside a data set
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
    """What a source's size counts: of the user's own data set no images, which are not known before they are read."""
    return BATCHES if hasattr(source, "dataset") else "images"


def _sizes_with_units(data: DataBundle) -> str:
    units = {"train": _unit(data.train_source), "validation": _unit(data.validation_source)}
    parts = []
    for name, count in split_sizes(data).items():
        kind, _, shared = name.partition(" ")
        parts.append(f"{count:,} {kind} {units.get(kind, 'images')} {shared}".rstrip())
    return ", ".join(parts)


def split_sizes(data: DataBundle) -> dict[str, int]:
    """Images in each of the sets that there are."""
    sources = {"train": data.train_source, "validation": data.validation_source, "test": data.test_source}
    found = {name: source.size for name, source in sources.items() if source is not None}
    if len(data.calibration):
        shared = " (of the training images)" if data.calibration_shared else ""
        found[f"calibration{shared}"] = len(data.calibration)
    return found


def counts_lines(names: Sequence[str], counts: Counts) -> list[str]:
    """A table of classes by sets, a line each; none where nothing is counted.

    Args:
        names: Of the classes.
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
    """Which class is the commonest, and its share; of the test set, else of the last set there is.

    Args:
        names: Of the classes.
        counts: See ``DataBundle.class_counts``.
        unit: What they count: "images" or "pixels".
    """
    kind, of = next(((kind, counts[kind]) for kind in ("test", "validation", "train") if kind in counts), ("", []))
    if not sum(of):
        return ""
    most = max(range(len(of)), key=lambda index: of[index])
    share = 100 * of[most] / sum(of)
    return f"{names[most]} is {share:.2f} % of the {kind} {unit}: always answering it is right as often."


def shown_classes(counts: Counts) -> list[int]:
    """All classes in their order, or the smallest and the largest of the first set."""
    first = next(iter(counts.values()))
    if len(first) <= SHOWN:
        return list(range(len(first)))
    order = sorted(range(len(first)), key=lambda index: (first[index], index))
    return [*order[: SHOWN // 2], *order[-SHOWN // 2 :]]


def _columns(text: str) -> int:
    """Of a terminal, which a text takes: two for a wide sign, none for an accent."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )
