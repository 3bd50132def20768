"""``quantize`` and ``export`` on networks of any standard layers, not only WaveMix."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from tflite_support import export_random as export
from tflite_support import randomise, spread, spread_statistics

import wavemix_tf as wm
from wavemix_tf.tflite import UnsupportedLayerError, quantize
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.graph.inputs import generated_images, predict
from wavemix_tf.tflite.graph.lowering import deploy
from wavemix_tf.tflite.layers.fake_quant import FakeQuant, KeepFloat, round_weights, weight_steps
from wavemix_tf.tflite.runtimes.running import run_file

SHAPE = (16, 16, 3)


@pytest.fixture(scope="module")
def images():
    return generated_images(SHAPE, 96, seed=1)


def classify(x, classes=5):
    return layers.Dense(classes, name="logits")(layers.GlobalAveragePooling2D(name="pool")(x))


def model_of(body, shape=SHAPE, seed=0):
    inputs = keras.Input(shape, name="image")
    model = randomise(keras.Model(inputs, body(inputs), name="net"), seed)
    return spread_statistics(model, generated_images(shape, 32, seed=9))


def separable(x):
    x = layers.SeparableConv2D(8, 3, strides=2, padding="same", depth_multiplier=2, activation="relu")(x)
    return classify(layers.SeparableConv2D(8, 3, activation=layers.LeakyReLU(0.1))(x))


def squeeze_excite(x):
    x = layers.Conv2D(8, 3, activation="silu")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="hard_sigmoid")(layers.Conv2D(4, 1, activation="relu")(gate))
    return classify(layers.Multiply()([x, gate]))


def operations(x):
    x = layers.Conv2D(6, 3, padding="same")(x)
    x = x * ops.relu6(x + 3.0) * (1 / 6)  # hard swish by hand
    y = layers.Conv2D(6, 3, padding="same")(x)
    return layers.Dense(5)(ops.mean(0.5 * (x - y) / 0.25, axis=(1, 2)))


def merges(x):
    a, b, c = (layers.Conv2D(6, 3, padding="same", activation=f)(x) for f in ("relu6", "tanh", None))
    x = layers.Concatenate()([layers.Add()([a, b, c]), layers.Average()([a, c]), layers.Subtract()([a, b])])
    return classify(layers.Conv2D(8, 1, activation="gelu")(x))


def pools(x):
    x = layers.Conv2D(6, 3, activation="relu")(layers.ZeroPadding2D(((1, 2), (0, 1)))(x))
    a = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    b = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    x = layers.Concatenate()([a, b])
    flat = layers.Concatenate()([layers.GlobalMaxPooling2D()(x), layers.GlobalAveragePooling2D()(x)])
    return layers.Dense(5)(flat)


def resizes(x):
    x = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    a = layers.UpSampling2D(2, interpolation="nearest")(x)
    b = layers.Resizing(16, 16, interpolation="bilinear")(x)
    x = layers.Cropping2D(((1, 0), (0, 1)))(layers.Add()([a, b]))
    return classify(layers.Conv2D(8, 3, dilation_rate=2, activation="hard_swish")(x))


def norms(x):
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, activation="gelu")(x))  # after an activation
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.BatchNormalization()(layers.Add()([x, y]))  # after a sum
    x = layers.BatchNormalization()(layers.Concatenate()([layers.ReLU()(x), y]))  # after a concatenation
    x = layers.BatchNormalization()(layers.Conv2DTranspose(6, 4, strides=2, padding="same", activation="relu")(x))
    x = layers.BatchNormalization()(
        layers.Dense(8, activation="relu")(layers.GlobalAveragePooling2D()(x))
    )  # of vectors
    return layers.Dense(5)(layers.Dropout(0.1)(x))


def shared(x):
    conv, norm = layers.Conv2D(3, 3, padding="same", name="twice"), layers.BatchNormalization(name="norm")
    for _ in range(2):
        x = layers.Activation("relu")(norm(conv(x)))
    return classify(x)


def nested(x):
    part = keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(4, 3, name="conv"), layers.ReLU()], name="part")
    other = keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(4, 3, name="conv"), layers.ReLU()], name="other")
    return classify(layers.Add()([layers.Add()([part(x), part(0.5 * x)]), other(x)]))


def wavelets(x):
    x = wm.WaveMixBlock(8, levels=2, name="block")(layers.Conv2D(8, 3, padding="same", name="stem")(x))
    return classify(layers.Activation("relu")(wm.DWT2D("db2")(x)))


def shuffled(x):
    x = layers.Permute((2, 1, 3))(layers.Conv2D(8, 3, strides=2, groups=1, activation="relu")(x))
    x = layers.Reshape((7, 14, 4))(x)
    return layers.Dense(5, activation="softmax")(layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(x)))


BODIES = [
    separable,
    squeeze_excite,
    operations,
    merges,
    pools,
    resizes,
    norms,
    shared,
    nested,
    wavelets,
    shuffled,
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@pytest.mark.slow
def test_the_float_graph_that_ships_is_the_model(body, images):
    model = model_of(body)
    expected = predict(model, images[:16])
    assert spread(expected) > 0.005
    for form in ("subpixel_crop", "transposed_conv"):
        assert np.abs(predict(deploy(model, {}, form), images[:16]) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@pytest.mark.slow
def test_the_int8_file_computes_the_quantized_model(body, images):
    model = model_of(body)
    quantized = quantize(model, images[:64], observer="minmax")  # tests/test_tflite_ranges.py checks ranges
    expected = predict(model, images[64:])
    assert np.abs(predict(quantized, images[64:]) - expected).mean() < 0.25 * spread(expected)
    artifact = export(quantized, "android-cpu", images=images[64:])
    rows = {row["runtime"]: row for row in artifact.verification["fidelity"]["runtimes"]}
    # Sums, products and activations round once more under XNNPACK than in float; a wrong grid costs tens of steps.
    assert rows["litert-xnnpack"]["mean_error_steps"] <= 0.5
    assert rows["litert-reference"]["mean_error_steps"] <= 1.0
    info = read_file(artifact.content)
    assert not any(t.dtype.startswith("float") for op in info.ops for t in (*op.inputs, *op.outputs))


@pytest.mark.slow
def test_fused_activations_have_one_quantizer(images):
    model = model_of(lambda x: classify(layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))))
    fused = model_of(lambda x: classify(layers.Conv2D(4, 3, activation="relu6")(x)))
    for net in (model, fused):
        quantizers = [layer for layer in quantize(net, images).layers if isinstance(layer, FakeQuant)]
        assert len(quantizers) == 4  # image, convolution, pooling, logits
    before = model_of(lambda x: classify(layers.ReLU()(layers.BatchNormalization()(layers.MaxPooling2D()(x)))))
    assert len([q for q in quantize(before, images).layers if isinstance(q, FakeQuant)]) == 4
    ops_of = export(quantize(before, images), "android-cpu", images=images).ops
    assert ops_of == ("MAX_POOL_2D", "DEPTHWISE_CONV_2D", "MEAN", "FULLY_CONNECTED")


def test_layers_used_twice_train_as_one_and_ship(images):
    quantized = quantize(model_of(shared), images)
    assert len(quantized.trainable_weights) == len(model_of(shared).trainable_weights) == 6
    assert export(quantized, "mcu", images=images[:32]).ops.count("CONV_2D") == 2


def two_inputs():
    image, vector = keras.Input((12, 12, 3), name="image"), keras.Input((4,), name="pose")
    x = layers.Conv2D(6, 3, activation="relu")(image)
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(x), layers.Dense(4, activation="relu")(vector)])
    outputs = {"box": layers.Dense(4, name="box")(x), "scores": layers.Dense(3, name="scores")(x)}
    return randomise(keras.Model({"image": image, "pose": vector}, outputs, name="two"))


@pytest.mark.parametrize("target", ["android-cpu", "mcu"])
@pytest.mark.slow
def test_several_inputs_and_outputs(target):
    rng = np.random.default_rng(0)
    model = two_inputs()
    data = {"image": generated_images((12, 12, 3), 64), "pose": rng.normal(size=(64, 4)).astype(np.float32)}
    quantized = quantize(model, data, input_range=[(0.0, 1.0), None])
    found = quantized({name: part[:2] for name, part in data.items()}, training=False)
    assert set(found) == {"box", "scores"}
    held = {"image": generated_images((12, 12, 3), 32, seed=5), "pose": rng.normal(size=(32, 4)).astype(np.float32)}
    artifact = export(quantized, target, images=held)
    info = read_file(artifact.content)
    assert [tensor.shape for tensor in info.inputs] == [(1, 12, 12, 3), (1, 4)]
    assert [tensor.shape for tensor in info.outputs] == [(1, 4), (1, 3)]
    assert artifact.verification["fidelity"]["mean_error_steps"] <= 0.5
    box, scores = run_file(artifact.content, [held["image"], held["pose"]], "litert-xnnpack")
    expected = quantized(held, training=False)
    np.testing.assert_allclose(box, expected["box"], atol=3 * info.outputs[0].scale)
    np.testing.assert_allclose(scores, expected["scores"], atol=3 * info.outputs[1].scale)
    with pytest.raises(ValueError, match=r"a dict or tuple of one array per input \(image, pose\). Received"):
        quantize(model, data["image"])
    told = r"calibration of input 'pose' must be .* in \[0\.0, 1\.0\].*; if .* are right, pass input_range=: a list"
    with pytest.raises(ValueError, match=told):
        quantize(model, data)


@pytest.mark.parametrize("engine", ["native", "tfmot"])
@pytest.mark.slow
def test_a_range_that_the_images_do_not_fill_is_reported(images, engine):
    model = model_of(lambda x: classify(layers.Conv2D(6, 3, activation="relu")(x)))
    with pytest.warns(UserWarning, match=r"input_range=\(0, 255\), .*images from 0 to 1, which fill 0.4% of it"):
        quantize(model, images, engine=engine, input_range=(0, 255))
    with pytest.warns(UserWarning, match=r"fill 50\.0% of it"):
        quantize(model, images, engine=engine, input_range=(-1, 1))


def test_pixels_may_come_unscaled(images):
    def body(x):
        return classify(layers.Conv2D(6, 3, activation="relu")(layers.Rescaling(1 / 127.5, -1.0)(x)))

    model = model_of(body)
    pixels = np.round(images * 255).astype(np.float32)
    artifact = export(quantize(model, pixels, input_range=(0, 255)), "android-cpu", images=pixels[:32])
    assert artifact.input_meaning == "pixel - 128"
    assert read_file(artifact.content).inputs[0].scale == 1.0
    signed = model_of(lambda x: classify(layers.Conv2D(6, 3, activation="relu")(x)))
    artifact = export(quantize(signed, images * 2 - 1, input_range=(-1, 1)), "android-cpu", images=images[:32] * 2 - 1)
    assert "x in [-1, 1]" in artifact.input_meaning
    with pytest.raises(ValueError, match=r"finite and in \[-1.0, 1.0\]. Received"):
        quantize(signed, pixels, input_range=(-1, 1))
    with pytest.raises(ValueError, match=r"input_range must be \(low, high\) with low <= 0 <= high.*\(1, 0\)"):
        quantize(signed, pixels, input_range=(1, 0))


@pytest.mark.parametrize("names", [["stem"], ["block"], ["logits"], ["pool", "logits"]], ids="-".join)
@pytest.mark.slow
def test_skipped_layers_stay_float_and_the_rest_does_not(names, images, tmp_path):
    quantized = quantize(model_of(wavelets), images[:64], skip=names)
    quantized.save(tmp_path / "qat.keras")
    again = keras.saving.load_model(tmp_path / "qat.keras")
    assert any(isinstance(layer, KeepFloat) for layer in again.layers) or names == ["stem"]
    artifact = export(again, "android-cpu", images=images[64:])
    kept = {name for layer in artifact.float_layers for name in names if layer.startswith(name)}
    assert kept == set(names)
    assert all(layer.startswith(tuple(names)) for layer in artifact.float_layers)
    assert artifact.input_ranges == ((0.0, 1.0),)
    info = read_file(artifact.content)
    weighted = [op for op in info.ops if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    kinds = {op.inputs[0].dtype for op in weighted}
    assert kinds == {"int8", "float32"}
    assert artifact.verification["fidelity"]["mean_error_steps"] <= 0.5
    if names == ["logits"]:
        assert [op.name for op in weighted if op.inputs[0].dtype == "float32"] == ["FULLY_CONNECTED"]
        assert info.outputs[0].dtype == "float32"
        with pytest.raises(ValueError, match=r"first or last layer stays float has float32.*io_dtype='int8'"):
            export(again, "android-cpu", io_dtype="int8", images=images[64:])


def test_unknown_layers_to_skip_are_named(images):
    with pytest.raises(
        ValueError, match=r"skip must name layers of the model; similar: logits. Received: skip='logit'"
    ):
        quantize(model_of(shared), images, skip=["logit"])
    with pytest.raises(ValueError, match="skip must be a list"):
        quantize(model_of(shared), images, skip="logits")


@pytest.mark.parametrize(
    ("layer", "advice"),
    [
        (layers.Lambda(lambda t: 2 * t, name="odd"), "or use the layers or keras.ops that it is made of"),
        (layers.SpectralNormalization(layers.Conv2D(4, 1), name="odd"), "or use the layer that it wraps"),
        (layers.Activation("elu", name="odd"), "or train the model again with keras.layers.LeakyReLU"),
        (layers.UnitNormalization(name="odd"), r"without a rule\)\. Received"),
    ],
)
def test_what_is_advised_computes_the_same_or_asks_for_a_training(layer, advice, images):
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, classify(layer(layers.Conv2D(4, 3)(inputs))))
    with pytest.raises(UnsupportedLayerError, match=advice):
        quantize(model, images)


@pytest.mark.slow
def test_a_layer_without_a_rule_may_stay_float(images):
    model = model_of(lambda x: classify(layers.UnitNormalization(name="odd")(layers.Conv2D(4, 3)(x))))
    with pytest.raises(UnsupportedLayerError, match="'odd' of type UnitNormalization"):
        quantize(model, images)
    quantize(model, images, skip=["odd"])


@pytest.mark.parametrize("body", [wavelets, norms, squeeze_excite], ids=lambda body: body.__name__)
def test_sixteen_bit_activations_are_nearer_the_float_model(body, images):
    model = model_of(body)
    expected = predict(model, images[64:])
    errors = {}
    for dtype in ("int8", "int16x8"):
        quantized = quantize(model, images[:64], dtype=dtype)
        errors[dtype] = np.abs(predict(quantized, images[64:]) - expected).mean()
    assert errors["int16x8"] < 0.7 * errors["int8"]
    with pytest.raises(
        ValueError, match=r"also for a quantized model: pass calibration=images\. Received: calibration="
    ):
        export(quantized, "mcu", images=images[64:])
    artifact = export(quantized, "mcu", calibration=images[:64], images=images[64:])
    assert (artifact.dtype, artifact.io_dtype) == ("int16x8", "int16")
    assert artifact.verification["fidelity"]["mean_error_steps"] <= 0.1  # of an int8 step
    dtypes = {t.dtype for op in read_file(artifact.content).ops for t in op.outputs}
    assert dtypes == {"int16"}
    with pytest.raises(ValueError, match="A model quantized as int16x8 exports as int16x8"):
        export(quantized, "android-cpu", dtype="int8")


def test_compensated_rounding_beats_the_nearest_integers(images):
    """On coarse grids, where it matters: the integers it chooses, against the nearest, layer by layer."""
    from wavemix_tf.tflite.quantization.rounding import _gptq

    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(2000, 24)) @ rng.normal(size=(24, 24))).astype(np.float32)  # correlated inputs
    weights = rng.normal(size=(24, 6)).astype(np.float32)
    chosen, nearest = _gptq(weights, rows), np.asarray(round_weights(weights, (0,)))
    steps = np.asarray(weight_steps(weights, (0,)))
    np.testing.assert_allclose(chosen / steps, np.round(chosen / steps), atol=1e-3)
    np.testing.assert_allclose(np.asarray(weight_steps(chosen, (0,))), steps, rtol=1e-5)
    error = [np.square(rows @ (part - weights)).mean() for part in (chosen, nearest)]
    assert error[0] < 0.6 * error[1]


@pytest.mark.parametrize("body", [wavelets, norms, separable], ids=lambda body: body.__name__)
@pytest.mark.slow
def test_compensated_rounding_survives_in_the_file(body, images):
    model = model_of(body)
    rounded = quantize(model, images[:64], rounding="gptq")
    again = quantize(model, images[:64])
    changed = 0
    for one, other in zip(rounded.trainable_weights, again.trainable_weights, strict=True):
        changed += "kernel" in one.path and bool(np.abs(np.asarray(one) - np.asarray(other)).max() > 0)
    assert changed >= 3
    for layer in rounded.layers:
        if hasattr(layer, "kernel_axes"):
            kernel, steps = np.asarray(layer.kernel), np.asarray(weight_steps(layer.kernel, layer.kernel_axes))
            np.testing.assert_allclose(kernel / steps, np.round(kernel / steps), atol=1e-3, err_msg=layer.name)
    artifact = export(rounded, "android-cpu", images=images[64:])
    assert artifact.verification["fidelity"]["runtimes"][0]["mean_error_steps"] <= 0.5


def test_rounding_is_compensated_in_frozen_models_too(images):
    model = model_of(separable)
    model.trainable = False
    kernels = [quantize(model, images, rounding=how).get_weights() for how in ("nearest", "gptq")]
    assert max(np.abs(a - b).max() for a, b in zip(*kernels, strict=True)) > 0


@pytest.mark.parametrize("form", ["transposed_conv", "subpixel_crop", "subpixel_3x3"])
@pytest.mark.slow
def test_a_channel_that_a_norm_switches_off_ships(form, images):
    def body(x):
        x = layers.Conv2DTranspose(4, 4, strides=2, padding="same")(x)
        return classify(layers.ReLU()(layers.BatchNormalization(name="norm")(x)))

    model = model_of(body)
    model.get_layer("norm").gamma.assign([1.0, 1.0, 0.0, 1.0])
    artifact = export(quantize(model, images), "android-cpu", images=images[:32], upsample_form=form)
    assert artifact.verification["fidelity"]["runtimes"][0]["mean_error_steps"] <= 0.5


def test_a_norm_that_stays_behind_a_resize_is_rounded_where_the_file_rounds(images):
    def body(x):
        x = layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(6, 3, strides=2)(x))
        x = layers.BatchNormalization()(layers.Cropping2D(1)(x))
        return classify(layers.BatchNormalization(scale=False)(layers.Resizing(9, 9)(layers.Conv2D(4, 3)(x))))

    artifact = export(quantize(model_of(body), images), "android-cpu", images=images[:32])
    assert artifact.verification["fidelity"]["runtimes"][0]["mean_error_steps"] <= 0.5


@pytest.mark.slow
def test_under_mixed_precision_the_file_has_the_integers_that_were_trained(images):
    keras.config.set_dtype_policy("mixed_bfloat16")
    quantized = quantize(model_of(shared), images)
    layer = quantized.get_layer("twice")
    seen = keras.Model(quantized.input, layer.output)  # after the input's grid, which contains 0 and 1
    one = np.zeros((1, 16, 16, 3), np.float32)
    one[0, 8, 8, 0] = 1.0  # the response to one pixel is the kernel, flipped, and the bias
    bias = np.asarray(seen(np.zeros_like(one)), np.float32)[0, 8, 8]
    response = np.asarray(seen(one), np.float32)[0, 7:10, 7:10][::-1, ::-1] - bias
    assert layer.kernel.dtype == "float32"
    kernel = np.asarray(layer.kernel)
    expected = np.asarray(round_weights(kernel, (0, 1, 2)))[:, :, 0]
    steps = np.asarray(weight_steps(kernel, (0, 1, 2)))[0, 0]
    assert np.abs(response - expected).max() < 0.5 * steps.max()


def test_outputs_are_judged_one_by_one():
    from wavemix_tf.tflite.verification.verifier import RuntimeReport, _worst, fault

    def row(agreement, counted):
        return RuntimeReport("litert-xnnpack", counted, 0.1, 0.1, 1.0, agreement, counted, None, ())

    forgiven, wrong, silent = row(0.5, 2), row(0.9, 1000), row(None, 0)
    for rows in ([forgiven, wrong], [wrong, forgiven], [silent, wrong]):
        assert "agree on 90.0% of 1000" in fault(_worst(rows).__dict__, 1.0)
    assert fault(_worst([silent, forgiven]).__dict__, 1.0) is None


class Conv2D(layers.Conv2D):
    """A user's layer of a known name that computes another thing."""

    def call(self, inputs):
        return super().call(inputs) + 5.0


@pytest.mark.slow
def test_what_is_not_ours_is_named_and_not_guessed(images):
    def rounded(x):
        return classify(ops.floor(layers.Conv2D(4, 3)(x)))

    def two_levels(x):
        return classify(layers.Conv2D(4, 1)(wm.DWT2D(levels=2)(x)[1]))

    def periodic(x):
        return classify(wm.IDWT2D("db2", "periodization", name="back")(layers.Conv2D(8, 3)(x)))

    for body, message in [
        (lambda x: classify(Conv2D(4, 3, name="mine")(x)), "'mine' of type custom Conv2D has no int8 rule"),
        (rounded, "of type ops.Floor has no int8 rule"),
        (two_levels, "DWT2D exports with levels=1"),
        (periodic, "IDWT2D 'back' must have mode='zero' or Haar's filters"),
        (lambda x: classify(layers.UpSampling2D(2, interpolation="bicubic")(x)), "'nearest' or 'bilinear'"),
        (
            lambda x: classify(layers.BatchNormalization(axis=1)(x)),
            "must act only on the last axis: build it with axis=-1",
        ),
        (
            lambda x: classify(layers.Normalization(mean=0.5, variance=0.2, invert=True)(x)),
            r"must normalize, not invert: build it without invert=True, or skip=\['\w+'\] keeps it float",
        ),
    ]:
        with pytest.raises(UnsupportedLayerError, match=message):
            quantize(model_of(body), images)
    kept = quantize(model_of(lambda x: classify(ops.gelu(layers.Conv2D(4, 3)(x)))), images, skip=["gelu"])
    assert any(isinstance(layer, KeepFloat) for layer in kept.layers)
    with pytest.raises(ValueError, match=r"only images, without labels\. Received: a tuple of 2"):
        quantize(model_of(shared), iter([(images, np.zeros(96))]))
    with pytest.raises(ValueError, match="made by the native engine of quantize"):
        wm.tflite.calibrate(model_of(shared), images)


@pytest.mark.filterwarnings("ignore:Training exceeded the calibrated range")
def test_fit_goes_on_unchanged_under_jit(images):
    labels = images.mean((1, 2)).argmax(-1)
    model = quantize(model_of(shared), images)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=True)
    stop = keras.callbacks.EarlyStopping("loss", patience=50)
    history = model.fit(images, labels, epochs=6, verbose=0, callbacks=[stop]).history["loss"]
    assert history[-1] < history[0]


def test_few_images_are_refused(images):
    with pytest.raises(ValueError, match=r"calibration must contain at least 32 images. Received: 31 images"):
        quantize(model_of(shared), images[:31])
