"""`fit` on several devices: the curves of one device, files written once, resumed where it stopped.

Every scenario runs in one or two separate processes: virtual devices must be requested before the backend starts. The
tolerance allows float32 sums in another order: `pytest -n 0 -s` prints differences below 3e-7. Batch norm statistics of
half a batch, a gradient clipped per half or other images give differences thousands of times as large.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from wavemix_tf.training.distribution import devices_of

COMMON = """
import contextlib, dataclasses, json, os, sys
from pathlib import Path
import keras
import numpy as np
from wavemix_tf.layers.normalization import FusedBatchNormalization
from wavemix_tf.training import Recipe, fit

folder = Path(sys.argv[1])
generator = np.random.default_rng(0)
labels = generator.integers(0, 4, 267)
images = generator.integers(0, 60, (267, 8, 8, 1)).astype(np.uint8)
images[np.arange(267), labels] = 255
recipe = Recipe(  # 27 images to validate on: an odd number
    name="arrays", dataset="digits", image_shape=(8, 8, 1), num_classes=4, calibration_images=16, batch_size=32,
    epochs=3, learning_rate=0.02, warmup_epochs=0, ema=0.5, label_smoothing=0.1, flip=True, shift=1, mixup=0.1,
    clip_norm=0.5, model_args=dict(width=8, depth=1, dropout=0.0),
)

def network():
    # No bias before batch norm: its gradient is zero but for rounding, which AdamW turns into whole steps.
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3, strides=2, use_bias=False)(inputs)
    x = keras.layers.Activation("relu")(FusedBatchNormalization(momentum=0.9)(x))
    x = keras.layers.Flatten()(x)
    if keras.backend.backend() == "jax":  # on TensorFlow every replica draws masks of its own shape
        x = keras.layers.Dropout(0.2, seed=1)(x)
    return keras.Model(inputs, keras.layers.Dense(4)(x))

class Interrupt(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")

def run(out=None, recipe=recipe, model=None, data=None, **options):
    out = out and folder / out
    result = fit(recipe, model=model or network(), data=data or (images, labels), out=out, verbose=0, **options)
    columns = {name: result.history[name] for name in COLUMNS}
    return result, columns

def interrupted(out):
    with contextlib.suppress(KeyboardInterrupt):
        run(out, callbacks=[Interrupt()])
    assert (folder / out / "checkpoint.npz").is_file()

def same(ours, theirs, rtol=5e-6):
    worst = {name: np.max(np.abs(np.divide(ours[name], theirs[name]) - 1)) for name in ("loss", "val_loss")}
    print("largest relative differences:", worst, flush=True)
    for name in COLUMNS:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=rtol, err_msg=name)

def refused(text, **options):
    try:
        run(**options)
    except ValueError as error:
        assert text in str(error) and "\\n" not in str(error), str(error)
    else:
        raise AssertionError(f"not refused: {text}")

def names(out):
    return sorted(path.name for path in (folder / out).iterdir())
"""

TENSORFLOW = (
    """
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
"""
    + COMMON
    + """
# One for the process: on CPUs the collectives of a second one would carry the keys of the first.
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

# A strategy has Keras's update, which rounds differently from the kernel: here only the distribution may differ.
from wavemix_tf.training import FusedAdamW
FusedAdamW._is_fused = lambda self: False

one_result, one = run("one")
with strategy.scope():
    interrupted("two")
    model = network()
two_result, two = run("two", model=model)  # the scope may hold the model alone
assert two_result.resumed_epochs == 2
same(two, one)
for ours, theirs in zip(two_result.model.get_weights(), one_result.model.get_weights(), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
assert names("two") == names("one")
some = (images[:31] / np.float32(255), labels[:31])
for name, value in two_result.evaluate(some, batch_size=10).items():
    np.testing.assert_allclose(value, one_result.evaluate(some)[name], rtol=1e-5)

# A network built from the recipe; by SGD, because its convolutions have biases.
short = dataclasses.replace(recipe, epochs=2, optimizer="sgd", learning_rate=0.01, clip_norm=None)
arrays = (images, labels)
one_history = fit(short, data=arrays, verbose=0).history
with strategy.scope():
    two_history = fit(short, data=arrays, verbose=0).history
same({name: two_history[name] for name in COLUMNS}, one_history)

# Blocks that are computed again, with statistics over both devices.
deep = dataclasses.replace(short, model_args=dict(width=8, depth=2, dropout=0.0))
one_history = fit(deep, data=arrays, verbose=0).history
with strategy.scope():
    again = dataclasses.replace(deep, model_args={**deep.model_args, "recompute": "block"})
    two_history = fit(again, data=arrays, verbose=0).history
same({name: two_history[name] for name in COLUMNS}, one_history)

# Batch norm by itself: outputs, gradients and moving statistics of the whole batch, of which Keras's own layer takes
# the halves.
x = np.random.default_rng(1).normal(size=(8, 4, 4, 3)).astype(np.float32) * np.arange(1, 9).reshape(-1, 1, 1, 1)
w = np.random.default_rng(2).normal(size=x.shape).astype(np.float32)

def step(layer, strategy):
    def one_replica(x, w):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            loss = tf.reduce_sum(y * y * w)
        return y, tape.gradient(loss, x)

    if strategy is None:
        outputs = one_replica(tf.constant(x), tf.constant(w))
    else:
        halves = [
            strategy.experimental_distribute_values_from_function(
                lambda context, whole=whole: tf.split(whole, 2)[context.replica_id_in_sync_group]
            )
            for whole in map(tf.constant, (x, w))
        ]
        outputs = tf.function(lambda: strategy.run(one_replica, halves))()
        outputs = [tf.concat(strategy.experimental_local_results(part), 0) for part in outputs]
    return [np.asarray(part) for part in (*outputs, *layer.get_weights())]

def built(kind):
    layer = kind(momentum=0.9)
    layer.build(x.shape)
    return layer

expected = step(built(FusedBatchNormalization), None)
with strategy.scope():
    ours, keras_own = built(FusedBatchNormalization), built(keras.layers.BatchNormalization)
for mine, theirs in zip(step(ours, strategy), expected, strict=True):
    np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=2e-5)
assert np.abs(step(keras_own, strategy)[0] - expected[0]).max() > 0.1

odd = dataclasses.replace(recipe, batch_size=33)
uneven = tf.data.Dataset.from_tensor_slices((images[:99], labels[:99])).batch(33)
with strategy.scope():
    refused("must be a multiple of their number. Received: batch_size=33, devices=2", recipe=odd)
    refused("must divide evenly among the devices. Received: batch=33", data=uneven, validation_data=arrays)
model = network()
with strategy.scope():
    try:
        fit(recipe, model=model, data=arrays, verbose=0)
    except ValueError as error:
        assert "must be built in the scope of the strategy. Received" in str(error), str(error)
    else:
        raise AssertionError
print("as it should be")
"""
)

JAX = (
    COMMON
    + """
some = (images[:31] / np.float32(255), labels[:31])
one_result, one = run("one")
evaluation = one_result.evaluate(some)
(folder / "one.json").write_text(json.dumps({**one, "evaluation": evaluation}))
keras.distribution.set_distribution(keras.distribution.DataParallel())
assert keras.distribution.distribution().num_model_replicas == 2
interrupted("two")
result, two = run("two")
assert result.resumed_epochs == 2
same(two, one)
assert names("two") == names("one")
for name, value in result.evaluate(some, batch_size=10).items():
    np.testing.assert_allclose(value, evaluation[name], rtol=1e-5)
refused("Received: batch_size=33, devices=2", recipe=dataclasses.replace(recipe, batch_size=33))
print("as it should be")
"""
)

PROCESSES = (
    """
import os, sys
process, port = int(sys.argv[2]), sys.argv[3]
written = []
inside = os.path.abspath(os.path.join(sys.argv[1], "processes"))

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND)
    else:
        path, writes = next(iter(arguments), None), event in ("os.mkdir", "os.rename", "os.remove", "os.truncate")
    if writes and isinstance(path, (str, os.PathLike)) and os.path.abspath(os.fspath(path)).startswith(inside):
        written.append((event, str(path)))

import keras
keras.distribution.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=process)
"""
    + COMMON
    + """
sys.addaudithook(watch)
refused("Several processes require keras.distribution.set_distribution", out="processes")
keras.distribution.set_distribution(keras.distribution.DataParallel())
assert keras.distribution.distribution().num_model_replicas == 2
interrupted("processes")
result, two = run("processes")
assert result.resumed_epochs == 2, result.resumed_epochs
one = json.loads((folder / "one.json").read_text())
same(two, one)
assert run("processes")[0].resumed_epochs == 3  # nothing to do
some = (images[:31] / np.float32(255), labels[:31])
for name, value in result.evaluate(some, batch_size=10).items():
    np.testing.assert_allclose(value, one["evaluation"][name], rtol=1e-5)
assert bool(written) == (process == 0), written
refused("Received: batch_size=33, devices=2", recipe=dataclasses.replace(recipe, batch_size=33))
refused("The data must be the same in every process", data=(images, np.roll(labels, process)))
assert keras.distribution.distribution().auto_shard_dataset
print("as it should be")
"""
)


def start(program, *arguments, backend="tensorflow", **environment):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)],
        env=os.environ | {"KERAS_BACKEND": backend, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    """Wait until each has ended well; none may hang."""
    try:
        results = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()  # otherwise it outlives the test as a zombie
    for output, _ in results:
        assert output.strip().endswith("as it should be"), "\n".join(part[-3000:] for _, part in results)
        print(output)


def test_a_strategy_that_keras_cannot_train_with():
    import tensorflow as tf

    kind = tf.distribute.MultiWorkerMirroredStrategy
    model = SimpleNamespace(distribute_strategy=kind.__new__(kind))  # a real one would wait for its workers
    with pytest.raises(ValueError, match=r"Received: strategy=MultiWorkerMirroredStrategy"), devices_of(model):
        pass


@pytest.mark.slow
def test_mirrored_strategy(tmp_path):
    finish(start(TENSORFLOW, tmp_path))


@pytest.fixture(scope="module")
def jax_folder(tmp_path_factory):
    """A folder with `one.json`, the curves of one device, after a run on two devices in one process."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    folder = tmp_path_factory.mktemp("jax")
    finish(start(JAX, folder, backend="jax", XLA_FLAGS="--xla_force_host_platform_device_count=2", JAX_PLATFORMS="cpu"))
    return folder


@pytest.mark.slow
def test_jax_two_devices(jax_folder):
    one = json.loads((jax_folder / "one.json").read_text())
    assert len(one["loss"]) == 3
    assert one["loss"][-1] < one["loss"][0]


@pytest.mark.slow
def test_jax_two_processes(jax_folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"backend": "jax", "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    finish(*(start(PROCESSES, jax_folder, process, port, **options) for process in range(2)))
    names = sorted(path.name for path in (jax_folder / "processes").iterdir())
    assert names == sorted(path.name for path in (jax_folder / "one").iterdir())
    # TensorBoard does not write through Python; its file names contain the process number.
    events = list((jax_folder / "processes" / "tensorboard").rglob("events.out.tfevents.*.v2"))
    assert events
    assert len({path.name.split(".")[-3] for path in events}) == 1
