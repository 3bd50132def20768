"""The blocks: `call` and `inline` agree, any size works, every weight learns."""

import keras
import numpy as np
import pytest
from keras import ops

import wavemix_tf as wm
from wavemix_tf.layers.activations import ACTIVATIONS, quick_gelu
from wavemix_tf.layers.normalization import FusedBatchNormalization
from wavemix_tf.layers.pixel_shuffle import PixelShuffle
from wavemix_tf.layers.wavemix_blocks import UPSAMPLERS


def randomise(layer, rng):
    """Weights and batch statistics away from their initial values, so that no error can hide in a zero or a one."""
    for variable in layer.variables:
        if "variance" in variable.path:
            variable.assign(rng.uniform(0.5, 2.0, size=variable.shape))
        elif "filters" not in variable.path and "seed" not in variable.path:
            variable.assign(rng.normal(scale=0.3, size=variable.shape))


@pytest.mark.parametrize("upsample", UPSAMPLERS)
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_contracted_route_equals_the_sublayers(levels, upsample, rng):
    block = wm.WaveMixBlock(8, levels=levels, ff_dim=12, upsample=upsample)
    x = rng.normal(size=(2, 17, 20, 8)).astype("float32")  # neither side divisible by 2**levels
    block.build(x.shape)
    randomise(block, rng)
    direct = block(x)
    assert np.std(direct - x) > 0.1
    inputs = keras.Input((17, 20, 8))
    graph = keras.Model(inputs, block.inline(inputs))
    np.testing.assert_allclose(graph.predict_on_batch(x), direct, atol=2e-5, rtol=0)
    kinds = [type(layer).__name__ for layer in graph.layers]
    assert kinds.count("DWT2D") == levels
    assert kinds.count("LowPass2D") == levels - 1


@pytest.mark.parametrize("levels", [1, 2, 4])
@pytest.mark.slow
def test_contracted_route_equals_the_sublayers_of_the_first_version(levels, rng):
    block = wm.WaveMixV1Block(8, levels=levels, ff_dim=12)
    x = rng.normal(size=(2, 17, 20, 8)).astype("float32")
    block.build(x.shape)
    randomise(block, rng)
    direct = block(x)
    assert np.std(direct - x) > 0.1
    inputs = keras.Input((17, 20, 8))
    graph = keras.Model(inputs, block.inline(inputs))
    np.testing.assert_allclose(graph.predict_on_batch(x), direct, atol=2e-5, rtol=0)
    shared = [layer for layer in graph.layers if layer.name.endswith("_expand")]
    assert len(shared) == 1
    assert len(shared[0]._inbound_nodes) == levels


def test_third_version_has_no_second_convolution():
    """1x1 to 4C, pixel shuffle, 3x3: what `ff_dim` adds comes between."""
    published = wm.WaveMixBlock(8, expansion=4, upsample="pixel_shuffle_conv")
    wider = wm.WaveMixBlock(8, expansion=1, upsample="pixel_shuffle_conv", ff_dim=32)
    for block, shapes in (
        (published, [(1, 1, 8, 32), (3, 3, 8, 8)]),
        (wider, [(1, 1, 8, 8), (1, 1, 8, 32), (3, 3, 8, 8)]),
    ):
        block.build((1, 4, 4, 8))
        kernels = [tuple(v.shape) for v in block.trainable_variables if v.path.endswith("kernel")]
        assert kernels == [(1, 1, 8, 2), *shapes]


@pytest.mark.parametrize("cls", [wm.WaveMixBlock, wm.WaveMixV1Block])
@pytest.mark.slow
def test_unknown_sides_equal_known_ones(cls, rng):
    known, unknown = cls(8, levels=2, name="known"), cls(8, levels=2, name="unknown")
    inputs = keras.Input((None, None, 8))
    model = keras.Model(inputs, unknown(inputs))
    for size in [(16, 12), (15, 13)]:
        x = rng.normal(size=(1, *size, 8)).astype("float32")
        if not known.built:
            known.build(x.shape)
        randomise(known, rng)
        unknown.set_weights(known.get_weights())
        np.testing.assert_allclose(model.predict_on_batch(x), known(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("upsample", UPSAMPLERS)
def test_gradients_reach_every_trainable_weight(activation, upsample, rng):
    import tensorflow as tf

    block = wm.WaveMixBlock(8, levels=2, activation=activation, upsample=upsample)
    x = tf.constant(rng.normal(size=(4, 8, 8, 8)).astype("float32"))
    block(x)
    # A random target: a sum of normalized outputs would be insensitive to some directions.
    target = rng.normal(size=x.shape).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(block(x, training=True) - target))
    variables = block.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, [v.value for v in variables]), strict=True):
        assert gradient is not None, variable.path
        # A bias directly before a batch norm has no effect.
        if not (
            upsample in ("deconv", "pixel_shuffle", "pixel_shuffle_conv")
            and "upsample" in variable.path
            and "bias" in variable.path
        ):
            assert np.any(gradient.numpy()), variable.path


def test_fused_batch_norm_equals_keras(rng):
    import tensorflow as tf

    x = rng.normal(1.0, 3.0, size=(4, 7, 5, 6)).astype("float32")
    weights = rng.normal(size=x.shape).astype("float32")
    results = []
    for kind in (FusedBatchNormalization, keras.layers.BatchNormalization):
        layer, source = kind(momentum=0.9, epsilon=1e-5), tf.Variable(x)
        layer.build(x.shape)
        with tf.GradientTape() as tape:
            outputs = layer(source, training=True)
            loss = tf.reduce_sum(outputs * weights)
        sources = [source, *(v.value for v in layer.trainable_variables)]
        results.append([outputs, *tape.gradient(loss, sources), *layer.get_weights(), layer(x, training=False)])
    for fused, plain in zip(*results, strict=True):
        np.testing.assert_allclose(fused, plain, atol=1e-5, rtol=1e-5)


def test_pixel_shuffle_channel_order():
    x = np.arange(8, dtype="float32").reshape(1, 1, 1, 8)
    np.testing.assert_array_equal(PixelShuffle(2)(x)[0], [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])


def test_quick_gelu_is_close_to_gelu():
    x = np.linspace(-6, 6, 500).astype("float32")
    assert np.abs(ops.convert_to_numpy(quick_gelu(x)) - ops.convert_to_numpy(keras.activations.gelu(x))).max() < 0.021


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10}, "width must be a multiple of 4.*Received: width=10"),
        ({"width": 8, "levels": 0}, "levels must be an integer of at least 1"),
        ({"width": 8, "dropout": 1.0}, r"dropout must be a rate in \[0, 1\)"),
        (
            {"width": 8, "activation": "swish"},
            "activation must be one of 'gelu', 'relu', 'relu6', 'hard_swish', 'quick_gelu'",
        ),
        ({"width": 8, "upsample": "pachify"}, "upsample must be one of 'deconv', 'bilinear', .*'pachify'"),
        ({"width": 8, "upsample": "pixel_shuffle_conv", "ff_dim": 6}, "ff_dim must be a multiple of 4.*ff_dim=6"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        wm.WaveMixBlock(**options)


def test_levels_of_the_first_version_divide_its_width():
    with pytest.raises(ValueError, match=r"width must be a multiple of levels\. Received: width=8, levels=3"):
        wm.WaveMixV1Block(8, levels=3)


def test_wrong_channels_are_named():
    with pytest.raises(ValueError, match=r"takes \(B, H, W, 8\). Received: input_shape=\(1, 4, 4, 6\)"):
        wm.WaveMixBlock(8)(np.zeros((1, 4, 4, 6)))
