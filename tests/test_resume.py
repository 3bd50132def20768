"""A killed run resumes and reaches the same numbers as an uninterrupted one."""

import dataclasses
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from wavemix_tf.files import replacing
from wavemix_tf.training import Recipe, fit, load_data
from wavemix_tf.training.fitting import checkpoint

RECIPE = Recipe(
    name="killed",
    dataset="digits",
    image_shape=(8, 8, 1),
    num_classes=10,
    calibration_images=16,
    batch_size=64,
    epochs=5,
    learning_rate=1e-2,
    label_smoothing=0.1,
    ema=0.95,
    shift=1,
    mixup=0.2,
)
COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")

# Trains in a folder and kills itself without warning in the middle of an epoch.
PROGRAM = """
import os, signal, sys
import keras
from wavemix_tf.training import Recipe, fit

class Kill(keras.callbacks.Callback):
    def on_epoch_begin(self, number, logs=None):
        self.number = number

    def on_train_batch_end(self, batch, logs=None):
        if self.number == 3 and batch == 5:
            os.kill(os.getpid(), signal.SIGKILL)

with open(sys.argv[2]) as file:
    recipe = Recipe.from_json(file.read())
model = keras.saving.load_model(sys.argv[3])
fit(recipe, model=model, out=sys.argv[1], callbacks=[Kill()], verbose=0)
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return dataclasses.replace(RECIPE, data_dir=str(tmp_path_factory.mktemp("tfds")))


@pytest.fixture(scope="module")
def data(recipe):
    return load_data(recipe)


def network(width=8):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(width, 3, strides=2)(inputs)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.9)(x))
    x = keras.layers.Dropout(0.2, seed=1)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def run(recipe, data, out=None, **options):
    return fit(recipe, model=network(), data=data, out=out, verbose=0, **options)


def weights(model):
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def assert_same_run(result, expected):
    assert {name: result.history[name] for name in COLUMNS} == {name: expected.history[name] for name in COLUMNS}
    assert result.best_epoch == expected.best_epoch
    np.testing.assert_array_equal(weights(result.model), weights(expected.model))


@pytest.mark.slow
def test_killed_and_resumed_is_as_never_killed(recipe, data, tmp_path):
    out = tmp_path / "run"
    path = tmp_path / "recipe.json"
    path.write_text(recipe.to_json())
    network().save(tmp_path / "start.keras")
    process = subprocess.run([sys.executable, "-c", PROGRAM, out, path, tmp_path / "start.keras"], check=False)
    assert process.returncode == -signal.SIGKILL
    begun = {"recipe.json", "splits.json", "labels.txt"}
    assert {entry.name for entry in out.iterdir()} == {*begun, "checkpoint.npz", "history.csv", "tensorboard"}
    # As if it had been killed while it wrote a checkpoint, too.
    (out / ".checkpoint.1234.tmp.npz").write_bytes((out / "checkpoint.npz").read_bytes()[:1000])

    result = run(recipe, data, out)
    assert result.resumed_epochs == 3
    assert_same_run(result, run(recipe, data))
    assert not (out / "checkpoint.npz").exists()


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C in an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch, self.number = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.number = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.number == self.epoch and batch == 3:
            raise KeyboardInterrupt


def assert_resumes(recipe, data, out, interruptions, **options):
    """Interrupted in these epochs, one after the other, or not at all: the same run."""
    for epoch in interruptions:
        with pytest.raises(KeyboardInterrupt):
            run(recipe, data, out, callbacks=[Interrupt(epoch)], **options)
    result = run(recipe, data, out, **options)
    assert result.resumed_epochs == max(interruptions)
    assert_same_run(result, run(recipe, data, **options))


def test_interrupted_again_and_again(recipe, data, tmp_path):
    assert_resumes(recipe, data, tmp_path, [0, 1, 4])


def test_official_schedule_resumes_in_either_phase(recipe, data, tmp_path):
    recipe = dataclasses.replace(
        recipe, optimizer="adamw_then_sgd", epochs=3, patience=3, cosine=False, warmup_epochs=0, ema=0.0
    )
    assert_resumes(recipe, data, tmp_path, [1, 4])


@pytest.mark.slow
def test_qat_stage_resumes(recipe, data, tmp_path):
    assert_resumes(recipe, data, tmp_path, [1, 2], stage="qat")


@pytest.mark.parametrize("at", ["model.keras", "training.json"])
def test_killed_after_the_last_epoch(recipe, data, tmp_path, monkeypatch, at):
    """What is left of the work is done, and no epoch again."""
    recipe = dataclasses.replace(recipe, epochs=2)
    replace = os.replace

    def killed(source, target):
        if str(target).endswith(at):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, data, tmp_path)
    assert not (tmp_path / "training.json").exists()
    result = run(recipe, data, tmp_path)
    assert result.resumed_epochs == 2
    assert_same_run(result, run(recipe, data))


@pytest.mark.slow
def test_another_model_or_other_data_cannot_resume(recipe, data, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(recipe, data, tmp_path, callbacks=[Interrupt(1)])
    with pytest.raises(ValueError, match=r"must match the training state in .*checkpoint.npz"):
        fit(recipe, model=network(9), data=data, out=tmp_path, verbose=0)
    other = load_data(dataclasses.replace(recipe, calibration_images=20))
    with pytest.raises(ValueError, match=r"the data must be unchanged: .*Received: train: 1,273 \(there 1,277\)"):
        run(recipe, other, tmp_path)
    images = data.train_source.images.copy()
    images[0, 0, 0] ^= 1  # the same number of images, but different ones
    changed = dataclasses.replace(data, train_source=dataclasses.replace(data.train_source, images=images))
    with pytest.raises(ValueError, match="the data must be unchanged"):
        run(recipe, changed, tmp_path)


def test_no_half_written_checkpoint_is_left_or_read(tmp_path):
    path = tmp_path / "checkpoint.npz"
    state = checkpoint.TrainingState(epoch=2, best=(0.5, -1.0), history=[{"epoch": 1.0}])
    checkpoint.save(path, state, {"model": [np.arange(3.0), np.array([1, 2], np.uint32)]})

    def fill_the_disk():
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fill_the_disk()
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.npz"]
    again, groups = checkpoint.load(path)
    assert again == state
    np.testing.assert_array_equal(groups["model"][0], [0, 1, 2])
    assert groups["model"][1].dtype == np.uint32
