"""Bicubic upsampling and colors against their definitions, and against PyTorch if it is installed."""

import keras
import numpy as np
import pytest

import wavemix_tf as wm
from wavemix_tf.layers.imaging import ReplicatePadding2D


def cubic(distance, a=-0.75):
    """Keys' kernel, as published: 1 at 0, 0 from 2 on."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def matrix(side, factor):
    """(factor * side, side): output pixels from input pixels, indices beyond the border clamped to it."""
    found = np.zeros((factor * side, side))
    for row in range(factor * side):
        place = (row + 0.5) / factor - 0.5
        for tap in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            found[row, min(max(tap, 0), side - 1)] += cubic(place - tap)
    return found


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("size", [(5, 7), (1, 2)])
def test_bicubic_is_the_weighted_sum_of_its_definition(factor, size, rng):
    x = rng.uniform(size=(2, *size, 3))
    expected = np.einsum("ih,jw,nhwc->nijc", matrix(size[0], factor), matrix(size[1], factor), x)
    np.testing.assert_allclose(wm.BicubicUpsampling2D(factor)(x.astype("float32")), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_equals_pytorch(factor, rng):
    torch = pytest.importorskip("torch")
    x = rng.uniform(size=(2, 6, 9, 2)).astype("float32")
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), scale_factor=factor, mode="bicubic", align_corners=False
    )
    found = wm.BicubicUpsampling2D(factor)(x)
    np.testing.assert_allclose(found, expected.numpy().transpose(0, 2, 3, 1), atol=1e-5, rtol=0)


def test_padding_repeats_the_border(rng):
    x = rng.uniform(size=(2, 3, 4, 2)).astype("float32")
    np.testing.assert_array_equal(ReplicatePadding2D(3)(x), np.pad(x, [(0, 0), (3, 3), (3, 3), (0, 0)], mode="edge"))


def test_colours():
    """Greys have no chroma; the primaries as BT.601 weighs them; back again."""
    colours = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "float32")[None, None]
    found = keras.ops.convert_to_numpy(wm.RGBToYCbCr()(colours))[0, 0]
    np.testing.assert_allclose(found[:2], [[0, 0.5, 0.5], [1, 0.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(found[2:, 0], [0.299, 0.587, 0.114], atol=1e-6)
    np.testing.assert_allclose(found[4, 1], 0.5 + 0.886 * 0.564, atol=1e-6)
    np.testing.assert_allclose(found[2, 2], 0.5 + 0.701 * 0.713, atol=1e-6)
    np.testing.assert_allclose(wm.YCbCrToRGB()(wm.RGBToYCbCr()(colours)), colours, atol=1e-6)


def test_filters_never_train():
    """Not even when a user unfreezes the model."""
    model = wm.WaveMixSuperResolver("wavemixsr", 2, (4, 4, 3), width=8, depth=1)
    model.trainable = True
    fixed = [v for v in model.variables if v.path.endswith("filters")]
    assert len(fixed) == 6  # transform of the block; two colors, two bicubic, and back
    assert not any(v.trainable for v in fixed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wm.BicubicUpsampling2D(1), "factor must be at least 2. Received: factor=1"),
        (lambda: wm.RGBToYCbCr((2, 2)), r"channels must be .*Received: channels=\(2, 2\)"),
        (lambda: wm.RGBToYCbCr()(np.zeros((1, 2, 2, 4))), r"takes \(B, H, W, 3\)"),
        (lambda: wm.BicubicUpsampling2D()(np.zeros((2, 2, 2))), r"takes images \(B, H, W, C\)"),
        (lambda: ReplicatePadding2D(0), "padding must be an integer of at least 1"),
    ],
)
def test_errors_state_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()
