"""Images in, outputs out: what calibration and verification feed a model with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

BATCH = 16
EAGER_PIXELS = 256 * 32 * 32  # fewer run sooner than a graph of the model is traced, and fit in memory


def check_images(
    images: Any, shape: tuple[int | None, ...], value_range: tuple[float, float] = (0.0, 1.0), name: str = "calibration"
) -> np.ndarray:
    """Return ``images`` as one float32 array (N, H, W, C), or say what is wrong with them.

    Args:
        images: An array (N, H, W, C), or an iterable of such arrays or of single images.
        shape: The model's input shape, batch axis first.
        value_range: Smallest and largest value allowed.
        name: The argument's name, for the message.
    """
    wanted = tuple(shape[1:])
    if not hasattr(images, "ndim"):
        parts = [np.asarray(part) for part in images] if isinstance(images, Iterable) else []
        parts = [part[None] if part.ndim == len(wanted) else part for part in parts]
        if not parts or any(part.shape[1:] != wanted for part in parts):
            shapes = sorted({part.shape for part in parts}) or type(images).__name__
            raise ValueError(f"{name} must hold images of shape {wanted}. Received: {name} of shapes {shapes}")
        images = np.concatenate(parts)
    array = np.asarray(images)
    if array.ndim != len(wanted) + 1 or array.shape[1:] != wanted or not len(array):
        raise ValueError(f"{name} must be an array (N, {', '.join(map(str, wanted))}). Received: shape={array.shape}")
    low, high = value_range
    if array.dtype.kind != "f":
        raise ValueError(f"{name} must be float in [{low}, {high}] (pixel / 255). Received: dtype={array.dtype}")
    array = array.astype(np.float32)
    if not np.isfinite(array).all() or array.min() < low - 1e-6 or array.max() > high + 1e-6:
        raise ValueError(
            f"{name} must be finite and in [{low}, {high}] (pixel / 255). "
            f"Received: minimum={array.min()}, maximum={array.max()}"
        )
    return array


def predict(model: Any, images: np.ndarray) -> Any:
    """A Keras model's outputs at inference: float32 (N, ...), or a list of such for several outputs."""
    if keras.backend.backend() != "tensorflow" or images[..., 0].size > EAGER_PIXELS:
        outputs = model.predict(images, batch_size=BATCH, verbose=0)
        return keras.tree.map_structure(lambda part: np.asarray(part, np.float32), outputs)
    batches = []
    for start in range(0, len(images), BATCH):
        batch = model(images[start : start + BATCH], training=False)
        batches.append(keras.tree.map_structure(lambda part: np.asarray(part, np.float32), batch))
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)


def generated_images(shape: tuple[int, ...], count: int = 64, seed: int = 0) -> np.ndarray:
    """Images to verify on when the caller has none: coarse patches, smooth slopes and noise at varied brightness.

    Args:
        shape: (H, W, C).
        count: Number of images.
        seed: Of the generator.

    Returns:
        float32 (count, H, W, C) in [0, 1].
    """
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    images = np.empty((count, *shape), np.float32)
    for index in range(count):
        cells = rng.integers(1, 5)
        coarse = rng.uniform(0, 1, (cells, cells, channels))
        rows, columns = np.arange(height) * cells // height, np.arange(width) * cells // width
        slope = np.linspace(-1, 1, width)[None, :, None] * rng.normal(0, 0.3, (1, 1, channels))
        noise = rng.normal(0, rng.uniform(0, 0.2), shape)
        images[index] = np.clip(coarse[rows][:, columns] * rng.uniform(0.2, 1.2) + slope + noise, 0, 1)
    return images
