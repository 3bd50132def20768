"""Encode images as ``data:`` URLs of a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from .figure_style import FLOAT, INT8, rgb_of


def band_image(values: Sequence[Sequence[float]], *, signed: bool, limit: float) -> str:
    """Return one wavelet band as a data URL: gray for the average, two hues around transparent zero for the details.

    Args:
        values: (H, W) coefficients.
        signed: False for LL, whose values are not around zero.
        limit: coefficient at which the color saturates; the same for all detail bands, so that they can be compared.
    """
    array = np.asarray(values, dtype=np.float64)
    rgba = np.zeros((*array.shape, 4), dtype=np.uint8)
    if signed:
        strength = np.clip(np.abs(array) / max(limit, 1e-9), 0, 1) ** 0.75
        rgba[..., :3] = np.where(array[..., None] >= 0, rgb_of(INT8) * 255, rgb_of(FLOAT) * 255)
        rgba[..., 3] = np.round(255 * strength)
    else:
        rgba[..., :3] = np.round(255 * np.clip(array[..., None] / max(limit, 1e-9), 0, 1))
        rgba[..., 3] = 255
    return png_url(rgba)


def png_url(pixels: Any) -> str:
    """Return uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as a ``data:image/png`` URL."""
    from PIL import Image

    array = np.asarray(pixels, dtype=np.uint8)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def jpeg_url(pixels: Any, largest_side: int) -> str:
    """Return uint8 (H, W, 3) or (H, W, 1) as a ``data:image/jpeg`` URL; the longer side is at most ``largest_side``."""
    from PIL import Image

    array = np.asarray(pixels, dtype=np.uint8)
    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    image.thumbnail((largest_side, largest_side))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
