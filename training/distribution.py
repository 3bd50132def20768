"""What `fit` adds to Keras's distribution over several devices: fair shares, whole evaluations, one writer of files.

The devices are chosen by Keras's own means: ``tf.distribute.MirroredStrategy().scope()`` on TensorFlow;
``keras.distribution.set_distribution(keras.distribution.DataParallel())`` on JAX, in one process or, after
``keras.distribution.initialize``, in several. A recipe's ``batch_size`` is that of all devices together, and its images
and their order are those of one device.
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
    """Who shares a batch.

    Attributes:
        count: Devices, of all processes together.
        processes: Processes that run the same script, each with as many of the devices.
        process: Number of this one.
    """

    count: int = 1
    processes: int = 1
    process: int = 0

    @staticmethod
    def share_error(error: Exception) -> str | None:
        """What `share` said, if that is what an error is about; TensorFlow wraps it in pages."""
        said = re.search(rf"{EQUAL_SHARES}\. Received: batch=\d+, devices=\d+", str(error))
        return said and said.group()

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.process == 0

    def check_batch_size(self, batch_size: int) -> None:
        """ValueError unless every device gets as many images as the others, and so the same weight in the mean."""
        if batch_size % self.count:
            raise ValueError(
                "batch_size is that of all devices together and must be a multiple of their number. Received: "
                f"batch_size={batch_size}, devices={self.count}"
            )

    def share(self, *parts: Any) -> Any:
        """The rows of a batch that this process feeds to its devices; arrays, or tensors of a tf.data pipeline."""
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
        """ValueError unless all processes call this with equal values; each waits here for the others."""
        if self.processes == 1:
            return
        from jax.experimental import multihost_utils

        checksum = np.array(zlib.crc32(repr(value).encode()), np.uint32)
        checksums = np.asarray(multihost_utils.process_allgather(checksum)).tolist()
        if len(set(checksums)) > 1:
            raise ValueError(f"{name} must be the same in every process. Received: checksums {checksums}")


ONE_DEVICE = Devices()


@contextlib.contextmanager
def devices_of(model: Any) -> Iterator[Devices]:
    """The devices that a model trains on; inside the block Keras takes batches as `Devices.share` cuts them.

    Args:
        model: None: one that is built inside the block.

    Raises:
        ValueError: a distribution that Keras cannot train with, or one that came after the model.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        strategy = tf.distribute.get_strategy() if model is None else model.distribute_strategy
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise ValueError(
                "Keras trains in several processes on JAX alone (keras.distribution), and on TensorFlow under "
                "tf.distribute.MirroredStrategy. Received: strategy=MultiWorkerMirroredStrategy"
            )
        count = strategy.num_replicas_in_sync
        variables = model.variables if model is not None and count > 1 else []
        if not all(strategy.extended.variable_created_in_scope(variable.value) for variable in variables):
            raise ValueError(
                f"The model must be built in the scope of the strategy. Received: model {model.name!r} built outside "
                f"of {type(strategy).__name__}"
            )
        with strategy.scope():  # the user's block may have held the model alone
            yield Devices(count)
        return
    distribution = keras.distribution.distribution()
    processes = _processes() if backend == "jax" else 1
    if distribution is None and processes > 1:
        raise ValueError(
            "Several processes need keras.distribution.set_distribution(keras.distribution.DataParallel()). Received: "
            f"processes={processes}, distribution=None"
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

    # Keras itself shards tf.data only, and deals out what is left of an evaluation to some of the processes: they would
    # wait for the others for ever.
    sharded = distribution.auto_shard_dataset
    distribution.auto_shard_dataset = False
    try:
        yield Devices(distribution.num_model_replicas, processes, jax.process_index())
    finally:
        distribution.auto_shard_dataset = sharded


def evaluate(model: Any, batches: Any) -> dict[str, float]:
    """``model.evaluate`` of batches (images, labels) in order, whatever their number of images.

    Keras evaluates equal shares only. What is left over moves to the next batch; in the end fewer images than there are
    devices are evaluated by themselves, as often as there are devices, which leaves their mean as it is.
    """
    with devices_of(model) as devices:
        if devices.count == 1:
            return _floats(model.evaluate(batches, verbose=0, return_dict=True))
        passes: list[tuple[int, list[np.ndarray]]] = []  # whole passes over the batches: images yielded, images left

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
            repeated = tuple(np.concatenate([part] * devices.count) for part in rest)  # of the same mean
            if keras.backend.backend() == "tensorflow":
                logs = _evaluate_distributed(model, lambda: iter([repeated]), repeated)
            else:
                logs = _floats(model.test_on_batch(*devices.share(*repeated), return_dict=True))
            means.append((len(rest[0]), logs))
        total = sum(count for count, _ in means)
        return {name: sum(count * logs[name] for count, logs in means) / total for name in means[0][1]}


def _evaluate_distributed(model: Any, batches: Any, example: Any) -> dict[str, float]:
    """``model.evaluate`` under tf.distribute of what `batches` returns; twice, for Keras looks at a batch first."""
    import tensorflow as tf

    signature = tuple(tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in example)
    # There is nothing to tune, and an iterator that is thrown away waits for its tuning thread, at times for long.
    options = tf.data.Options()
    options.autotune.enabled = False
    shares = tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(2).with_options(options)
    with warnings.catch_warnings():  # Keras calls the end of a data set of unknown length an interruption
        warnings.filterwarnings("ignore", "Your input ran out of data")
        return _floats(model.evaluate(shares, verbose=0, return_dict=True))


def _floats(logs: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in logs.items()}


@contextlib.contextmanager
def without_distribution() -> Iterator[None]:
    """For what one process does without the others: a variable made under a Keras distribution waits for all of them.

    (Saving a model makes some: of an optimizer that Keras holds the model's against.)
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def in_order(batches: Any) -> Iterator[Any]:
    """The batches of a tf.data dataset or a ``PyDataset``, which alone may be endless when merely iterated."""
    if isinstance(batches, keras.utils.PyDataset):
        return (batches[index] for index in range(len(batches)))
    return iter(batches)


def to_devices(images: Any) -> Any:
    """Images where a model called eagerly on JAX can take them: shared among the devices, or whole on each."""
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
