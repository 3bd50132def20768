"""``quantize``: the grids of the int8 specification, training on them, and the same integers in the exported graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tflite_support import CALIBRATION, FLOAT, NETWORKS, QUANTIZED, network, randomise, spread

import wavemix_tf as wm
from wavemix_tf.layers.elementwise import FusedActivation
from wavemix_tf.tflite import UnsupportedLayerError, calibrate, quantize
from wavemix_tf.tflite.graph.graph import Graph
from wavemix_tf.tflite.graph.inputs import generated_images, predict
from wavemix_tf.tflite.graph.lowering import deploy
from wavemix_tf.tflite.graph.passes.substitute_activations import substitute_activations
from wavemix_tf.tflite.graph.passes.write_transposed import UPSAMPLE_FORMS
from wavemix_tf.tflite.layers.fake_quant import FakeQuant, round_weights

SHAPE = (16, 16, 3)


@pytest.fixture(scope="module")
def images():
    return CALIBRATION["deconv"]


@pytest.fixture(scope="module")
def model():
    return FLOAT["deconv"]


@pytest.fixture(scope="module")
def quantized():
    return QUANTIZED["deconv"]


def levels(values, low, high):
    step = (high - low) / 255
    return np.asarray(values) / step


def test_quantized_model_is_near_the_float_one_and_leaves_it_alone(model, quantized, images):
    expected = predict(model, images)
    assert spread(expected) > 0.05
    assert 0 < np.abs(predict(quantized, images) - expected).mean() < 0.1 * spread(expected)
    assert not any(isinstance(layer, FakeQuant) for layer in model.layers)
    assert quantized.input_shape == model.input_shape
    assert quantized.output_shape == model.output_shape


def test_every_activation_has_256_levels_that_hold_zero(quantized, images):
    quantizers = [layer for layer in quantized.layers if isinstance(layer, FakeQuant)]
    outputs = keras.Model(quantized.input, [layer.output for layer in quantizers])(images[:8], training=False)
    for layer, values in zip(quantizers, outputs, strict=True):
        low, high = layer.get_range()
        assert low <= 0 <= high
        whole = levels(values, low, high)
        np.testing.assert_allclose(whole, np.round(whole), atol=2e-3, err_msg=layer.name)
        assert np.ptp(np.round(whole)) <= 255


def test_input_is_pinned_so_that_int8_is_the_pixel_less_128(quantized):
    first = next(layer for layer in quantized.layers if isinstance(layer, FakeQuant))
    assert first.fixed
    assert first.get_range() == (0.0, 1.0)


def test_weights_have_one_step_an_output_channel():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype(np.float32) * np.array([1, 10, 0.1, 0, 1])
    rounded = keras.ops.convert_to_numpy(round_weights(kernel.astype(np.float32), (0, 1, 2)))
    largest = np.abs(kernel).max((0, 1, 2))
    steps = np.maximum(largest, 1e-12) / 127
    np.testing.assert_allclose(rounded / steps, np.round(kernel / steps), atol=1e-3)
    np.testing.assert_allclose(np.abs(rounded).max((0, 1, 2)), largest, rtol=1e-6)


def test_the_transform_is_contracted_before_its_kernel_is_rounded(quantized):
    names = {layer.name: layer for layer in quantized.layers}
    assert not any("dwt" in name for name in names)
    assert names["block1_expand1"].kernel_size == (2, 2)
    assert names["block1_expand1"].strides == (2, 2)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_the_graph_that_ships_computes_the_quantized_model(name, images):
    options = NETWORKS[name]
    float_model = network(**options)
    shape = float_model.input_shape[1:]
    chosen = images if shape == SHAPE else generated_images(shape, 32, seed=1)
    model = quantize(float_model, chosen, observer="minmax")
    expected = predict(model, chosen[:16])
    assert spread(expected) > 0.02
    step = np.ptp(expected) / 255
    for form in UPSAMPLE_FORMS if name == "deconv" else UPSAMPLE_FORMS[:1]:
        error = np.abs(predict(deploy(model, {}, form), chosen[:16]) - expected) / step
        # In the converter's graph, float noise of the processor decides an average halfway between two integers: one in
        # sixteen in a bilinear upsampling. A wrong fold costs tens of steps.
        assert error.mean() <= (1.0 if name == "bilinear" else 0.1), form


@pytest.mark.filterwarnings("ignore:Training exceeded the calibrated range")
@pytest.mark.slow
def test_fit_trains_the_quantized_model_and_the_file_reloads(images, tmp_path):
    labels = (images.mean((1, 2)).argmax(-1)).astype(int)
    model = quantize(network(depth=1, upsample="bilinear", dropout=0.0), images)
    before = {w.path: np.asarray(w) for w in model.weights}
    model.compile(
        keras.optimizers.AdamW(3e-3, use_ema=True, ema_momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    history = model.fit(images, labels, epochs=8, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < 0.6 * history[0]
    for weight in model.trainable_weights:
        moved = np.abs(np.asarray(weight) - before[weight.path]).max()
        assert moved > 0 or "bias" in weight.path, weight.path  # a bias before batch norm has no gradient
    model.save(tmp_path / "qat.keras")
    again = keras.saving.load_model(tmp_path / "qat.keras")
    np.testing.assert_allclose(predict(again, images), predict(model, images), atol=1e-6)


def test_batch_norm_moves_before_bilinear_upsampling_without_changing_the_function(images):
    float_model = network(upsample="bilinear")
    model = quantize(float_model, images)
    norm = next(layer for layer in model.layers if layer.name == "block1_norm1")
    assert norm.output.shape[1:3] == (8, 8)  # at half size: before the upsampling
    expected = predict(float_model, images)
    assert np.abs(predict(model, images) - expected).mean() < 0.1 * spread(expected)


def test_target_replaces_activations_before_calibration(model, images):
    assert any("gelu" in str(layer.get_config().get("activation")) for layer in quantize(model, images).layers)
    ready = quantize(model, images, target="mcu")
    assert not any("gelu" in str(layer.get_config().get("activation")) for layer in ready.layers)
    assert "block1_activation1_for_gelu_sigmoid" in {layer.name for layer in ready.layers}


def test_any_activation_may_be_replaced_by_any():
    inputs = keras.Input((4, 4, 2))
    x = keras.layers.Activation("silu", name="first")(inputs)
    model = keras.Model(inputs, keras.layers.ReLU(name="second")(x))
    graph = Graph.from_model(model)
    assert substitute_activations(graph, {"silu": "hard_swish", "relu": "relu6"}) == ["first", "second"]
    values = np.linspace(-9, 9, 32, dtype=np.float32).reshape(1, 4, 4, 2)
    expected = np.clip(values * np.clip(values + 3, 0, 6) / 6, 0, 6)
    np.testing.assert_allclose(predict(graph.to_model("replaced"), values), expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"substitutes must be one of 'gelu', 'relu', .* Received: substitutes='elu'"):
        substitute_activations(graph, {"silu": "elu"})


@pytest.mark.parametrize("observer", ["image_error", "minmax", "percentile", "mse"])
@pytest.mark.slow
def test_observers_find_ranges(model, images, observer):
    ranged = quantize(model, images, observer=observer)
    expected = predict(model, images)
    assert np.abs(predict(ranged, images) - expected).mean() < 0.2 * spread(expected)


def test_calibrate_measures_the_ranges_again(model, images):
    again = quantize(model, images)
    layer = next(q for q in again.layers if q.name == "block2_residual_quant")
    found = layer.get_range()
    layer.set_range(-1e-3, 1e-3)
    calibrate(again, images)
    assert layer.get_range() == pytest.approx(found, rel=1e-3)  # biases are rounded by now


@pytest.mark.slow
def test_a_quantized_float16_network_scales_its_loss(images):
    float_model = network(depth=1, upsample="bilinear", dropout=0.0, dtype="mixed_float16")
    model = quantize(float_model, images)
    model.compile("sgd", "mse")
    assert type(model.optimizer) is keras.optimizers.LossScaleOptimizer


def test_mixed_precision_trains(images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    float_model = network(depth=1)
    model = quantize(float_model, images)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    loss = model.fit(images, np.zeros(len(images), int), epochs=2, verbose=0).history["loss"]
    assert loss[-1] < loss[0]
    assert model.get_layer("block1_expand1").compute_dtype == "bfloat16"


def test_layers_called_twice_stay_one_layer(images):
    inputs = keras.Input(SHAPE)
    shared = layers.Conv2D(3, 3, padding="same", activation="relu", name="shared")
    model = randomise(keras.Model(inputs, layers.GlobalAveragePooling2D()(shared(shared(inputs)))))
    quantized = quantize(model, images)
    kernels = [weight for weight in quantized.trainable_weights if "kernel" in weight.path]
    assert len(kernels) == 1
    expected = predict(quantized, images)
    assert np.abs(predict(deploy(quantized, {}, "transposed_conv"), images) - expected).max() < np.ptp(expected) / 255


def bad(images):
    return {
        "shape": (images[:, :8], r"calibration must be an array \(N, 16, 16, 3\).*shape=\(64, 8, 16, 3\)"),
        "one image": (images[0], r"calibration must be an array \(N, 16, 16, 3\)"),
        "bytes": ((images * 255).astype(np.uint8), r"float in \[0.0, 1.0\] \(pixel / 255\). Received: dtype=uint8"),
        "range": (images * 255, r"in \[0.0, 1.0\] \(pixel / 255\). Received: minimum=.*maximum=2"),
        "nan": (np.where(images > 0.9, np.nan, images), "finite"),
        "empty": (images[:0], r"Received: shape=\(0, 16, 16, 3\)"),
        "mixed": ([images[0], images[:, 1:]], "images of shape"),
        "nothing": (None, "images of shape.*NoneType"),
    }


@pytest.mark.parametrize("what", ["shape", "one image", "bytes", "range", "nan", "empty", "mixed", "nothing"])
def test_bad_calibration_is_distinguished(model, images, what):
    wrong, message = bad(images)[what]
    with pytest.raises(ValueError, match=message):
        quantize(model, wrong)


def test_calibration_may_come_in_pieces(model, images):
    whole = quantize(model, images[:32])
    pieces = quantize(model, iter([images[:16], images[16], *images[17:32]]))
    np.testing.assert_allclose(predict(pieces, images), predict(whole, images))


def test_wrong_options_name_the_right_ones(model, quantized, images):
    with pytest.raises(ValueError, match=r"engine must be one of 'native'.*engine='fast'"):
        quantize(model, images, engine="fast")
    with pytest.raises(ValueError, match=r"observer must be one of 'image_error'"):
        quantize(model, images, observer="max")
    with pytest.raises(ValueError, match=r"target must be one of 'android-cpu'.*target='watch'"):
        quantize(model, images, target="watch")
    with pytest.raises(ValueError, match=r"not a quantized one"):
        quantize(quantized, images)


def test_a_layer_without_a_rule_is_named(images):
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.UnitNormalization(name="odd_one")(inputs)))
    with pytest.raises(
        UnsupportedLayerError, match=r"'odd_one' of type UnitNormalization.*pass skip=.* to keep it float"
    ):
        quantize(model, images)


@pytest.mark.slow
@pytest.mark.parametrize(
    "transform",
    [
        lambda x: wm.DWT2D("db2")(x),
        lambda x: wm.IDWT2D()(layers.DepthwiseConv2D(3, padding="same")(wm.DWT2D()(x))),
        lambda x: wm.IDWT2D("db2")(layers.Conv2D(8, 1)(x)),
    ],
    ids=["db2", "haar and back", "inverse db2"],
)
def test_wavelets_without_a_convolution_behind_them_are_rounded_too(transform, images):
    inputs = keras.Input(SHAPE)
    x = layers.Activation("relu")(transform(inputs))
    model = randomise(keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x))))
    quantized = quantize(model, images)
    expected = predict(quantized, images)
    error = np.abs(predict(deploy(quantized, {}, "transposed_conv"), images) - expected)
    assert error.mean() <= 0.1 * np.ptp(expected) / 255


@pytest.mark.parametrize("bits", [8, 16])
def test_a_quantizers_gradient_is_that_of_keras(bits):
    """One inside the range and at its ends, zero outside; training computes it from one byte of each element."""
    layer = FakeQuant(bits=bits)
    layer.build(None)
    layer.set_range(-0.7, 1.3)
    low, high = layer.get_range()
    ends = [low, high, low - 1e-3, high + 1e-3, np.nextafter(low, -9), np.nextafter(high, 9), 0.0]
    values = np.concatenate([np.random.default_rng(0).uniform(-2, 2, 1000), ends]).astype("float32")
    x, weights = tf.constant(values), tf.constant(np.arange(len(values), dtype="float32"))
    found = []
    for function in (
        lambda x: layer(x, training=True),
        lambda x: keras.quantizers.fake_quant_with_min_max_vars(x, low, high, num_bits=bits, narrow_range=bits == 16),
    ):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
            loss = tf.reduce_sum(y * weights)
        found.append((np.asarray(y), np.asarray(tape.gradient(loss, x))))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_gelu_trains_as_one_operation():
    """In a user's network as well; its values and gradients are those of Keras's."""
    model = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(4, 1, activation="gelu"), layers.Flatten()])
    qat = quantize(model, np.random.default_rng(0).random((32, 8, 8, 4), "float32"))
    found = [layer for layer in qat.layers if isinstance(layer, layers.Activation)]
    assert [type(layer) for layer in found] == [FusedActivation]
    x = tf.constant(np.linspace(-5, 5, 256, dtype="float32"))
    gradients = []
    for function in (lambda x: found[0](x, training=True), keras.activations.gelu):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(function(x) * x)
        gradients.append(np.asarray(tape.gradient(loss, x)))
    np.testing.assert_allclose(*gradients, rtol=1e-5, atol=1e-6)


def test_a_shared_gelu_stays_one_layer_with_its_penalty():
    shared = layers.Activation("gelu", activity_regularizer=keras.regularizers.L2(0.5))
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, layers.Flatten()(shared(layers.Conv2D(4, 1)(shared(layers.Conv2D(4, 1)(inputs))))))
    qat = quantize(model, np.random.default_rng(0).random((32, 8, 8, 4), "float32"))
    (found,) = [layer for layer in qat.layers if isinstance(layer, FusedActivation)]
    assert float(found.activity_regularizer.l2) == 0.5
