"""Data passed to `fit` as arrays or a dataset: the notes about it, and how a run recognizes it."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from wavemix_tf.training import Recipe, fit
from wavemix_tf.training.data.class_counts import write_counts
from wavemix_tf.training.data.given import as_bundle
from wavemix_tf.training.data.identity import UNKNOWN_CHECKSUM, check_run

RECIPE = Recipe(
    name="given",
    dataset="digits",
    image_shape=(4, 4, 1),
    num_classes=2,
    batch_size=16,
    epochs=2,
    warmup_epochs=0,
    qat_epochs=1,
)
LABELS = np.arange(64) % 2
IMAGES = (np.random.default_rng(0).random((64, 4, 4, 1)) / 2 + LABELS[:, None, None, None] / 2).astype(np.float32)
VALIDATION = IMAGES[:16], LABELS[:16]
CANNOT = "The order of data changes from pass to pass: it cannot be compared with the run's data."


class Batches(keras.utils.PyDataset):
    def __init__(self, images, labels):
        super().__init__()
        self.parts, self.read = (images, labels), 0

    def __len__(self):
        return len(self.parts[0]) // 16

    def __getitem__(self, index):
        self.read += 1
        return tuple(part[16 * index : 16 * index + 16] for part in self.parts)


class Reordered(Batches):
    def on_epoch_end(self):
        order = np.random.default_rng(len(self.parts)).permutation(len(self.parts[0]))
        self.parts = tuple(part[order] for part in self.parts)


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


def tf_data(images, labels):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(16)


def shuffled(images, labels):
    return tf_data(images, labels).unbatch().shuffle(64).batch(16)


def train(data, out, validation=VALIDATION, recipe=RECIPE, **options):
    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    return fit(recipe, model=model, data=data, validation_data=validation, out=out, **options)


@pytest.mark.parametrize("make", [tf_data, Batches])
@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.slow
def test_another_data_set_is_refused(make, finished, tmp_path):
    if finished:
        train(make(IMAGES, LABELS), tmp_path, make(*VALIDATION), verbose=0)
    else:
        with pytest.raises(KeyboardInterrupt):
            train(make(IMAGES, LABELS), tmp_path, make(*VALIDATION), callbacks=[Stop()], verbose=0)
    held = make(*VALIDATION)
    for other in ((IMAGES, 1 - LABELS), (1 - IMAGES, LABELS), (IMAGES[::-1], LABELS[::-1])):
        with pytest.raises(ValueError, match="Received: train") as refused:
            train(make(*other), tmp_path, held, verbose=0)
        assert "overwrite=True, or another out (a dataset that is shuffled only once" in str(refused.value)
        assert "--" not in str(refused.value)
        assert "folder" not in str(refused.value).replace(str(tmp_path), "")
    with pytest.raises(ValueError, match="Received: validation"):
        train(make(IMAGES, LABELS), tmp_path, make(VALIDATION[0], 1 - VALIDATION[1]), verbose=0)
    assert train(make(IMAGES, LABELS), tmp_path, held, verbose=0).resumed_epochs == (2 if finished else 1)


@pytest.mark.parametrize("make", [shuffled, Reordered])
@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.slow
def test_a_data_set_that_is_shuffled_each_pass_goes_on_with_a_note(make, finished, tmp_path, capsys):
    if finished:
        train(make(IMAGES, LABELS), tmp_path)
    else:
        with pytest.raises(KeyboardInterrupt):
            train(make(IMAGES, LABELS), tmp_path, callbacks=[Stop()])
    assert CANNOT not in capsys.readouterr().out
    train(make(IMAGES, LABELS), tmp_path)
    assert capsys.readouterr().out.splitlines().count(CANNOT) == 1


def test_the_first_batch_alone_is_read_and_of_no_run_not_even_that():
    data = Batches(IMAGES, LABELS)
    bundle = as_bundle(RECIPE, data, VALIDATION)
    begun = data.read
    assert bundle.fingerprint() == bundle.fingerprint()
    assert data.read == begun + 2
    assert as_bundle(RECIPE, shuffled(IMAGES, LABELS), VALIDATION).train_source.checksum() == UNKNOWN_CHECKSUM
    cached = tf_data(IMAGES, LABELS).cache()
    assert as_bundle(RECIPE, cached, VALIDATION).train_source.checksum() == bundle.train_source.checksum()


@pytest.mark.slow
def test_a_run_of_a_version_that_kept_no_digest_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(shuffled(IMAGES, LABELS), tmp_path / "stopped", callbacks=[Stop()], verbose=0)  # also keeps no checkpoint
    assert json.loads((tmp_path / "stopped/splits.json").read_text())["fingerprint"]["train"]["checksum"] == 0
    again = train(tf_data(IMAGES, LABELS), tmp_path / "stopped", verbose=0)
    assert again.resumed_epochs == 1
    stored = json.loads((tmp_path / "stopped/training.json").read_text())
    assert stored["data"]["train"]["checksum"]  # stored from now on
    stored["data"]["train"]["checksum"] = 0
    (tmp_path / "stopped/training.json").write_text(json.dumps(stored))
    train(tf_data(IMAGES, LABELS), tmp_path / "stopped", verbose=0)
    check_run(as_bundle(RECIPE, tf_data(IMAGES, LABELS), VALIDATION), tmp_path / "stopped")
    with pytest.raises(ValueError, match=r"Received: train: 2 \(there 4\)"):
        train(tf_data(IMAGES[:32], LABELS[:32]), tmp_path / "stopped", verbose=0)


@pytest.mark.slow
def test_refusals_of_arrays_name_what_helps_there(tmp_path):
    recipe = dataclasses.replace(RECIPE, calibration_images=4)
    train((IMAGES, LABELS), tmp_path, None, recipe, verbose=0)
    with pytest.raises(ValueError, match=r"overwrite=True, or another out\. Received: train") as refused:
        train((IMAGES, 1 - LABELS), tmp_path, None, recipe, verbose=0)
    assert "--" not in str(refused.value)


@pytest.mark.parametrize("make", [tf_data, Batches])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.slow
def test_a_fault_in_a_later_batch_leaves_a_new_folder_as_it_was(make, there, tmp_path):
    out = tmp_path / "run"
    if there:
        out.mkdir()
    bad = LABELS.copy()
    bad[40] = 2
    with pytest.raises(ValueError, match="batch 2"):
        train(make(IMAGES, bad), out, verbose=0)
    assert out.exists() == there
    assert not there or not list(out.iterdir())
    with pytest.raises(KeyboardInterrupt):
        train(make(IMAGES, LABELS), out, callbacks=[Stop()], verbose=0)
    begun = sorted(path.name for path in out.iterdir())
    held = VALIDATION[0], np.where(np.arange(16) == 9, 2, VALIDATION[1])
    with pytest.raises(ValueError, match="Received: validation"):
        train(make(IMAGES, LABELS), out, held, verbose=0)
    assert sorted(path.name for path in out.iterdir()) == begun


@pytest.mark.parametrize("weights", [{0: -1.0}, {2: 1.0}, {"0": float("nan")}, [1, 2]])
def test_class_weights_that_cannot_be_are_refused_before_the_data_is_read(weights, tmp_path):
    data = Batches(IMAGES, LABELS)
    with pytest.raises(ValueError, match="class_weight must map"):
        train(data, tmp_path / "run", class_weight=weights, verbose=0)
    assert not data.read
    assert not (tmp_path / "run").exists()


def test_sizes_have_their_own_units_and_a_class_without_images_is_reported(capsys):
    data = as_bundle(RECIPE, tf_data(IMAGES, LABELS), VALIDATION)
    write_counts(RECIPE, data)
    assert "  4 train batches, 16 validation images\n" in capsys.readouterr().out
    recipe = dataclasses.replace(RECIPE, calibration_images=8)
    data = as_bundle(recipe, (IMAGES, np.zeros(64, int)), tf_data(*VALIDATION))
    write_counts(recipe, data)
    said = "  64 train images, 1 validation batches, 8 calibration images (of the training images)\n"
    assert said in capsys.readouterr().out
    assert "the train set lacks 1 classes: 1" in data.notes


@pytest.mark.parametrize("make", [tf_data, Batches])
@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.slow
def test_that_a_data_set_is_compared_by_its_first_batch_alone_is_reported_once(make, finished, tmp_path, capsys):
    held = make(*VALIDATION)
    if finished:
        train(make(IMAGES, LABELS), tmp_path, held)
    else:
        with pytest.raises(KeyboardInterrupt):
            train(make(IMAGES, LABELS), tmp_path, held, callbacks=[Stop()])
    told = "Only the length and the first batch of data and of validation_data can be compared with those of the run."
    assert told not in capsys.readouterr().out
    later = make(np.concatenate([IMAGES[:16], IMAGES[:15:-1]]), np.concatenate([LABELS[:16], LABELS[:15:-1]]))
    train(later, tmp_path, held)
    assert capsys.readouterr().out.splitlines().count(told) == 1


def unknown_length(images, labels):
    return tf_data(images, labels).filter(lambda *parts: True)


@pytest.mark.parametrize("make", [tf_data, Batches, unknown_length, lambda *parts: parts])
@pytest.mark.slow
def test_an_empty_set_is_refused_by_name_before_training(make, tmp_path):
    there = tf_data if make is unknown_length else make
    whole, none = (there(IMAGES, LABELS), there(*VALIDATION)), make(IMAGES[:0], LABELS[:0])
    recipe = dataclasses.replace(RECIPE, calibration_images=4)
    with pytest.raises(ValueError, match=r"^data must contain images\. Received: [^\n]*$"):
        train(none, tmp_path / "run", whole[1], recipe, verbose=0)
    with pytest.raises(ValueError, match=r"^validation_data must contain images\. Received: [^\n]*$"):
        train(whole[0], tmp_path / "run", none, recipe, verbose=0)
    assert not (tmp_path / "run").exists()
    result = train(whole[0], None, whole[1], recipe, verbose=0)
    with pytest.raises(ValueError, match=r"^data must contain images\. Received: [^\n]*$"):
        result.evaluate(none)


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_an_empty_set_of_a_bundle_is_refused_by_name(name, tmp_path):
    recipe = dataclasses.replace(RECIPE, calibration_images=4)
    bundle = as_bundle(recipe, (IMAGES, LABELS), VALIDATION)
    bundle = dataclasses.replace(bundle, **{f"{name}_source": bundle.train_source.take(np.arange(0))})
    with pytest.raises(ValueError, match=f"^Every set must contain images. Received: the {name} set is empty$"):
        train(bundle, tmp_path / "run", None, recipe, verbose=0)
    assert not (tmp_path / "run").exists()
