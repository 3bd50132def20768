"""Calibration images that go through a temporary file, and files that several interpreters run."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

import wavemix_tf as wm
from wavemix_tf.progress import showing
from wavemix_tf.tflite import export, quantize
from wavemix_tf.tflite.errors import RuntimeFailureError
from wavemix_tf.tflite.graph import inputs
from wavemix_tf.tflite.graph.inputs import check_images, generated_images, predict
from wavemix_tf.tflite.names import MICRO, REFERENCE, XNNPACK
from wavemix_tf.tflite.quantization import ranges
from wavemix_tf.tflite.quantization.ranges import sampled_places
from wavemix_tf.tflite.runtimes import running
from wavemix_tf.tflite.runtimes.running import open_raw, run_file, run_in_runtimes, run_raw

SHAPE = (16, 16, 3)


@pytest.fixture(scope="module")
def images():
    return generated_images(SHAPE, 96, seed=1)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    given = keras.Input(SHAPE)
    x = layers.Conv2D(8, 3, activation="relu")(given)
    return keras.Model(given, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def content(model, images):
    return export(model, target="android-cpu", dtype="int8", calibration=images[:64], images=images[64:]).content


def pixels(images):
    return (np.round(255 * images) - 128).astype("int8")


def test_many_images_go_through_a_temporary_file(images, monkeypatch):
    """The same array as in memory, whether the parts are images or batches, whole or broken."""
    joined = check_images(iter(images), (None, *SHAPE))
    monkeypatch.setattr(inputs, "MOST_BYTES", 5 * images[0].nbytes)
    for parts in (iter(images), [images[:50], images[50:]], iter(images.astype("float64"))):
        spooled = check_images(parts, (None, *SHAPE))
        assert isinstance(spooled, np.memmap)
        np.testing.assert_array_equal(spooled, joined)
    with pytest.raises(ValueError, match=r"must be float in \[0\.0, 1\.0\] .*Received: dtype=uint8"):
        check_images(iter((255 * images).astype("uint8")), (None, *SHAPE))
    with pytest.raises(ValueError, match=r"must be finite and in \[0\.0, 1\.0\]"):
        check_images(iter(np.where(np.arange(96)[:, None, None, None] == 80, np.nan, images)), (None, *SHAPE))
    with pytest.raises(ValueError, match=r"must contain images of shape \(16, 16, 3\)\. Received: .*\(15, 16, 3\)"):
        check_images([*images[:20], images[20, 1:]], (None, *SHAPE))
    pixels = check_images(iter((255 * images).astype("uint8")), (None, *SHAPE), (0.0, 255.0), whole=True)
    np.testing.assert_array_equal(pixels, np.floor(255 * images))


def test_quantize_streams(model, images, monkeypatch):
    """The ranges do not depend on where the images lie, or on how many run at a time."""
    weights = quantize(model, images).get_weights()
    monkeypatch.setattr(inputs, "MOST_BYTES", 5 * images[0].nbytes)
    monkeypatch.setattr(inputs, "CHUNK_BYTES", 20 * images[0].nbytes)
    monkeypatch.setattr(inputs, "EAGER_PIXELS", 0)
    for one, other in zip(quantize(model, iter(images)).get_weights(), weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_no_pass_copies_all_images(images, monkeypatch):
    """Also not the pass over those that a range clips, which may be all."""
    passes = []

    def seen(model, arrays, task="", chosen=None):
        assert isinstance(arrays[0], np.memmap)
        passes.append((task, chosen))
        return predict(model, arrays, task, chosen)

    monkeypatch.setattr(ranges, "predict", seen)
    monkeypatch.setattr(inputs, "MOST_BYTES", 5 * images[0].nbytes)
    keras.utils.set_random_seed(0)
    quantize(wm.WaveMixClassifier(3, SHAPE, width=4, depth=1), iter(images**4))
    assert [chosen is not None for task, chosen in passes if task == "clipped shares"] == [True]


def test_predict_takes_the_chosen_images(model, images, monkeypatch):
    chosen = np.array([3, 70, 5, 95, 0])
    expected = predict(model, images[chosen])
    for chunk in (1, 1 << 30):
        monkeypatch.setattr(inputs, "CHUNK_BYTES", chunk)
        monkeypatch.setattr(inputs, "BATCH", 2)
        monkeypatch.setattr(inputs, "EAGER_PIXELS", 0)
        np.testing.assert_allclose(predict(model, images, chosen=chosen), expected, atol=1e-6)


def test_an_endless_dataset_is_refused_before_it_is_read(images):
    import tensorflow as tf

    with pytest.raises(ValueError, match=r"calibration must end\. Received: an endless _RepeatDataset; \.take\(N\)"):
        check_images(tf.data.Dataset.from_tensor_slices(images).batch(8).repeat(), (None, *SHAPE))


def test_a_full_disk_is_an_error_of_one_line(images, monkeypatch):
    monkeypatch.setattr(inputs, "MOST_BYTES", 5 * images[0].nbytes)
    monkeypatch.setattr(inputs.shutil, "disk_usage", lambda path: SimpleNamespace(free=images.nbytes // 16))
    with pytest.raises(ValueError, match=r"must fit into .*: pass fewer images, or set TMPDIR\. Received: .*free"):
        check_images(iter(images), (None, *SHAPE))


def test_predict_in_one_way_or_another(model, images, monkeypatch):
    expected = model.predict(images, verbose=0)
    for pixels, chunk in ((0, 1), (0, 1 << 30), (1 << 30, 1 << 30), (0, 40 * images[0].nbytes)):
        monkeypatch.setattr(inputs, "EAGER_PIXELS", pixels)
        monkeypatch.setattr(inputs, "CHUNK_BYTES", chunk)
        np.testing.assert_allclose(predict(model, images), expected, atol=1e-6)


def test_fewer_samples_of_more_images():
    assert [len(sampled_places(9000, count)) for count in (32, 256, 1024, 10_000)] == [512, 512, 128, 32]
    assert len(sampled_places(20, 32)) == 20


@pytest.mark.parametrize("runtime", [XNNPACK, REFERENCE])
def test_several_interpreters_compute_the_same(content, images, runtime):
    (expected,) = open_raw(content, runtime)([pixels(images)])
    (found,) = open_raw(content, runtime, workers=3)([pixels(images)])
    np.testing.assert_array_equal(found, expected)
    assert np.ptp(found.astype("float32"), axis=0).max() > 0


def test_a_time_limit_leaves_the_first_images(content, images):
    (expected,) = run_raw(content, [pixels(images)], XNNPACK)
    (found,) = open_raw(content, XNNPACK, workers=3)([pixels(images)], limit_s=0.0, least=5)
    assert 5 <= len(found) <= 8  # others may have begun
    np.testing.assert_array_equal(found, expected[: len(found)])


def test_an_error_of_one_interpreter_is_raised(content, images, monkeypatch):
    def fail(interpreter):
        raise RuntimeFailureError("it failed")

    monkeypatch.setattr(running, "invoke", fail)
    with pytest.raises(RuntimeFailureError, match="it failed"):
        open_raw(content, XNNPACK, workers=2)([pixels(images)])


def test_runtimes_side_by_side(content, images):
    pytest.importorskip("tflite_micro")
    runtimes = (MICRO, XNNPACK, REFERENCE)
    found = run_in_runtimes(content, images[:8], runtimes, None)
    assert tuple(found) == runtimes
    for runtime in runtimes:
        np.testing.assert_array_equal(found[runtime], run_file(content, images[:8], runtime))


def test_long_steps_say_what_they_do(model, images, monkeypatch):
    monkeypatch.setattr(inputs, "CHUNK_BYTES", 32 * images[0].nbytes)
    monkeypatch.setattr(inputs, "EAGER_PIXELS", 0)
    said = []
    with showing(said.append):
        quantized = quantize(model, images)
        export(quantized, target="android-cpu", images=images)
    assert said[:2] == ["compare the copy with the model", "extremes, 32 of 96 images"]
    assert [text for text in said if text.startswith("run the model")][
        -1
    ] == "run the model and the file, 96 of 96 images"
    assert {"copy", "convert and audit", "run the file"} < set(said)
    before = len(said)
    quantize(model, images)
    assert len(said) == before
