"""The token mixers: each against an independent reference (NumPy, SciPy, PyTorch), and their common properties."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from scipy import fft, ndimage

import wavemix_tf as wm
from wavemix_tf.layers.fourier_block import FourierMatrix
from wavemix_tf.layers.two_step_block import LayerScale
from wavemix_tf.layers.wavelets import HAAR_KERNELS, dct_kernels, fold_dwt

ABLATIONS = {"dct": "dct", "random_filters": "random", "learned_filters": "learned", "no_transform": "none"}


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def spread(model, seed=1):
    """Random weights and statistics that leave no part of a network without effect."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        name = weight.path.split("/")[-1]
        if name == "moving_variance":
            weight.assign(random.uniform(0.5, 2.0, weight.shape))
        elif weight.trainable or name == "moving_mean":
            weight.assign(random.normal(size=weight.shape) * max(np.prod(weight.shape[:-1]), 1) ** -0.5)
    return model


def values(layer, x, **options):
    return ops.convert_to_numpy(layer(x, **options))


# --- replacements of the Haar transform -------------------------------------------------------------------------------


def test_over_two_by_two_pixels_the_dct_is_haar():
    np.testing.assert_allclose(np.abs(dct_kernels(2)), np.abs(HAAR_KERNELS), atol=1e-12)
    for kernel in dct_kernels(2):
        assert any(np.allclose(kernel, sign * haar) for haar in HAAR_KERNELS for sign in (1, -1))


def test_dct_filters_are_scipys_lowest_frequencies():
    x = images(1, 8, 6, 2)
    found = values(wm.FilterBank2D("dct"), x).reshape(4, 3, 4, 2)
    padded = np.pad(x[0], [(1, 1), (1, 1), (0, 0)])
    for row in range(4):
        for column in range(3):
            window = padded[2 * row : 2 * row + 4, 2 * column : 2 * column + 4]
            coefficients = fft.dctn(window, axes=(0, 1), norm="ortho")
            lowest = [coefficients[0, 0], coefficients[1, 0], coefficients[0, 1], coefficients[1, 1]]
            np.testing.assert_allclose(found[row, column], lowest, atol=1e-5)


@pytest.mark.parametrize("basis", ["random", "learned"])
def test_drawn_filters_have_norm_one_and_follow_the_seed(basis):
    def draw():
        keras.utils.set_random_seed(3)
        bank = wm.FilterBank2D(basis)
        bank.build((None, 8, 8, 4))
        return bank

    bank = draw()
    filters = ops.convert_to_numpy(bank.filters)
    assert filters.shape == (4, 2, 2)
    np.testing.assert_allclose(np.square(filters).sum((1, 2)), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(filters, ops.convert_to_numpy(draw().filters))
    other = wm.FilterBank2D(basis)
    other.build((None, 8, 8, 4))
    assert np.abs(filters - ops.convert_to_numpy(other.filters)).max() > 0.1
    assert len(bank.trainable_weights) == (basis == "learned")


@pytest.mark.parametrize("transform", ["haar", *ABLATIONS.values()])
def test_a_block_computes_what_its_sublayers_do(transform):
    """``call`` contracts the filters with the 1x1 convolution behind them; ``inline`` does not."""
    block = wm.WaveMixBlock(8, transform=transform)
    x = images(2, 6, 10, 8)
    block(x)
    spread(block)
    np.testing.assert_allclose(values(block, x), ops.convert_to_numpy(block.inline(x)), atol=2e-5)


def test_filters_that_are_haars_make_the_wavemix_block():
    """The ablation differs from WaveMix in nothing else."""
    x = images(2, 6, 8, 8)
    haar, other = wm.WaveMixBlock(8), wm.WaveMixBlock(8, transform="random")
    for block in (haar, other):
        block(x)
    spread(haar)
    for mine, theirs in zip(other.weights, haar.weights, strict=True):
        mine.assign(HAAR_KERNELS if mine.path.endswith("filters") else theirs)
    np.testing.assert_allclose(values(other, x), values(haar, x), atol=1e-5)


def test_fold_dwt_contracts_any_filters():
    filters, kernel = images(4, 2, 2, seed=4), images(1, 1, 12, 5, seed=5)
    x = images(2, 6, 4, 3)
    bands = np.einsum("bhiwjc,nij->bhwnc", x.reshape(2, 3, 2, 2, 2, 3), filters).reshape(2, 3, 2, 12)
    expected = bands @ kernel[0, 0]
    folded = fold_dwt(kernel, filters)
    np.testing.assert_allclose(values(lambda y: ops.conv(y, folded, strides=2), x), expected, atol=1e-4)
    np.testing.assert_allclose(
        ops.convert_to_numpy(fold_dwt(ops.convert_to_tensor(kernel), filters)), folded, atol=1e-5
    )


@pytest.mark.slow
def test_learned_filters_are_trained_and_random_ones_are_not():
    for name, moves in (("learned_filters", True), ("random_filters", False)):
        keras.utils.set_random_seed(0)
        model = wm.TokenMixerClassifier(name, 3, (8, 8, 3), width=8, depth=1, patch_size=2)
        bank = next(weight for weight in model.weights if weight.path.endswith("filters"))
        before = ops.convert_to_numpy(bank)
        model.compile(keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(images(16, 8, 8, 3), np.arange(16) % 3, epochs=1, verbose=0)
        assert (np.abs(ops.convert_to_numpy(bank) - before).max() > 1e-4) == moves, name


# --- the other mixers -------------------------------------------------------------------------------------------------


def test_fourier_matrix_is_the_orthonormal_transform_of_real_and_complex_numbers():
    real, imaginary = images(2, 3, 5), images(2, 3, 5, seed=1)
    for x, given in ((real, real), (real + 1j * imaginary, np.concatenate([real, imaginary], axis=-1))):
        options = {"complex_input": np.iscomplexobj(x)}
        transform = np.fft.fft(x, norm="ortho")
        np.testing.assert_allclose(values(FourierMatrix(**options), given), transform.real, atol=1e-5)
        found = values(FourierMatrix(**options, complex_output=True), given).reshape(2, 3, 5, 2)
        np.testing.assert_allclose(found[..., 0] + 1j * found[..., 1], transform, atol=1e-5)


def test_fourier_block_mixes_by_the_real_part_of_the_transform():
    x = images(2, 6, 5, 8)
    block = wm.FourierBlock(8, expansion=2)
    block(x)
    spread(block)
    for weight in block.feed_forward[4].weights:
        weight.assign(np.zeros(weight.shape))  # the MLP adds nothing
    normed = values(block.mix_norm, x)
    np.testing.assert_allclose(values(block, x), x + np.fft.fftn(normed, axes=(1, 2, 3), norm="ortho").real, atol=1e-5)


def test_poolformer_pools_without_the_border():
    x = images(2, 5, 7, 6)
    block = wm.PoolFormerBlock(6, layer_scale=None)
    block(x)
    spread(block)
    for weight in block.feed_forward[4].weights:
        weight.assign(np.zeros(weight.shape))
    gamma, beta = (ops.convert_to_numpy(w) for w in (block.mix_norm.gamma, block.mix_norm.beta))
    mean, variance = (f(x, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.var))
    normed = (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    window = np.ones((1, 3, 3, 1))
    total = ndimage.convolve(normed, window, mode="constant")
    count = ndimage.convolve(np.ones_like(normed), window, mode="constant")
    np.testing.assert_allclose(values(block, x), x + total / count - normed, atol=1e-5)


def test_mlp_mixer_block_is_the_papers_equation():
    x = images(2, 4, 6, 8)
    block = wm.MLPMixerBlock(8, token_dim=5, expansion=3)
    block(x)
    spread(block)

    def norm(y, layer):
        gamma, beta = (ops.convert_to_numpy(w) for w in (layer.gamma, layer.beta))
        mean, variance = (f(y, axis=-1, keepdims=True) for f in (np.mean, np.var))
        return (y - mean) / np.sqrt(variance + 1e-6) * gamma + beta

    def dense(y, layer):
        kernel, bias = (ops.convert_to_numpy(w) for w in (layer.kernel, layer.bias))
        return y @ kernel.reshape(-1, kernel.shape[-1]) + bias

    def gelu(y):
        return ops.convert_to_numpy(keras.activations.gelu(y))

    tokens = x.reshape(2, 24, 8)
    mixed = dense(gelu(dense(norm(tokens, block.mix_norm).transpose(0, 2, 1), block.token_expand)), block.token_project)
    tokens = tokens + mixed.transpose(0, 2, 1)
    first, expand, _, _, project, *_ = block.feed_forward
    tokens = tokens + dense(gelu(dense(norm(tokens, first), expand)), project)
    np.testing.assert_allclose(values(block, x), tokens.reshape(2, 4, 6, 8), atol=1e-5)


@pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch")
def test_convmixer_block_is_the_papers_equation_in_pytorch():
    import torch

    x = images(2, 7, 6, 8)
    block = wm.ConvMixerBlock(8, kernel_size=5)
    block(x)
    spread(block)
    depthwise, _, norm1 = block.depthwise
    pointwise, _, _, norm2 = block.pointwise

    def conv(layer, groups):
        kernel = ops.convert_to_numpy(layer.kernel)
        made = torch.nn.Conv2d(8, 8, kernel.shape[0], padding="same", groups=groups)
        order = (2, 3, 0, 1) if groups > 1 else (3, 2, 0, 1)
        made.load_state_dict(
            {"weight": torch.tensor(kernel.transpose(order)), "bias": torch.tensor(layer.bias.numpy())}
        )
        return made

    def norm(layer):
        made = torch.nn.BatchNorm2d(8).eval()
        names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        state = {name: torch.tensor(getattr(layer, ours).numpy()) for name, ours in names.items()}
        made.load_state_dict({**state, "num_batches_tracked": torch.tensor(0)})
        return made

    gelu = torch.nn.GELU()
    y = torch.tensor(x.transpose(0, 3, 1, 2))
    with torch.no_grad():
        y = y + norm(norm1)(gelu(conv(depthwise, 8)(y)))
        y = norm(norm2)(gelu(conv(pointwise, 1)(y)))
    np.testing.assert_allclose(values(block, x), y.numpy().transpose(0, 2, 3, 1), atol=1e-5)


def test_layer_scale_is_one_factor_a_channel():
    layer = LayerScale(0.25)
    x = images(2, 3, 4)
    np.testing.assert_allclose(values(layer, x), 0.25 * x)
    layer.gamma.assign([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(values(layer, x), x * np.array([1, 2, 3, 4]), rtol=1e-6)


def test_stochastic_depth_skips_whole_images_in_training_alone():
    keras.utils.set_random_seed(0)
    block = wm.PoolFormerBlock(4, layer_scale=1.0, stochastic_depth=0.5)
    x = images(64, 4, 4, 4)
    block(x)
    for weight in block.feed_forward[4].weights:
        weight.assign(np.zeros(weight.shape))
    added = values(block, x, training=True) - x
    full = values(block, x) - x
    kept = np.abs(added).max((1, 2, 3)) > 0
    assert 16 < kept.sum() < 48
    np.testing.assert_allclose(added[kept], 2 * full[kept], atol=1e-4)


# --- whole networks ---------------------------------------------------------------------------------------------------


def test_wavemix_among_the_mixers_is_the_wavemix_classifier():
    arguments = {"num_classes": 5, "image_shape": (16, 12, 3), "width": 16, "depth": 2, "stem": "strided"}
    mixer = spread(wm.TokenMixerClassifier("wavemix", **arguments))
    classifier = wm.WaveMixClassifier(**arguments, dropout=0.0)
    classifier.set_weights(mixer.get_weights())
    x = images(2, 16, 12, 3)
    np.testing.assert_array_equal(values(mixer, x), values(classifier, x))


def pairs(count=128):
    """Two bright patches, side by side or apart: only mixing tells the images from one another."""
    random = np.random.default_rng(0)
    x, y = np.zeros((count, 16, 16, 1), "float32"), np.arange(count) % 2
    for image, apart in zip(x, y, strict=True):
        first = random.integers(0, 7, 2)
        second = first + np.eye(2, dtype=int)[random.integers(2)]
        while apart and np.abs(second - first).max() <= 2:
            second = random.integers(0, 8, 2)
        for row, column in 2 * np.stack([first, second]):
            image[row : row + 2, column : column + 2] = 1
    return x, y


@pytest.mark.parametrize("name", wm.MIXERS)
def test_every_mixer_learns_what_no_patch_alone_can_tell(name):
    keras.utils.set_random_seed(0)
    x, y = pairs()
    model = wm.TokenMixerClassifier(name, 2, (16, 16, 1), width=8, depth=2, patch_size=2)
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = model.fit(x, y, epochs=15, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * np.log(2)  # of guessing


@pytest.mark.parametrize("name", [name for name in wm.MIXERS if name not in ("mlp_mixer", "fourier")])
def test_mixers_without_fixed_places_take_any_image(name):
    known = spread(wm.TokenMixerClassifier(name, 3, (20, 12, 3), width=8, depth=1, patch_size=2))
    unknown = wm.TokenMixerClassifier(name, 3, (None, None, 3), width=8, depth=1, patch_size=2)
    unknown.set_weights(known.get_weights())
    x = images(2, 20, 12, 3)
    np.testing.assert_allclose(values(unknown, x), values(known, x), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wm.TokenMixerClassifier("attention"), "mixer must be one of 'wavemix', 'random_filters'"),
        (lambda: wm.TokenMixerClassifier("convmixer", mixer_args={"kernel": 3}), "arguments of ConvMixerBlock"),
        (lambda: wm.TokenMixerClassifier("mlp_mixer", image_shape=(None, 32, 3)), "the sides must be known"),
        (lambda: wm.TokenMixerClassifier("wavemix", width=30), "width must be a multiple of 4"),
        (lambda: wm.WaveMixBlock(8, levels=2, transform="dct"), "levels must be 1 with transform='dct'"),
        (lambda: wm.WaveMixBlock(8, transform="fft"), "transform must be one of 'haar', 'dct'"),
        (lambda: wm.FilterBank2D("haar"), "basis must be one of 'dct', 'random', 'learned'"),
        (lambda: wm.FilterBank2D()(images(1, 5, 4, 3)), "takes even sides"),
        (lambda: wm.MLPMixer(image_shape=(30, 32, 3)), "must be multiples of patch_size=16"),
        (lambda: wm.MLPMixerBlock(8, norm="group"), "norm must be one of 'layer', 'batch'"),
        (lambda: wm.MLPMixerBlock(8, stochastic_depth=1.0), "stochastic_depth must be a rate in"),
        (lambda: wm.PoolFormer(depths=(1, 1), widths=(8,)), "depths and widths must have one value per stage"),
        (
            lambda: wm.StagedClassifier(widths=8, depths=1),
            "must be lists with one value per stage",
        ),
        (lambda: wm.StagedClassifier(widths=(8, 8), depths=(1,)), "must be lists with one value per stage"),
        (
            lambda: wm.StagedClassifier(mixer_args="expansion"),
            "mixer_args must be a dict or None",
        ),
        (lambda: wm.ConvMixerBlock(8)(images(1, 4, 4, 6)), "takes (B, H, W, 8)"),
        (lambda: FourierMatrix(complex_input=True)(images(2, 7)), "The last axis must be even"),
        (lambda: wm.build_model("resnet"), "name must be one of"),
    ],
)
def test_errors_state_the_rule(make, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        make()
    assert "Received:" in str(caught.value)


def test_build_model_knows_classes_by_name():
    model = wm.build_model("TokenMixerClassifier", num_classes=3, image_shape=(16, 16, 1), mixer="poolformer", width=8)
    assert type(model) is wm.TokenMixerClassifier
    assert (model.mixer, model.width, model.output_shape) == ("poolformer", 8, (None, 3))
    assert type(model.get_layer("block1")) is wm.PoolFormerBlock


# --- weights of other packages ----------------------------------------------------------------------------------------

GOLDEN = np.load(Path(__file__).parent / "fixtures" / "timm_golden.npz")
PUBLISHED = {"convmixer": wm.ConvMixer, "mlp_mixer": wm.MLPMixer, "poolformer": wm.PoolFormer}
# Of the authors' PoolFormer: their stage M and block N.
OFFICIAL = (
    (r"^stem\.conv", "patch_embed.proj"),
    (r"^stages\.(\d+)\.downsample\.conv", lambda m: f"network.{2 * int(m[1]) - 1}.proj"),
    (r"^stages\.(\d+)\.blocks", lambda m: f"network.{2 * int(m[1])}"),
    (r"layer_scale(\d)\.scale", r"layer_scale_\1"),
    (r"^head\.(norm)", r"\1"),
    (r"^head\.fc", "head"),
)


def golden(case):
    """(our network, timm's state)."""
    config = json.loads(str(GOLDEN[f"{case}/config"]))
    prefix = f"{case}/state/"
    state = {key.removeprefix(prefix): GOLDEN[key] for key in GOLDEN.files if key.startswith(prefix)}
    return PUBLISHED[case](**config), state


@pytest.mark.parametrize("case", PUBLISHED)
def test_with_timms_weights_the_outputs_are_timms(case):
    """Of PoolFormer with the authors' order at the end, see the fixture's script."""
    model, state = golden(case)
    wm.load_torch_weights(model, state)
    expected = GOLDEN[f"{case}/outputs"]
    assert np.ptp(expected, axis=0).max() > 0.05  # the output depends on the image
    np.testing.assert_allclose(values(model, GOLDEN[f"{case}/image"]), expected, atol=2e-5)


@pytest.mark.parametrize("case", PUBLISHED)
def test_weights_go_back_under_their_names(case):
    model, state = golden(case)
    wm.load_torch_weights(model, state)
    if case == "poolformer":
        for pattern, name in OFFICIAL:
            state = {re.sub(pattern, name, key): value for key, value in state.items()}
    exported = wm.export_torch_weights(model)
    assert set(exported) == set(state)
    for key, value in state.items():
        assert exported[key].shape == value.shape
        np.testing.assert_array_equal(exported[key], value, err_msg=key)
    again, _ = golden(case)
    wm.load_torch_weights(again, exported)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
