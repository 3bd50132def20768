"""The augmented batches of every epoch from a source of images, each epoch a pure function of (recipe, epoch)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from ..augment import BatchSeed
from ..data.example_weights import Weighting
from ..data.given import DatasetSource
from ..data.sources import ArraySource, NumpySource, epoch_order
from ..distribution import ONE_DEVICE, Devices, in_order
from ..recipe import Recipe
from ..tasks import Task
from .teaching import Teacher


def training_batches(
    source: Any,
    recipe: Recipe,
    first_epoch: int,
    epochs: int,
    task: Task,
    devices: Devices = ONE_DEVICE,
    weighting: Weighting | None = None,
    teacher: Teacher | None = None,
) -> Any:
    """All batches from `first_epoch` up to `epochs`: augmented images, targets for the task's loss, weights.

    The image order and the augmentation of an epoch depend only on (seed, epoch): a resumed run sees the same batches
    as the uninterrupted run.

    Every process prepares whole batches, as MixUp requires, and keeps its share of each.

    Returns:
        A tf.data dataset of all the epochs' batches in a row, with a teacher a generator of them; or, for sources
        without tf.data, `EpochBatches`.
    """
    if isinstance(source, NumpySource) or (isinstance(source, DatasetSource) and source.is_py_dataset):
        batches = EpochBatches(source, recipe, task, devices, weighting, teacher)
        batches.start_epoch(first_epoch)  # Keras reads a batch before the first epoch starts
        return batches
    import tensorflow as tf

    weighting = weighting or Weighting(recipe)
    augmenter = task.augmenter(isinstance(source, (ArraySource, DatasetSource)), "tensorflow")

    def epoch_batches(epoch: Any) -> Any:
        return (
            source.epoch(recipe, epoch)
            .enumerate()
            .map(lambda index, batch: prepare(epoch, index, *batch), num_parallel_calls=tf.data.AUTOTUNE)
        )

    def prepare(epoch: Any, index: Any, images: Any, labels: Any, weights: Any = None) -> Any:
        targets = weighting.weigh_targets(task.augmenter_targets(labels, "tensorflow"), weights, "tensorflow")
        images = tf.ensure_shape(tf.cast(images, tf.float32), [None, *recipe.image_shape])
        images, targets = augmenter(images, targets, BatchSeed(recipe.seed, epoch, index))
        targets, weights = weighting.split_weights(targets, weights, "tensorflow")
        return devices.share(images, task.smoothed(targets), *(() if weights is None else (weights,)))

    batches = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_batches).prefetch(tf.data.AUTOTUNE)
    return batches if teacher is None else teacher.teach_all(batches)


def first_batches(dataset: Any, count: int) -> Iterable[Any]:
    """The first `count` batches of a tf.data dataset or a ``PyDataset``, or all if there are fewer."""
    return itertools.islice(in_order(dataset), count)


class EpochBatches(keras.utils.PyDataset):
    """The batches of one epoch for backends without tf.data; `start_epoch` selects the epoch."""

    def __init__(
        self,
        source: Any,
        recipe: Recipe,
        task: Task,
        devices: Devices = ONE_DEVICE,
        weighting: Weighting | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        wrapped = source.dataset if isinstance(source, DatasetSource) else None
        # As many threads as the user's dataset sets may read batches; not several processes, which would not see a new
        # epoch.
        super().__init__(workers=wrapped.workers if wrapped else 1)
        self._source, self._recipe, self._task, self._devices = source, recipe, task, devices
        self._weighting, self._teacher = weighting or Weighting(recipe), teacher
        self._framework = keras.backend.backend()
        self._augmenter = task.augmenter(True, self._framework)
        self._epoch = 0
        self._order = np.arange(source.size)

    def start_epoch(self, epoch: int) -> None:
        """Switch to the batches of `epoch` (from 0)."""
        self._epoch = epoch
        if isinstance(self._source, NumpySource):
            self._order = epoch_order(self._source.size, self._recipe.seed, epoch)

    def on_epoch_begin(self) -> None:
        if isinstance(self._source, DatasetSource):
            self._source.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        if isinstance(self._source, DatasetSource):
            self._source.dataset.on_epoch_end()

    def __len__(self) -> int:
        return self._source.steps(self._recipe.step_images)

    def __getitem__(self, index: int) -> Any:
        recipe = self._recipe
        if isinstance(self._source, NumpySource):
            rows = self._order[index * recipe.step_images : (index + 1) * recipe.step_images]
            images, labels, *rest = self._source.read(rows)
        else:
            images, labels, *rest = self._source.read(index)
        weights = rest[0] if rest else None
        targets = self._task.augmenter_targets(labels, self._framework)
        targets = self._weighting.weigh_targets(keras.ops.convert_to_tensor(targets), weights, "keras")
        seed = BatchSeed(recipe.seed, self._epoch, index, self._framework)
        images, targets = self._augmenter(keras.ops.convert_to_tensor(images, "float32"), targets, seed)
        images, targets = keras.ops.convert_to_numpy(images), keras.ops.convert_to_numpy(targets)
        targets, weights = self._weighting.split_weights(targets, weights, "keras")
        batch = self._devices.share(images, self._task.smoothed(targets), *(() if weights is None else (weights,)))
        return batch if self._teacher is None else self._teacher.teach(tuple(map(np.asarray, batch)))
