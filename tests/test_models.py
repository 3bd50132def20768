"""WaveMixClassifier and build_model: published sizes, serialisation, errors."""

import keras
import numpy as np
import pytest

import wavemix_tf as wm

# (name, num_classes, parameters) as the papers and the official repository print them.
# Where the source rounds to 10,000 the exact count below rounds to it.
PUBLISHED = [
    ("wavemix_lite_8_10_up", 10, 3_566),
    ("wavemix_lite_8_5", 10, 7_156),
    ("wavemix_lite_32_7_up", 10, 37_058),
    ("wavemix_lite_64_6", 10, 520_106),
    ("wavemix_lite_144_7", 10, 3_042_550),
    ("wavemix_lite_320_8", 10, 17.07e6),
    ("wavemix_lite_256_8", 100, 10.95e6),
    ("wavemix_lite_256_10", 100, 13.61e6),
    ("wavemix_lite_256_12", 200, 16.29e6),
    ("wavemix_192_16_l3_p4", 200, 27.70e6),
    ("wavemix_192_16_l1_p4", 1000, 12.49e6),
    ("wavemix_192_16_l3_p4", 1000, 27.86e6),
    ("wavemix_256_16_l3_p4", 1000, 49.42e6),
    ("wavemix_256_16_l4_s2", 1000, 62.76e6),
    ("wavemix_256_12_l2_p8", 365, 28.45e6),
    ("wavemix_192_16_l1_p4", 10, 12.30e6),
]


@pytest.mark.parametrize(("name", "num_classes", "parameters"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(name, num_classes, parameters):
    model = wm.build_model(name, num_classes=num_classes)
    count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert model.output_shape == (None, num_classes)
    if isinstance(parameters, int):
        assert count == parameters
    else:
        assert round(count / 1e4) == round(parameters / 1e4)


@pytest.mark.parametrize(
    "options",
    [
        {"levels": 3, "activation": "relu6"},
        {"stem": "patchify", "patch_size": 4, "upsample": "pixel_shuffle"},
        {"stride": 2, "normalize": ((0.5, 0.4, 0.3), (0.2, 0.2, 0.3)), "image_shape": (None, None, 3)},
    ],
)
def test_keras_file_round_trip(options, rng, tmp_path):
    model = wm.WaveMixClassifier(**{"width": 8, "depth": 2, "image_shape": (16, 24, 3), **options})
    x = rng.uniform(size=(2, 16, 24, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is wm.WaveMixClassifier
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))


def test_normalize_standardises_the_input(rng):
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.1, 0.3)
    plain = wm.WaveMixClassifier(width=8, depth=1, image_shape=(8, 8, 3))
    inside = wm.WaveMixClassifier(width=8, depth=1, image_shape=(8, 8, 3), normalize=(mean, std))
    trained = [v for v in inside.variables if not v.path.startswith("normalize")]
    for target, source in zip(trained, plain.variables, strict=True):
        target.assign(source)
    x = rng.uniform(size=(2, 8, 8, 3)).astype("float32")
    expected = plain.predict_on_batch((x - np.array(mean, "float32")) / np.array(std, "float32"))
    np.testing.assert_allclose(inside.predict_on_batch(x), expected, atol=1e-5, rtol=0)


def test_any_image_size():
    model = wm.WaveMixClassifier(width=8, depth=1, levels=4, image_shape=(None, None, 3))
    for size in [(5, 7), (32, 31)]:
        assert model.predict_on_batch(np.zeros((1, *size, 3))).shape == (1, 10)


def test_mixed_precision_survives_saving(rng, tmp_path):
    model = wm.WaveMixClassifier(width=8, depth=1, image_shape=(8, 8, 3), dtype="mixed_bfloat16")
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("block1").compute_dtype == loaded.get_layer("stem_conv1").compute_dtype == "bfloat16"
    x = rng.uniform(size=(2, 8, 8, 3)).astype("float32")
    logits = loaded(x)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_array_equal(logits, model(x))


def test_channels_last_whatever_the_configuration(rng):
    x = rng.uniform(size=(1, 9, 12, 3)).astype("float32")
    expected = wm.WaveMixClassifier(width=8, depth=1, image_shape=(9, 12, 3), stride=2)
    keras.config.set_image_data_format("channels_first")
    try:
        model = wm.WaveMixClassifier(width=8, depth=1, image_shape=(9, 12, 3), stride=2)
    finally:
        keras.config.set_image_data_format("channels_last")
    model.set_weights(expected.get_weights())
    np.testing.assert_array_equal(model.predict_on_batch(x), expected.predict_on_batch(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wm.build_model("wavemix_144"), "name must be one of wavemix_lite_8_10_up, .*name='wavemix_144'"),
        (lambda: wm.WaveMixClassifier(stem="pachify"), "stem must be one of 'strided', 'patchify'.*'pachify'"),
        (lambda: wm.WaveMixClassifier(num_classes=0), "num_classes must be an integer of at least 1"),
        (lambda: wm.WaveMixClassifier(image_shape=(32, 32)), r"image_shape must be .*Received: image_shape=\(32, 32\)"),
        (lambda: wm.WaveMixClassifier(stem="patchify", patch_size=8, image_shape=(4, 4, 3)), r"reduction \(8 pixels\)"),
        (lambda: wm.WaveMixClassifier(normalize=((0.5,), (0.2,))), "normalize must be .mean, std. with 3 values each"),
    ],
)
def test_errors_state_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()
