"""Dropout from random bytes, and the memory-saving GELU: distribution, values and gradients of Keras."""

import keras
import numpy as np
import pytest
from keras import ops

from wavemix_tf.layers.elementwise import ByteDropout, gelu_dropout

tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize("rate", [0.5, 0.25, 0.1, 0.3])
def test_dropout_keeps_the_stated_share_and_the_mean(rate):
    dropped = np.asarray(ByteDropout(rate, seed=1)(np.ones((64, 16, 16, 16), "float32"), training=True))
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], 1 / (1 - rate), rtol=1e-6)
    # 262,144 draws: five standard deviations.
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / kept.size)
    for axis in range(4):  # no element, row or channel is favored
        others = tuple(other for other in range(4) if other != axis)
        share = kept.mean(axis=others)
        assert np.abs(share - (1 - rate)).max() < 6 * np.sqrt(rate * (1 - rate) / (kept.size / share.size))


def test_neighbours_drop_independently():
    kept = np.asarray(ByteDropout(0.5, seed=1).draw(np.ones((32, 16, 16, 32), "float32"))).astype(float)
    for axis in range(4):
        together = (kept * np.roll(kept, 1, axis=axis)).mean()
        assert abs(together - 0.25) < 5 * np.sqrt(0.25 * 0.75 / kept.size) * 1.2


def test_dropout_draws_anew_each_time_and_repeats_with_the_seed():
    x = np.ones((4, 8), "float32")
    first, again = ByteDropout(0.5, seed=3), ByteDropout(0.5, seed=3)
    one, two = np.asarray(first(x, training=True)), np.asarray(first(x, training=True))
    assert (one != two).any()
    np.testing.assert_array_equal(np.asarray(again(x, training=True)), one)


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"rate": 0.5}])
def test_inference_changes_nothing(options):
    x = np.random.default_rng(0).normal(size=(2, 8)).astype("float32")
    np.testing.assert_array_equal(np.asarray(ByteDropout(**options)(x, training=False)), x)


def test_what_bytes_do_not_fit_takes_keras_own_path():
    x = np.ones((512, 7), "float32")  # odd last axis
    assert ByteDropout(0.5).draw(x) is None
    shared = np.asarray(ByteDropout(0.5, noise_shape=(512, 1), seed=1)(np.ones((512, 8), "float32"), training=True))
    assert (shared == shared[:, :1]).all()
    assert 0.3 < (np.asarray(ByteDropout(0.5, seed=1)(x, training=True)) == 0).mean() < 0.7


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-7), ("float32", 1e-6), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("dropped", [False, True])
def test_gelu_and_its_gradient_are_those_of_keras(dtype, tolerance, dropped):
    x = ops.cast(np.linspace(-8, 8, 1024).reshape(4, 256), dtype)
    weights = ops.cast(np.random.default_rng(0).normal(size=(4, 256)), dtype)
    keep = ops.convert_to_tensor(np.random.default_rng(1).random((4, 256)) > 0.3) if dropped else None
    scale = 1.5 if dropped else 1.0

    def composed(x):
        y = keras.activations.gelu(x, approximate=False)
        return y if keep is None else y * ops.cast(keep, dtype) * scale

    found = []
    for function in (composed, lambda x: gelu_dropout(x, keep, scale)):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
            loss = ops.sum(y * weights)
        assert y.dtype == x.dtype
        found.append([np.asarray(ops.cast(z, "float64")) for z in (y, tape.gradient(loss, x))])
    for expected, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, atol=tolerance, rtol=tolerance)
