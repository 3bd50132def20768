"""The editable graph, and every pass on it: the function does not change."""

from collections import Counter

import keras
import numpy as np
import pytest
from keras import layers
from tflite_support import NETWORKS, network, randomise, spread, spread_statistics

import wavemix_tf as wm
from wavemix_tf.layers.activations import quick_gelu
from wavemix_tf.layers.pixel_shuffle import PixelShuffle
from wavemix_tf.tflite import TARGETS, UnsupportedLayerError, fold
from wavemix_tf.tflite.graph.graph import Graph
from wavemix_tf.tflite.graph.inputs import generated_images, predict
from wavemix_tf.tflite.graph.lowering import deploy
from wavemix_tf.tflite.graph.passes.fold_affines import fold_affines
from wavemix_tf.tflite.graph.passes.write_transposed import UPSAMPLE_FORMS, write_transposed


def kinds(model):
    return [type(layer).__name__ for layer in model.layers]


def assert_same(model, other, images, tolerance=1e-5):
    expected = predict(model, images)
    assert spread(expected) > 1e-3, "the test network is constant and tests nothing"
    error = np.abs(predict(other, images) - expected).max() / np.abs(expected).max()
    assert error <= tolerance


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_inlined_model_computes_the_same(name):
    model = network(**NETWORKS[name])
    flat = Graph.from_model(model).to_model("flat")
    assert "WaveMixBlock" not in kinds(flat)
    assert "DWT2D" in kinds(flat)
    assert_same(model, flat, generated_images(model.input_shape[1:], 8))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_deployed_model_computes_the_same_with_nothing_left_to_fold(name):
    model = network(**NETWORKS[name])
    images = generated_images(model.input_shape[1:], 8)
    before = [w.copy() for w in model.get_weights()]
    for form in UPSAMPLE_FORMS if name == "deconv" else UPSAMPLE_FORMS[:1]:
        deployed = deploy(model, {}, form)
        gone = {"BatchNormalization", "FusedBatchNormalization", "DWT2D", "LowPass2D", "Dropout", "Normalization"}
        gone |= {"UpSampling2D"} | (set() if form.startswith("transposed") else {"Conv2DTranspose"})
        assert not gone & set(kinds(deployed))
        assert_same(model, deployed, images)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
def test_wavelet_behind_which_a_convolution_stands_costs_no_layer():
    deployed = deploy(network(levels=1), {}, "transposed_conv")
    assert not {"DepthwiseConv2D", "Concatenate"} & set(kinds(deployed))


@pytest.mark.slow
def test_gelu_gives_way_to_quick_gelu_and_little_changes():
    model = network(**NETWORKS["deconv"])
    images = generated_images(model.input_shape[1:], 16)
    deployed = deploy(model, {"gelu": "quick_gelu"}, "transposed_conv")
    assert "Multiply" in kinds(deployed)
    expected = predict(model, images)
    assert np.abs(predict(deployed, images) - expected).mean() <= 0.05 * spread(expected)


def functional(build, shape=(8, 8, 3)):
    inputs = keras.Input(shape)
    return randomise(keras.Model(inputs, build(inputs), name="functional"))


@pytest.mark.parametrize("kernel", [(2, 2), (2, 3), (3, 2), (4, 2), (5, 2), (3, 3), (6, 4)])
def test_every_transposed_convolution_has_its_subpixel_form(kernel):
    size, stride = kernel
    model = functional(lambda x: layers.Conv2DTranspose(4, size, strides=stride, padding="same")(x))
    graph = Graph.from_model(model)
    write_transposed(graph, "subpixel_crop")
    lowered = graph.to_model("lowered")
    assert "Conv2DTranspose" not in kinds(lowered)
    assert_same(model, lowered, generated_images((8, 8, 3), 4))


@pytest.mark.parametrize(
    "before",
    [
        lambda x: layers.Conv2D(6, 3, padding="same", use_bias=False)(x),
        lambda x: layers.DepthwiseConv2D(3, strides=2, depth_multiplier=2)(x),
        lambda x: layers.Conv2DTranspose(4, 4, strides=2, padding="same")(x),
        lambda x: layers.Dense(6)(layers.Flatten()(x)),
        lambda x: layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(6, 1)(x)),
        lambda x: layers.UpSampling2D((1, 3))(layers.Conv2D(6, 1)(x)),
        lambda x: PixelShuffle(2)(layers.Conv2D(8, 1)(x)),
        lambda x: layers.Cropping2D(1)(layers.Dropout(0.5)(layers.Conv2D(6, 1)(x))),
    ],
    ids=["conv", "depthwise", "transposed", "dense", "bilinear", "nearest", "pixel_shuffle", "crop"],
)
def test_batch_norm_folds(before):
    model = functional(lambda x: layers.BatchNormalization()(before(x)))
    graph = Graph.from_model(model)
    fold_affines(graph)
    folded = graph.to_model("folded")
    assert "BatchNormalization" not in kinds(folded)
    assert_same(model, folded, generated_images((8, 8, 3), 8))


@pytest.mark.parametrize(
    "build",
    [
        lambda x: layers.BatchNormalization()(layers.Activation("gelu")(layers.Conv2D(6, 1)(x))),
        lambda x: layers.Conv2D(4, 3, padding="same")(layers.Rescaling(2.0, offset=-1.0)(x)),
        lambda x: layers.Conv2D(4, 3, padding="same")(layers.Normalization(mean=[0.4] * 3, variance=[0.1] * 3)(x)),
        lambda x: layers.BatchNormalization()(layers.ZeroPadding2D(1)(layers.Conv2D(6, 1)(x))),
    ],
    ids=["after_gelu", "rescaling", "normalization", "after_zero_padding"],
)
def test_what_cannot_fold_becomes_a_depthwise_convolution_exact_at_the_border(build):
    model = functional(build)
    deployed = deploy(model, {}, "transposed_conv")
    assert "DepthwiseConv2D" in kinds(deployed)
    assert_same(model, deployed, generated_images((8, 8, 3), 8))


def test_batch_norm_stays_where_its_input_is_read_twice():
    def build(x):
        y = layers.Conv2D(6, 1)(x)
        return layers.Add()([y, layers.BatchNormalization()(y)])

    model = functional(build)
    assert_same(model, deploy(model, {}, "transposed_conv"), generated_images((8, 8, 3), 8))


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_wavelets_that_stay_become_depthwise_convolutions(wavelet, side):
    model = functional(lambda x: layers.Activation("gelu")(wm.DWT2D(wavelet)(x)), (side, side, 2))
    deployed = deploy(model, {}, "transposed_conv")
    assert kinds(deployed).count("DepthwiseConv2D") == 4
    assert_same(model, deployed, generated_images((side, side, 2), 8))


@pytest.mark.parametrize("size", [None, (15, 13)])
@pytest.mark.parametrize(("wavelet", "mode"), [("haar", "zero"), ("haar", "periodization"), ("db2", "zero")])
def test_inverse_wavelets_become_depthwise_convolutions(wavelet, mode, size):
    """One for each pixel of a cell; the rest moves values and is in every target's list of ops."""
    inverse = wm.IDWT2D(wavelet, mode, output_size=size)
    model = functional(lambda x: inverse(layers.Activation("gelu")(layers.Conv2D(8, 1)(x))), (9, 8, 3))
    deployed = deploy(model, {}, "transposed_conv")
    found = Counter(kinds(deployed))
    assert found["DepthwiseConv2D"] == 4
    moves = {"InputLayer", "Conv2D", "Activation", "Cut", "Concatenate", "Reshape", "Cropping2D"}
    assert set(found) <= {"DepthwiseConv2D", *moves}
    assert ("Cropping2D" in found) == (size is not None)
    assert_same(model, deployed, generated_images((9, 8, 3), 8))


def test_odd_sides_fold_into_the_strided_convolution():
    model = functional(lambda x: layers.Conv2D(4, 1)(wm.DWT2D()(x)), (7, 9, 2))
    deployed = deploy(model, {}, "transposed_conv")
    assert kinds(deployed) == ["InputLayer", "Conv2D"]
    assert_same(model, deployed, generated_images((7, 9, 2), 8))


def test_quick_gelu_keeps_a_multiplication_where_no_weights_are_near():
    model = functional(lambda x: layers.Activation(quick_gelu)(layers.MaxPooling2D()(x)))
    deployed = deploy(model, {}, "transposed_conv")
    assert_same(model, deployed, generated_images((8, 8, 3), 8))


def test_nested_models_and_layers_called_twice():
    inner_input = keras.Input((8, 8, 4))
    inner = keras.Model(inner_input, layers.Conv2D(4, 3, padding="same", activation="relu")(inner_input), name="inner")
    head = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(3)], name="head_model")
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 1)(inputs)
    model = randomise(keras.Model(inputs, head(inner(inner(x)))))
    deployed = deploy(model, {}, "transposed_conv")
    assert not any(isinstance(layer, keras.Model) for layer in deployed.layers)
    assert_same(model, deployed, generated_images((8, 8, 3), 8))


def test_models_without_a_visible_graph_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UnsupportedLayerError, match=r"must be functional.*Own"):
        Graph.from_model(Own())
    with pytest.raises(UnsupportedLayerError, match=r"keras\.Model.*Received: model of type int"):
        Graph.from_model(3)
    with pytest.raises(UnsupportedLayerError, match=r"sides must be known"):
        Graph.from_model(wm.WaveMixClassifier(3, (None, None, 3), width=8, depth=1))
    with pytest.raises(ValueError, match=r"upsample_form must be one of 'transposed_conv'"):
        deploy(network(depth=1), {}, "deconv")


@pytest.fixture(scope="module")
def application():
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=5)
    return spread_statistics(randomise(model), generated_images((32, 32, 3), 32))


@pytest.mark.parametrize("target", TARGETS)
def test_fold_leaves_nothing_to_fold_on_any_target(target, application):
    images = generated_images((32, 32, 3), 8, seed=3)
    folded = fold(application, target)
    assert not {"BatchNormalization", "Dropout"} & set(kinds(folded))
    assert_same(application, folded, images)
    relu6 = network(**{**NETWORKS["nearest"], "upsample": "deconv", "stem": "patchify", "patch_size": 4})
    folded = fold(relu6, target)
    assert_same(relu6, folded, generated_images((17, 19, 3), 8))
    assert ("Conv2DTranspose" in kinds(folded)) == (TARGETS[target].upsample_forms[0] != "subpixel_crop")
    with pytest.raises(ValueError, match=r"upsample_form must be one of 'transposed_conv'"):
        fold(relu6, target, upsample_form="shuffle")
