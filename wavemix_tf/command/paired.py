"""Two classifiers on the same images: the images whose class changed, and the difference of the accuracies."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .networks import probabilities
from .pages.formats import wilson_interval

INTERVAL_METHOD = "Newcombe, Statistics in Medicine 17 (1998) 2635-2650, method 10"
COLUMNS = ("path", "label", "shipped", "shipped_confidence", "new", "new_confidence", "change")
LOST, GAINED, OTHER = KINDS = ("right->wrong", "wrong->right", "wrong->wrong")


@dataclasses.dataclass(frozen=True)
class Paired:
    """Numbers of images by the answers of a new and a shipped classifier.

    Attributes:
        both_right: Both are right.
        gained: Only the new one is right.
        lost: Only the shipped one is right.
        both_wrong: Both are wrong, with the same class or with two.
    """

    both_right: int
    gained: int
    lost: int
    both_wrong: int

    @property
    def images(self) -> int:
        """Number of images."""
        return self.both_right + self.gained + self.lost + self.both_wrong

    @property
    def difference(self) -> float:
        """Accuracy of the new classifier less that of the shipped one, a share."""
        return (self.gained - self.lost) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of ``difference``, see ``INTERVAL_METHOD``.

        The Wilson intervals of the two accuracies are combined with the correlation of the answers. Images on which
        the classifiers agree do not widen it, as they would if each accuracy had its own images.
        """
        count = self.images
        new, shipped = (self.both_right + self.gained) / count, (self.both_right + self.lost) / count
        (new_low, new_high), (shipped_low, shipped_high) = (wilson_interval(share, count) for share in (new, shipped))
        phi = self._correlation()

        def distance(first: float, second: float) -> float:
            return math.sqrt(max(first**2 - 2 * phi * first * second + second**2, 0.0))

        below = distance(new - new_low, shipped_high - shipped)
        above = distance(new_high - new, shipped - shipped_low)
        return max(self.difference - below, -1.0), min(self.difference + above, 1.0)

    @property
    def p_value(self) -> float:
        """Two-sided exact p-value of McNemar's test: the binomial probability of so uneven a split of the changes."""
        changes, fewer = self.gained + self.lost, min(self.gained, self.lost)
        ways = term = 1
        for k in range(fewer):
            term = term * (changes - k) // (k + 1)
            ways += term
        return min(2 * ways / 2**changes, 1.0)

    def _correlation(self) -> float:
        """Phi of the 2 x 2 table; its numerator is reduced by half the images where it is positive (method 10)."""
        a, b, c, d = self.both_right, self.gained, self.lost, self.both_wrong
        margins = (a + b) * (c + d) * (a + c) * (b + d)
        if not margins:
            return 0.0
        numerator = a * d - b * c
        return (max(numerator - self.images / 2, 0.0) if numerator > 0 else numerator) / math.sqrt(margins)


def paired(labels: np.ndarray, new: np.ndarray, shipped: np.ndarray) -> Paired:
    """Count the images.

    Args:
        labels: (N,) integers, the true classes.
        new: (N,) integers, the classes of the new classifier.
        shipped: (N,) integers, those of the shipped one.
    """
    right, was_right = new == labels, shipped == labels
    return Paired(
        both_right=int((right & was_right).sum()),
        gained=int((right & ~was_right).sum()),
        lost=int((~right & was_right).sum()),
        both_wrong=int((~right & ~was_right).sum()),
    )


@dataclasses.dataclass(frozen=True)
class Change:
    """One image whose class changed.

    Attributes:
        row: Number of the image.
        kind: One of ``KINDS``.
        cells: The row of the table, see ``COLUMNS``.
    """

    row: int
    kind: str
    cells: tuple[Any, ...]


def changes(
    names: Sequence[str], labels: np.ndarray, new: np.ndarray, shipped: np.ndarray, class_names: Sequence[str]
) -> list[Change]:
    """Return the images whose class changed: those that became wrong first, and of each kind the surest answers first.

    Args:
        names: Name of each image.
        labels: (N,) integers.
        new: (N, classes), logits or probabilities of the new classifier.
        shipped: (N, classes), of the shipped one.
        class_names: Name of each class.
    """
    now, was = probabilities(new), probabilities(shipped)
    found = []
    for row in np.flatnonzero(now.argmax(-1) != was.argmax(-1)).tolist():
        label, to, before = int(labels[row]), int(now[row].argmax()), int(was[row].argmax())
        kind = LOST if before == label else GAINED if to == label else OTHER
        sure, was_sure = round(float(now[row, to]), 6), round(float(was[row, before]), 6)
        cells = (names[row], class_names[label], class_names[before], was_sure, class_names[to], sure, kind)
        found.append(Change(row, kind, cells))
    return sorted(found, key=lambda change: (KINDS.index(change.kind), -change.cells[5], change.cells[0]))


def failures(counts: Paired, changed: int, max_drop: float | None, max_changed: float | None) -> list[str]:
    """Return why a new classifier must not replace the shipped one; empty if it may.

    Args:
        counts: Of both classifiers.
        changed: Number of images whose class changed.
        max_drop: Largest fall of the accuracy, in percentage points; None: it must not be significantly lower, that is
            the upper end of the 95 % interval of the difference must not be below 0.
        max_changed: Largest share of images whose class changed, in [0, 1]; None: any.
    """
    found = []
    drop = 100 * (counts.lost - counts.gained) / counts.images
    if max_drop is None and counts.interval[1] < 0:
        low, high = (100 * value for value in counts.interval)
        found.append(
            f"the accuracy is significantly lower: {-drop:+.2f} percentage points, 95 % interval {low:+.2f} to "
            f"{high:+.2f}"
        )
    if max_drop is not None and drop > max_drop + 1e-9:
        found.append(f"the accuracy fell by {drop:.2f} percentage points, more than --max-drop {max_drop:g}")
    if max_changed is not None and changed > max_changed * counts.images + 1e-9:
        share = changed / counts.images
        found.append(
            f"{changed:,} of {counts.images:,} images ({share:.2%}) changed class, more than --max-changed "
            f"{max_changed:g}"
        )
    return found
