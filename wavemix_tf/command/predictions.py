"""``predictions.csv``: what a classifier made of every test image, each by its name."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_bytes
from .networks import probabilities

FILE = "predictions.csv"
COLUMNS = ("split", "path", "label", "prediction", "confidence")


def rows_of(
    names: Sequence[str], labels: np.ndarray, logits: np.ndarray, class_names: Sequence[str]
) -> list[tuple[str, str, str, str, float]]:
    """The rows, in the order of the names.

    Args:
        names: Of the images.
        labels: (N,) integers.
        logits: (N, classes).
        class_names: Of the classes.
    """
    shares = probabilities(logits)
    found = shares.argmax(-1)
    return [
        ("test", name, class_names[label], class_names[first], round(float(share[first]), 6))
        for name, label, first, share in zip(names, labels, found, shares, strict=True)
    ]


def write(out: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Write the file; a path keeps its bytes, whatever they are."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([COLUMNS, *sorted(rows, key=_in_order)])
    write_bytes(out / FILE, text.getvalue().encode("utf-8", "surrogateescape"))


def _in_order(row: Sequence[Any]) -> tuple[int, str]:
    """Numbers by their value, paths as texts."""
    return (int(row[1]), "") if row[1].isdecimal() else (0, row[1])
