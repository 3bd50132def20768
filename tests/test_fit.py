"""`fit`: what it learns, writes, returns and refuses."""

import csv
import dataclasses
import json
import random

import keras
import numpy as np
import pytest
from PIL import Image

from wavemix_tf import WaveMixClassifier
from wavemix_tf.training import RECIPES, FitResult, Recipe, fit, load_data
from wavemix_tf.training.fitting.batchnorm import BatchNormRecalibration
from wavemix_tf.training.fitting.epoch_batches import EpochBatches
from wavemix_tf.training.fitting.optimizers import build_optimizer, phases
from wavemix_tf.training.fitting.trainer import build
from wavemix_tf.training.losses import accuracy, cross_entropy

# Whatever the processor of the tests multiplies.
EMULATED = pytest.mark.filterwarnings("ignore:This processor has no instructions")
TINY = Recipe(
    name="tiny",
    dataset="digits",
    image_shape=(8, 8, 1),
    num_classes=10,
    calibration_images=16,
    batch_size=64,
    epochs=3,
    learning_rate=1e-2,
    shift=1,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_data(dataclasses.replace(TINY, data_dir=str(tmp_path_factory.mktemp("tfds"))))


def network(name="net"):
    """Small, but with what needs care: batch norm, and dropout's random state."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.Activation("relu")(x)
    x = keras.layers.Dropout(0.2, seed=1)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(10)(x), name=name)


def run(data, recipe=TINY, out=None, **options):
    return fit(recipe, model=options.pop("model", None) or network(), data=data, out=out, verbose=0, **options)


def weights(model):
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A finished run of three epochs with everything on."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    recipe = dataclasses.replace(TINY, ema=0.9, label_smoothing=0.05, mixup=0.2)
    return run(data, recipe, out), recipe, out


@pytest.mark.slow
def test_fit_learns_and_reports(finished, data):
    result, _, out = finished
    assert isinstance(result, FitResult)
    assert result.validation_accuracy > 0.6
    assert result.validation_accuracy == max(result.history["val_accuracy"])
    assert result.history["epoch"] == [1, 2, 3]
    assert result.history["val_accuracy"][result.best_epoch - 1] == result.validation_accuracy
    assert result.out == out
    assert result.resumed_epochs == 0
    json.dumps(result.to_dict())
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.best_epoch = 9
    # The returned model is the validated one, including the moving average.
    on_validation = result.evaluate(data.validation)
    assert on_validation["accuracy"] == pytest.approx(result.validation_accuracy, abs=1e-6)
    assert on_validation["loss"] == pytest.approx(result.validation_loss, rel=1e-5)
    assert result.evaluate(data.validation_arrays) == pytest.approx(on_validation, rel=1e-5)


def test_the_run_folder(finished):
    result, recipe, out = finished
    assert {path.name for path in out.iterdir()} == {
        *("recipe.json", "model.keras", "history.csv", "training.json", "tensorboard"),
        *("splits.json", "labels.txt"),
    }
    assert Recipe.from_json(out / "recipe.json") == recipe
    with (out / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"} < set(rows[0])
    assert [float(row["val_loss"]) for row in rows] == result.history["val_loss"]
    assert list((out / "tensorboard" / "float").rglob("events*"))
    # The file can be evaluated without this package.
    model = keras.saving.load_model(out / "model.keras")
    assert isinstance(model.loss, keras.losses.SparseCategoricalCrossentropy)
    np.testing.assert_array_equal(weights(model), weights(result.model))


def test_again_there_is_nothing_to_do(finished, data):
    result, recipe, out = finished
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = fit(recipe, data=data, out=out)
    assert again.resumed_epochs == 3
    assert again.history == result.history
    assert again.best_epoch == result.best_epoch
    np.testing.assert_array_equal(weights(again.model), weights(result.model))
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    other = network("other")
    np.testing.assert_array_equal(weights(run(data, recipe, out, model=other).model), weights(result.model))


def test_the_test_set_is_read_once(data, tmp_path, monkeypatch):
    recipe = dataclasses.replace(TINY, epochs=2)
    result = run(data, recipe, tmp_path)
    assert json.loads((tmp_path / "training.json").read_text())["test"] is None
    first = result.test_accuracy
    assert json.loads((tmp_path / "training.json").read_text())["test"] == first
    again = run(data, recipe, tmp_path)
    monkeypatch.setattr(FitResult, "evaluate", lambda *_: pytest.fail("read again"))
    assert again.test_accuracy == result.test_accuracy == first


def test_another_recipe_needs_overwrite(finished, data, tmp_path):
    _, recipe, out = finished
    with pytest.raises(ValueError, match=r"another recipe.* overwrite=True\. Received: epochs=2 \(there 3\)"):
        run(data, dataclasses.replace(recipe, epochs=2), out)
    run(data, dataclasses.replace(TINY, epochs=2), tmp_path)
    again = run(data, dataclasses.replace(TINY, epochs=2, seed=1), tmp_path, overwrite=True)
    assert again.resumed_epochs == 0
    assert Recipe.from_json(tmp_path / "recipe.json").seed == 1
    # The location of the data and the name of the recipe do not matter.
    moved = dataclasses.replace(TINY, epochs=2, seed=1, data_dir="elsewhere", description="new")
    assert run(data, moved, tmp_path).resumed_epochs == 2


def test_same_seed_same_numbers(data):
    recipe = dataclasses.replace(TINY, epochs=2, ema=0.9, cutmix=1.0)
    first, second = (run(data, recipe) for _ in range(2))
    np.testing.assert_array_equal(weights(first.model), weights(second.model))
    for column in set(first.history) - {"seconds"}:
        assert first.history[column] == second.history[column]
    other = run(data, dataclasses.replace(recipe, seed=1))
    assert other.history["loss"] != first.history["loss"]


def test_the_recipe_builds_the_network(data):
    recipe = dataclasses.replace(TINY, epochs=2, model_args=dict(width=8, depth=1, dropout=0.1))
    first, second = (fit(recipe, data=data, verbose=0) for _ in range(2))
    np.testing.assert_array_equal(weights(first.model), weights(second.model))
    assert first.model.width == 8


@EMULATED
def test_a_published_network_in_mixed_precision(data):
    recipe = dataclasses.replace(
        TINY, epochs=2, model="wavemix_lite_8_5", model_args=dict(depth=1), dtype_policy="mixed_bfloat16", ema=0.9
    )
    result = fit(recipe, data=data, verbose=0)
    assert (result.model.depth, result.model.width) == (1, 8)
    assert result.model.layers[1].compute_dtype == "bfloat16"
    assert result.history["loss"][-1] < result.history["loss"][0]


@EMULATED
def test_float16_scales_its_loss(data, tmp_path):
    """Gradients that float16 rounds to zero still train; the scale is part of the checkpoint."""
    recipe = dataclasses.replace(
        TINY, epochs=2, model_args=dict(width=8, depth=1, dropout=0.0), dtype_policy="mixed_float16", ema=0.9
    )
    result = fit(recipe, data=data, verbose=0)
    assert result.history["loss"][-1] < result.history["loss"][0]
    assert result.model.dtype_policy.name == "mixed_float16"
    scales = []

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            scales.append(float(keras.ops.convert_to_numpy(self.model.optimizer.dynamic_scale)))
            if epoch == 1:
                raise KeyboardInterrupt

        def on_train_begin(self, logs=None):
            if not scales:
                self.model.optimizer.dynamic_scale.assign(2.0**7)

    with pytest.raises(KeyboardInterrupt):
        fit(recipe, data=data, out=tmp_path, callbacks=[Stop()], verbose=0)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, data=data, out=tmp_path, callbacks=[Stop()], verbose=0)
    assert scales == [2.0**7, 2.0**7, 2.0**7]


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.slow
@EMULATED
def test_whoever_compiles_a_float16_network_scales_its_loss(saved, tmp_path):
    keras.utils.set_random_seed(0)
    model = WaveMixClassifier(num_classes=4, image_shape=(8, 8, 3), width=8, depth=1, dtype="mixed_float16")
    if saved:
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    kernel = model.get_layer("stem_conv1").kernel
    before = keras.ops.convert_to_numpy(kernel).copy()
    images = np.random.default_rng(0).random((8, 8, 8, 3)).astype("float32")

    def tiny_loss(labels, outputs):
        return 1e-7 * keras.ops.mean(outputs[:, 0])  # its gradient is below the smallest float16 number

    model.compile(keras.optimizers.SGD(1e6), tiny_loss)
    model.fit(images, np.zeros(8), batch_size=8, epochs=1, verbose=0)
    assert np.abs(keras.ops.convert_to_numpy(kernel) - before).max() > 1e-4


@pytest.mark.slow
def test_official_schedule_runs_both_optimizers_from_the_best_weights(data, tmp_path):
    recipe = dataclasses.replace(
        TINY,
        optimizer="adamw_then_sgd",
        epochs=4,
        patience=1,
        learning_rate=0.02,
        sgd_learning_rate=1e-4,
        cosine=False,
        warmup_epochs=0,
    )
    result = run(data, recipe, tmp_path)
    rates = np.array(result.history["learning_rate"])
    switch = int(np.argmax(rates < 0.01))
    assert 1 < switch < len(rates)
    np.testing.assert_allclose(rates[:switch], 0.02)
    np.testing.assert_allclose(rates[switch:], 1e-4)
    # SGD at a tiny rate starts from AdamW's best epoch, not from its last or from scratch.
    best = max(result.history["val_accuracy"][:switch])
    assert result.history["val_accuracy"][switch] == pytest.approx(best, abs=0.03)
    assert result.validation_accuracy == max(result.history["val_accuracy"])


@pytest.mark.slow
def test_patience_ends_training(data):
    recipe = dataclasses.replace(TINY, epochs=30, patience=2, learning_rate=1e-7)
    result = run(data, recipe)
    assert len(result.history["epoch"]) < 30
    assert len(result.history["epoch"]) >= result.best_epoch + 2


@pytest.mark.slow
def test_qat_stage_has_files_and_rate_of_its_own(finished, data):
    result, recipe, out = finished
    tuned = run(data, recipe, out, model=keras.saving.load_model(out / "model.keras"), stage="qat")
    assert len(tuned.history["epoch"]) == recipe.qat_epochs
    assert max(tuned.history["learning_rate"]) <= recipe.qat_learning_rate
    assert {"qat.keras", "qat_history.csv", "qat_training.json"} < {path.name for path in out.iterdir()}
    assert tuned.validation_accuracy >= result.validation_accuracy - 0.05
    assert Recipe.from_json(out / "recipe.json") == recipe
    with pytest.raises(ValueError, match="stage='qat' requires the model"):
        fit(recipe, data=data, out=out, stage="qat")


def test_a_process_that_begins_with_the_second_stage_draws_as_one_that_began_with_the_first(finished, data):
    """A .keras file holds no states of dropout: what the recipe's seed decides must not be lost between two stages."""
    result, recipe, out = finished
    recipe = dataclasses.replace(recipe, qat_epochs=1)
    tuned = []
    for seed in (1, 2):  # of two processes
        random.seed(seed)
        loaded = keras.saving.load_model(out / "model.keras")
        loaded = keras.models.clone_model(loaded, clone_function=lambda layer: unseeded(layer))
        loaded.set_weights(result.model.get_weights())
        tuned.append(weights(run(data, recipe, model=loaded, stage="qat").model))
    np.testing.assert_array_equal(*tuned)


def unseeded(layer):
    """A copy whose generator, like that of a layer without a seed, is seeded by the process."""
    return layer.__class__.from_config({**layer.get_config(), **({"seed": None} if hasattr(layer, "seed") else {})})


def test_networks_are_named_alike_whatever_the_process_built_before():
    """Their names are in the files that are made of them."""
    for model in (None, "TokenMixerClassifier", "ConvMixer", "wavemix_lite_8_5"):
        recipe = dataclasses.replace(TINY, model=model, model_args={}, image_shape=(16, 16, 1))
        assert build(recipe, 10).name == build(recipe, 10).name


@pytest.mark.slow
def test_callbacks_see_validation(data):
    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, dict(logs))))
    result = run(data, dataclasses.replace(TINY, epochs=2), callbacks=[callback])
    assert [epoch for epoch, _ in seen] == [0, 1]
    assert [logs["val_accuracy"] for _, logs in seen] == result.history["val_accuracy"]


@pytest.mark.slow
def test_a_callback_can_stop_training(data):
    def stop(epoch, logs):
        model.stop_training = epoch == 1

    model = network()
    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_end=stop),
        keras.callbacks.EarlyStopping("val_accuracy", patience=9),
    ]
    result = run(data, dataclasses.replace(TINY, epochs=9), model=model, callbacks=callbacks)
    assert len(result.history["epoch"]) == 2


# The user's data


def arrays(count=320):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, count)
    images = generator.random((count, 8, 8, 1), np.float32) / 4
    images[np.arange(count), labels // 2, labels % 2 * 4] = 1.0
    return images, labels


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        images, labels = arrays()
        return images[index * 64 : (index + 1) * 64], labels[index * 64 : (index + 1) * 64]


@pytest.mark.slow
def test_arrays():
    recipe = dataclasses.replace(TINY, shift=0, label_smoothing=0.1)
    result = run(arrays(), recipe)
    assert result.history["accuracy"][-1] > 0.3
    assert result.evaluate(arrays())["accuracy"] > 0.3
    with pytest.raises(ValueError, match="must have a test set"):
        result.test_accuracy  # noqa: B018
    with_validation = run(arrays(), recipe, validation_data=arrays(32))
    assert len(with_validation.history["epoch"]) == 3


def test_without_tf_data_every_epoch_starts_its_own_batches(monkeypatch):
    started, start = [], EpochBatches.start_epoch
    monkeypatch.setattr(
        EpochBatches, "start_epoch", lambda batches, epoch: started.append(epoch) or start(batches, epoch)
    )
    images, labels = arrays(32)
    run(Pairs(), dataclasses.replace(TINY, shift=0, epochs=3), validation_data=(images, labels))
    assert started == [0, 0, 1, 2]  # Keras reads a batch before the first epoch starts


def test_py_dataset_and_tf_dataset():
    import tensorflow as tf

    recipe = dataclasses.replace(TINY, shift=0, label_smoothing=0.1, epochs=2)
    images, labels = arrays()
    first = run(Pairs(), recipe, validation_data=(images[256:], labels[256:]))
    dataset = tf.data.Dataset.from_tensor_slices((images[:256], labels[:256])).batch(64)
    second = run(dataset, recipe, validation_data=(images[256:], labels[256:]))
    np.testing.assert_allclose(first.history["val_loss"], second.history["val_loss"], rtol=1e-3)
    with pytest.raises(ValueError, match="requires validation_data"):
        run(Pairs(), recipe)


# Mistakes


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"batch_size": 5000}, {}, "batch_size must not exceed the number of training images"),
        ({}, {"stage": "int8"}, "stage must be one of 'float', 'qat'. Received: stage='int8'"),
        ({}, {"validation_data": (0, 0)}, "validation_data must be None with a DataBundle"),
    ],
)
def test_bad_arguments(data, change, options, message):
    with pytest.raises(ValueError, match=message):
        run(data, dataclasses.replace(TINY, **change), **options)


def test_a_model_that_does_not_suit_the_data(data):
    for shape, classes, message in (((9, 9, 1), 10, "take the data's images"), ((8, 8, 1), 9, "return 10 logits")):
        inputs = keras.Input(shape)
        model = keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Flatten()(inputs)))
        with pytest.raises(ValueError, match=message):
            run(data, model=model)


@pytest.mark.slow
def test_a_broken_image_met_while_training_is_reported_by_name(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(40):
            pixels = generator.integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.png")
    (tmp_path / "a" / "7.png").write_bytes((tmp_path / "a" / "7.png").read_bytes()[:-30])  # its header is whole
    recipe = dataclasses.replace(
        TINY, dataset="folder", data_dir=str(tmp_path), num_classes=2, in_memory=False, batch_size=8, seed=1
    )
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match=r"must be complete, .*Received: .*a/7\.png; on_bad_image='skip'"):
        fit(recipe, model=model, verbose=0)


# Parts


def test_loss_and_metric_take_integer_and_soft_labels():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(7, 5)).astype("float32")
    labels = generator.integers(0, 5, 7)
    for function in (cross_entropy, accuracy):
        values = [
            np.asarray(function(keras.ops.convert_to_tensor(form), keras.ops.convert_to_tensor(logits)))
            for form in (labels, labels[:, None], np.eye(5, dtype="float32")[labels])
        ]
        np.testing.assert_allclose(values[0], values[1], rtol=1e-6)
        np.testing.assert_allclose(values[0], values[2], rtol=1e-5)


def test_learning_rate_rises_then_falls_to_nothing():
    recipe = dataclasses.replace(TINY, epochs=10, warmup_epochs=2)
    (phase,) = phases(recipe, "float")
    schedule = build_optimizer(phase, recipe, steps_per_epoch=5).get_config()["learning_rate"]
    rate = keras.optimizers.schedules.deserialize(schedule)
    rates = [float(rate(step)) for step in range(51)]
    assert rates[0] == 0
    assert np.argmax(rates) == 10
    assert max(rates) == pytest.approx(recipe.learning_rate)
    assert rates[50] == pytest.approx(0, abs=1e-8)
    constant = dataclasses.replace(recipe, cosine=False)
    optimizer = build_optimizer(phases(constant, "float")[0], constant, 5)
    rate = keras.optimizers.schedules.deserialize(optimizer.get_config()["learning_rate"])
    np.testing.assert_allclose([float(rate(step)) for step in (0, 5, 10, 40)], [0, 5e-3, 1e-2, 1e-2], rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "lion", "sgd"])
def test_weight_decay_spares_biases_and_norms(name):
    recipe = dataclasses.replace(TINY, optimizer=name, weight_decay=0.5, learning_rate=0.1, warmup_epochs=0)
    optimizer = build_optimizer(phases(recipe, "float")[0], recipe, 5)
    model = network()
    for variable in model.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    optimizer.build(model.trainable_variables)
    optimizer.apply([keras.ops.zeros_like(variable) for variable in model.trainable_variables])
    decayed = {variable.name for variable in model.trainable_variables if np.max(variable) < 0.999}
    assert decayed == {"kernel"}


def test_recalibration_gives_the_statistics_of_the_weights_of_the_moment(data):
    model = network()
    before = weights(model)
    seeds = [np.asarray(v) for v in model.non_trainable_variables if "seed" in v.name]
    recalibrate = BatchNormRecalibration(model)
    batches = list(data.train_source.batches(64).take(3))
    recalibrate(batches)
    norm = model.layers[2]
    assert norm.momentum == 0.9
    features = [np.asarray(model.layers[1](images)) for images, _ in batches]
    np.testing.assert_allclose(
        norm.moving_mean, np.mean([f.mean((0, 1, 2)) for f in features], 0), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(norm.moving_variance, np.mean([f.var((0, 1, 2)) for f in features], 0), rtol=1e-4)
    after = [np.asarray(v) for v in model.non_trainable_variables if "seed" in v.name]
    for one, other in zip(seeds, after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.sum(before != weights(model)) <= 16


def test_every_named_recipe_builds_an_optimizer():
    for recipe in RECIPES.values():
        for stage in ("float", "qat"):
            for phase in phases(recipe, stage):
                assert build_optimizer(phase, recipe, 10).use_ema == (phase.ema > 0)
