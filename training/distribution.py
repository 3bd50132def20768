"""Additions of `fit` to Keras's distribution: equal shares, complete evaluations, one process that writes files.

The user chooses the devices as in Keras: ``tf.distribute.MirroredStrategy().scope()`` on TensorFlow;
``keras.distribution.set_distribution(keras.distribution.DataParallel())`` on JAX, in one process or, after
``keras.distribution.initialize``, in several. A recipe's ``batch_size`` is that of all devices together, and the images
and their order are the same as on one device.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

EQUAL_SHARES = "A batch must divide evenly among the devices"


@dataclasses.dataclass(frozen=True)
class Devices:
    """The devices that share a batch.

    Attributes:
        count: Number of devices of all processes together.
        processes: Number of processes that run the same script, each with an equal number of devices.
        process: Index of this process.
    """

    count: int = 1
    processes: int = 1
    process: int = 0

    @staticmethod
    def share_error(error: Exception) -> str | None:
        """Extract the message of `share` from an error that TensorFlow wrapped in a long text; None if absent."""
        message = re.search(rf"{EQUAL_SHARES}\. Received: batch=\d+, devices=\d+", str(error))
        return message and message.group()

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.process == 0

    def check_batch_size(self, batch_size: int) -> None:
        """Raise ValueError unless every device gets the same number of images, and so the same weight in the mean."""
        if batch_size % self.count:
            raise ValueError(
                "batch_size is that of all devices together and must be a multiple of their number. Received: "
                f"batch_size={batch_size}, devices={self.count}"
            )

    def share(self, *parts: Any) -> Any:
        """Return the rows of a batch for this process's devices; arrays, or tensors of a tf.data pipeline."""
        if self.count == 1:
            return parts
        if isinstance(parts[0], np.ndarray):
            count = len(parts[0])
            if count % self.count:
                raise ValueError(f"{EQUAL_SHARES}. Received: batch={count}, devices={self.count}")
        else:
            import tensorflow as tf

            count = tf.shape(parts[0])[0]
            message = tf.strings.format(f"{EQUAL_SHARES}. Received: batch={{}}, devices={self.count}", count)
            with tf.control_dependencies([tf.debugging.Assert(count % self.count == 0, [message])]):
                count = tf.identity(count)
        rows = count // self.processes
        mine = slice(self.process * rows, (self.process + 1) * rows)
        return tuple(part[mine] for part in parts)

    def check_equal(self, name: str, value: Any) -> None:
        """Raise ValueError unless all processes pass equal values; each process waits here for the others."""
        if self.processes == 1:
            return
        from jax.experimental import multihost_utils

        checksum = np.array(zlib.crc32(repr(value).encode()), np.uint32)
        checksums = np.asarray(multihost_utils.process_allgather(checksum)).tolist()
        if len(set(checksums)) > 1:
            raise ValueError(f"{name} must be the same in every process. Received: checksums {checksums}")

    def smallest(self, value: int) -> int:
        """Return the smallest value of all processes; each waits here for the others."""
        if self.processes == 1:
            return value
        from jax.experimental import multihost_utils

        return int(np.min(multihost_utils.process_allgather(np.array(value, np.int64))))


ONE_DEVICE = Devices()


@contextlib.contextmanager
def devices_of(model: Any) -> Iterator[Devices]:
    """Yield the devices that a model trains on; inside the block Keras takes the batches of `Devices.share`.

    Args:
        model: None: the model is built inside the block.

    Raises:
        ValueError: Keras cannot train with the distribution, or it was set after the model was built.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        strategy = tf.distribute.get_strategy() if model is None else model.distribute_strategy
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise ValueError(
                "Training in several processes must use JAX (keras.distribution); on TensorFlow use "
                "tf.distribute.MirroredStrategy. Received: strategy=MultiWorkerMirroredStrategy"
            )
        count = strategy.num_replicas_in_sync
        variables = model.variables if model is not None and count > 1 else []
        if not all(strategy.extended.variable_created_in_scope(variable.value) for variable in variables):
            raise ValueError(
                f"The model must be built in the scope of the strategy. Received: model {model.name!r} built outside "
                f"of {type(strategy).__name__}"
            )
        with strategy.scope():  # the user's block may have enclosed only the model
            yield Devices(count)
        return
    distribution = keras.distribution.distribution()
    processes = _processes() if backend == "jax" else 1
    if distribution is None and processes > 1:
        raise ValueError(
            "Several processes require keras.distribution.set_distribution(keras.distribution.DataParallel()). "
            f"Received: processes={processes}, distribution=None"
        )
    if distribution is None:
        yield ONE_DEVICE
        return
    if processes == 1:
        yield Devices(distribution.num_model_replicas)
        return
    if not isinstance(distribution, keras.distribution.DataParallel):
        raise ValueError(
            "Several processes must share batches by keras.distribution.DataParallel. Received: "
            f"distribution={type(distribution).__name__}"
        )
    import jax

    # Keras shards only tf.data. It would give the remainder of an evaluation to some of the processes, which would wait
    # for the others forever.
    sharded = distribution.auto_shard_dataset
    distribution.auto_shard_dataset = False
    try:
        yield Devices(distribution.num_model_replicas, processes, jax.process_index())
    finally:
        distribution.auto_shard_dataset = sharded


def evaluate(model: Any, batches: Any) -> dict[str, float]:
    """Run ``model.evaluate`` on batches (images, labels) in order, for any number of images.

    Keras evaluates only equal shares. The remainder of a batch moves to the next one. At the end, fewer images remain
    than there are devices: they are repeated once per device, which does not change their mean.
    """
    with devices_of(model) as devices:
        if devices.count == 1:
            return _floats(model.evaluate(batches, verbose=0, return_dict=True))
        passes: list[tuple[int, list[np.ndarray]]] = []  # each complete pass: images yielded, remainder

        def even() -> Iterator[Any]:
            rest: list[np.ndarray] = []
            yielded = 0
            for batch in in_order(batches):
                parts = [keras.ops.convert_to_numpy(part) for part in batch]
                if rest:
                    parts = [np.concatenate(pair) for pair in zip(rest, parts, strict=True)]
                whole = len(parts[0]) // devices.count * devices.count
                rest = [part[whole:] for part in parts]
                if whole:
                    yielded += whole
                    yield tuple(part[:whole] for part in parts)
            passes.append((yielded, rest))

        means: list[tuple[int, dict[str, float]]] = []  # (images, their means)
        if keras.backend.backend() == "tensorflow":
            first = next(even(), None)
            if first is not None:
                logs = _evaluate_distributed(model, even, first)
                means.append((passes[-1][0], logs))
        else:
            for batch in even():
                logs = _floats(model.test_on_batch(*devices.share(*batch), return_dict=True))
                means.append((len(batch[0]), logs))
        rest = passes[-1][1]
        if len(rest[0]):
            repeated = tuple(np.concatenate([part] * devices.count) for part in rest)  # has the same mean
            if keras.backend.backend() == "tensorflow":
                logs = _evaluate_distributed(model, lambda: iter([repeated]), repeated)
            else:
                logs = _floats(model.test_on_batch(*devices.share(*repeated), return_dict=True))
            means.append((len(rest[0]), logs))
        total = sum(count for count, _ in means)
        return {name: sum(count * logs[name] for count, logs in means) / total for name in means[0][1]}


def _evaluate_distributed(model: Any, batches: Any, example: Any) -> dict[str, float]:
    """Run ``model.evaluate`` under tf.distribute; `batches` is called twice, because Keras inspects a batch first."""
    import tensorflow as tf

    signature = tuple(tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in example)
    # There is nothing to tune, and a discarded iterator waits for its autotuning thread, sometimes for a long time.
    options = tf.data.Options()
    options.autotune.enabled = False
    shares = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2).with_options(options)
    with warnings.catch_warnings():  # Keras reports the end of a dataset of unknown length as an interruption
        warnings.filterwarnings("ignore", "Your input ran out of data")
        return _floats(model.evaluate(shares, verbose=0, return_dict=True))


def _floats(logs: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}


@contextlib.contextmanager
def without_distribution() -> Iterator[None]:
    """Suspend Keras's distribution for work of one process: a variable created under it waits for all processes.

    (Saving a model creates some: those of an optimizer that Keras compares with the model's.)
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def in_order(batches: Any) -> Iterator[Any]:
    """Iterate over the batches of a tf.data dataset or a ``PyDataset`` once; iterating a ``PyDataset`` may not end."""
    if isinstance(batches, keras.utils.PyDataset):
        return (batches[index] for index in range(len(batches)))
    return iter(batches)


def to_devices(images: Any) -> Any:
    """Place images for a model called eagerly on JAX: sharded over the devices, or a full copy on each."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return images
    layout = distribution.get_data_layout(images.shape)
    if len(images) % distribution.num_model_replicas:
        layout = keras.distribution.TensorLayout([None] * len(images.shape), distribution.device_mesh)
    return keras.distribution.distribute_tensor(keras.ops.convert_to_numpy(images), layout)


def _processes() -> int:
    import jax

    return jax.process_count()
