"""How a picture of any size becomes what a network takes: the rules that training follows, as the files tell them.

``training.images`` is what trains. Here is the same in whole numbers, which the code of a deployment kit repeats line
by line in Kotlin and C: one result everywhere, within one level of training's.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

KERAS_ENTRY = "wavemix_tf.json"  # of a .keras file, which is a zip archive
FRACTION_BITS = 16  # of a level, between the two passes
TRIANGLE, NONE = RESIZES = ("triangle", "none")


@dataclass(frozen=True)
class Preprocessing:
    """How pictures were brought to a network's size.

    Args:
        resize: "triangle": bilinear, the filter widened where the picture is reduced ("antialiased"); "none": pictures
            are taken as they are, in tiles of the network's size.
        crop_to_aspect_ratio: Whether the centre was cropped to the network's proportions before; False: stretched.
    """

    resize: str = TRIANGLE
    crop_to_aspect_ratio: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with what holds for every network of this package."""
        return {
            "resize": self.resize,
            "crop_to_aspect_ratio": self.crop_to_aspect_ratio,
            "transparency": "white",
            "orientation": "upright",
            "colour_profile": "ignored",
        }

    @property
    def words(self) -> str:
        """In a phrase."""
        if self.resize == NONE:
            return "tiles of the input's size as they are"
        crop = "the centre cropped to the input's proportions, then " if self.crop_to_aspect_ratio else ""
        return f"{crop}resized with a triangle filter (bilinear, antialiased)"

    @classmethod
    def from_dict(cls, found: Any) -> Preprocessing | None:
        """What ``to_dict`` gave; None where it says something else."""
        if not isinstance(found, dict) or found.get("resize") not in RESIZES:
            return None
        crop = found.get("crop_to_aspect_ratio")
        return cls(found["resize"], crop) if isinstance(crop, bool) else None


def write_to_keras_file(path: str | os.PathLike[str], preprocessing: Preprocessing) -> None:
    """Add the rules to a .keras file that has none."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(KERAS_ENTRY, json.dumps({"preprocessing": preprocessing.to_dict()}))


def read_from_keras_file(path: str | os.PathLike[str]) -> Preprocessing | None:
    """The rules that a .keras file tells; None: it tells none."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read(KERAS_ENTRY))
    except (KeyError, ValueError):  # there is no such entry, or something else in it
        return None
    return Preprocessing.from_dict(found.get("preprocessing")) if isinstance(found, dict) else None


def centre(height: int, width: int, wanted_height: int, wanted_width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest part in the middle with the wanted proportions, of at least a pixel."""
    kept_height = min(height, max(1, int(_nearest(width * wanted_height, wanted_width))))
    kept_width = min(width, max(1, int(_nearest(height * wanted_width, wanted_height))))
    return (height - kept_height) // 2, (width - kept_width) // 2, kept_height, kept_width


def fit_picture(picture: np.ndarray, height: int, width: int, crop_to_aspect_ratio: bool = False) -> np.ndarray:
    """uint8 (h, w, c) of any size -> uint8 (height, width, c).

    Weights of the triangle filter are whole numbers and so is every sum; the row pass keeps ``FRACTION_BITS`` bits
    below the level, the column pass rounds to the nearest level, a half to the even one.

    Args:
        picture: 1 to 65,535 pixels a side.
        height: Of the result, likewise.
        width: Of the result, likewise.
        crop_to_aspect_ratio: Keep the proportions and crop the centre, instead of stretching.
    """
    if crop_to_aspect_ratio:
        top, left, kept_height, kept_width = centre(picture.shape[0], picture.shape[1], height, width)
        picture = picture[top : top + kept_height, left : left + kept_width]
    rows = np.empty((picture.shape[0], width, picture.shape[2]), np.int64)
    for x, (first, weights) in enumerate(taps(picture.shape[1], width)):
        sums = np.tensordot(picture[:, first : first + len(weights)].astype(np.int64), weights, (1, 0))
        total = int(weights.sum())
        rows[:, x] = ((sums << FRACTION_BITS) + total // 2) // total
    fitted = np.empty((height, width, picture.shape[2]), np.uint8)
    for y, (first, weights) in enumerate(taps(picture.shape[0], height)):
        sums = np.tensordot(weights, rows[first : first + len(weights)], (0, 0))
        fitted[y] = _nearest(sums, int(weights.sum()) << FRACTION_BITS)
    return fitted


def taps(size: int, wanted: int) -> list[tuple[int, np.ndarray]]:
    """(first pixel, int64 weights) for each of ``wanted`` pixels made of ``size``."""
    reach = 2 * max(size, wanted)  # in units of 1 / (2 * wanted) pixels, as is all below
    found = []
    for index in range(wanted):
        middle = (2 * index + 1) * size
        first = max(0, (middle - reach) // (2 * wanted))
        positions = np.arange(first, min(size, (middle + reach) // (2 * wanted) + 1), dtype=np.int64)
        weights = reach - np.abs((2 * positions + 1) * wanted - middle)
        kept = weights > 0
        found.append((first + int(kept.argmax()), weights[kept]))
    return found


def _nearest(dividend: Any, divisor: int) -> Any:
    """The whole number nearest to the quotient of two that are not negative; of two as near the even one."""
    quotient, rest = dividend // divisor, dividend % divisor
    up = (2 * rest > divisor) | ((2 * rest == divisor) & (quotient % 2 == 1))
    return quotient + up
