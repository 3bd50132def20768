"""`wavemix_tf.inspection` against PyWavelets, finite differences and manual sums."""

import os
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pytest
import pywt
from keras import layers as L

import wavemix_tf as wm
from wavemix_tf.inspection import BANDS, block_bands, saliency, wavemix_blocks


def classifier(size=(20, 18), levels=2, depth=2, classes=4):
    model = wm.WaveMixClassifier(num_classes=classes, image_shape=(*size, 3), width=8, depth=depth, levels=levels)
    random = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + random.normal(0, 0.2, weight.shape))
    return model


def picture(rng, size=(20, 18)):
    return rng.random((*size, 3)).astype(np.float32)


def as_array(value):
    return keras.ops.convert_to_numpy(value)


def test_bands_are_those_of_the_blocks_transform(rng):
    """Every level against pywt, from the block's own input as a cut of the graph gives it; odd halves included."""
    model, image = classifier((20, 18)), picture(rng)
    found = block_bands(model, image)
    assert [(row.block, row.level) for row in found] == [
        *(("block1", 1), ("block1", 2)),
        *(("block2", 1), ("block2", 2)),
    ]
    for name in ("block1", "block2"):
        block = model.get_layer(name)
        entry = as_array(keras.Model(model.input, block.input)(image[None]))
        entry = np.pad(entry, [(0, 0), (0, 0), (0, 2), (0, 0)])  # 18 to a multiple of 4
        low = as_array(block.reduce(entry))[0]
        for row in (row for row in found if row.block == name):
            low, details = pywt.dwt2(low, "haar", axes=(0, 1))
            np.testing.assert_allclose(row.bands, np.stack([low, *details]), atol=1e-4)
            energy = np.array([np.sum(band**2) for band in (low, *details)])
            np.testing.assert_allclose(row.energy, energy / energy.sum(), atol=1e-4)
            assert sum(row.energy) == pytest.approx(1)


def test_energy_of_known_inputs():
    """A block that sees a constant has all in LL; stripes along the height's fine grid have LH."""
    inputs = keras.Input((16, 16, 4))
    block = wm.WaveMixBlock(4, levels=1, name="only")
    model = keras.Model(inputs, block(inputs))
    block.reduce.set_weights([np.ones((1, 1, 4, 1)), np.zeros(1)])
    rows, columns = np.indices((16, 16))
    for values, band in (
        (np.ones((16, 16)), "LL"),
        (rows % 2, "LH"),
        (columns % 2, "HL"),
        ((rows + columns) % 2, "HH"),
    ):
        stripes = 2.0 * values - 1 if band != "LL" else values
        (row,) = block_bands(model, np.repeat(stripes[..., None], 4, -1).astype(np.float32))
        assert row.energy[BANDS.index(band)] == pytest.approx(1)
        assert row.strongest(3) == [0]


def test_strongest_channels_by_their_details():
    (row,) = block_bands(
        keras.Model(i := keras.Input((8, 8, 12)), wm.WaveMixBlock(12)(i)), np.random.default_rng(0).random((8, 8, 12))
    )
    energy = (row.bands[1:].astype(np.float64) ** 2).sum((0, 1, 2))
    assert row.strongest(2) == np.argsort(-energy)[:2].tolist()


@pytest.mark.slow
def test_looking_leaves_the_model_as_it_was(rng):
    model, image = classifier(), picture(rng)
    before = as_array(model(image[None]))
    weights = model.get_weights()
    saliency(model, image)
    block_bands(model, image)
    np.testing.assert_array_equal(as_array(model(image[None])), before)
    assert all("call" not in vars(block) for block in wavemix_blocks(model))
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(Exception, match=r".*"):
        block_bands(model, image[..., :2])
    assert all("call" not in vars(block) for block in wavemix_blocks(model))


@pytest.mark.slow
def test_saliency_behind_a_linear_head(rng):
    """Behind a mean and a linear layer Grad-CAM is the class activation map: its weights are the head's."""
    model, image = classifier(), picture(rng)
    activation = as_array(keras.Model(model.input, model.get_layer("block2").output)(image[None]))[0]
    kernel = as_array(model.get_layer("head").kernel)
    for index in range(4):
        found = saliency(model, image, index)
        expected = np.maximum(activation @ kernel[:, index], 0)
        np.testing.assert_allclose(found.map, expected / max(expected.max(), 1e-30), atol=1e-4)
        assert found.class_index == index
        np.testing.assert_allclose(found.logits, as_array(model(image[None]))[0], atol=1e-5)
    assert saliency(model, image).class_index == found.logits.argmax()


def test_saliency_against_finite_differences(rng):
    """A head that is not linear, so that the gradient depends on the place and the activation."""
    inputs = keras.Input((8, 8, 4))
    block = wm.WaveMixBlock(4, name="last")
    x = block(inputs)
    head = keras.Sequential([L.Conv2D(3, 3, activation="tanh"), L.Flatten(), L.Dense(2)])
    model = keras.Model(inputs, head(x))
    image = rng.random((8, 8, 4)).astype(np.float32)
    activation = as_array(block(image[None]))
    step, mean = 1e-2, np.zeros(4)
    for channel in range(4):
        # The mean gradient of a channel is the derivative along all of its positions together, divided by their number.
        shift = np.zeros(4, np.float32)
        shift[channel] = step
        higher, lower = (as_array(head(activation + sign * shift))[0, 1] for sign in (1, -1))
        mean[channel] = (float(higher) - float(lower)) / (2 * step) / 64
    expected = np.maximum((activation[0] * mean).sum(-1), 0)
    np.testing.assert_allclose(saliency(model, image, 1).map, expected / expected.max(), atol=2e-3)


def test_blocks_inside_another_model(rng):
    inner = classifier(depth=1, levels=1)
    outer = keras.Sequential([keras.Input((20, 18, 3)), inner, L.Dense(3)])
    image = picture(rng)
    (row,) = block_bands(outer, image)
    np.testing.assert_array_equal(row.bands, block_bands(inner, image)[0].bands)
    assert saliency(outer, image).map.shape == (20, 18)


@pytest.mark.slow
def test_any_size(rng):
    model = wm.WaveMixClassifier(num_classes=3, image_shape=(None, None, 3), width=8, depth=1, levels=2)
    for size in ((9, 14), (16, 16)):
        fine, coarse = block_bands(model, picture(rng, size))
        rows, columns = (-(-side // 4) for side in size)
        assert fine.bands.shape == (4, 2 * rows, 2 * columns, 2)
        assert coarse.bands.shape == (4, rows, columns, 2)
        assert saliency(model, picture(rng, size)).map.shape == size


def test_what_cannot_be_looked_into(rng):
    plain = keras.Sequential([keras.Input((8, 8, 3)), L.Flatten(), L.Dense(2)])
    for look in (block_bands, saliency):
        with pytest.raises(ValueError, match="WaveMixBlock"):
            look(plain, picture(rng, (8, 8)))
    inputs = keras.Input((8, 8, 4))
    with pytest.raises(ValueError, match="classifier"):
        saliency(keras.Model(inputs, wm.WaveMixBlock(4)(inputs)), rng.random((8, 8, 4)))
    with pytest.raises(ValueError, match="0 to 3"):
        saliency(classifier(), picture(rng), 4)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_gradients_of_other_backends(backend, tmp_path):
    if find_spec(backend) is None:
        pytest.skip(f"pip install wavemix-tf[{backend}]")
    program = (
        "import keras, numpy as np, wavemix_tf as wm\n"
        "from wavemix_tf.inspection import block_bands, saliency\n"
        "model = wm.WaveMixClassifier(num_classes=3, image_shape=(8, 8, 3), width=8, depth=1)\n"
        "image = np.random.default_rng(0).random((8, 8, 3)).astype('float32')\n"
        "tail = keras.Model(model.input, model.get_layer('block1').output)\n"
        "activation = keras.ops.convert_to_numpy(tail(image[None]))[0]\n"
        "kernel = keras.ops.convert_to_numpy(model.get_layer('head').kernel)[:, 1]\n"
        "expected = np.maximum(activation @ kernel, 0)\n"
        "found = saliency(model, image, 1)\n"
        "np.testing.assert_allclose(found.map, expected / max(expected.max(), 1e-30), atol=1e-4)\n"
        "assert len(block_bands(model, image)) == 1\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
