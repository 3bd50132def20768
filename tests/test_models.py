"""The networks and build_model: published sizes, serialization, any image size, errors."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest

import wavemix_tf as wm


def test_every_row_names_its_class_and_its_arguments():
    """At a depth of one, for speed."""
    for name, row in wm.VARIANTS.items():
        cls = getattr(wm, row.get("model", "WaveMixClassifier"))
        side = None if cls in (wm.WaveMixSegmenter, wm.WaveMixSuperResolver) else 32
        channels = row.get("image_shape", (0, 0, 3))[2]
        short = {"depths": (1,), "widths": (16,)} if "depths" in row else {"depth": 1}
        if cls is wm.DynaMixer:
            side, short = 28, {**short, "segments": (8,), "strides": ()}
        model = wm.build_model(name, **short, image_shape=(side, side, channels))
        assert type(model) is cls
        assert model.name == name
        for key, value in row.items():
            if key not in ("model", "image_shape", *short):
                assert getattr(model, key) == value, (name, key)


def test_a_checkpoints_normalization_is_asked_for_by_its_dataset():
    small = {"width": 8, "depth": 1}
    model = wm.build_model("wavemix_lite_144_7", normalize="cifar10", **small)
    assert model.normalize == wm.CHECKPOINT_NORMALIZATION["cifar10"]
    assert wm.build_model("wavemix_lite_144_7", **small).normalize is None
    with pytest.raises(ValueError, match=r"normalize must be one of 'cifar10', .*Received: normalize='mnist'"):
        wm.build_model("wavemix_lite_144_7", normalize="mnist")


@pytest.mark.parametrize(
    "options",
    [
        {"levels": 3, "activation": "relu6"},
        {"block": "v1", "levels": 4},
        {"stem": "patchify", "patch_size": 4, "upsample": "pixel_shuffle"},
        {"upsample": "pixel_shuffle_conv", "ff_dim": 16},
        {"stride": 2, "normalize": ((0.5, 0.4, 0.3), (0.2, 0.2, 0.3)), "image_shape": (None, None, 3)},
    ],
)
@pytest.mark.slow
def test_keras_file_round_trip(options, rng, tmp_path):
    model = wm.WaveMixClassifier(**{"width": 8, "depth": 2, "image_shape": (16, 24, 3), **options})
    x = rng.uniform(size=(2, 16, 24, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is wm.WaveMixClassifier
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: wm.WaveMixSegmenter(3, (17, 24, 3), width=8, depth=2, levels=2, normalize=((0.5,) * 3, (0.2,) * 3)),
        lambda: wm.WaveMixSegmenter(3, (None, None, 3), width=8, depth=1, stem="patchify", patch_size=2, head_dims=[6]),
        lambda: wm.WaveMixSuperResolver("sisr", 4, width=8, depth=1, upsample="bilinear"),
        lambda: wm.WaveMixSuperResolver("wavemixsr", 3, (17, 24, 3), width=8, depth=1),
        lambda: wm.WaveMixSuperResolver("wavemixsr_v2", 4, width=8, depth=1),
    ],
)
@pytest.mark.slow
def test_keras_file_round_trip_of_the_others(make, rng, tmp_path):
    model = make()
    x = rng.uniform(size=(2, 17, 24, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model)
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config())
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))


@pytest.mark.slow
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


@pytest.mark.slow
def test_any_image_size():
    model = wm.WaveMixClassifier(width=8, depth=1, levels=4, image_shape=(None, None, 3))
    for size in [(5, 7), (32, 31)]:
        assert model.predict_on_batch(np.zeros((1, *size, 3))).shape == (1, 10)


SEGMENTERS = {
    "strided": dict(levels=2),
    "patchify": dict(levels=1, stem="patchify", patch_size=8),
    "unstrided": dict(levels=1, stride=1),
}


@pytest.mark.parametrize("options", SEGMENTERS.values(), ids=SEGMENTERS)
@pytest.mark.parametrize("size", [(16, 24), (17, 30), (5, 9)])
@pytest.mark.slow
def test_a_segmenter_answers_for_every_pixel(options, size, rng):
    """Sides known to the model or not, divisible or not: as many pixels as came in, and the same."""
    known = wm.WaveMixSegmenter(3, (*size, 3), width=8, depth=1, **options)
    unknown = wm.WaveMixSegmenter(3, (None, None, 3), width=8, depth=1, **options)
    half = wm.WaveMixSegmenter(3, (None, size[1], 3), width=8, depth=1, **options)
    x = rng.uniform(size=(2, *size, 3)).astype("float32")
    logits = known.predict_on_batch(x)
    assert known.output_shape == (None, *size, 3) == (None, *logits.shape[1:])
    assert unknown.output_shape == (None, None, None, 3)
    for model in (unknown, half):
        model.set_weights(known.get_weights())
        np.testing.assert_allclose(model.predict_on_batch(x), logits, atol=1e-5, rtol=0)


def test_a_segmenter_pads_at_the_bottom_and_right(rng):
    """Behind `normalize`: what is added is the mean colour, which the stem's own padding is too."""
    options = dict(width=8, depth=1, levels=1, normalize=((0.5, 0.4, 0.3), (0.2, 0.2, 0.3)))
    odd, even = wm.WaveMixSegmenter(3, (13, 18, 3), **options), wm.WaveMixSegmenter(3, (16, 20, 3), **options)
    even.set_weights(odd.get_weights())
    x = rng.uniform(size=(2, 13, 18, 3)).astype("float32")
    padded = np.tile(np.array([0.5, 0.4, 0.3], "float32"), (2, 16, 20, 1))
    padded[:, :13, :18] = x
    np.testing.assert_allclose(odd.predict_on_batch(x), even.predict_on_batch(padded)[:, :13, :18], atol=1e-5, rtol=0)


def test_the_head_follows_the_stem():
    names = [layer.name for layer in wm.WaveMixSegmenter(width=16, depth=1, stem="patchify", patch_size=8).layers]
    assert [name for name in names if name.startswith("head")] == [*(f"head_deconv{i}" for i in (1, 2, 3)), "head"]
    model = wm.WaveMixSegmenter(width=16, depth=1, head_dims=(12, 7))
    assert [model.get_layer(f"head_deconv{i}").filters for i in (1, 2)] == [12, 7]


@pytest.mark.parametrize(
    ("variant", "scale"), [("sisr", 2), ("sisr", 8), ("wavemixsr", 2), ("wavemixsr", 3), ("wavemixsr_v2", 4)]
)
@pytest.mark.slow
def test_super_resolution_of_any_size(variant, scale, rng):
    model = wm.WaveMixSuperResolver(variant, scale, width=16, depth=1)
    assert model.output_shape == (None, None, None, 3)
    for size in [(6, 8), (5, 7)]:
        x = rng.uniform(size=(1, *size, 3)).astype("float32")
        known = wm.WaveMixSuperResolver(variant, scale, (*size, 3), width=16, depth=1)
        known.set_weights(model.get_weights())
        y = known.predict_on_batch(x)
        assert y.shape == (1, size[0] * scale, size[1] * scale, 3)
        np.testing.assert_allclose(model.predict_on_batch(x), y, atol=1e-5, rtol=0)


def test_published_options_of_super_resolution_are_the_defaults():
    found = {v: wm.WaveMixSuperResolver(v, width=8, depth=1) for v in ("sisr", "wavemixsr", "wavemixsr_v2")}
    blocks = {v: m.get_layer("stage1_block1" if v == "wavemixsr_v2" else "block1") for v, m in found.items()}
    assert {v: (b.expansion, b.dropout, b.upsample, b.ff_dim) for v, b in blocks.items()} == {
        "sisr": (2, 0.0, "deconv", None),
        "wavemixsr": (1, 0.3, "deconv", None),
        "wavemixsr_v2": (1, 0.3, "pixel_shuffle_conv", 32),
    }
    assert found["sisr"].expansion is None  # the argument is unchanged


def test_the_luma_is_the_networks_the_chroma_is_bicubic(rng):
    model = wm.WaveMixSuperResolver("wavemixsr", 2, (6, 5, 3), width=8, depth=1)
    x = rng.uniform(size=(2, 6, 5, 3)).astype("float32")
    parts = keras.Model(model.input, [model.get_layer("luma").output, model.output])
    luma, rgb = parts.predict_on_batch(x)
    ycbcr = wm.RGBToYCbCr()(rgb)
    np.testing.assert_allclose(ycbcr[..., :1], luma, atol=1e-5, rtol=0)
    chroma = wm.RGBToYCbCr((1, 3))(wm.BicubicUpsampling2D(2)(x))
    np.testing.assert_allclose(ycbcr[..., 1:], chroma, atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["segmenter", "sisr", "wavemixsr", "wavemixsr_v2"])
@pytest.mark.slow
def test_mixed_precision_ends_in_float32(variant, rng, tmp_path):
    small = {"width": 8, "depth": 1, "dtype": "mixed_bfloat16"}
    model = (
        wm.WaveMixSegmenter(3, (9, 8, 3), levels=1, **small)
        if variant == "segmenter"
        else wm.WaveMixSuperResolver(variant, 2, (9, 8, 3), **small)
    )
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = rng.uniform(size=(2, 9, 8, 3)).astype("float32")
    y = loaded(x)
    block = loaded.get_layer("stage1_block1" if variant == "wavemixsr_v2" else "block1")
    assert block.compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    np.testing.assert_array_equal(y, model(x))


ON_ANOTHER_BACKEND = """
import numpy as np, keras, sys
import wavemix_tf as wm
x = np.random.default_rng(0).uniform(size=(2, 17, 18, 3)).astype("float32")
for name in sys.argv[2:]:
    model = keras.models.load_model(f"{sys.argv[1]}/{name}.keras", compile=False)
    assert keras.backend.backend() != "tensorflow"
    y = keras.ops.convert_to_numpy(model(x, training=False))
    difference = np.abs(y - np.load(f"{sys.argv[1]}/{name}.npy")).max()
    print(name, difference)
    assert difference < 1e-4, (name, difference)
    model.compile("sgd", "mse")
    assert np.isfinite(model.train_on_batch(x, y + 0.1)), name
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_compute_and_train_the_same(backend, tmp_path):
    if find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    small = {"width": 8, "depth": 1}
    models = {
        "segmenter": wm.WaveMixSegmenter(3, (None, None, 3), levels=2, **small),
        "sisr": wm.WaveMixSuperResolver("sisr", **small),
        "wavemixsr": wm.WaveMixSuperResolver("wavemixsr", 3, **small),
        "wavemixsr_v2": wm.WaveMixSuperResolver("wavemixsr_v2", 4, **small),
        "v1": wm.WaveMixClassifier(3, (17, 18, 3), block="v1", levels=4, **small),
        "v3": wm.WaveMixClassifier(3, (17, 18, 3), upsample="pixel_shuffle_conv", **small),
    }
    x = np.random.default_rng(0).uniform(size=(2, 17, 18, 3)).astype("float32")
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", model.predict_on_batch(x))
    done = subprocess.run(
        [sys.executable, "-c", ON_ANOTHER_BACKEND, str(tmp_path), *models],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


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
        (lambda: wm.build_model("wavemix_144"), "name must be one of 'wavemix_lite_8_10_up', .*name='wavemix_144'"),
        (lambda: wm.WaveMixClassifier(stem="pachify"), "stem must be one of 'strided', 'patchify'.*'pachify'"),
        (lambda: wm.WaveMixClassifier(num_classes=0), "num_classes must be an integer of at least 1"),
        (lambda: wm.WaveMixClassifier(image_shape=(32, 32)), r"image_shape must be .*Received: image_shape=\(32, 32\)"),
        (lambda: wm.WaveMixClassifier(stem="patchify", patch_size=8, image_shape=(4, 4, 3)), r"reduction \(8 pixels\)"),
        (lambda: wm.WaveMixClassifier(normalize=((0.5,), (0.2,))), "normalize must be .mean, std. with 3 values each"),
        (lambda: wm.WaveMixClassifier(block="v2"), "block must be one of 'wavemix', 'v1'. Received: block='v2'"),
        (lambda: wm.WaveMixClassifier(block="v1", upsample="nearest"), "upsample must be 'deconv' with block='v1'"),
        (lambda: wm.WaveMixClassifier(head_dims=(8,)), "The arguments are num_classes, .*Received: head_dims"),
        (lambda: wm.WaveMixSegmenter(stride=3), "reduction .* must be a power of two. Received: reduction=9"),
        (
            lambda: wm.WaveMixSegmenter(head_dims=(8,)),
            r"reduction .* must be 2\*\*len\(head_dims\). Received: reduction=4, head_dims=\(8,\)",
        ),
        (lambda: wm.WaveMixSegmenter(head_dims=(8, 0)), "head_dims must be an integer of at least 1"),
        (lambda: wm.WaveMixSuperResolver("edsr"), "variant must be one of 'sisr', 'wavemixsr', .*variant='edsr'"),
        (lambda: wm.WaveMixSuperResolver(scale=3), "scale must be a power of two of at least 2 .*scale=3"),
        (lambda: wm.WaveMixSuperResolver("wavemixsr", scale=1), "scale must be at least 2 .*scale=1"),
        (lambda: wm.WaveMixSuperResolver(image_shape=(8, 8, 1)), "image_shape must have 3 channels, RGB"),
    ],
)
def test_errors_state_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()
