"""WTConv2D against the paper's equations in NumPy, SciPy and PyWavelets; WTConvBlock against its parts."""

import keras
import numpy as np
import pytest
import pywt
from keras import ops
from scipy import ndimage

import wavemix_tf as wm


def spread(layer, rng):
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def depthwise(x, kernel):
    """A depthwise correlation with zeros around the image, channel by channel in float64; kernel (k, k, C, 1)."""
    window = kernel.astype("float64")[None, :, :, :, 0]
    planes = [
        ndimage.correlate(x[..., [c]], window[..., [c]], mode="constant", origin=(0, *even(kernel), 0))
        for c in range(x.shape[-1])
    ]
    return np.concatenate(planes, axis=-1)


def even(kernel):
    """Shift of the window: an even side is padded with one zero less before the image than behind it."""
    return [-1 if side % 2 == 0 else 0 for side in kernel.shape[:2]]


def paper(layer, x):
    """Section 3 of arXiv 2407.05848: down with the LL band, up with the sum of LL and the deeper inverse."""
    low, mixed, sizes = x.astype("float64"), [], []
    for conv, scale in zip(layer.convs, layer.scales, strict=True):
        sizes.append(low.shape[1:3])
        low, details = pywt.dwt2(low, "haar", mode="zero", axes=(1, 2))
        bands = np.concatenate([low, *details], axis=-1)
        bands = depthwise(bands, ops.convert_to_numpy(conv.kernel)) * ops.convert_to_numpy(scale.gamma)
        mixed.append(np.split(bands, 4, axis=-1))
    deeper = 0.0
    for (first, *details), size in zip(mixed[::-1], sizes[::-1], strict=True):
        deeper = pywt.idwt2((first + deeper, details), "haar", mode="zero", axes=(1, 2))[:, : size[0], : size[1]]
    base = depthwise(x.astype("float64"), ops.convert_to_numpy(layer.base.kernel))
    base = base + (ops.convert_to_numpy(layer.base.bias) if layer.use_bias else 0.0)
    return base * ops.convert_to_numpy(layer.base_scale.gamma) + deeper


CASES = {
    "one level": ({}, (8, 10)),
    "two levels": ({"kernel_size": 3, "levels": 2}, (16, 12)),
    "odd at every level": ({"kernel_size": 5, "levels": 3}, (13, 11)),
    "one odd side": ({"kernel_size": 3, "levels": 2, "use_bias": False}, (8, 6)),
    "even kernel": ({"kernel_size": 4, "levels": 2}, (9, 8)),
    "levels beyond one pixel": ({"kernel_size": 3, "levels": 4}, (3, 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_papers_equations(name, rng):
    options, size = CASES[name]
    layer = wm.WTConv2D(**options, name="wt")
    x = rng.normal(size=(2, *size, 3)).astype("float32")
    layer.build(x.shape)
    spread(layer, rng)
    expected = paper(layer, x)
    np.testing.assert_allclose(layer(x), expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    inputs = keras.Input(x.shape[1:])
    graph = keras.Model(inputs, layer.inline(inputs))
    np.testing.assert_allclose(graph.predict_on_batch(x), expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_weights_as_published(rng):
    """WTConv2d(8, 8, 5, wt_levels=2): base 8 x 26, scale 8; each level 32 x 25 and a scale of 32."""
    layer = wm.WTConv2D(5, levels=2)
    layer.build((None, 8, 8, 8))
    assert sum(int(np.prod(w.shape)) for w in layer.trainable_weights) == 8 * 26 + 8 + 2 * (32 * 25 + 32)
    assert np.all(ops.convert_to_numpy(layer.base_scale.gamma) == 1.0)
    for scale in layer.scales:
        np.testing.assert_array_equal(ops.convert_to_numpy(scale.gamma), np.full(32, 0.1, "float32"))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_receptive_field(levels):
    """A pixel reaches kernel_size windows of the deepest level on either side: about 2**levels * kernel_size pixels."""
    layer = wm.WTConv2D(3, levels=levels)
    x = np.zeros((1, 64, 64, 1), "float32")
    x[0, 32, 32] = 1.0
    empty = ops.convert_to_numpy(layer(np.zeros_like(x)))
    for conv in (layer.base, *layer.convs):
        conv.kernel.assign(np.random.default_rng(0).uniform(0.5, 1, conv.kernel.shape))
    reached = np.nonzero(np.abs(ops.convert_to_numpy(layer(x)) - empty)[0, ..., 0])
    assert [np.ptp(axis) + 1 for axis in reached] == [3 * 2**levels] * 2


@pytest.mark.slow
def test_unknown_sides(rng):
    known = spread_built(wm.WTConv2D(3, levels=2), (1, 7, 9, 2), rng)
    inputs = keras.Input((None, None, 2))
    layer = wm.WTConv2D(3, levels=2)
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights(known.get_weights())
    x = rng.normal(size=(1, 7, 9, 2)).astype("float32")
    np.testing.assert_allclose(model.predict_on_batch(x), known(x), atol=1e-5)


def spread_built(layer, shape, rng):
    layer.build(shape)
    return spread(layer, rng)


def test_errors_state_the_rule():
    for options, rule in (({"kernel_size": 0}, "kernel_size must be"), ({"levels": 0}, "levels must be")):
        with pytest.raises(ValueError, match=rule + ".*Received: "):
            wm.WTConv2D(**options)
    with pytest.raises(ValueError, match=r"takes images \(B, H, W, C\).*Received: "):
        wm.WTConv2D().build((2, 8, 8))


@pytest.mark.parametrize("levels", [1, 2])
def test_the_block_is_convmixer_with_another_convolution(levels, rng):
    x = rng.normal(size=(2, 7, 6, 8)).astype("float32")
    block = wm.WTConvBlock(8, kernel_size=3, levels=levels)
    block.build(x.shape)
    spread(block, rng)
    mixing, _, norm1 = block.depthwise
    pointwise, _, _, norm2 = block.pointwise
    y = keras.activations.gelu(paper(mixing, x).astype("float32")) * _factor(norm1) + norm1.beta + x
    expected = keras.activations.gelu(pointwise(y)) * _factor(norm2) + norm2.beta
    np.testing.assert_allclose(block(x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def _factor(norm):
    """Of moving statistics 0 and 1."""
    return ops.convert_to_numpy(norm.gamma) / np.sqrt(1 + 1e-5)
