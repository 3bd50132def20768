"""Resize images to a network's input size as training does, in integers.

Training uses ``training.images``. The code of a deployment kit repeats this module line by line in Kotlin and C: the
results are equal everywhere, and within one level of training's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

FRACTION_BITS = 16  # fractional bits between the two passes


def centre(height: int, width: int, wanted_height: int, wanted_width: int) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of the largest center crop with the wanted proportions, at least one pixel."""
    kept_height = min(height, max(1, int(_nearest(width * wanted_height, wanted_width))))
    kept_width = min(width, max(1, int(_nearest(height * wanted_width, wanted_height))))
    return (height - kept_height) // 2, (width - kept_width) // 2, kept_height, kept_width


def fit_picture(picture: np.ndarray, height: int, width: int, crop_to_aspect_ratio: bool = False) -> np.ndarray:
    """uint8 (h, w, c) of any size -> uint8 (height, width, c).

    The weights of the triangle filter and all sums are integers; the row pass keeps ``FRACTION_BITS`` fractional bits,
    the column pass rounds to the nearest level, half to even.

    Args:
        picture: 1 to 65,535 pixels per side.
        height: Height of the result, in the same range.
        width: Width of the result, in the same range.
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
    """Return (first pixel, int64 weights) for each of ``wanted`` pixels resized from ``size`` pixels."""
    reach = 2 * max(size, wanted)  # this and all values below in units of 1 / (2 * wanted) pixels
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
    """Divide two non-negative integers, rounded to the nearest integer, half to even."""
    quotient, rest = dividend // divisor, dividend % divisor
    up = (2 * rest > divisor) | ((2 * rest == divisor) & (quotient % 2 == 1))
    return quotient + up
