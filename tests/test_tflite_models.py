"""The networks other than the classifier, quantized and exported for the targets that have their ops."""

import numpy as np
import pytest
from tflite_support import Made, export_random, randomise

import wavemix_tf as wm
from wavemix_tf.tflite.errors import UnsupportedOpError
from wavemix_tf.tflite.graph.graph import Graph
from wavemix_tf.tflite.graph.inputs import generated_images

SMALL = {"width": 8, "depth": 1}
NETWORKS = {
    "segmenter": lambda: wm.WaveMixSegmenter(4, (18, 21, 3), levels=1, **SMALL),
    "sisr": lambda: wm.WaveMixSuperResolver("sisr", 2, (12, 16, 3), **SMALL),
    "wavemixsr": lambda: wm.WaveMixSuperResolver("wavemixsr", 2, (12, 16, 3), **SMALL),
    "v1": lambda: wm.WaveMixClassifier(4, (16, 16, 3), block="v1", levels=2, **SMALL),
    "v3": lambda: wm.WaveMixClassifier(4, (16, 16, 3), upsample="pixel_shuffle_conv", expansion=4, **SMALL),
}
TARGETS = ("android-cpu", "mcu", "ethos-u55")
# Ops that the NPU lacks: depth to space, a repeated border, transposed convolutions of stride 4.
REFUSED = {
    ("wavemixsr", "ethos-u55"): "MIRROR_PAD",
    ("v1", "ethos-u55"): "TRANSPOSE_CONV .* strides 1x1 or 2x2",
    ("v3", "ethos-u55"): "DEPTH_TO_SPACE",
}


@pytest.fixture(scope="module")
def models():
    return Made(lambda name: randomise(NETWORKS[name]()))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NETWORKS)
def test_int8_files(name, target, models):
    """`export` runs each file and holds it to the bounds of every kind of network."""
    model = models[name]
    images = generated_images(model.input_shape[1:], 48, seed=1)
    quantized = wm.tflite.quantize(model, images, target=target, observer="percentile")
    if (name, target) in REFUSED:
        with pytest.raises(UnsupportedOpError, match=REFUSED[name, target]):
            export_random(quantized, target=target, images=images[:32])
        return
    artifact = export_random(quantized, target=target, images=images[:32])
    report = wm.tflite.verify(artifact, quantized, images[:8])
    # TF Lite Micro rounds products twice, and the first version's levels all meet in one sum.
    bound = 1.0 if target == "mcu" else 0.5
    assert max(runtime.mean_error_steps for runtime in report.runtimes) < bound
    # It must also be close to the float network: half the signal would indicate an error in the graph.
    plain, rounded = model.predict(images[:8], verbose=0), quantized.predict(images[:8], verbose=0)
    assert plain.shape == rounded.shape
    if target == "android-cpu":
        assert np.abs(plain - rounded).mean() < 0.1 * plain.std()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_float_files_equal_the_network(name, models):
    model = models[name]
    artifact = export_random(model, target="android-cpu", dtype="float32")
    images = generated_images(model.input_shape[1:], 4, seed=2)
    report = wm.tflite.verify(artifact, model, images)
    assert all(runtime.max_error_steps < 1e-3 for runtime in report.runtimes)
    assert not any(op.startswith("Flex") for op in artifact.ops)


@pytest.mark.slow
def test_bicubic_upsampling_and_colours_become_convolutions_that_never_train(models):
    quantized = wm.tflite.quantize(models["wavemixsr"], generated_images((12, 16, 3), 32, seed=1))
    kinds = [node.kind for node in Graph.from_model(quantized).nodes()]
    assert kinds.count("ReplicatePadding2D") == 2
    assert not {"BicubicUpsampling2D", "RGBToYCbCr", "YCbCrToRGB"} & set(kinds)
    fixed = [layer for layer in quantized.layers if hasattr(layer, "kernel") and not layer.trainable]
    assert len(fixed) == 5
    trained = {id(variable) for variable in quantized.trainable_variables}
    assert not any(id(variable) in trained for layer in fixed for variable in layer.variables)


def test_unknown_sides_are_named():
    with pytest.raises(ValueError, match="input sides must be known"):
        export_random(wm.WaveMixSuperResolver(**SMALL), target="android-cpu", dtype="float32")
    with pytest.raises(ValueError, match="input sides must be known"):
        wm.tflite.quantize(wm.WaveMixSegmenter(image_shape=(None, None, 3), **SMALL), np.zeros((32, 8, 8, 3)))
