"""The embedded dataset: 1,797 scans of handwritten digits, 8x8 pixels, from scikit-learn."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

TEST_FRACTION = 0.2
SPLIT_SEED = 0  # the test images do not depend on the recipe's seed


class Builder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder "digits": splits "train" (1,437 images) and "test" (360), class by class; uint8 (8, 8, 1)."""

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "UCI optical recognition of handwritten digits, as scikit-learn ships it."}
    pkg_dir_path = Path(__file__).parent  # TFDS would derive it from the module name, which differs from the folder's

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="1,797 scans of handwritten digits, 8x8 gray, from the UCI repository.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        data = load_digits()
        # The scans count ink from 0 to 16.
        images = np.round(data.images * (255.0 / 16.0)).astype(np.uint8)[..., None]
        train, test = train_test_split(
            np.arange(len(images)), test_size=TEST_FRACTION, stratify=data.target, random_state=SPLIT_SEED
        )
        return {
            "train": self._generate_examples(images, data.target, np.sort(train)),
            "test": self._generate_examples(images, data.target, np.sort(test)),
        }

    def _generate_examples(self, images: Any, labels: Any, indices: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in indices:
            yield int(index), {"image": images[index], "label": int(labels[index])}


def prepared_builder(data_dir: str | os.PathLike[str] | None = None) -> tfds.core.DatasetBuilder:
    """Return the digits builder with its files: prepared on first use, offline.

    Args:
        data_dir: TFDS data folder; None: TFDS's default (``TFDS_DATA_DIR`` or ~/tensorflow_datasets).
    """
    builder = Builder(data_dir=data_dir)
    final = Path(builder.data_path)
    if not final.exists():
        # Prepared in a temporary folder and renamed, so that two processes that start at once, or a killed process,
        # never leave an incomplete dataset.
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="incomplete_", dir=final.parent) as folder:
            temporary = Builder(data_dir=folder)
            silence = io.StringIO()
            with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
                temporary.download_and_prepare()
            try:
                os.rename(temporary.data_path, final)
            except OSError:
                if not final.exists():  # otherwise another process was first, with the same files
                    shutil.copytree(temporary.data_path, final)
        builder = Builder(data_dir=data_dir)
    return builder
