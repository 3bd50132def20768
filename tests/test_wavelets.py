"""DWT2D, LowPass2D, IDWT2D and fold_dwt against PyWavelets."""

import keras
import numpy as np
import pytest
import pywt
from keras import ops

import wavemix_tf as wm
from wavemix_tf.layers.wavelets import LowPass2D, fold_dwt

SIZES = [(8, 8), (9, 12), (7, 5), (13, 30), (3, 3)]


def reference(x, wavelet, mode):
    low, high = pywt.dwt2(x.astype("float64"), wavelet, mode=mode, axes=(1, 2))
    return np.concatenate([low, *high], axis=-1)


@pytest.mark.parametrize("mode", ["zero", "periodization"])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym4", "coif1", "db5"])
def test_equals_pywt_and_inverts(wavelet, mode, rng):
    for size in SIZES:
        x = rng.uniform(size=(2, *size, 3)).astype("float32")
        bands = wm.DWT2D(wavelet, mode=mode)(x)
        np.testing.assert_allclose(bands, reference(x, wavelet, mode), atol=1e-6, rtol=0)
        restored = wm.IDWT2D(wavelet, mode, output_size=size)(bands)
        np.testing.assert_allclose(restored, x, atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["zero", "periodization"])
def test_inverse_equals_pywt_for_coefficients_that_are_no_transform(mode, rng):
    bands = rng.normal(size=(1, 9, 7, 4)).astype("float32")
    expected = pywt.idwt2((bands[..., 0], tuple(bands[..., i] for i in (1, 2, 3))), "db2", mode=mode, axes=(1, 2))
    np.testing.assert_allclose(wm.IDWT2D("db2", mode)(bands)[..., 0], expected, atol=1e-6, rtol=0)


def test_levels_are_finest_first_and_equal_wavedec2(rng):
    x = rng.normal(size=(1, 32, 24, 1)).astype("float32")
    outputs = wm.DWT2D("haar", levels=3)(x)
    expected = pywt.wavedec2(x.astype("float64"), "haar", mode="zero", level=3, axes=(1, 2))
    np.testing.assert_allclose(outputs[2][..., :1], expected[0], atol=1e-6, rtol=0)
    for output, details in zip(outputs, expected[:0:-1], strict=True):
        np.testing.assert_allclose(output[..., 1:], np.concatenate(details, axis=-1), atol=1e-6, rtol=0)


def test_low_pass_is_the_ll_band(rng):
    x = rng.normal(size=(2, 9, 8, 3)).astype("float32")
    np.testing.assert_array_equal(LowPass2D("sym4")(x), wm.DWT2D("sym4")(x)[..., :3])


def test_haar_energy_is_preserved(rng):
    x = rng.normal(size=(1, 16, 16, 2)).astype("float32")
    np.testing.assert_allclose(np.sum(np.square(wm.DWT2D()(x))), np.sum(np.square(x)), rtol=1e-6)


@pytest.mark.slow
def test_dynamic_sides(rng):
    inputs = keras.Input((None, None, 2))
    bands = wm.DWT2D("db2", mode="periodization")(inputs)
    model = keras.Model(inputs, [bands, wm.IDWT2D("db2", "periodization")(bands), wm.DWT2D()(inputs)])
    for size in [(10, 12), (11, 7)]:
        x = rng.normal(size=(1, *size, 2)).astype("float32")
        periodic, restored, haar = model.predict_on_batch(x)
        np.testing.assert_allclose(periodic, reference(x, "db2", "periodization"), atol=1e-6, rtol=0)
        np.testing.assert_allclose(restored[:, : size[0], : size[1]], x, atol=1e-5, rtol=0)
        np.testing.assert_allclose(haar, reference(x, "haar", "zero"), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_half_precision_policies(dtype, rng):
    x = rng.normal(size=(1, 7, 8, 2)).astype("float32")
    bands = wm.DWT2D(dtype=dtype)(x)
    assert keras.backend.standardize_dtype(bands.dtype) == dtype.removeprefix("mixed_")
    resolution = 2.0**-7 if "bfloat16" in dtype else 2.0**-10
    np.testing.assert_allclose(
        ops.convert_to_numpy(ops.cast(bands, "float32")), reference(x, "haar", "zero"), atol=4 * resolution, rtol=0
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lion", "adam"])
@pytest.mark.slow
def test_filters_stay_fixed_when_everything_is_thawed_and_trained(optimizer, rng):
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(2, 1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(wm.IDWT2D("db2")(wm.DWT2D("db2")(x)))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    fixed = [layer.get_weights()[0].copy() for layer in model.layers if isinstance(layer, wm.DWT2D | wm.IDWT2D)]
    model.trainable = False
    model.trainable = True
    for layer in model.layers:
        layer.trainable = True
    before = model.layers[1].get_weights()[0].copy()
    options = {"weight_decay": 0.1} if optimizer == "adamw" else {}
    model.compile(keras.optimizers.get({"class_name": optimizer, "config": {"learning_rate": 0.1, **options}}), "mse")
    model.fit(rng.normal(size=(8, 8, 8, 2)), rng.normal(size=(8, 1)), epochs=2, verbose=0)
    after = [layer.get_weights()[0] for layer in model.layers if isinstance(layer, wm.DWT2D | wm.IDWT2D)]
    for first, last in zip(fixed, after, strict=True):
        np.testing.assert_array_equal(first, last)
    assert len(model.trainable_variables) == 4
    assert np.abs(model.layers[1].get_weights()[0] - before).max() > 1e-3  # the convolution did train


def test_fold_dwt_is_exact(rng):
    x = rng.normal(size=(2, 8, 6, 3)).astype("float32")
    kernel = rng.normal(size=(1, 1, 12, 5)).astype("float32")
    unfolded = ops.conv(wm.DWT2D()(x), kernel)
    for folded in (fold_dwt(kernel), fold_dwt(ops.convert_to_tensor(kernel))):
        np.testing.assert_allclose(ops.conv(x, folded, strides=2), unfolded, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wm.DWT2D("har"), r"wavelet must name an orthogonal wavelet: .*haar.*Received: wavelet='har'"),
        (lambda: wm.DWT2D("bior2.2"), r"orthogonal.*Received: wavelet='bior2.2'"),
        (lambda: wm.DWT2D(mode="symmetric"), r"mode must be one of 'zero', 'periodization'.*'symmetric'"),
        (lambda: wm.DWT2D(levels=0), r"levels must be an integer of at least 1. Received: levels=0"),
        (lambda: wm.DWT2D()(np.zeros((2, 8, 8))), r"takes images \(B, H, W, C\)"),
        (lambda: wm.IDWT2D()(np.zeros((1, 4, 4, 6))), r"four bands of C channels"),
        (lambda: wm.IDWT2D(output_size=(9, 8))(np.zeros((1, 4, 4, 4))), r"must not exceed the reconstruction \[8, 8\]"),
        (lambda: fold_dwt(np.zeros((1, 1, 6, 2))), r"kernel must have shape \(1, 1, 4C, F\)"),
    ],
)
def test_errors_state_the_rule(make, message):
    with pytest.raises(ValueError, match=message):
        make()
