"""Networks that were not tuned for this library: keras.applications through quantize, export, verify."""

import keras
import numpy as np
import pytest
from keras import applications
from tflite_support import export_random, randomise, spread, spread_statistics

import wavemix_tf as wm
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.graph.inputs import generated_images, predict

SIDE = 48
# Mean error against the fake-quant model in output steps, XNNPACK and reference kernels. Weights and statistics are
# random: a different rounding shifts later ones, layer by layer, as two orders of summation in float would.
# benchmarks/applications.py has trained networks.
NETWORKS = {
    "MobileNetV2": ({"alpha": 0.35}, (-1.0, 1.0), 1.0, 4.0),
    "MobileNetV3Small": ({"alpha": 0.75}, (0.0, 255.0), 1.7, 4.0),
    "EfficientNetV2B0": ({}, (0.0, 255.0), 3.7, 4.5),  # 2.78 and 3.57 on two processors
    "ResNet50V2": ({}, (-1.0, 1.0), 2.6, 4.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_application_becomes_an_int8_file_that_computes_what_it_does(name):
    arguments, (low, high), xnnpack, reference = NETWORKS[name]
    keras.utils.set_random_seed(0)
    build = getattr(applications, name)
    model = build(input_shape=(SIDE, SIDE, 3), weights=None, classes=10, classifier_activation=None, **arguments)
    images = generated_images((SIDE, SIDE, 3), 96, seed=1) * (high - low) + low
    spread_statistics(randomise(model), images[:64])
    quantized = wm.tflite.quantize(model, images[:64], input_range=(low, high))
    held_out = images[64:]
    expected = predict(model, held_out)
    assert np.abs(predict(quantized, held_out) - expected).mean() < 0.5 * spread(expected)

    artifact = export_random(quantized, "android-cpu", images=held_out, error_bound_steps=reference)
    info = read_file(artifact.content)
    assert spread(predict(quantized, held_out)) > 3 * info.outputs[0].scale, "a constant tests nothing"
    floats = [op.name for op in info.ops if any(t.dtype.startswith("float") for t in (*op.inputs, *op.outputs))]
    assert floats == []
    report = wm.tflite.verify(artifact, quantized, held_out)
    rows = {row.runtime: row for row in report.runtimes}
    assert rows["litert-xnnpack"].mean_error_steps <= xnnpack
    assert rows["litert-reference"].mean_error_steps <= reference
    assert rows["litert-xnnpack"].agreement >= 0.95
