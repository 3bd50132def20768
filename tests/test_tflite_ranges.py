"""Ranges keep rare values, ignore unread channels, are widened in training, and are stored in the weights."""

import re
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from tflite_support import spread

from wavemix_tf.tflite import calibrate, export, quantize
from wavemix_tf.tflite.graph.graph import Graph
from wavemix_tf.tflite.graph.inputs import generated_images, predict
from wavemix_tf.tflite.graph.lowering import deploy
from wavemix_tf.tflite.layers import saturation
from wavemix_tf.tflite.layers.fake_quant import FakeQuant
from wavemix_tf.tflite.quantization.importance import channel_importance
from wavemix_tf.tflite.quantization.range_choice import RangeChoice, sole_image
from wavemix_tf.tflite.runtimes.running import run_file
from wavemix_tf.warning import WavemixWarning

SHAPE = (8, 8, 3)


@pytest.fixture(scope="module")
def images():
    return generated_images(SHAPE, 64, seed=1)


def classifier(activation=None):
    """With the statistics of its images in its batch norms, as training would leave them."""
    inputs = keras.Input(SHAPE)
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(6, 3, padding="same", name="conv")(inputs))
    x = layers.BatchNormalization(name="alone")(layers.MaxPooling2D()(layers.ReLU(name="relu")(x)))
    model = keras.Model(inputs, layers.Dense(2, activation=activation, name="head")(layers.Flatten()(x)))
    norms = [model.get_layer(name) for name in ("norm", "alone")]
    for norm in norms:
        norm.momentum = 0.0
    model(generated_images(SHAPE, 64, seed=1), training=True)
    for norm in norms:
        norm.momentum = 0.9
    return model


def fit(model, *data, **options):
    """(logs, what was said)."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        logs = model.fit(*data, verbose=0, **options).history
    return logs, [str(warning.message) for warning in said if warning.category is WavemixWarning]


def quantizers(model):
    return {layer.name.removesuffix("_quant"): layer for layer in model.layers if isinstance(layer, FakeQuant)}


# --- choice of the range ----------------------------------------------------------------------------------------------


def choose(values, weights=None):
    """The range of (N, size) values, all of them sampled, the errors of clipping computed in NumPy."""
    weights = np.ones(values.shape[1]) if weights is None else weights
    choice = RangeChoice(values.min(1), values.max(1), values, weights, values.shape[1])
    lows, highs = choice.ends
    below = np.square(np.maximum(lows - values[..., None], 0)) * weights[:, None]
    above = np.square(np.maximum(values[..., None] - highs, 0)) * weights[:, None]
    return choice.choose(below.mean(1), above.mean(1))


def test_a_peak_in_one_image_of_many_is_not_clipped(rng):
    values = rng.normal(0, 0.01, (128, 4096))
    values[17, 100] = 1.0
    assert choose(values)[1] == pytest.approx(1.0)
    assert sole_image(values.min(1), values.max(1), choose(values)) == 17
    values[30, 5] = 0.9
    assert sole_image(values.min(1), values.max(1), choose(values)) is None


def test_an_image_that_would_leave_the_others_no_levels_is_clipped(rng):
    values = rng.normal(0, 1, (128, 512))
    values[5] *= 300
    low, high = choose(values)
    assert -10 < low < -2
    assert 2 < high < 10


def test_ordinary_tails_are_kept_whole(rng):
    values = np.maximum(rng.normal(0, 1, (64, 2048)), 0)
    assert choose(values) == (0.0, pytest.approx(values.max()))


def test_small_weights_let_large_values_go(rng):
    values = rng.normal(0, 1, (64, 1024))
    values[:, ::16] *= 3000
    weights = np.ones(1024)
    assert choose(values, weights)[1] > 3000
    weights[::16] = 1e-9
    assert choose(values, weights)[1] < 10


def test_importance_is_the_energy_of_the_weights_that_read_a_channel():
    inputs = keras.Input((6, 6, 3))
    first = layers.Conv2D(4, 1, name="first")
    depthwise, last = layers.DepthwiseConv2D(1, use_bias=False), layers.Conv2D(2, 1, use_bias=False)
    model = keras.Model(inputs, last(depthwise(layers.ReLU()(first(inputs)))))
    per_channel, kernel = np.array([1.0, 2.0, 0.5, 1.0]), np.array([[1.0, 2.0], [0.0, 0.0], [2.0, 0.0], [1.0, 1.0]])
    depthwise.set_weights([per_channel.reshape(1, 1, 4, 1)])
    last.set_weights([kernel.reshape(1, 1, 4, 2)])
    graph = Graph.from_model(model)
    value = next(node.output for node in graph.nodes() if node.name == "first")
    expected = per_channel**2 * np.square(kernel).sum(1)
    np.testing.assert_allclose(channel_importance(graph)[value], expected / expected.mean())


@pytest.mark.slow
def test_peaks_of_a_heat_map_survive(rng):
    side = 96
    images = rng.uniform(0, 0.15, (64, side, side, 1)).astype("float32")
    places = rng.integers(4, side - 4, (64, 2))
    for index, (row, column) in enumerate(places[:40]):  # the other images have no peak
        images[index, row, column] = rng.uniform(0.85, 1)
    inputs = keras.Input((side, side, 1))
    conv = layers.Conv2D(1, 3, padding="same")
    model = keras.Model(inputs, conv(inputs))
    kernel = -np.ones((3, 3, 1, 1), "float32") * 0.3
    kernel[1, 1] = 8
    conv.set_weights([kernel, np.array([-6.0])])
    found = predict(quantize(model, images), images)
    exact = predict(model, images)
    np.testing.assert_allclose(found.max((1, 2, 3))[:40], exact.max((1, 2, 3))[:40], atol=0.05)


def test_a_hot_channel_that_nothing_reads_costs_nothing(images):
    inputs = keras.Input(SHAPE)
    first, second = layers.Conv2D(9, 3, activation="relu", name="first"), layers.Conv2D(4, 3, name="second")
    model = keras.Model(inputs, second(first(inputs)))
    kernel, bias = first.get_weights()
    kernel[..., -1], bias[-1] = 0, 3e4
    first.set_weights([kernel, bias])
    kernel, bias = second.get_weights()
    kernel[:, :, -1] = 0
    second.set_weights([kernel, bias])
    quantized, exact = quantize(model, images), predict(model, images)
    assert np.abs(predict(quantized, images) - exact).mean() < 0.03 * spread(exact)
    row = next(row for row in quantized.calibration_report if row.name.startswith("first"))
    assert row.maximum < 10
    assert row.clipped_share == pytest.approx(1 / 9)


@pytest.mark.slow
def test_the_report_counts_what_is_clipped_and_names_the_image(images):
    odd = images * 0.02
    odd[41] = images[41]
    model = classifier()
    with pytest.warns(UserWarning, match=r"Calibration image 41 by itself makes the ranges of") as said:
        quantized = quantize(model, odd, observer="minmax")
    ours = [warning.filename for warning in said if warning.category is WavemixWarning]
    assert set(ours) == {__file__}  # the file of the caller, through decorators and helpers
    assert {row.sole_image for row in quantized.calibration_report} <= {None, 41}
    quantizers(quantized)["relu"].set_range(0, 1)
    rows = {row.name: row for row in calibrate(quantize(model, images), images, observer="mse")}
    exact = predict(keras.Model(model.input, model.get_layer("relu").output), images)
    row = rows["relu"]
    share = (exact > row.maximum * 1.001).mean((1, 2, 3))
    assert row.clipped_share == pytest.approx(share.mean(), abs=2e-3)
    assert row.worst_clipped_share == pytest.approx(share.max(), abs=0.01)


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.slow
def test_a_probability_below_a_step_has_a_gradient_in_training_and_the_files_value_else(activation, images):
    import tensorflow as tf

    model = classifier(activation)
    model.get_layer("head").bias.assign([-12.0, 3.0])
    quantized = quantize(model, images)
    with tf.GradientTape() as tape:
        raw = quantized(images, training=True)[:, 0]
        loss = -tf.reduce_mean(tf.math.log(tf.maximum(raw, 1e-7)))
    gradient = tape.gradient(loss, quantized.get_layer("head_unrounded").bias)  # its rounding has the output's name
    assert float(tf.reduce_max(raw)) < 1 / 512
    assert abs(float(gradient[0])) > 0.5
    found = predict(quantized, images) * 256
    np.testing.assert_array_equal(found, np.round(found))
    assert found[:, 0].max() == 0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_widens_the_ranges_that_it_leaves_and_says_so(jit_compile, images, tmp_path):
    quantized = quantize(classifier(), images)
    named = quantizers(quantized)
    named["head"].set_range(-0.01, 0.01)
    inputs_range = named[quantized.inputs[0].name].get_range()
    target = np.stack([images.mean((1, 2, 3)) * 4, -images.mean((1, 2, 3))], 1)
    quantized.compile(keras.optimizers.Adam(1e-2), "mse", jit_compile=jit_compile)
    logs, said = fit(quantized, images, target, epochs=12, batch_size=16)
    assert sum("Training exceeded the calibrated range" in line and "'head' [-0.01" in line for line in said) == 1, said
    assert set(logs) == {"loss"}
    assert named["head"].get_range()[1] > 1.0
    assert named[quantized.inputs[0].name].get_range() == inputs_range
    assert logs["loss"][-1] < 0.1 * logs["loss"][0]
    expected = predict(quantized, images)
    step = named["head"].get_step()
    np.testing.assert_allclose(predict(deploy(quantized, {}, "transposed_conv"), images), expected, atol=1.01 * step)
    assert np.abs(predict(deploy(quantized, {}, "transposed_conv"), images) - expected).mean() < 0.1 * step
    quantized.save(tmp_path / "middle.keras")
    again = keras.saving.load_model(tmp_path / "middle.keras")
    np.testing.assert_array_equal(predict(again, images), expected)
    fit(again, images, target)
    calibrate(again, images)
    assert quantizers(again)["head"].get_range()[1] > 1.0


@pytest.mark.slow
def test_a_range_that_was_calibrated_since_was_not_left(images):
    quantized = quantize(classifier(), images)
    head = quantizers(quantized)["head"]
    target = predict(quantized, images)
    head.set_range(-0.01, 0.01)
    quantized.compile(keras.optimizers.SGD(1e-5), "mse")
    quantized.evaluate(images, target, verbose=0)
    calibrate(quantized, images)
    assert fit(quantized, images, target, epochs=2)[1] == []
    for _ in range(2):  # warned again about a range that was set again
        head.set_range(-0.01, 0.01)
        said = fit(quantized, images, target, epochs=3)[1]
        assert (
            sum("Training exceeded the calibrated range" in line and "'head' [-0.01" in line for line in said) == 1
        ), said


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.slow
def test_the_ranges_left_in_an_epoch_are_reported_in_one_note(run_eagerly, images, monkeypatch):
    """With the advice once; the layers that grew most by name."""
    monkeypatch.setattr(saturation, "LAYERS_NAMED", 2)
    quantized = quantize(classifier(), images)
    moving = [layer for layer in quantizers(quantized).values() if not layer.fixed]
    for layer in moving:
        layer.set_range(-0.001, 0.001)
    quantized.compile(keras.optimizers.SGD(1e-5), "mse", run_eagerly=run_eagerly)
    _, said = fit(quantized, images, np.zeros((64, 2)), epochs=1, batch_size=64)
    (note,) = [line for line in said if "Training exceeded" in line]
    count = int(re.search(r"calibrated ranges of (\d+) layers and widened them: ", note).group(1))
    assert 3 <= count <= len(moving)
    assert note.count("] to [") == 2
    assert f" and {count - 2} more. A smaller learning rate" in note
    assert fit(quantized, images, np.zeros((64, 2)), epochs=1, batch_size=64)[1] == []


@pytest.mark.slow
def test_training_data_outside_the_promised_input_are_reported(images):
    quantized = quantize(classifier(), images)
    quantized.compile("sgd", "mse")
    _, said = fit(quantized, images * 255, np.zeros((64, 2)))
    name = quantized.inputs[0].name
    told = f"Training fed a layer with values outside the given range: {name!r} [0, 1]. They are clipped."
    assert any(told in line for line in said), said
    assert quantizers(quantized)[quantized.inputs[0].name].get_range() == (0.0, 1.0)


@pytest.mark.slow
def test_gentle_training_moves_nothing_that_matters(images):
    quantized = quantize(classifier(), images)
    before = {name: layer.get_range() for name, layer in quantizers(quantized).items()}
    quantized.compile(keras.optimizers.SGD(1e-5), "mse")
    assert fit(quantized, images, predict(quantized, images))[1] == []
    for name, layer in quantizers(quantized).items():
        np.testing.assert_allclose(layer.get_range(), before[name], rtol=0.25, atol=0.05, err_msg=name)


# --- weights ----------------------------------------------------------------------------------------------------------


def test_weights_alone_are_the_model(images, tmp_path):
    model = classifier("sigmoid")
    trained = quantize(model, images)
    trained.compile(keras.optimizers.Adam(1e-2), "mse")
    fit(trained, images, np.ones((64, 2)))
    trained.save_weights(tmp_path / "trained.weights.h5")
    dark = quantize(classifier("sigmoid"), images[::2] * 0.5, input_range=(0.0, 0.5))
    expected = predict(trained, images)
    assert np.abs(predict(dark, images) - expected).max() > 0
    dark.load_weights(tmp_path / "trained.weights.h5")
    np.testing.assert_array_equal(predict(dark, images), expected)
    first, second = (export(model, "android-cpu", images=images) for model in (trained, dark))
    np.testing.assert_array_equal(*(run_file(one.content, images, "litert-xnnpack") for one in (first, second)))
    assert first.model_sha256 == second.model_sha256
    assert second.input_ranges == first.input_ranges


@pytest.mark.slow
def test_a_model_of_version_0_1_computes_what_it_did():
    folder = Path(__file__).parent / "fixtures"
    images = np.random.default_rng(0).random((64, 8, 8, 2)).astype("float32")
    model = keras.saving.load_model(folder / "qat_of_0_1.keras")
    np.testing.assert_allclose(predict(model, images[:16]), np.load(folder / "qat_of_0_1.npz")["outputs"], atol=1e-6)
    assert export(model, "android-cpu", images=images).verification["fidelity"]["mean_error_steps"] <= 0.1
    before = {name: layer.get_range() for name, layer in quantizers(model).items()}
    model.fit(images, np.ones((64, 1)), verbose=0)
    assert {name: layer.get_range() for name, layer in quantizers(model).items()} == before
    calibrate(model, images)
    steps = {layer.name: layer.input_step for layer in model.layers if getattr(layer, "input_step", 0)}
    # A pooling layer keeps the values on the grid of `activation`.
    assert steps["alone"] == quantizers(model)["activation"].get_step()
    assert steps["dense"] == quantizers(model)["alone"].get_step()


@pytest.mark.slow
def test_weights_of_version_0_1_go_into_a_new_model(tmp_path):
    """Its ranges say all that it kept in its configuration besides."""
    folder = Path(__file__).parent / "fixtures"
    images = np.random.default_rng(0).random((64, 8, 8, 2)).astype("float32")
    keras.saving.load_model(folder / "qat_of_0_1.keras").save_weights(tmp_path / "old.weights.h5")
    inputs = keras.Input((8, 8, 2))
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(inputs))
    x = layers.BatchNormalization()(layers.MaxPooling2D()(layers.Activation("relu")(x)))
    model = quantize(keras.Model(inputs, layers.Dense(1, activation="sigmoid")(layers.Flatten()(x))), images)
    model.load_weights(tmp_path / "old.weights.h5")
    np.testing.assert_allclose(predict(model, images[:16]), np.load(folder / "qat_of_0_1.npz")["outputs"], atol=1e-6)
