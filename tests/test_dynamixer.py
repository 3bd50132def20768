"""DynaMixer: operation and block against NumPy, networks against PyTorch's outputs and the published counts."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import wavemix_tf as wm
from wavemix_tf.training import RECIPES, fit

TINY = {
    "num_classes": 3,
    "image_shape": (8, 12, 3),
    "patch_size": 2,
    "depths": (1, 2),
    "widths": (8, 12),
    "segments": (2, 3),
    "strides": (2,),
    "reduced_dim": 2,
}
GOLDEN = np.load(Path(__file__).parent / "fixtures" / "dynamixer.npz")
CASES = sorted({key.split("/")[0] for key in GOLDEN.files})


def tiny(**changes):
    return wm.DynaMixer(**{**TINY, **changes})


def spread(layer, seed=0):
    """Weights of trained size; fresh ones mix all tokens in nearly equal shares."""
    random = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        one = weight.path.endswith("gamma")
        scale = 0.3 if one or len(weight.shape) < 2 else 1.5 * int(np.prod(weight.shape[:-1])) ** -0.5
        weight.assign(one + random.normal(size=weight.shape) * scale)
    return layer


def inputs(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def values(tensor):
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


# --- the formulas in NumPy, token by token ----------------------------------------------------------------------------


def dense(layer, x):
    y = x @ np.asarray(layer.kernel, "float64")
    return y + np.asarray(layer.bias, "float64") if layer.use_bias else y


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def gelu(x):
    from math import erf

    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def layer_norm(layer, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * np.asarray(layer.gamma, "float64") + np.asarray(layer.beta, "float64")


def mix(op, tokens):
    """(L, C) of one row or column: P and its product, one segment and one output token at a time."""
    count, width = tokens.shape
    d, part = op.reduced_dim, width // op.segments
    codes = dense(op.compress, tokens)
    mixed = np.zeros_like(tokens)
    for segment in range(op.segments):
        flat = np.concatenate([codes[token, segment * d : (segment + 1) * d] for token in range(count)])
        logits = dense(op.generate, flat)
        channels = slice(segment * part, (segment + 1) * part)
        for output in range(count):
            shares = softmax(logits[output * count : (output + 1) * count])
            for token in range(count):
                mixed[output, channels] += shares[token] * tokens[token, channels]
    return dense(op.out, mixed)


def block_oracle(block, x):
    """One image (H, W, C)."""
    height, width, channels = x.shape
    z = layer_norm(block.norm1, x)
    columns = np.stack([mix(block.columns, z[:, place]) for place in range(width)], axis=1)
    rows = np.stack([mix(block.rows, z[place]) for place in range(height)])
    branches = [columns, rows, dense(block.channels, z)]
    pooled = sum(branches).mean((0, 1))
    logits = dense(block.weigh2, gelu(dense(block.weigh1, pooled)))
    weighted = np.zeros_like(x)
    for channel in range(channels):
        shares = softmax(logits[3 * channel : 3 * channel + 3])
        for share, branch in zip(shares, branches, strict=True):
            weighted[..., channel] += share * branch[..., channel]
    x = x + dense(block.project, weighted)
    return x + dense(block.mlp2, gelu(dense(block.mlp1, layer_norm(block.norm2, x))))


@pytest.mark.parametrize(("segments", "reduced_dim"), [(1, 1), (3, 2), (6, 4)])
def test_operation_equals_the_formulas(segments, reduced_dim):
    x = inputs(2, 5, 12)
    op = wm.DynaMixerOp(segments, reduced_dim)
    op.build(x.shape)
    spread(op)
    expected = np.stack([mix(op, tokens) for tokens in x.astype("float64")])
    np.testing.assert_allclose(values(op(x)), expected, atol=1e-5, rtol=0)


def test_columns_are_mixed_as_the_rows_of_the_transposed_image():
    x = inputs(2, 3, 5, 6)
    columns, rows = wm.DynaMixerOp(3, axis=-3), wm.DynaMixerOp(3)
    columns.build(x.shape)
    rows.build((2, 5, 3, 6))
    spread(columns)
    rows.set_weights(columns.get_weights())
    expected = values(rows(x.swapaxes(1, 2))).swapaxes(1, 2)
    np.testing.assert_allclose(values(columns(x)), expected, atol=1e-5, rtol=0)


def test_each_row_by_itself():
    x = inputs(2, 3, 5, 6)
    image, line = wm.DynaMixerOp(2), wm.DynaMixerOp(2)
    image.build(x.shape)
    line.build((2, 5, 6))
    spread(image)
    line.set_weights(image.get_weights())
    np.testing.assert_allclose(values(image(x))[:, 1], values(line(x[:, 1])), atol=1e-6, rtol=0)


def test_matrices_share_out_and_differ_from_place_to_place():
    x = inputs(2, 3, 4, 6)
    op = wm.DynaMixerOp(2, axis=-3)
    op.build(x.shape)
    matrices = values(spread(op).matrices(x))
    assert matrices.shape == (2, 4 * 2, 3, 3)  # (B, W * S, H, H)
    np.testing.assert_allclose(matrices.sum(-1), 1, atol=1e-6)
    assert np.ptp(matrices, axis=1).max() > 0.1


@pytest.mark.parametrize("options", [{}, {"segments": 3, "reduced_dim": 5, "mlp_ratio": 1.5}])
def test_block_equals_the_formulas(options):
    x = inputs(2, 3, 5, 12)
    block = wm.DynaMixerBlock(12, **{"segments": 4, **options})
    block.build(x.shape)
    spread(block)
    expected = np.stack([block_oracle(block, image) for image in x.astype("float64")])
    np.testing.assert_allclose(values(block(x)), expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("activation", ["gelu", "relu6"])
def test_inline_computes_the_same(activation):
    block = wm.DynaMixerBlock(8, 2, activation=activation, dropout=0.1, stochastic_depth=0.1)
    image = keras.Input((4, 6, 8))
    block.build((None, 4, 6, 8))
    spread(block)
    flat = keras.Model(image, block.inline(image))
    kinds = {type(layer).__name__ for layer in flat.layers}
    assert {"Dense", "LayerNormalization", "DynaMixerOp", "GlobalAveragePooling2D"} <= kinds
    x = inputs(2, 4, 6, 8)
    np.testing.assert_allclose(values(flat(x)), values(block(x)), atol=1e-5, rtol=0)
    rows = keras.Model(image, block.rows.inline(image))
    np.testing.assert_allclose(values(rows(x)), values(block.rows(x)), atol=1e-6, rtol=0)


# --- published networks -----------------------------------------------------------------------------------------------


def golden(case):
    prefix = f"{case}/state/"
    state = {key.removeprefix(prefix): GOLDEN[key] for key in GOLDEN.files if key.startswith(prefix)}
    return wm.DynaMixer(**json.loads(str(GOLDEN[f"{case}/config"]))), state


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_outputs_equal_pytorchs(case):
    model, state = golden(case)
    outputs = values(wm.load_torch_weights(model, state)(GOLDEN[f"{case}/image"]))
    np.testing.assert_allclose(outputs, GOLDEN[f"{case}/outputs"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_exported_weights_are_the_loaded_ones(case):
    model, state = golden(case)
    exported = wm.export_torch_weights(wm.load_torch_weights(model, state))
    assert set(exported) == set(state)
    for key, array in state.items():
        np.testing.assert_array_equal(exported[key], array, err_msg=key)


def test_official_names_of_a_published_network():
    """Keys and shapes that the official repository's classes have, from reading them."""
    exported = wm.export_torch_weights(wm.build_model("dynamixer_m", image_shape=(56, 56, 3), num_classes=10))
    expected = {
        "patch_embed.proj.weight": (256, 3, 7, 7),
        "network.0.3.attn.mix_h.generate.weight": (64, 16),
        "network.1.0.attn.mlp_c.weight": (256, 256),
        "network.2.proj.weight": (512, 256, 2, 2),
        "network.3.13.attn.reweight.fc2.weight": (1536, 128),
        "network.3.13.attn.mix_w.compress.weight": (32, 512),
        "network.4.2.mlp.fc1.weight": (1536, 512),
        "norm.weight": (512,),
        "head.weight": (10, 512),
    }
    assert {key: exported[key].shape for key in expected} == expected
    assert not any(key.startswith("network.5") or key.endswith("mlp_c.bias") for key in exported)


@pytest.mark.slow
def test_a_new_head_keeps_the_models_own():
    model, state = golden("stages")
    other = wm.DynaMixer(**{**json.loads(str(GOLDEN["stages/config"])), "num_classes": 9})
    before = np.asarray(other.get_layer("head").kernel)
    wm.load_torch_weights(other, state, new_head=True)
    np.testing.assert_array_equal(np.asarray(other.get_layer("head").kernel), before)
    np.testing.assert_array_equal(
        np.asarray(other.get_layer("norm").gamma),
        np.asarray(wm.load_torch_weights(model, state).get_layer("norm").gamma),
    )


def test_weights_of_another_resolution_are_refused_by_name():
    _, state = golden("one_stage")
    config = {**json.loads(str(GOLDEN["one_stage/config"])), "image_shape": (28, 14, 1)}
    with pytest.raises(ValueError, match=r"wrong shapes: network\.0\.0\.attn\.mix_h\.generate\.weight \(9, 15\)"):
        wm.load_torch_weights(wm.DynaMixer(**config), state)


LIVE = """
import sys
sys.path[:0] = {folders!r}
import numpy as np, torch
from nets import random_images
from torch_dynamixer import Network, randomize
import wavemix_tf as wm

config = {{"image_shape": (56, 112, 3), "num_classes": 10}}
config |= {{key: value for key, value in wm.VARIANTS["dynamixer_s"].items() if key != "model"}}
config["depths"] = (2, 1, 2, 1)
reference = Network(config | {{"patch_size": 7}}).eval()
randomize(reference, 7)
model = wm.build_model("dynamixer_s", 10, (56, 112, 3), depths=config["depths"])
wm.load_torch_weights(model, reference.state_dict())
images = random_images(2, (56, 112, 3), 7)
with torch.no_grad():
    expected = reference(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
difference = np.abs(np.asarray(model(images)) - expected).max()
print(difference, np.abs(expected).max())
assert difference <= 1e-4 * max(1, np.abs(expected).max()), difference
exported = {{key: torch.from_numpy(array) for key, array in wm.export_torch_weights(model).items()}}
reference.load_state_dict(exported, strict=True)
"""


def test_live_comparison_at_the_published_widths():
    pytest.importorskip("torch")
    code = LIVE.format(folders=[str(Path(__file__).parents[1] / "benchmarks")])
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# --- the network's options --------------------------------------------------------------------------------------------


def test_sides_give_the_matrices_their_size():
    model = tiny()
    first, last = model.get_layer("stage1_block1"), model.get_layer("stage2_block2")
    assert first.columns.generate.units == 4 * 4  # 8 x 12 pixels are 4 x 6 patches
    assert first.rows.generate.units == 6 * 6
    assert (last.columns.generate.units, last.rows.generate.units) == (2 * 2, 3 * 3)
    assert model(inputs(2, 8, 12, 3)).shape == (2, 3)


def test_a_stage_of_the_same_width_and_sides_has_no_convolution():
    model = tiny(depths=(1, 1, 1), widths=(8, 8, 16), segments=(2, 2, 2), strides=(1, 1))
    convolutions = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert convolutions == ["stem_conv", "stage3_conv"]
    assert model.get_layer("stage3_conv").kernel_size == (1, 1)


def test_stochastic_depth_rises_to_its_rate_and_acts_in_training_alone():
    model = tiny(stochastic_depth=0.5)
    blocks = [layer for layer in model.layers if isinstance(layer, wm.DynaMixerBlock)]
    assert [block.stochastic_depth for block in blocks] == [0.0, 0.25, 0.5]
    block = wm.DynaMixerBlock(8, 2, stochastic_depth=0.5)
    block.build((None, 2, 3, 8))
    spread(block)
    x = inputs(64, 2, 3, 8)
    inferred = values(block(x))
    np.testing.assert_array_equal(inferred, values(block(x, training=False)))
    trained = values(block(x, training=True))
    untouched = np.mean([np.array_equal(one, other) for one, other in zip(trained, x, strict=True)])
    assert 0.08 < untouched < 0.45  # both branches are dropped for a quarter of the images
    assert not np.allclose(trained, inferred)


@pytest.mark.slow
def test_dropout_acts_in_training_alone():
    model = tiny(dropout=0.5)
    x = inputs(2, 8, 12, 3)
    np.testing.assert_array_equal(values(model(x)), values(model(x)))
    assert not np.allclose(values(model(x, training=True)), values(model(x, training=True)))
    once = tiny()
    np.testing.assert_allclose(values(once(x, training=True)), values(once(x)), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_shape": (None, 12, 3)}, r"must be known.*Received: image_shape=\(None, 12, 3\)"),
        ({"image_shape": (10, 12, 3)}, r"multiples of patch_size and strides, 4 pixels.*\(10, 12, 3\)"),
        ({"image_shape": (8, 12)}, r"image_shape must be \(height, width, channels\)"),
        ({"widths": (8, 13)}, r"widths must be multiples of their stage's segments.*width=13, segments=3"),
        ({"strides": (2, 1)}, r"one value per stage, strides one for each except the first.*strides=\(2, 1\)"),
        ({"depths": ()}, "one value per stage"),
        ({"depths": (1, 0)}, "depths must be an integer of at least 1. Received: depths=0"),
        ({"patch_size": 0}, "patch_size must be an integer of at least 1"),
        ({"reduced_dim": 0}, "reduced_dim must be an integer of at least 1"),
        ({"mlp_ratio": 0}, "mlp_ratio must be a positive number. Received: mlp_ratio=0"),
        ({"stochastic_depth": 1.0}, r"stochastic_depth must be a rate in \[0, 1\). Received: stochastic_depth=1.0"),
        ({"dropout": -0.1}, r"dropout must be a rate in \[0, 1\)"),
        ({"activation": "tanh"}, "activation must be one of 'gelu'"),
        ({"width": 3}, "The arguments are num_classes, image_shape, .*Received: width"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: wm.DynaMixerOp(axis=-1), "axis must be one of -2, -3. Received: axis=-1"),
        (lambda: wm.DynaMixerOp(axis=-3).build((None, 4, 8)), r"takes \(B, H, W, C\) with.*\(None, 4, 8\), axis=-3"),
        (lambda: wm.DynaMixerOp(2).build((None, None, 8)), "the number of tokens fixes the size of its weights"),
        (lambda: wm.DynaMixerOp(3).build((None, 4, 8)), "multiple of segments. Received: channels=8, segments=3"),
        (lambda: wm.DynaMixerBlock(10, 4), "width must be a multiple of segments and at least 4. Received: width=10"),
        (lambda: wm.DynaMixerBlock(2, 1), "at least 4"),
        (lambda: wm.DynaMixerBlock(8, 2).build((None, None, 4, 8)), r"known H and W.*\(None, None, 4, 8\)"),
        (lambda: wm.DynaMixerBlock(8, 2).build((None, 4, 4, 16)), r"takes \(B, H, W, 8\)"),
    ],
)
def test_mistakes_of_layers_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.slow
def test_a_saved_network_is_the_same(tmp_path):
    model = tiny(depths=[1, 2], stochastic_depth=0.1, normalize=((0.5,) * 3, (0.25,) * 3), dtype="mixed_bfloat16")
    spread(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is wm.DynaMixer
    assert loaded.get_config() == model.get_config()
    x = inputs(2, 8, 12, 3)
    np.testing.assert_array_equal(values(loaded(x)), values(model(x)))


@pytest.mark.slow
def test_under_a_mixed_policy_the_head_is_exact():
    model, exact = tiny(dtype="mixed_bfloat16"), tiny()
    spread(exact)
    model.set_weights(exact.get_weights())
    x = inputs(2, 8, 12, 3)
    outputs = model(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float32"
    assert keras.backend.standardize_dtype(model.get_layer("stage2_block1").output.dtype) == "bfloat16"
    reference = values(exact(x))
    assert 0 < np.abs(values(outputs) - reference).max() < 0.05 * np.abs(reference).max()


def test_training_on_digits_lowers_the_loss():
    """The recipe `digits` with this network, six epochs of 37 steps; lists as a recipe's JSON has them."""
    arguments = {"patch_size": 1, "depths": [1, 1], "widths": [16, 32], "segments": [2, 4], "strides": [2]}
    arguments["stochastic_depth"] = 0.1
    recipe = dataclasses.replace(
        RECIPES["digits"], model="dynamixer_s", model_args=arguments, epochs=6, shift=0, rotation=0, ema=0.0
    )
    losses = fit(recipe, verbose=0).history["loss"]
    assert losses[0] > 1.5
    assert losses[-1] < 0.5 * losses[0]
