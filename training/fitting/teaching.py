"""Distillation: the logits of a teacher beside the labels of every training batch.

Hinton et al., "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531); the loss is ``losses.Distillation``.
The teacher sees the augmented images, so that it also judges what MixUp, CutMix and crops made of them
(Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", arXiv 2106.05237).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from wavemix_tf.state_files import load_keras

from ..distribution import Devices
from ..recipe import Recipe
from ..tasks import Task


class Teacher:
    """A trained classifier that adds its logits to the targets of batches.

    Args:
        model: Takes the recipe's images and returns logits (B, classes).
        digest: SHA-256 of its file: a resumed training needs the same teacher.
    """

    def __init__(self, model: Any, digest: str) -> None:
        self.model, self.digest = model, digest
        self.classes = int(model.output_shape[-1])
        self._lock = threading.Lock()  # a PyDataset may read batches in several threads

    @classmethod
    def load(cls, recipe: Recipe, task: Task, devices: Devices) -> Teacher | None:
        """Load the teacher that a recipe names; None if it names none.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the teacher takes other images or has other classes, or several devices share a batch.
        """
        if recipe.teacher is None:
            return None
        path = Path(recipe.teacher).expanduser()
        path = path / "model.keras" if path.is_dir() else path
        if path.suffix != ".keras" or not path.is_file():
            raise FileNotFoundError(f"teacher must be a .keras file or a run folder. Received: {recipe.teacher}")
        if devices.count > 1:
            raise ValueError(f"A teacher needs one device. Received: teacher={recipe.teacher}, devices={devices.count}")
        model = load_keras(path, "Train the teacher again.")
        try:
            task.check_model(model)
        except ValueError as error:
            raise ValueError(f"The teacher must fit the recipe. {error}") from None
        return cls(model, hashlib.sha256(path.read_bytes()).hexdigest())

    def teach(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a batch of NumPy arrays with targets (B, 2K): shares of the classes, then the teacher's logits."""
        images, targets, *weights = batch
        if targets.ndim == 1:
            targets = np.eye(self.classes, dtype=np.float32)[targets]
        with self._lock:
            logits = keras.ops.convert_to_numpy(self.model.predict_on_batch(images))
        return images, np.concatenate([targets, logits], axis=-1).astype(np.float32), *weights

    def teach_all(self, batches: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the batches of a tf.data dataset, taught."""
        for batch in batches:
            yield self.teach(tuple(np.asarray(part) for part in batch))
