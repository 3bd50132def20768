"""The masks that `predict` writes, in the numbers or colors of the training masks. Loads no Keras."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..colours import palette
from ..training.data.mask_formats import code_of


def class_colours(classes: int, values: Sequence[int | str] = ()) -> np.ndarray:
    """Return the color of each class, uint8 (classes, 3): that of the training masks, if these are color images.

    Args:
        classes: Number of classes.
        values: As ``Recipe.mask_values``.
    """
    if not any(isinstance(value, str) for value in values):
        return palette(classes)
    codes = np.array([code_of(value) for value in values], np.int64)
    return np.stack([codes >> 24 & 255, codes >> 16 & 255, codes >> 8 & 255], axis=-1).astype(np.uint8)


def mask_picture(mask: np.ndarray, colours: np.ndarray, values: Sequence[int | str] = ()) -> Any:
    """Return a mask as a Pillow image: pixels are the class numbers in ``values``, shown in the classes' colors.

    Args:
        mask: uint8 (H, W) classes.
        colours: uint8 (classes, 3).
        values: As ``Recipe.mask_values``; if they are colors or empty, pixels are class indices. Numbers above 255 give
            a 16-bit gray image, which has no colors.
    """
    from PIL import Image

    numbers = list(range(len(colours))) if not values or isinstance(values[0], str) else [int(v) for v in values]
    if max(numbers) > 255:
        return Image.fromarray(np.array(numbers, np.uint16)[mask])
    table = np.zeros((256, 3), np.uint8)
    table[numbers] = colours
    picture = Image.fromarray(np.array(numbers, np.uint8)[mask])  # "L": pixel values stay unchanged
    picture.putpalette(table[: max(numbers) + 1].tobytes())
    return picture
