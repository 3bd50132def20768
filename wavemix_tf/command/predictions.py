"""``predictions.csv``: a classifier's prediction for every test image."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_bytes
from .networks import probabilities
from .run_folder import PREDICTIONS_FILE

COLUMNS = ("split", "path", "label", "prediction", "confidence")


def rows_of(
    names: Sequence[str], labels: np.ndarray, logits: np.ndarray, class_names: Sequence[str]
) -> list[tuple[str, str, str, str, float]]:
    """Return the rows, in the order of ``names``.

    Args:
        names: Names of the images.
        labels: (N,) integers.
        logits: (N, classes).
        class_names: Names of the classes.
    """
    shares = probabilities(logits)
    found = shares.argmax(-1)
    return [
        ("test", name, class_names[label], class_names[first], round(float(share[first]), 6))
        for name, label, first, share in zip(names, labels, found, shares, strict=True)
    ]


def write(out: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Write the file, in the order of the paths."""
    write_table(out / PREDICTIONS_FILE, COLUMNS, sorted(rows, key=_in_order))


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file; paths in it keep their bytes, even if these are not UTF-8."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _in_order(row: Sequence[Any]) -> tuple[int, str]:
    """Sort numbers by value and paths as text."""
    return (int(row[1]), "") if row[1].isdecimal() else (0, row[1])
