"""The pictures of input_pipeline.py: JPEG files in folders of classes, and the same files as two TFDS stores."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 10
QUALITY = 90
FORMATS = ("tfrecord", "array_record")
NAME = "pictures"  # of the TFDS datasets
DONE = "complete.json"


def picture(side: int, seed: int) -> np.ndarray:
    """uint8 (side, side, 3): the spectrum of photographs, amplitude 1/frequency, with weaker chroma than luma."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    frequency[0, 0] = np.inf  # the mean is set below
    planes = []
    for contrast, level in ((45.0, generator.uniform(80, 170)), (12.0, 0.0), (12.0, 0.0)):
        spectrum = np.fft.rfft2(generator.normal(size=(side, side))) / frequency
        plane = np.fft.irfft2(spectrum, (side, side))
        planes.append(level + contrast * plane / plane.std())
    luma, blue, red = planes
    channels = (luma + 1.402 * red, luma - 0.344 * blue - 0.714 * red, luma + 1.772 * blue)
    return np.clip(np.stack(channels, -1), 0, 255).astype(np.uint8)


def encoded(side: int, seed: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture(side, seed)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def make(folder: Path, count: int, side: int) -> dict[str, Any]:
    """Write the pictures, unless they are there: `folder`/images/train/CLASS/*.jpg and a TFDS store for each format.

    Returns:
        {"count", "side", "bytes": of all JPEG files}.
    """
    done = folder / DONE
    if done.is_file():
        found = json.loads(done.read_text())
        if (found["count"], found["side"]) == (count, side):
            return found
    if folder.exists() and not done.is_file() and any(folder.iterdir()):
        raise ValueError(f"The folder of pictures must be empty, or one that this script finished. Received: {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    total = 0
    for number in range(count):
        path = image_path(folder, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = encoded(side, number)
        path.write_bytes(content)
        total += len(content)
    for format_ in FORMATS:
        store(folder, count, side, format_)
    found = {"count": count, "side": side, "bytes": total}
    temporary = done.with_suffix(".part")
    temporary.write_text(json.dumps(found))
    os.replace(temporary, done)
    return found


def image_path(folder: Path, number: int) -> Path:
    return folder / "images" / "train" / f"class_{number % CLASSES}" / f"{number:06d}.jpg"


def store(folder: Path, count: int, side: int, format_: str) -> None:
    """Write the files, as they are, into a TFDS dataset; a small test split makes it one that a recipe can name."""
    import tensorflow_datasets as tfds

    def examples(numbers: range) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in numbers:
            yield number, {"image": str(image_path(folder, number)), "label": number % CLASSES}

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(side, side, 3), encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=[f"class_{number}" for number in range(CLASSES)]),
        }
    )
    builder = tfds.dataset_builders.AdhocBuilder(
        name=NAME,
        version="1.0.0",
        features=features,
        split_datasets={"train": examples(range(count)), "test": examples(range(CLASSES))},
        data_dir=str(folder / format_),
        file_format=format_,
    )
    builder.download_and_prepare()
