"""``wm.profile`` against published figures, and manually computed products."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import wavemix_tf as wm
from wavemix_tf.keras_internals import flatten_layers


def model_of(shape, *stack):
    inputs = keras.Input(shape)
    x = inputs
    for layer in stack:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("arguments", "megamacs"),
    [
        (dict(width=32, depth=7), 43.7),
        (dict(width=64, depth=6), 151.9),
        (dict(width=144, depth=7), 877.9),
    ],
)
def test_wavemix_lite_has_the_macs_of_the_official_network(arguments, megamacs):
    """Of the official PyTorch network's forward pass at 32x32."""
    assert wm.profile(wm.WaveMixClassifier(10, (32, 32, 3), **arguments)).macs / 1e6 == pytest.approx(
        megamacs, abs=0.05
    )


def test_wavemix_192_16_has_the_macs_of_the_official_network():
    """Three levels and a patchify stem at 64x64."""
    model = wm.build_model("wavemix_192_16_l3_p4", num_classes=200, image_shape=(64, 64, 3))
    found = wm.profile(model)
    assert found.macs / 1e6 == pytest.approx(1232, abs=0.5)
    assert found.parameters == sum(np.prod(w.shape) for w in model.trainable_weights)
    assert found.parameters + found.other_parameters == model.count_params()
    assert found.uncounted == ()


def test_a_segmenter_counts_its_head():
    options = dict(width=8, depth=1, levels=1)
    found = wm.profile(wm.WaveMixSegmenter(5, (16, 24, 3), **options))
    backbone = wm.profile(wm.WaveMixClassifier(5, (16, 24, 3), stride=2, **options))
    head = 24 * 8 * 16 * 4 + 96 * 4 * 16 * 2 + 384 * 2 * 5
    assert found.macs == backbone.macs - 8 * 5 + head
    assert found.uncounted == ()


def test_a_super_resolver_counts_colours_and_bicubic_upsampling():
    found = wm.profile(wm.WaveMixSuperResolver("wavemixsr", 2, (6, 10, 3), width=8, depth=1))
    stem = 240 * 9 * (1 * 4 + 4 * 8)
    block = 240 * 8 * 2 + 60 * (8 * 8 + 8 * 8 + 16 * 8 * 8)
    head = 240 * 9 * 8 * 4 + 240 * 4
    colours = 60 * 3 * 3 + 60 * 25 * (4 + 2 * 8) + 240 * 3 * 3
    assert found.macs == stem + block + head + colours
    assert found.uncounted == ()


@pytest.mark.slow
def test_mobilenet_v2():
    """300 million multiply-adds and 3.4 to 3.5 million parameters (Sandler et al., arXiv 1801.04381, table 4)."""
    model = keras.applications.MobileNetV2(weights=None)
    found = wm.profile(model)
    assert found.macs / 1e6 == pytest.approx(300, abs=1)
    assert found.parameters == pytest.approx(3.5e6, rel=0.01)
    assert found.parameters + found.other_parameters == model.count_params()
    assert sum(row.parameters for row in found.layers) == found.parameters
    assert found.uncounted == ()


IMAGE = (8, 10, 6)
LAYERS = {
    "conv": (IMAGE, lambda: layers.Conv2D(5, 3, padding="same"), 80 * 5 * 9 * 6),
    "conv, stride": (IMAGE, lambda: layers.Conv2D(5, 3, strides=2), 3 * 4 * 5 * 9 * 6),
    "conv, groups": (IMAGE, lambda: layers.Conv2D(4, 3, groups=2, padding="same"), 80 * 4 * 9 * 3),
    "conv, channels first": (
        (6, 8, 10),
        lambda: layers.Conv2D(5, 1, data_format="channels_first"),
        80 * 5 * 6,
    ),
    "conv 1d": ((8, 6), lambda: layers.Conv1D(5, 3), 6 * 5 * 3 * 6),
    "depthwise": (IMAGE, lambda: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), 80 * 12 * 9),
    "separable": (IMAGE, lambda: layers.SeparableConv2D(5, 3, padding="same"), 80 * 6 * 9 + 80 * 6 * 5),
    "transposed": (IMAGE, lambda: layers.Conv2DTranspose(5, 4, strides=2, padding="same"), 80 * 6 * 16 * 5),
    "dense": (IMAGE, lambda: layers.Dense(7), 80 * 6 * 7),
    "einsum dense": ((8, 6), lambda: layers.EinsumDense("abc,cde->abde", (8, 3, 4)), 8 * 6 * 3 * 4),
    "batch norm": (IMAGE, lambda: layers.BatchNormalization(), 0),
    "resize": (IMAGE, lambda: layers.UpSampling2D(2, interpolation="bilinear"), 0),
    "haar": (IMAGE, lambda: wm.DWT2D(), 0),
    "db2": (IMAGE, lambda: wm.DWT2D("db2"), 5 * 6 * 24 * 16),
    # The convolution of the input, then of 4C channels at half and at a quarter of the sides.
    "wavelet convolution": (
        (8, 12, 6),
        lambda: wm.WTConv2D(3, levels=2),
        9 * (96 * 6 + 24 * 24 + 6 * 24),
    ),
    "bicubic": (IMAGE, lambda: wm.BicubicUpsampling2D(2), 80 * 24 * 25 * 6),
    "luma": ((8, 10, 3), lambda: wm.RGBToYCbCr((0, 1)), 80 * 3),
    # reduction; 1x1 convolutions shared by two levels; a transposed convolution per level; depthwise 5x5
    "first version": (
        (8, 12, 8),
        lambda: wm.WaveMixV1Block(8, levels=2),
        96 * 8 * 2 + (24 + 6) * (8 * 16 + 16 * 8) + 24 * 8 * 16 * 4 + 6 * 8 * 36 * 4 + 96 * 8 * 25,
    ),
    "third version": (
        (8, 12, 8),
        lambda: wm.WaveMixBlock(8, expansion=4, upsample="pixel_shuffle_conv"),
        96 * 8 * 2 + 24 * 8 * 32 + 96 * 9 * 8 * 8,
    ),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.slow
def test_one_layer(name):
    shape, make, expected = LAYERS[name]
    found = wm.profile(model_of(shape, make()))
    assert found.macs == expected
    assert found.uncounted == ()


def test_attention():
    query, memory = keras.Input((16, 32)), keras.Input((9, 20))
    y = layers.MultiHeadAttention(4, 8, value_dim=6)(query, memory)
    expected = 16 * 32 * 32 + 9 * 20 * 32 + 9 * 20 * 24 + 4 * 16 * 9 * (8 + 6) + 16 * 24 * 32
    model = keras.Model([query, memory], y)
    found = wm.profile(model)
    assert found.macs == expected
    assert found.parameters == model.count_params()
    # Query, memory and output; projections of the three; the scores of four heads.
    assert found.peak_activation_bytes == 4 * (16 * 32 + 9 * 20 + 16 * 32 + (16 * 32 + 9 * 32 + 9 * 24) + 4 * 16 * 9)
    named = layers.MultiHeadAttention(4, 8, value_dim=6)(query=query, value=memory)
    assert wm.profile(keras.Model([query, memory], named)).macs == expected
    plain = layers.Attention()([query, layers.Dense(32)(memory)])
    assert wm.profile(keras.Model([query, memory], plain)).macs == 9 * 20 * 32 + 2 * 16 * 9 * 32


def test_operations_without_a_layer():
    a, b = keras.Input((5, 6)), keras.Input((6, 7))
    assert wm.profile(keras.Model([a, b], ops.matmul(a, b))).macs == 5 * 6 * 7
    assert wm.profile(keras.Model([a, b], ops.einsum("bij,bjk->bki", a, b))).macs == 5 * 6 * 7
    found = wm.profile(keras.Model([a, b], ops.relu(a) + 1.0))
    assert found.macs == 0
    assert [row.kind for row in found.layers] == ["Relu", "Add"]


class Mixer(layers.Layer):
    """Products by ``keras.ops``, with a weight of its own and a sublayer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(4, name="inner")

    def build(self, shape):
        self.mix = self.add_weight(shape=(shape[1], shape[1]), name="mix")
        self.dense.build(shape)

    def call(self, x):
        return self.dense(ops.einsum("bnc,nm->bmc", x, self.mix))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 4)


class Closed(layers.Layer):
    """Reads values, which a symbolic tensor has none of."""

    def call(self, x):
        return ops.convert_to_tensor(np.asarray(x) * 2)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_custom_layers_are_opened():
    found = wm.profile(model_of((5, 6), Mixer(name="mixer")))
    assert found.macs == 5 * 5 * 6 + 5 * 6 * 4
    rows = {row.name: row for row in found.layers}
    assert (rows["mixer"].macs, rows["mixer"].parameters) == (150, 25)
    assert (rows["inner"].macs, rows["inner"].parameters) == (120, 28)
    assert found.parameters == 53


def test_a_layer_that_cannot_be_opened_is_named():
    found = wm.profile(model_of((5, 6), layers.Dense(3), Closed(name="closed")))
    assert found.uncounted == ("closed",)
    assert found.macs == 5 * 6 * 3
    assert "Not counted, because they cannot be traced: closed" in str(found)


def test_shared_layers_and_nested_models():
    dense = layers.Dense(6, name="shared")
    inner = model_of((5, 6), dense, layers.Dense(6, name="other"))
    found = wm.profile(keras.Sequential([keras.Input((5, 6)), inner, dense, inner]))
    assert found.macs == 5 * 5 * 6 * 6
    assert found.parameters == 2 * 42
    assert {row.name: row.macs for row in found.layers}["shared"] == 3 * 180


def test_peak_of_a_residual():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(16, 1)(inputs)  # 4 KiB, input 1 KiB
    x = layers.Dropout(0.5)(x)  # the same memory
    x = layers.Conv2D(4, 1)(x)  # 1 KiB
    y = layers.Add()([inputs, x])
    assert wm.profile(keras.Model(inputs, y)).peak_activation_bytes == (1 + 4 + 1) * 1024
    straight = keras.Model(inputs, x)
    assert wm.profile(straight).peak_activation_bytes == (4 + 1) * 1024  # the input is no longer needed
    half = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(16, 1, dtype="mixed_float16")])
    assert wm.profile(half).peak_activation_bytes >= 1024 + 2048


def test_the_model_is_left_as_it_was():
    model = wm.WaveMixClassifier(3, (8, 8, 3), width=8, depth=2)
    images = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)
    parts = [model, *flatten_layers(model, include_self=False)]
    before = [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in parts]
    outputs, config = ops.convert_to_numpy(model(images)), model.get_config()
    first = wm.profile(model)
    assert wm.profile(model) == first
    assert [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in parts] == before
    np.testing.assert_array_equal(ops.convert_to_numpy(model(images)), outputs)
    assert model.get_config() == config


def test_table():
    model = wm.WaveMixClassifier(10, (32, 32, 3), width=32, depth=1)
    text = str(wm.profile(model))
    assert "stem_conv1" in text
    assert "block1_upsample1" in text
    assert f"{sum(np.prod(w.shape) for w in model.trainable_weights):,}" in text
    assert len({len(line) for line in text.splitlines() if set(line) == {"-"}}) == 1


def test_what_cannot_be_profiled_is_reported_so():
    with pytest.raises(ValueError, match=r"model must be a keras.Model. Received: model of type Dense"):
        wm.profile(layers.Dense(3))
    with pytest.raises(ValueError, match=r"model must have inputs"):
        wm.profile(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(ValueError, match=r"sides of the model's input must be known. Received: input_shape=\(None, No"):
        wm.profile(wm.WaveMixClassifier(3, (None, None, 3), width=8, depth=1))
