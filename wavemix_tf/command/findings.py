"""The report's figures about predictions, from arrays only: JSON-able and small for any size of the test set."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..escaping import printable
from ..processor import features_text, processor_name, usable_cores
from .networks import probabilities
from .pages.image_urls import png_url

LARGEST_SIDE = 96  # pixels of an image in report.json
POINTS = 1500  # most points in a scatter plot
MISTAKES = 12
PACKAGES = ("wavemix-tf", "keras", "tensorflow", "ai-edge-litert", "tflite-micro", "numpy")


def surest_errors(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return the rows of the wrongly classified images, those with the largest share of the predicted class first.

    Args:
        labels: (N,) integers.
        logits: (N, classes).
    """
    wrong = np.flatnonzero(logits.argmax(-1) != labels)
    shares = probabilities(logits).max(-1)
    return wrong[np.argsort(-shares[wrong], kind="stable")]


def mistakes(
    images: np.ndarray, labels: np.ndarray, logits: np.ndarray, class_names: Sequence[str], names: Sequence[str]
) -> list[Any]:
    """Return the wrongly classified images with the largest share of the predicted class.

    Args:
        images: float (N, H, W, C) in [0, 1].
        labels: (N,) integers.
        logits: (N, classes).
        class_names: Name of each class.
        names: Name of each image.
    """
    predictions = logits.argmax(-1)
    return [
        {
            "image_png": thumbnail(images[row]),
            "label": class_names[labels[row]],
            "prediction": class_names[predictions[row]],
            "file": printable(names[row]),
        }
        for row in surest_errors(labels, logits)[:MISTAKES]
    ]


def sample(*arrays: np.ndarray) -> list[list[float]]:
    """Return the same ``POINTS`` random positions of arrays of one shape, with a fixed seed; all if there are fewer."""
    size = arrays[0].size
    chosen: Any = slice(None)
    if size > POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(size, POINTS, replace=False))
    return [_rounded(array.ravel()[chosen]) for array in arrays]


def wavelet(image: np.ndarray, label: str) -> dict[str, Any]:
    """Return one image and the four bands of its luminance, computed by ``DWT2D``.

    Args:
        image: float (H, W, C) in [0, 1].
        label: Class of the image.
    """
    import keras

    from ..layers.wavelets import DWT2D

    grey = image.mean(axis=-1, keepdims=True, dtype=np.float32)
    stride = -(-max(grey.shape[:2]) // LARGEST_SIDE)
    bands = keras.ops.convert_to_numpy(DWT2D()(grey[None, ::stride, ::stride]))[0]  # (H/2, W/2, 4)
    return {
        "label": label,
        "image_png": thumbnail(image),
        "bands": {name: [_rounded(row) for row in bands[..., i]] for i, name in enumerate(("LL", "LH", "HL", "HH"))},
    }


def thumbnail(image: np.ndarray) -> str:
    """Return a float image in [0, 1] as a small PNG data URL; large images are subsampled."""
    stride = -(-max(image.shape[:2]) // LARGEST_SIDE)
    return png_url(np.round(255 * np.clip(image[::stride, ::stride], 0, 1)))


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """Return the processor on which latencies were measured."""
    found = {
        "cpu": f"{processor_name()} ({usable_cores()} cores)",
        "system": f"{platform.system()} {platform.machine()}",
    }
    return {**found, "instructions": text} if (text := features_text()) else found
