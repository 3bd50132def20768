"""Assign images to the training, validation, test and calibration sets.

Files are assigned by a hash of their names, so that an added file does not move the others. The exception is a class so
small that the minimum of one image per set decides. There an added file can move one other file, or two: a file that
leaves the test set may take a place in the validation set, and a file that enters the test set may leave one there. The
second move cannot be avoided: only names decide the test set, names and the seed decide the validation set, and each
set needs one image of every class. Rows without names (arrays, records) are drawn in the data's class proportions. A
run keeps its split: see ``identity``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..recipe import Recipe
from .identity import SETS
from .listing import Files

TEST_SEED = 0  # a test set split from the data is the same for every seed of a recipe
LEAST_IMAGES = 4  # minimum of training images
LEAST_SHARE = 0.2  # minimum share of training images among the images that are split
ASIDE_SHARE = 0.1  # calibration holds out at most this share of the training images


@dataclasses.dataclass(frozen=True)
class Division:
    """Row numbers of the four sets, sorted; calibration files are in an order in which any leading part is fair.

    ``calibration`` may overlap only ``train``, and only if holding its images out would take more than ``ASIDE_SHARE``
    of them: calibration measures ranges and computes no score.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    calibration: np.ndarray

    @property
    def shared(self) -> bool:
        """Whether calibration images are also trained on."""
        return bool(np.isin(self.calibration, self.train).any())


def divide(
    strata: np.ndarray,
    recipe: Recipe,
    *,
    validation: bool = True,
    test: bool = True,
    calibration: Callable[[int], int],
    files: Files | None = None,
    known: Mapping[str, Sequence[str]] | None = None,
    least: int = LEAST_IMAGES,
) -> Division:
    """Split a dataset into the sets that it does not define itself.

    Args:
        strata: Class of each row, int (N,); every set gets some rows of each class. Zeros without classes.
        recipe: Gives the fractions and the seed.
        validation: Whether a validation set is split off; False if the data has one.
        test: Whether a test set is split off; False if the data has one.
        calibration: Number of images that remain for training -> number of calibration images.
        files: The files of the rows, if they are files.
        known: Set (``SETS`` and "calibration") -> names of files, which keep their set.
        least: Minimum number of training images.

    Raises:
        ValueError: too few images to train on.
    """
    wanted = recipe.test_fraction if test else 0.0, recipe.validation_fraction if validation else 0.0
    if files is None:
        found = _draw(strata, recipe, *wanted, calibration)
    else:
        found = _deal(strata, recipe, *wanted, calibration, files, known)
    _check_left(found, len(strata), recipe, least, validation, test)
    return found


def _draw(
    strata: np.ndarray, recipe: Recipe, test: float, validation: float, calibration: Callable[[int], int]
) -> Division:
    """Split by row numbers."""

    def draw(of: np.ndarray, counts: Sequence[int], seed: int) -> tuple[list[np.ndarray], np.ndarray]:
        samples, rest = draw_classwise(strata[of], counts, seed)
        return [of[rows] for rows in samples], of[rest]

    rows = np.arange(len(strata))
    (tested,), left = draw(rows, [share(len(rows), test) if test else 0], TEST_SEED)
    held = share(len(left), validation) if validation else 0
    count = calibration(len(left))
    if sets_aside(count, len(left) - held):
        (validated, calibrating), trained = draw(left, [held, count], recipe.seed)
        return Division(trained, validated, tested, calibrating)
    (validated,), trained = draw(left, [held], recipe.seed)
    (calibrating,), _ = draw(trained, [min(count, len(trained))], recipe.seed)
    return Division(trained, validated, tested, calibrating)


def _deal(
    strata: np.ndarray,
    recipe: Recipe,
    test: float,
    validation: float,
    calibration: Callable[[int], int],
    files: Files,
    known: Mapping[str, Sequence[str]] | None,
) -> Division:
    """Split by the hashes of names; known files keep their set."""
    side = np.zeros(len(strata), np.int64)  # index in SETS
    free = np.ones(len(strata), bool)
    aside: Any = ()
    if known is not None:
        places = {name: SETS.index(kind) for kind in reversed(SETS) for name in known.get(kind, ())}
        aside = set(known.get("calibration", ())) - set(known.get("train", ()))
        free = np.array([name not in places and name not in aside for name in files.names], bool)
        side = np.array([places.get(name, 0) for name in files.names], np.int64)
    for index, fraction, salt, others in ((2, test, "test", 1), (1, validation, f"validation {recipe.seed}", 0)):
        if not fraction:
            continue
        rows = np.flatnonzero(free & (side == 0))
        # The sets that are split off after this one, and training, also need one image of every class.
        spare = 1 + (others if validation else 0)
        shares = files.take(rows).hashes(salt) / 2.0**64
        chosen = _rows_below(strata[rows], shares, fraction, spare) if known is None else shares < fraction
        side[rows[chosen]] = index
    trained, held = np.flatnonzero(side == 0), np.flatnonzero(side == 1)
    numbers = {name: row for row, name in enumerate(files.names)}
    names = () if known is None else known.get("calibration", ())
    calibrating = np.array([numbers[name] for name in names if name in numbers], np.int64)
    aside = bool(aside)
    if not len(calibrating):
        count = calibration(len(trained) + len(held))
        aside = sets_aside(count, len(trained))
        calibrating = trained[_first_of_each(strata[trained], files.take(trained), count, recipe.seed, aside)]
    if aside:
        trained = np.setdiff1d(trained, calibrating)
    return Division(trained, held, np.flatnonzero(side == 2), calibrating)


def _rows_below(strata: np.ndarray, shares: np.ndarray, fraction: float, spare: int) -> np.ndarray:
    """Whether each row's share in [0, 1) is below the fraction; per class at least half and at most twice the fraction.

    An added image moves each bound by at most one, so that at most one other image of the class moves.
    """
    chosen = np.zeros(len(strata), bool)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        rows = rows[np.argsort(shares[rows], kind="stable")]
        most = max(len(rows) - spare, 0)
        least = min(max(math.floor(len(rows) * fraction / 2), 1), most)
        most = min(max(math.ceil(2 * len(rows) * fraction), least), most)
        chosen[rows[: np.clip((shares[rows] < fraction).sum(), least, most)]] = True
    return chosen


def _first_of_each(strata: np.ndarray, files: Files, count: int, seed: int, aside: bool) -> np.ndarray:
    """``count`` rows: one of every class first, then in the order of hashes; ``aside``: one of each class remains."""
    order = files.order(f"calibration {seed}")
    if aside:
        _, lasts = np.unique(strata[order][::-1], return_index=True)
        order = np.delete(order, len(order) - 1 - lasts)
    _, firsts = np.unique(strata[order], return_index=True)
    later = np.ones(len(order), bool)
    later[firsts] = False
    return order[np.argsort(later, kind="stable")][:count]


def sets_aside(count: int, trained: int) -> bool:
    """Whether the calibration images are few enough to be held out of training."""
    return 0 < count <= trained * ASIDE_SHARE


def share(count: int, fraction: float) -> int:
    """The fraction of a number of images, at least one."""
    return max(round(count * fraction), 1)


def _check_left(found: Division, size: int, recipe: Recipe, least: int, validation: bool, test: bool) -> None:
    dealt = {"validation": validation, "test": test}
    empty = [name for name, asked in dealt.items() if asked and not len(getattr(found, name))]
    enough = max(least, math.ceil(size * LEAST_SHARE))
    if not empty and len(found.train) >= enough:
        return
    sets = [f"{len(getattr(found, name)):,} {name}" for name in SETS if dealt.get(name, True)]
    advice = "add images"
    fractions = {f"{name}_fraction": dealt[name] for name in dealt}
    large = [f"--set {name}=0.1" for name, asked in fractions.items() if asked and getattr(recipe, name) > 0.1]
    if large and size * 0.8 >= max(least, size * LEAST_SHARE):
        advice = f"{' '.join(large)} leaves more"
    rule = "; ".join(
        [
            f"at least {enough:,} images must be left to train on (and {LEAST_SHARE:.0%} of the split images)",
            *(f"the {name} set must have an image" for name in empty),
        ]
    )
    raise ValueError(f"{rule[0].upper()}{rule[1:]}: {advice}. Received: {size:,} images, split into {', '.join(sets)}")


def draw_classwise(labels: np.ndarray, counts: Sequence[int], seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw disjoint samples of rows in the data's class proportions, with each class that has enough rows.

    Args:
        labels: Integers (N,).
        counts: Number of rows in each sample.
        seed: The same seed gives the same rows.

    Returns:
        The samples, each sorted, and the rest, sorted.
    """
    if sum(counts) > len(labels):
        raise ValueError(
            "Test, validation and calibration images must leave images to train on (test_fraction, "
            f"validation_fraction). Received: {' + '.join(map(str, counts))} of {len(labels)} images"
        )
    labels = np.asarray(labels)
    # Rank every image within its shuffled class, as a share of that class: the smallest shares over all classes are a
    # proportional sample for any class sizes.
    generator = np.random.default_rng([seed, 0x5911])
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(starts, sizes)
    place = (rank + generator.random(len(sizes)).repeat(sizes)) / sizes.repeat(sizes)
    chosen = order[np.argsort(place, kind="stable")]
    parts = np.split(chosen, np.cumsum(counts))
    for part in parts[:-1]:
        _exchange_rows(labels, part, parts[-1], 1)  # training first
    for part in parts[:-1]:
        _exchange_rows(labels, parts[-1], part, 2)
    *samples, rest = (np.sort(part) for part in parts)
    return samples, rest


def _exchange_rows(labels: np.ndarray, giver: np.ndarray, taker: np.ndarray, least: int) -> None:
    """Exchange rows in place so that ``taker`` has every class of which ``giver`` has at least ``least`` rows."""
    classes, counts = np.unique(labels[giver], return_counts=True)
    for label in np.setdiff1d(classes[counts >= least], labels[taker]):
        own, times = np.unique(labels[taker], return_counts=True)
        if not len(own) or times.max() < 2:
            return  # there are fewer rows than classes
        given = np.flatnonzero(labels[giver] == label)[0]
        taken = np.flatnonzero(labels[taker] == own[times.argmax()])[-1]
        giver[given], taker[taken] = taker[taken], giver[given]


def strata_of(source: Any, classes: int) -> np.ndarray:
    """The stratum of each row: the class of an image; for a mask, its class that occurs in the fewest masks.

    Args:
        source: Its labels are int (N,) or (N, H, W), or it has ``counts`` of its masks; otherwise there is one stratum.
        classes: Number of classes; larger values in a mask have no class.

    Returns:
        int (N,).
    """
    if getattr(source, "counts", None) is not None:
        return _rarest(source.counts > 0)
    labels = np.asarray(source.labels)
    if labels.ndim not in (1, 3) or labels.dtype.kind not in "iu":
        return np.zeros(len(labels), np.int64)
    if labels.ndim == 1:
        return labels
    return _rarest(np.array([np.isin(np.arange(classes), mask) for mask in labels]).reshape(len(labels), classes))


def _rarest(there: np.ndarray) -> np.ndarray:
    """Class of each mask, from bool (N, classes), that occurs in the fewest masks; ``classes`` for a mask with none."""
    order = np.argsort(there.sum(0), kind="stable")
    return np.where(there.any(1), order[there[:, order].argmax(1)], there.shape[1])
