"""Files whose 8-bit softmax would end the process of the reference kernels."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest
from c_support import requires_cc, run_c
from keras import layers

import wavemix_tf as wm
from wavemix_tf.tflite.errors import RuntimeFailureError, UnsupportedOpError
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.file.softmax_limits import softmax_hazard
from wavemix_tf.tflite.names import MICRO, REFERENCE, XNNPACK
from wavemix_tf.tflite.runtimes.running import run_file, runtimes_of
from wavemix_tf.tflite.targets.table import get_target
from wavemix_tf.warning import WavemixWarning

pytestmark = pytest.mark.slow


def classifier(classes, scale=1.0):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    kernel = keras.initializers.RandomNormal(stddev=scale)
    return keras.Model(inputs, layers.Dense(classes, "softmax", kernel_initializer=kernel)(inputs))


def images(scale=4.0):
    return scale * np.random.default_rng(0).normal(size=(64, 8)).astype("float32")


def exported(model, target="android-cpu", **options):
    """(artifact, texts of the warnings)."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        quantized = wm.tflite.quantize(model, images(), input_range=None)
        artifact = wm.tflite.export(quantized, target=target, min_agreement=0.5, **options)
    return artifact, [str(one.message) for one in found if one.category is WavemixWarning]


@pytest.fixture(scope="module")
def wide():
    return exported(classifier(1000), "mcu")


def test_a_wide_softmax_is_named_at_export(wide):
    (text,) = [text for text in wide[1] if "SOFTMAX" in text]
    assert "SOFTMAX over 1,000 int8 values" in text
    assert "no result exceeds 1/512" in text
    assert not [text for text in exported(classifier(500), "mcu")[1] if "SOFTMAX" in text]


def test_the_optimized_kernel_runs_values_that_end_the_reference_kernels(wide):
    content, equal = wide[0].content, np.zeros((1, 8), "float32")
    assert not run_file(content, equal, XNNPACK).any()  # 1/1000 rounds to no step of 1/256
    with pytest.raises(RuntimeFailureError, match="SOFTMAX over 1,000 int8 values"):
        run_file(content, equal, REFERENCE)
    with pytest.raises(RuntimeFailureError, match="SOFTMAX over 1,000 int8 values"):
        run_file(content, equal, MICRO)
    assert run_file(content, images()[:3], MICRO).max(1).min() > 0.1
    assert REFERENCE in get_target("android-cpu").runtimes
    assert runtimes_of(get_target("android-cpu"), read_file(content)) == (XNNPACK,)


def test_a_network_of_nearly_zero_logits_is_exported_and_runs():
    artifact, _ = exported(classifier(10, scale=1e-12), "mcu", allow_unjudged=True)
    for runtime in (XNNPACK, REFERENCE, MICRO):
        assert run_file(artifact.content, images()[:2], runtime) == pytest.approx(0.1, abs=0.01)


def test_a_step_that_ends_the_preparation_is_refused():
    info = read_file(exported(classifier(10))[0].content)
    assert softmax_hazard(info) is None
    (op,) = [op for op in info.ops if op.name == "SOFTMAX"]
    tiny = dataclasses.replace(op, inputs=(dataclasses.replace(op.inputs[0], scale=2.0**-26),))
    assert "the step of its input is at most" in softmax_hazard(dataclasses.replace(info, ops=(tiny,)))


@requires_cc
def test_the_program_in_c_runs_those_values(tmp_path):
    content = exported(classifier(2000), "c")[0].content
    equal = np.full((1, 8), read_file(content).inputs[0].zero_point, np.int8)
    options = ("-std=c99", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")
    (outputs,), _ = run_c(content, [equal], tmp_path, options=options, link=options[2:])
    assert (outputs == -128).all()


@requires_cc
def test_the_program_in_c_refuses_a_sum_that_overflows():
    with pytest.raises(UnsupportedOpError, match="over 5000 values, 4095 at most"):
        exported(classifier(5000), "c")
