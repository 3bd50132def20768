"""``quantize(engine="tfmot")``: trains in tf_keras, returns to Keras 3, exports int8, keeps the process state."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from tflite_support import NETWORKS, network, randomise, spread
from tflite_support import export_random as export

import wavemix_tf as wm
from wavemix_tf.tflite import UnsupportedLayerError, UnsupportedOpError, quantize, verify
from wavemix_tf.tflite.file import flatbuffer
from wavemix_tf.tflite.graph.inputs import generated_images, predict
from wavemix_tf.tflite.quantization.freshness import is_fresh
from wavemix_tf.tflite.quantization.tfmot.model import ERROR_BOUND_STEPS, TfmotModel

SHAPE = (16, 16, 3)
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
# Mean error of each network's file under XNNPACK, in output steps; measured are 0.15, 1.08, 0.04 and 0.34.
FIDELITY = {"deconv": 0.4, "bilinear": 1.6, "nearest": 0.2, "pixel_shuffle": 0.7}


@pytest.fixture(scope="module")
def images():
    return generated_images(SHAPE, 128, seed=1)


@pytest.fixture(scope="module")
def labels(images):
    return images.mean((1, 2)).argmax(-1)


@pytest.fixture(scope="module")
def float_model():
    return network(depth=1, levels=2, upsample="deconv", dropout=0.1)


@pytest.fixture(scope="module")
def trained(float_model, images, labels):
    """(model after fit, its history, its variables before, what a Keras 3 callback saw)."""
    keras.utils.set_random_seed(0)
    model = quantize(float_model, images[:64], engine="tfmot", target="mcu")
    before = {name: values(model, name) for name in weighted(model)}
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, 48)
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-4, use_ema=True, ema_momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ["accuracy"],
    )
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, *sorted(logs))))
    history = model.fit(
        images, labels, epochs=6, batch_size=16, verbose=0, validation_data=(images, labels), callbacks=[watch]
    )
    return model, history.history, before, seen


def weighted(model):
    return [layer.name for layer in model.layers if hasattr(layer, "kernel")]


def values(model, name):
    return {key: variable.numpy() for key, variable in model.variables(name).items()}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_file_computes_the_model_and_every_op_is_int8(name):
    given = network(**NETWORKS[name])
    calibration, held_out = (generated_images(given.input_shape[1:], 48, seed=seed) for seed in (1, 2))
    before = [weight.copy() for weight in given.get_weights()]
    model = quantize(given, calibration, engine="tfmot")
    assert isinstance(model, TfmotModel)
    assert (model.input_shape, model.output_shape) == (given.input_shape, given.output_shape)
    for old, new in zip(before, given.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # Nothing was trained: the conversion to tf_keras and back, and folding, change no output.
    expected = predict(given, held_out)
    assert spread(expected) > 0.02
    np.testing.assert_allclose(predict(model.to_keras(), held_out), expected, atol=1e-3)
    assert 0 < np.abs(model.predict(held_out) - expected).mean() < 0.2 * spread(expected)

    artifact = export(model, "android-cpu", images=held_out)
    info = flatbuffer.read_file(artifact.content)
    assert not [op.name for op in info.ops if any(t.dtype.startswith("float") for t in (*op.inputs, *op.outputs))]
    report = artifact.verification["fidelity"]
    errors = {row["runtime"]: row["mean_error_steps"] for row in report["runtimes"]}
    assert errors["litert-xnnpack"] <= FIDELITY[name]
    assert errors["litert-reference"] <= 2 * FIDELITY[name]
    assert report["agreement"] >= 0.95
    assert info.inputs[0].scale == pytest.approx(1 / 255)  # the pixel less 128
    assert info.inputs[0].zero_point == -128
    scales = {(op.name, op.inputs[1].channel_scales > 1) for op in info.ops if op.name in WEIGHTED}
    assert ("CONV_2D", True) in scales
    assert ("FULLY_CONNECTED", True) not in scales  # tfmot's default scheme: one step per tensor
    assert ("TRANSPOSE_CONV", True) not in scales


def test_fit_lowers_the_loss_in_int8_arithmetic(trained, images, labels):
    model, history, _, seen = trained
    assert history["loss"][-1] < 0.75 * history["loss"][0]
    assert history["val_loss"][-1] < history["val_loss"][0]
    loss, accuracy = model.evaluate(images, labels)
    outputs = model.predict(images)
    assert accuracy == pytest.approx((outputs.argmax(-1) == labels).mean())
    log_odds = outputs - np.log(np.exp(outputs).sum(-1, keepdims=True))
    assert loss == pytest.approx(-log_odds[np.arange(len(labels)), labels].mean(), rel=1e-4)
    np.testing.assert_allclose(model(images[:4]), outputs[:4], atol=1e-5)
    assert [epoch for epoch, *_ in seen] == list(range(6))  # a Keras 3 callback
    assert seen[0][1:] == ("accuracy", "loss", "val_accuracy", "val_loss")


def test_weights_come_back_as_trained(trained, float_model, images):
    model, _, before, _ = trained
    back = model.to_keras()
    assert isinstance(back, keras.Model)
    assert back.input_shape == float_model.input_shape
    assert back.output_shape == float_model.output_shape
    moved = 0
    for layer in back.layers:
        if not hasattr(layer, "kernel"):
            continue
        found = values(model, layer.name)
        key = "depthwise_kernel" if isinstance(layer, layers.DepthwiseConv2D) else "kernel"
        np.testing.assert_array_equal(layer.kernel.numpy(), found[key])
        if layer.use_bias:
            np.testing.assert_array_equal(layer.bias.numpy(), found["bias"])
        moved += np.abs(found[key] - before[layer.name][key]).max() > 1e-3
    assert moved >= 8
    rounded, trained_float, untrained = model.predict(images), predict(back, images), predict(float_model, images)
    assert np.abs(trained_float - rounded).mean() < 0.3 * np.abs(untrained - rounded).mean()
    # The copy is independent: changing it does not change the trained model.
    back.layers[-1].kernel.assign(np.zeros_like(back.layers[-1].kernel))
    np.testing.assert_array_equal(model.predict(images[:4]), rounded[:4])


def test_weights_lie_on_their_range_after_averaging(trained):
    """The optimizer's moving average of the weights replaces them after the last step; their ranges follow."""
    model, *_ = trained
    for name in weighted(model):
        found = values(model, name)
        if "kernel_max" in found:
            axes = (0, 1, 2) if found["kernel_max"].shape else None
            np.testing.assert_allclose(np.abs(found["kernel"]).max(axes), found["kernel_max"], rtol=1e-6)


def test_trained_model_ships(trained, images):
    model, *_ = trained
    with pytest.raises(UnsupportedOpError, match=r"TRANSPOSE_CONV .*CMSIS-NN.*use engine='native'"):
        export(model, "mcu", images=images[:32])  # 8 channels, which have no other form
    artifact = export(model, "android-npu", images=images[:32], class_names="abcde")
    report = verify(artifact, model, images[32:64], runtimes=["litert-xnnpack"])
    assert report.mean_error_steps <= 0.5
    assert artifact.verification["fidelity"]["mean_error_steps"] <= 1.0
    bounds = artifact.verification["error_bound_steps"]
    assert bounds == {runtime: ERROR_BOUND_STEPS[runtime] for runtime in ("litert-xnnpack", "litert-reference")}
    assert artifact.substituted == ("block1_activation1", "block1_activation2")
    assert artifact.upsample_form == "transposed_conv"
    assert artifact.class_names == tuple("abcde")


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_taps_do_not_drift(wavelet, images, labels):
    inputs = keras.Input(SHAPE)
    x = layers.Activation("relu")(wm.DWT2D(wavelet, name="dwt")(inputs))
    x = layers.Conv2D(8, 3, name="conv")(x)
    given = randomise(keras.Model(inputs, layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(x))))
    model = quantize(given, images, engine="tfmot")
    bands = [f"dwt_band{band}" for band in range(4)]
    assert model.frozen == set(bands)
    before = {name: values(model, name)["depthwise_kernel"] for name in [*bands]}
    kernel = values(model, "conv")["kernel"]
    # Users unfreeze the whole model; tfmot's wrapper makes every kernel trainable.
    model.tf_keras_model.trainable = True
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, labels, epochs=2, batch_size=16, verbose=0)
    assert np.abs(values(model, "conv")["kernel"] - kernel).max() > 0
    for name in bands:
        np.testing.assert_array_equal(values(model, name)["depthwise_kernel"], before[name])
    if wavelet == "haar":
        assert {abs(float(tap)) for name in bands for tap in before[name].ravel()} == {0.5}
    back = model.to_keras()
    for name in bands:
        np.testing.assert_allclose(back.get_layer(name).kernel.numpy(), before[name], atol=1e-7)


def test_frozen_layers_stay_frozen(images, labels):
    given = network(depth=1)
    given.layers[-1].trainable = False
    head = given.layers[-1].name
    model = quantize(given, images[:32], engine="tfmot")
    before = values(model, head)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images[:32], labels[:32], verbose=0)
    for key in ("kernel", "bias"):
        np.testing.assert_array_equal(values(model, head)[key], before[key])
    np.testing.assert_array_equal(model.to_keras().get_layer(head).kernel.numpy(), given.layers[-1].kernel.numpy())


PROGRAM = """
import os, sys
import numpy as np
{first}
import keras
import wavemix_tf as wm
before = dict(os.environ)
inputs = keras.Input((8, 8, 3))
x = keras.layers.Conv2D(4, 3)(inputs)
model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
images = np.random.default_rng(0).uniform(size=(32, 8, 8, 3)).astype("float32")
quantized = wm.tflite.quantize(model, images, engine="tfmot")
assert "tf_keras" in sys.modules and "tensorflow_model_optimization" in sys.modules
assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())
import tensorflow as tf
from tensorflow import keras as through_tensorflow
for found in (tf.keras, through_tensorflow):
    assert found.__version__ == keras.__version__ and found.__version__.startswith("3."), found.__version__
    assert found.layers.Dense is keras.layers.Dense
assert tf.losses.MeanSquaredError is keras.losses.MeanSquaredError
assert tf.optimizers.Adam is keras.optimizers.Adam
native = wm.tflite.quantize(model, images)
wm.tflite.export(native, "android-cpu", images=images, min_snr_db=-200, allow_unjudged=True)
print("as before")
"""


@pytest.mark.parametrize(
    "first", ["", "import tensorflow; tensorflow.keras.layers.Dense"], ids=["untouched", "touched"]
)
def test_the_process_keeps_its_keras_and_environment(first):
    clean = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)], env=clean, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "as before" in result.stdout


def test_without_tfmot_one_line_says_what_to_install():
    program = (
        "import sys; sys.modules['tensorflow_model_optimization'] = None\n"
        "import keras, numpy as np, wavemix_tf as wm\n"
        "model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])\n"
        "wm.tflite.quantize(model, np.zeros((1, 8, 8, 3), 'float32'), engine='tfmot')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert result.stderr.strip().splitlines()[-1].startswith("ImportError: engine='tfmot' needs")
    assert "pip install 'wavemix-tf[tfmot]'" in result.stderr


def small(*body):
    inputs = keras.Input(SHAPE)
    x = inputs
    for layer in body:
        x = layer(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


def unsupported():
    shared = layers.Conv2D(3, 1, name="shared")
    return {
        "kind": (small(layers.LayerNormalization(name="odd_one")), r"'odd_one' of type LayerNormalization"),
        "activation": (small(layers.Activation("softplus", name="soft")), r"'soft' of type Activation\(softplus\)"),
        "twice": (small(shared, shared), r"called once.*'shared' called 2 times"),
        "operation": (small(lambda x: keras.ops.maximum(x, 0.5)), r"of type ops.Maximum"),
        "norm": (
            small(layers.Conv2D(3, 1), layers.BatchNormalization(gamma_regularizer="l2", name="held")),
            r"without regularizers.*'held' with gamma_regularizer=",
        ),
        "regularizer": (
            small(layers.Conv2D(3, 1, kernel_regularizer="l2", name="held")),
            r"without regularizers.*'held' with kernel_regularizer=",
        ),
    }


@pytest.mark.parametrize("what", ["kind", "activation", "operation", "twice", "norm", "regularizer"])
def test_a_layer_without_a_translation_is_named(what, images):
    model, message = unsupported()[what]
    with pytest.raises(UnsupportedLayerError, match=message):
        quantize(model, images, engine="tfmot")


def test_bad_input_is_distinguished(float_model, trained, images):
    with pytest.raises(ValueError, match=r"calibration must be an array \(N, 16, 16, 3\)"):
        quantize(float_model, images[:, :8], engine="tfmot")
    with pytest.raises(ValueError, match=r"observer must be one of"):
        quantize(float_model, images, engine="tfmot", observer="max")
    with pytest.raises(ValueError, match=r"not a quantized one. Received: model=.small_tfmot"):
        quantize(trained[0], images)
    with pytest.raises(ValueError, match=r"io_dtype must be one of"):
        trained[0].convert("int4")
    with pytest.raises(ValueError, match=r"converted as it was trained.*upsample_form='subpixel_crop'"):
        export(trained[0], "mcu", images=images, upsample_form="subpixel_crop")
    with pytest.raises(ValueError, match=r"exports as int8.*dtype='float32'"):
        export(trained[0], "android-cpu", dtype="float32", images=images)
    with pytest.raises(UnsupportedOpError, match=r"GELU"):
        export(quantize(small(layers.Activation("gelu")), images, engine="tfmot"), "mcu", images=images)


class Weighted(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return keras.ops.mean(y_pred)


@pytest.mark.slow
def test_a_subclass_whose_training_is_dropped_is_reported(images):
    inputs = keras.Input(SHAPE)
    model = Weighted(inputs, layers.Dense(2)(layers.Flatten()(inputs)))
    with pytest.warns(UserWarning, match="own compute_loss, not with those of class Weighted.*engine='native'"):
        quantized = quantize(model, images[:32], engine="tfmot")
    assert is_fresh(quantized)
    quantized.compile("sgd", "mse")
    quantized.fit(images[:32], np.ones((32, 2)), verbose=0)
    assert not is_fresh(quantized)


class OwnLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(y_pred)


def test_what_tf_keras_cannot_honour_is_refused(trained):
    model, *_ = trained
    with pytest.raises(ValueError, match=r"no option 'gradient_accumulation_steps'.*=2"):
        model.compile(keras.optimizers.Adam(gradient_accumulation_steps=2), "mse")
    with pytest.raises(ValueError, match=r"supports loss by name, or a Keras object.*OwnLoss"):
        model.compile("adam", OwnLoss())
    excluding = keras.optimizers.AdamW()
    excluding.exclude_from_weight_decay(var_names=["bias"])
    with pytest.raises(ValueError, match=r"decays every weight equally"):
        model.compile(excluding, "mse")
