"""Colors of classes: a palette, and masks over images."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .checks import check_positive

MOST_COLOURS = 256  # limit of a palette PNG
# Chosen by eye to be distinguishable on photographs; all further colors are computed.
FIRST = ("#2c6cb0", "#f28e2b", "#1f9e72", "#d62f4b", "#8e5bd0", "#f2c230", "#39b9d6", "#c2488f", "#8c5a2f", "#93c23a")
LIGHTNESS = (38.0, 88.0)  # CIELAB: darker and lighter colors are hard to see in a photograph's shadows and skies
LEAST_CHROMA = 38.0  # grays are hard to see


def palette(count: int) -> np.ndarray:
    """Return distinct colors for classes.

    Each color after the first ten is the one furthest, in CIELAB, from all previous ones. A color depends only on its
    index, not on the number of classes.

    Args:
        count: Number of colors, at most 256.

    Returns:
        uint8 (count, 3), RGB.
    """
    if check_positive("count", count) > MOST_COLOURS:
        raise ValueError(f"count must be at most {MOST_COLOURS}, as in a palette image. Received: count={count}")
    return _colours()[:count].copy()


def overlay(
    image: np.ndarray,
    mask: np.ndarray,
    colours: Sequence[Sequence[int]] | np.ndarray,
    ignore: int | Sequence[int] | None = None,
    opacity: float = 0.5,
) -> np.ndarray:
    """Tint each pixel of an image in the color of its class.

    Args:
        image: (H, W, 3) or (H, W, 1), uint8, or float in [0, 1].
        mask: Integer class of each pixel, (H, W).
        colours: (classes, 3) in 0 to 255, as from ``palette``.
        ignore: Classes whose pixels stay unchanged; they need no color.
        opacity: Opacity of the tint, in [0, 1].

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: Sizes that differ, or a class without a color.
    """
    image, mask = np.asarray(image), np.asarray(mask)
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or mask.shape != image.shape[:2]:
        raise ValueError(
            f"image must be (H, W, 3) or (H, W, 1) and mask (H, W). Received: {image.shape} and {mask.shape}"
        )
    pixels = image.astype(np.float32) * (255 if image.dtype.kind == "f" else 1)
    table = np.asarray(colours, np.float32)
    kept = np.isin(mask, [] if ignore is None else np.atleast_1d(ignore))
    if (~kept).any() and not 0 <= mask[~kept].min() <= mask[~kept].max() < len(table):
        raise ValueError(
            f"mask must have classes 0 to {len(table) - 1} or ignored ones. "
            f"Received: {mask[~kept].min()} to {mask[~kept].max()}"
        )
    tinted = (1 - opacity) * pixels + opacity * table[np.where(kept, 0, mask)]
    pixels = np.where(kept[..., None], pixels, tinted)
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


@functools.cache
def _colours() -> np.ndarray:
    chosen = [tuple(int(text[i : i + 2], 16) for i in (1, 3, 5)) for text in FIRST]
    steps = np.arange(0, 256, 15)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    points = _lab(candidates)
    fit = (points[:, 0] >= LIGHTNESS[0]) & (points[:, 0] <= LIGHTNESS[1])
    fit &= np.hypot(points[:, 1], points[:, 2]) >= LEAST_CHROMA
    candidates, points = candidates[fit], points[fit]
    nearest = np.min([_distance(points, point) for point in _lab(np.array(chosen))], axis=0)
    while len(chosen) < MOST_COLOURS:
        best = int(np.argmax(np.round(nearest, 6)))  # rounded: the last bit must not decide a tie
        chosen.append(tuple(map(int, candidates[best])))
        nearest = np.minimum(nearest, _distance(points, points[best]))
    return np.array(chosen, np.uint8)


def _distance(points: np.ndarray, point: np.ndarray) -> Any:
    return np.sqrt(((points - point) ** 2).sum(-1))


def _lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB (CIE 15:2004, white D65) of sRGB values (N, 3) in 0 to 255 (IEC 61966-2-1)."""
    value = np.asarray(rgb, np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    ratio = xyz / np.array([0.9505, 1.0, 1.089])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], -1)
