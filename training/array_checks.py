"""Checks of arrays of pixels and of one-hot targets."""

from __future__ import annotations

import numpy as np

from .images import NEARLY_BLACK


def describe_array(array: np.ndarray) -> str:
    """Dtype and shape as text, for example "float32 (8, 32, 32, 3)"."""
    return f"{array.dtype} {array.shape}"


def check_pixels(images: np.ndarray, where: str, part: str) -> None:
    """Raise ValueError unless images (N, ...) are uint8, or floating point in [0, 1]; it names the first invalid one.

    Args:
        images: To check.
        where: Name of the arrays in messages.
        part: Name of one image in messages: "image" or "target".
    """
    if images.dtype == np.uint8:
        return
    rule = "Images must be uint8, or floating point and finite"
    if images.dtype.kind != "f":
        raise ValueError(f"{rule}. Received: {where} with {part}s {describe_array(images)}")
    low, high = (images.min(), images.max()) if images.size else (0.0, 0.0)
    if not np.isfinite(low) or not np.isfinite(high):
        first = int(np.flatnonzero(~np.isfinite(images).reshape(len(images), -1).all(1))[0])
        raise ValueError(f"{rule}. Received: {where} with a value that is not finite in {part} {first}")
    if low < 0 or high > 1:
        wrong = ((images < 0) | (images > 1)).reshape(len(images), -1).any(1)
        raise ValueError(
            f"Floating-point images must be in [0, 1] (pixel / 255). Received: {where} from {low:.4g} to {high:.4g}, "
            f"the first outside in {part} {int(np.flatnonzero(wrong)[0])}"
        )


def nearly_black_arrays(images: np.ndarray, where: str) -> str:
    """Return a warning for images that were probably divided by 255 twice; otherwise "".

    Args:
        images: As in ``check_pixels``: uint8, or floating point in [0, 1].
        where: Name of the arrays in the message.
    """
    largest = images.max(initial=0)
    if largest > (NEARLY_BLACK if images.dtype == np.uint8 else NEARLY_BLACK / 255):
        return ""
    whole = "255" if images.dtype == np.uint8 else "1.0"
    return (
        f"No value of {where} is above {largest:.4g} of {whole}: the images are nearly black. Pass uint8 from 0 to "
        "255, or floating point from 0 to 1."
    )


def is_one_hot(rows: np.ndarray, classes: int | None) -> bool:
    """Whether the last axis of (..., classes) has a single 1 and otherwise 0."""
    if classes not in (None, rows.shape[-1]) or rows.dtype.kind not in "iufb":
        return False
    return bool(((rows == 0) | (rows == 1)).all() and (rows.sum(-1) == 1).all())
