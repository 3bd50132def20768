"""The data that a user passes to `fit`: arrays, a ``PyDataset`` or a ``tf.data.Dataset``, as checked sources."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from ..distribution import in_order
from ..recipe import Recipe
from ..tasks import task_type
from .bundle import DataBundle, check_names, check_sets, missing_classes
from .datasets import split_sources
from .gate import BATCHES, UNBATCHED, Gate, structure
from .identity import UNKNOWN_CHECKSUM
from .listing import Notes
from .plain_pictures import plain_notes
from .sources import ArraySource, NumpySource

ENDLESS, UNKNOWN = -1, -2  # tf.data's cardinalities


def as_bundle(recipe: Recipe, data: Any, validation_data: Any = None) -> DataBundle:
    """Convert the data passed to ``fit`` to a ``DataBundle``: arrays, a ``PyDataset`` or a ``tf.data.Dataset``."""
    if isinstance(data, DataBundle):
        if validation_data is not None:
            raise ValueError("validation_data must be None with a DataBundle, which has its own. Received: both")
        check_names(data.class_names)
        check_sets(data)
        return data
    if isinstance(data, (tuple, list)):
        source, classes = _array_source(data, Gate(recipe))
        names = _names(recipe, classes)
        validation = None if validation_data is None else _held_out(recipe, validation_data, classes)
        bundle = split_sources(recipe, source, validation, None, names, Notes(), deals_test=False)
        notes = [
            *bundle.notes,
            _calibration_note(bundle, source.size),
            *missing_classes(bundle, of_train=True),
            *plain_notes(bundle),
        ]
        return dataclasses.replace(bundle, notes=tuple(notes))
    known = task_type(recipe).known_classes(recipe)
    if validation_data is None or known is None:
        raise ValueError(
            "A dataset requires validation_data, and num_classes in the recipe. Received: "
            f"validation_data={validation_data}, num_classes={recipe.num_classes}"
        )
    classes = known
    train = DatasetSource.of(data, Gate(recipe, classes))
    notes = []
    if not train.is_py_dataset and int(data.cardinality()) == UNKNOWN:
        notes.append(
            f"the training dataset has no known length: it was read once and has {train.size:,} batches "
            f"(dataset.apply(tf.data.experimental.assert_cardinality({train.size})) avoids that)"
        )
    held_out = _held_out(recipe, validation_data, classes)
    no_images = np.zeros((0, *recipe.image_shape), np.float32)
    names = _names(recipe, classes)
    bundle = DataBundle(names, recipe.image_shape, train, held_out, None, no_images)
    return dataclasses.replace(bundle, notes=(*notes, *missing_classes(bundle)))


def given_batches(recipe: Recipe, data: Any, batch_size: int, model: Any) -> Any:
    """Convert data for the evaluation of a model to checked batches; return them and their source."""
    classes = task_type(recipe).output_classes(model.output_shape)
    gate = Gate(recipe, classes, "data", tuple(model.input_shape[1:]))
    if isinstance(data, (tuple, list)):
        source: Any = _array_source(data, gate)[0]
    else:
        source = DatasetSource.of(data, gate)
    return source.batches(batch_size), source


@contextlib.contextmanager
def unwrapped_errors(*sources: Any) -> Iterator[None]:
    """Raise the one-line error of a source's check instead of the long text that TensorFlow wraps it in."""
    try:
        yield
    except Exception:
        failures = [text for source in sources for text in getattr(source, "failures", ())]
        if failures:
            raise ValueError(failures[0]) from None
        raise


@dataclasses.dataclass(frozen=True)
class DatasetSource:
    """A ``keras.utils.PyDataset`` or a batched ``tf.data.Dataset`` of the user, whose batches are checked.

    The dataset determines the order: a resumed run repeats it only if the dataset yields the same batches in every
    epoch.

    Attributes:
        dataset: Yields (images, targets) or (images, targets, weights).
        gate: Checks each batch.
        failed: Number of a batch -> why the gate refused it; TensorFlow wraps the error itself in a long text.
    """

    dataset: Any
    gate: Gate
    failed: dict[int, str] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, dataset: Any, gate: Gate) -> DatasetSource:
        """Create the source of a dataset; ValueError if its structure is invalid, before it is used."""
        source = cls(dataset, gate)
        if source.is_py_dataset:
            source._check_not_empty()
            source.read(0)
            return source
        if not hasattr(dataset, "element_spec") or not hasattr(dataset, "cardinality"):
            raise ValueError(
                "Data must be a DataBundle, arrays (images, targets), a keras.utils.PyDataset or a batched "
                f"tf.data.Dataset. Received: {gate.name} is a {type(dataset).__name__}"
            )
        if int(dataset.cardinality()) == ENDLESS:
            raise ValueError(f"A dataset must be finite: use dataset.take(batches). Received: {gate.name} is infinite")
        spec = dataset.element_spec
        if not isinstance(spec, tuple) or len(spec) not in (2, 3):
            raise ValueError(f"{BATCHES}. Received: {gate.name} with {structure(spec)}")
        for part in spec:
            if type(part).__name__ != "TensorSpec":
                what = structure(part) if isinstance(part, (dict, tuple)) else f"a {type(part).__name__}"
                raise ValueError(f"{BATCHES}, each a tensor. Received: {gate.name} with {what} in it")
        if spec[0].shape.rank == 3:
            raise ValueError(f"{UNBATCHED}. Received: {gate.name} with images {spec[0].shape}, targets {spec[1].shape}")
        source._check_not_empty()
        return source

    def _check_not_empty(self) -> None:
        if not self.is_py_dataset and int(self.dataset.cardinality()) == UNKNOWN:
            empty = all(False for _ in self.dataset.take(1))
        else:
            empty = not self.size
        if empty:
            raise ValueError(f"{self.gate.name} must contain images. Received: a dataset without batches")

    @property
    def failures(self) -> list[str]:
        """The errors in the order of the batches; batches are checked in parallel."""
        return [text for _, text in sorted(self.failed.items())]

    @property
    def is_py_dataset(self) -> bool:
        return isinstance(self.dataset, keras.utils.PyDataset)

    @functools.cached_property
    def size(self) -> int:
        """Number of batches; the number of images is unknown before they are read."""
        if self.is_py_dataset:
            if self.dataset.num_batches is None:
                raise ValueError(
                    "A PyDataset must have a length, __len__. Received: "
                    f"{self.gate.name} is a {type(self.dataset).__name__} with num_batches=None"
                )
            return int(self.dataset.num_batches)
        count = int(self.dataset.cardinality())
        if count == UNKNOWN:
            with unwrapped_errors(self):
                return sum(1 for _ in self.batches(0))
        return count

    def steps(self, batch_size: int) -> int:
        return self.size

    def checksum(self) -> int | str:
        """Checksum of the first batch, see ``first_digest``: the rest is unknown without reading all data."""
        return self.first_digest

    @functools.cached_property
    def first_digest(self) -> int | str:
        """Digest of the first batch, or ``UNKNOWN_CHECKSUM`` if it differs between two passes.

        A shuffled dataset starts with another batch in each pass. A ``PyDataset`` with a hook at the start or end of an
        epoch counts as shuffled: the hook changes the order, and calling it here would change the training.
        """
        if not self.size or (self.is_py_dataset and _has_epoch_hook(self.dataset)):
            return UNKNOWN_CHECKSUM
        first, second = self._digest_of_first(), self._digest_of_first()
        return first if first == second else UNKNOWN_CHECKSUM

    def _digest_of_first(self) -> str:
        # Not from `batches`, which prefetches.
        parts = None if self.is_py_dataset else next(iter(self.dataset.take(1)))
        found = hashlib.blake2b(digest_size=8)
        for part in self.read(0, parts):
            found.update(f"{part.dtype} {part.shape}".encode())
            found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()

    def sample(self, limit: int) -> tuple[np.ndarray, np.ndarray]:
        images: list[Any] = []
        labels: list[Any] = []
        with unwrapped_errors(self):
            for image, label, *_ in in_order(self.batches(0)):
                images.append(np.asarray(image))
                labels.append(np.asarray(label))
                if sum(map(len, labels)) >= limit:
                    break
        return np.concatenate(images)[:limit], np.concatenate(labels)[:limit]

    def read(self, index: int, parts: Any = None) -> tuple[np.ndarray, ...]:
        """Return batch ``index`` after the check; from ``parts`` if given, otherwise from the PyDataset."""
        try:
            return self.gate.check_batch(index, self.dataset[index] if parts is None else parts)
        except ValueError as error:
            self.failed[index] = str(error)
            raise

    def batches(self, batch_size: int) -> Any:
        if self.is_py_dataset:
            return _CheckedBatches(self)
        import tensorflow as tf

        task, spec = task_type(self.gate.recipe), self.dataset.element_spec
        types = (tf.float32, tf.as_dtype(task.target_dtype), tf.float32)[: len(spec)]
        shape = self.gate.shape or self.gate.recipe.image_shape
        shapes = ([None, *shape], [None] * task.target_rank, [None])

        def check_arrays(index: Any, *parts: Any) -> tuple[np.ndarray, ...]:
            return self.read(int(index), parts)

        def check_tensors(index: Any, parts: Any) -> Any:
            parts = [tf.cast(part, tf.float32) if part.dtype == tf.bfloat16 else part for part in parts]
            found = tf.numpy_function(check_arrays, [index, *parts], types)
            return tuple(tf.ensure_shape(part, known) for part, known in zip(found, shapes, strict=False))

        return self.dataset.enumerate().map(check_tensors, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)

    def epoch(self, recipe: Recipe, epoch: Any) -> Any:
        return self.batches(0)


def _has_epoch_hook(dataset: Any) -> bool:
    return any(
        getattr(type(dataset), name) is not getattr(keras.utils.PyDataset, name)
        for name in ("on_epoch_begin", "on_epoch_end")
    )


class _CheckedBatches(keras.utils.PyDataset):
    """A ``PyDataset`` with checked batches; read by threads, because failures in processes would not be seen here."""

    def __init__(self, source: DatasetSource) -> None:
        super().__init__(workers=source.dataset.workers)
        self._source = source

    def __len__(self) -> int:
        return self._source.size

    def __getitem__(self, index: int) -> Any:
        return self._source.read(index)

    def on_epoch_begin(self) -> None:
        self._source.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._source.dataset.on_epoch_end()


def _names(recipe: Recipe, classes: int) -> tuple[str, ...]:
    """The class names; empty if the targets are images."""
    return tuple(map(str, recipe.mask_values or range(classes)))


def _held_out(recipe: Recipe, data: Any, classes: int) -> Any:
    gate = Gate(recipe, classes, "validation_data")
    return _array_source(data, gate)[0] if isinstance(data, (tuple, list)) else DatasetSource.of(data, gate)


def _array_source(given: Any, gate: Gate) -> tuple[ArraySource, int]:
    images, targets, weights, classes = gate.check_arrays(given)
    kind = ArraySource if keras.backend.backend() == "tensorflow" else NumpySource
    return kind(images, targets, weights=weights), classes


def _calibration_note(bundle: DataBundle, total: int) -> str:
    count = len(bundle.calibration)
    what = "are also used for calibration" if bundle.calibration_shared else "are held out for calibration"
    return f"{count:,} of {total:,} images {what} (calibration_images)"
