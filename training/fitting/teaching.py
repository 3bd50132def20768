"""Distillation: the logits of a teacher beside the labels of every training batch.

Hinton et al., "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531); the loss is ``losses.Distillation``.
The teacher sees the augmented images, so that it also judges what MixUp, CutMix and crops made of them
(Beyer et al., "Knowledge distillation: A good teacher is patient and consistent", arXiv 2106.05237).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from wavemix_tf.files import sha256_of
from wavemix_tf.state_files import load_keras

from ..data.identity import changed_classes, read_labels
from ..distribution import Devices
from ..endings import check_logits
from ..recipe import Recipe
from ..tasks import Task


def teacher_file(recipe: Recipe) -> Path | None:
    """Return the file that a recipe names as the teacher; None if it names none.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if recipe.teacher is None:
        return None
    path = Path(recipe.teacher).expanduser()
    path = path / "model.keras" if path.is_dir() else path
    if path.suffix != ".keras" or not path.is_file():
        raise FileNotFoundError(f"teacher must be a .keras file or a run folder. Received: {recipe.teacher}")
    return path


class Teacher:
    """A trained classifier that adds its logits to the targets of batches.

    Args:
        model: Takes the recipe's images and returns logits (B, classes).
        digest: SHA-256 of its file: a resumed training needs the same teacher.
        classes: Number of its classes.
    """

    def __init__(self, model: Any, digest: str, classes: int) -> None:
        self.model, self.digest, self.classes = model, digest, classes
        self._lock = threading.Lock()  # a PyDataset may read batches in several threads

    @classmethod
    def load(cls, recipe: Recipe, task: Task, devices: Devices, class_names: Sequence[str]) -> Teacher | None:
        """Load the teacher that a recipe names; None if it names none.

        Args:
            recipe: The recipe.
            task: Its task.
            devices: Those that share a batch.
            class_names: Those of the data. A teacher in a run folder must have the same in the same order, except where
                either has only numbers, as for arrays.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the teacher takes other images, has other classes or ends in probabilities, or several devices
                share a batch.
        """
        path = teacher_file(recipe)
        if path is None:
            return None
        if devices.count > 1:
            raise ValueError(f"A teacher needs one device. Received: teacher={recipe.teacher}, devices={devices.count}")
        model = load_keras(path, "Train the teacher again.")
        try:
            task.check_model(model)
            check_logits(task, model)
        except ValueError as error:
            raise ValueError(f"The teacher must fit the recipe. {error}") from None
        names, numbers = read_labels(path.parent), [str(number) for number in range(task.num_classes)]
        if names is not None and names != list(class_names) and numbers not in (names, list(class_names)):
            raise ValueError(
                f"The teacher must have the data's classes in their order. Received: teacher={recipe.teacher}, "
                f"{changed_classes(names, list(class_names))}"
            )
        return cls(model, sha256_of(path), task.num_classes)

    def teach(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a batch of NumPy arrays with targets (B, 2K): shares of the classes, then the teacher's logits."""
        images, targets, *weights = batch
        if targets.ndim == 1:
            targets = np.eye(self.classes, dtype=np.float32)[targets]
        with self._lock:
            logits = np.asarray(keras.ops.convert_to_numpy(self.model.predict_on_batch(images)), np.float32)
        if logits.shape != targets.shape or not np.isfinite(logits).all():
            raise ValueError(
                f"The teacher must return finite logits {targets.shape}. Received: {logits.shape}, "
                f"{np.isfinite(logits).sum()} of {logits.size} finite"
            )
        return images, np.concatenate([targets, logits], axis=-1).astype(np.float32), *weights

    def teach_all(self, batches: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
        """Yield the batches of a tf.data dataset, taught."""
        for batch in batches:
            yield self.teach(tuple(np.asarray(part) for part in batch))
