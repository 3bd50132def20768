"""WaveMix's peers on the devices: the ops of their files, and their outputs."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from mixer_support import SHAPE, SYSTEMS, attention, norm, patches, stand_in, vit_ats
from tflite_support import Made, float_ops, randomise, spread
from tflite_support import export_random as export

from wavemix_tf.tflite import TARGETS, UnsupportedLayerError, UnsupportedOpError, quantize
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.graph.inputs import generated_images, predict
from wavemix_tf.tflite.graph.lowering import deploy
from wavemix_tf.tflite.layers.token_layers import MatMul
from wavemix_tf.tflite.runtimes.running import run_file

# The characteristic ops of each system, all int8.
CARRIED_BY = {
    "ConvMixer": {"DEPTHWISE_CONV_2D", "GELU", "ADD"},
    "MLP-Mixer": {"TRANSPOSE", "FULLY_CONNECTED", "MEAN", "RSQRT"},
    "PoolFormer": {"AVERAGE_POOL_2D", "SUB", "DEPTHWISE_CONV_2D", "MEAN", "RSQRT"},
    "Fourier": {"TRANSPOSE", "FULLY_CONNECTED", "SUB", "RSQRT"},
    "ViT": {"BATCH_MATMUL", "SOFTMAX", "PAD", "ADD", "STRIDED_SLICE", "RSQRT"},
    "DynaMixer": {"BATCH_MATMUL", "SOFTMAX", "TRANSPOSE", "STRIDED_SLICE", "RSQRT"},
}
# (system, target) that is refused -> reason; "android-cpu" runs all.
REFUSED = {("ViT", "edge-tpu"): "BATCH_MATMUL", ("DynaMixer", "edge-tpu"): "BATCH_MATMUL",
           ("DynaMixer", "android-gpu"): "at most 4 dimensions",
           ("DynaMixer", "mcu"): "\\(CMSIS-NN\\).*Use target 'c'"}  # fmt: skip
# Under XNNPACK, in mean output steps. Each norm rounds six times where a batch norm, part of a convolution, does not.
BOUND_STEPS = 1.0
REFERENCE_BOUND_STEPS = 2.5


# One generated image may differ from the others.
pytestmark = pytest.mark.filterwarnings("ignore:Calibration image")


@pytest.fixture(scope="module")
def images():
    return generated_images(SHAPE, 96, seed=1)


@pytest.fixture(scope="module")
def systems(images):
    def make(name):
        model = stand_in(SYSTEMS[name])
        return model, quantize(model, images[:64])

    return Made(make)


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.slow
def test_every_op_of_a_system_is_int8_and_computes_the_quantized_model(name, systems, images):
    model, quantized = systems[name]
    expected, held = predict(model, images[64:]), predict(quantized, images[64:])
    folded = predict(deploy(model, {}, "transposed_conv"), images[64:])
    assert np.abs(folded - expected).max() <= 1e-5 * np.abs(expected).max()
    assert np.abs(held - expected).mean() < 0.25 * spread(expected)
    artifact = export(quantized, "android-cpu", images=images[64:])
    info = read_file(artifact.content)
    assert float_ops(info) == []
    assert {op.name for op in info.ops} >= CARRIED_BY[name]
    assert artifact.float_layers == ()
    rows = {row["runtime"]: row["mean_error_steps"] for row in artifact.verification["fidelity"]["runtimes"]}
    assert rows["litert-xnnpack"] <= BOUND_STEPS
    assert rows["litert-reference"] <= REFERENCE_BOUND_STEPS


@pytest.mark.slow
@pytest.mark.parametrize("target", ["mcu", "ethos-u55", "ethos-u85", "android-npu", "edge-tpu", "android-gpu"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_targets_run_a_system_or_say_why_not(name, target, systems, images):
    model, quantized = systems[name]
    given = model if "float16" in TARGETS[target].dtypes else quantized
    reason = REFUSED.get((name, target))
    if reason is not None:
        with pytest.raises(UnsupportedOpError, match=rf"does not fit target '{target}'.*{reason}"):
            export(given, target, images=images[64:])
        return
    artifact = export(given, target, images=images[64:])
    assert artifact.npu is None or artifact.npu.cpu_ops == ()
    assert given is model or float_ops(read_file(artifact.content)) == []


def test_a_sampled_vit_keeps_the_choice_in_float(images):
    model = stand_in(vit_ats)
    with pytest.raises(UnsupportedLayerError, match=r"of type ops.Cumsum has no int8 rule.*skip='unsupported'"):
        quantize(model, images[:64])
    quantized = quantize(model, images[:64], skip="unsupported")
    artifact = export(quantized, "android-cpu", images=images[64:], error_bound_steps=4)
    info = read_file(artifact.content)
    assert {"CUMSUM", "TOPK_V2"} <= {op.name for op in info.ops}
    for op in info.ops:
        if op.name in ("FULLY_CONNECTED", "BATCH_MATMUL", "SOFTMAX", "CONV_2D"):
            assert op.outputs[0].dtype == "int8", op.name
    assert any("top_k" in name or "cum_sum" in name or "cumsum" in name for name in artifact.float_layers)
    with pytest.raises(UnsupportedOpError, match=r"does not fit target 'ethos-u55'.*CUMSUM"):
        export(quantized, "ethos-u55", images=images[64:])
    with pytest.raises(UnsupportedOpError, match=r"does not fit target 'mcu'.*TOPK_V2 .* is not supported"):
        export(quantized, "mcu", images=images[64:])


def test_a_norm_may_stay_float(images):
    def body(x):
        return layers.Dense(5, name="head")(layers.GlobalAveragePooling1D()(norm(patches(x), "norm")))

    quantized = quantize(stand_in(body), images[:64], skip=["norm"])
    artifact = export(quantized, "android-cpu", images=images[64:])
    assert artifact.float_layers
    assert "RSQRT" in float_ops(read_file(artifact.content))
    assert artifact.verification["fidelity"]["mean_error_steps"] <= 0.5
    with pytest.raises(UnsupportedOpError, match=r"does not fit target 'ethos-u85'"):
        export(quantized, "ethos-u85", images=images[64:])


def forms(x):
    """Ways to write matrix products, slices, transpositions and means."""
    x = layers.Conv2D(8, 4, strides=4, name="patches")(x)
    x = ops.reshape(x, (-1, 16, 8))
    a, b = (layers.Dense(8, name=name)(x) for name in ("a", "b"))
    scores = ops.einsum("bnc,bmc->bnm", a, b) / 8.0
    y = ops.einsum("bnm,bmhd->bhnd", layers.Softmax(axis=1)(scores), ops.reshape(x, (-1, 16, 2, 4)))
    y = ops.reshape(ops.moveaxis(y, 1, 2), (-1, 16, 8))
    first, second = ops.split(y, 2, axis=-1)
    z = ops.stack([first, second], axis=2)  # (B, 16, 2, 4)
    z = ops.square(ops.swapaxes(z, 2, 3)[:, 2:10, :, 1]) + np.linspace(-1, 1, 32, dtype="float32").reshape(8, 4)
    z = ops.concatenate([ops.mean(z, axis=1), ops.take(y, 3, axis=1), y[:, -1, 2:5]], axis=-1)
    return layers.Dense(5, name="head")(z)


def test_the_ways_to_write_it_are_one(images):
    model = stand_in(forms)
    expected = predict(model, images[64:])
    assert np.abs(predict(deploy(model, {}, "transposed_conv"), images[64:]) - expected).max() < 1e-5
    quantized = quantize(model, images[:64])
    assert sum(isinstance(layer, MatMul) for layer in quantized.layers) == 2
    artifact = export(quantized, "ethos-u55", images=images[64:])
    assert float_ops(read_file(artifact.content)) == []
    assert artifact.verification["fidelity"]["runtimes"][0]["mean_error_steps"] <= 0.5


def test_a_mask_before_a_softmax_leaves_the_scores_their_levels(images):
    def body(x):
        x = patches(x)
        mask = np.where(np.arange(16) % 3 == 0, -1e4, 0.0).astype("float32")
        scores = ops.matmul(layers.Dense(16, name="q")(x), ops.transpose(layers.Dense(16, name="k")(x), (0, 2, 1)))
        x = ops.matmul(ops.softmax(scores / 4.0 + mask), x)
        return layers.Dense(5, name="head")(layers.GlobalAveragePooling1D()(x))

    model = stand_in(body)
    quantized = quantize(model, images[:64])
    expected = predict(model, images[64:])
    assert np.abs(predict(quantized, images[64:]) - expected).mean() < 0.1 * spread(expected)
    artifact = export(quantized, "android-cpu", images=images[64:])
    assert artifact.verification["fidelity"]["runtimes"][0]["mean_error_steps"] <= 1.0


@pytest.mark.slow
def test_query_key_and_value_get_ranges_of_their_own(images):
    def body(x):
        return layers.Dense(5, name="head")(layers.GlobalAveragePooling1D()(attention(patches(x), "attention")))

    quantized = quantize(stand_in(body), images[:64])
    parts = [
        layer for layer in quantized.layers if layer.name.startswith("attention_qkv_") and hasattr(layer, "kernel")
    ]
    assert [tuple(layer.kernel.shape) for layer in parts] == [(16, 16)] * 3
    assert len({layer.get_range() for layer in quantized.layers if layer.name.startswith("attention_qkv_") and
                hasattr(layer, "get_range")}) == 3  # fmt: skip
    # 1 / sqrt(d) is part of the weights.
    assert "MUL" not in export(quantized, "android-cpu", images=images[64:]).ops


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.slow
def test_group_norms_of_any_number_of_groups(groups, images):
    def body(x):
        x = layers.GroupNormalization(groups, name="norm")(layers.Conv2D(8, 3, strides=2, name="conv")(x))
        return layers.Dense(5, name="head")(layers.GlobalAveragePooling2D()(layers.ReLU()(x)))

    model = stand_in(body)
    quantized = quantize(model, images[:64])
    expected = predict(model, images[64:])
    assert np.abs(predict(quantized, images[64:]) - expected).mean() < 0.25 * spread(expected)
    artifact = export(quantized, "ethos-u55", images=images[64:])
    assert artifact.npu.cpu_ops == ()
    assert artifact.verification["fidelity"]["runtimes"][0]["mean_error_steps"] <= 1.0


def test_a_constant_token_does_not_divide_by_zero(images):
    """A variance of integer zero is the largest value in every runtime, as in the model."""

    def body(x):
        x = layers.Conv2D(8, 4, strides=4, use_bias=False, name="patches")(x)
        return layers.Dense(5, name="head")(norm(layers.Reshape((16, 8))(x), "norm")[:, 3])

    model = stand_in(body)
    quantized = quantize(model, images[:64])
    black = np.zeros_like(images[64:68])
    expected = predict(quantized, black)
    assert np.isfinite(expected).all()
    content = export(quantized, "mcu", images=images[64:]).content
    scale = read_file(content).outputs[0].scale
    for runtime in TARGETS["mcu"].runtimes:
        assert np.abs(run_file(content, black, runtime) - expected).max() <= 1.01 * scale


def test_token_networks_train_on_and_load(images, tmp_path):
    quantized = quantize(stand_in(SYSTEMS["ViT"]), images[:64])
    labels = images.mean((1, 2)).argmax(-1)
    quantized.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [np.asarray(weight) for weight in quantized.trainable_weights]
    history = quantized.fit(images, labels, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert all(np.abs(np.asarray(w) - b).max() > 0 for w, b in zip(quantized.trainable_weights, before, strict=True))
    quantized.save(tmp_path / "vit.keras")
    loaded = keras.saving.load_model(tmp_path / "vit.keras")
    np.testing.assert_array_equal(predict(loaded, images[:8]), predict(quantized, images[:8]))


@pytest.mark.slow
def test_a_large_mean_over_channels_is_exact():
    """Over 64 channels the mean of rounded squares is as good as that of the squares."""
    inputs = keras.Input((4, 4, 3), name="image")
    x = layers.Reshape((16, 64))(layers.Conv2D(64, 1, name="conv")(inputs))
    model = randomise(keras.Model(inputs, norm(x, "norm"), name="one"))
    data = generated_images((4, 4, 3), 64, seed=2)
    expected = predict(model, data)
    error = predict(quantize(model, data), data) - expected
    assert np.sqrt(np.square(error).mean()) < 0.03 * expected.std()
