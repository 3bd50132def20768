"""Adaptive token sampling against a NumPy loop over single images; invariances; gradients; reports."""

import keras
import numpy as np
import pytest
import token_sampling_oracle
from keras import ops
from test_backends import OTHERS, run
from token_sampling_oracle import logits as oracle_logits
from token_sampling_oracle import sample as oracle_sample

import wavemix_tf as wm
import wavemix_tf.networks.vit
from wavemix_tf.networks.token_sampling import GatherTokens, token_macs

SHAPE, HEADS, DEPTH = (24, 20, 3), 3, 5  # 30 patches of 4 x 4 pixels
BLOCKS = (1, 2, 4)  # a block without sampling lies between two with sampling


def random_attention(rng, batch=6, heads=3, size=26, d=5, sharpness=4.0):
    scores = rng.normal(size=(batch, heads, size, size)) * sharpness * np.linspace(0.2, 1, batch)[:, None, None, None]
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return weights.astype("float32"), rng.normal(size=(batch, heads, size, d)).astype("float32")


def spread_vit(seed=0, **options):
    """Weights large enough that attention is uneven, and images differ in their numbers of tokens."""
    random = np.random.default_rng(seed)
    model = wm.ViT(4, SHAPE, patch_size=4, width=24, depth=DEPTH, heads=HEADS, mlp_ratio=2, **options)
    for variable in model.trainable_variables:
        path = variable.path
        scale = 0.2 if len(variable.shape) < 2 else int(np.prod(variable.shape[:-1])) ** -0.5
        scale *= 2.0 if "qkv" in path else 5.0 if "embed/" in path or "patch_embed" in path else 1.0
        variable.assign(random.normal(size=variable.shape) * scale + ("gamma" in path))
    return model


def some_images(count=6, seed=1):
    random = np.random.default_rng(seed)
    # Some images are nearly flat: the numbers of tokens differ.
    contrast = np.linspace(0.05, 1.0, count)[:, None, None, None]
    return (0.5 + contrast * (random.uniform(size=(count, *SHAPE)) - 0.5)).astype("float32")


def compute(model, images):
    """Not compiled, which takes longer than everything else here."""
    found = [ops.convert_to_numpy(part) for part in keras.tree.flatten(model(images, training=False))]
    return found if len(found) > 1 else found[0]


def kept_sets(indices, live):
    indices, live = (ops.convert_to_numpy(part) for part in (indices, live))
    return [sorted(row[mask > 0].tolist()) for row, mask in zip(indices, live, strict=True)]


@pytest.mark.parametrize("mode", ["adaptive", "static"])
@pytest.mark.parametrize("tokens", [None, 8, 12, 26, 60])
def test_the_layer_keeps_what_the_loop_keeps(mode, tokens, rng):
    attention, values = random_attention(rng)
    indices, live = wm.AdaptiveTokenSampling(tokens, mode)(attention, values)
    expected = [oracle_sample(a, v, tokens or 26) for a, v in zip(attention, values, strict=True)]
    assert kept_sets(indices, live) == expected
    lengths = [len(row) for row in expected]
    assert len(set(lengths)) > 1  # otherwise the case tests nothing
    assert indices.shape[1] == (max(lengths) if mode == "adaptive" else min(tokens or 26, 26))
    assert (ops.convert_to_numpy(indices)[:, 0] == 0).all()
    assert (ops.convert_to_numpy(live)[:, 0] == 1).all()


@pytest.mark.parametrize("mode", ["adaptive", "static"])
def test_removed_tokens_are_as_if_they_had_never_been_there(mode, rng):
    attention, values = random_attention(rng)
    live = (rng.random((6, 26)) < 0.6).astype("float32")
    live[:, 0] = 1
    live[0] = 1
    live[1, 2:] = 0  # two tokens
    attention = attention * live[:, None, None, :]
    attention = attention / attention.sum(axis=-1, keepdims=True)
    found = kept_sets(*wm.AdaptiveTokenSampling(12, mode)(attention, values, live))
    for image in range(6):
        there = np.flatnonzero(live[image])
        expected = oracle_sample(attention[image][:, there][:, :, there], values[image][:, there], 12)
        assert found[image] == there[expected].tolist()


@pytest.mark.parametrize("mode", ["adaptive", "static"])
def test_a_lone_class_token_stays_alone(mode, rng):
    attention, values = random_attention(rng, batch=1)
    live = np.eye(26, dtype="float32")[:1]
    assert kept_sets(*wm.AdaptiveTokenSampling(12, mode)(attention * live, values, live)) == [[0]]


@pytest.mark.parametrize("mode", ["adaptive", "static"])
def test_the_order_of_the_tokens_does_not_matter(mode, rng):
    attention, values = random_attention(rng)
    order = np.concatenate([[0], 1 + rng.permutation(25)])
    layer = wm.AdaptiveTokenSampling(14, mode)
    straight = kept_sets(*layer(attention, values))
    mixed = kept_sets(*layer(attention[:, :, order][:, :, :, order], values[:, :, order]))
    assert [sorted(order[row].tolist()) for row in mixed] == straight


@pytest.mark.parametrize("mode", ["adaptive", "static"])
@pytest.mark.parametrize("tokens", [None, 16, (24, 16, 9)])
@pytest.mark.slow
def test_a_whole_vit_equals_the_loop_over_single_images(mode, tokens):
    plain = spread_vit()
    model = wm.with_token_sampling(plain, BLOCKS, tokens, mode)
    images = some_images()
    found = compute(model, images)
    counts = wm.count_tokens(model, images)
    left = wm.surviving_patches(model, images)
    state = wm.export_torch_weights(plain)
    budgets = dict(zip(BLOCKS, tokens if isinstance(tokens, tuple) else [tokens or 31] * 3, strict=True))
    for image, row in enumerate(images):
        expected, kept, places = oracle_logits(state, row, HEADS, budgets)
        assert counts.kept[image].tolist() == [31, kept[0], kept[1], kept[1], kept[2]]
        assert (1 + np.flatnonzero(left[image, -1])).tolist() == places[1:].tolist()
        np.testing.assert_allclose(found[image], expected, atol=1e-5, rtol=1e-5)
    assert len(np.unique(counts.kept[:, -1])) > 2
    assert left.shape == (len(images), 3, 6, 5)
    assert not np.allclose(found, compute(plain, images), atol=1e-3)  # otherwise the masks have no effect


@pytest.mark.parametrize("mode", ["adaptive", "static"])
@pytest.mark.slow
def test_the_share_that_every_weight_gets_is_added_to_every_weight(mode, monkeypatch):
    """Of a size that shows: published is 1e-6, which no tolerance sees. Our layer adds it up in another way."""
    monkeypatch.setattr(token_sampling_oracle, "NORMALISED", True)
    model, images = wm.with_token_sampling(spread_vit(), BLOCKS, 16, mode), some_images()
    published = compute(model, images)
    for module in (wavemix_tf.networks.vit, token_sampling_oracle):
        assert module.EPSILON == 1e-6
        monkeypatch.setattr(module, "EPSILON", 0.3)
    found = compute(model, images)
    state = wm.export_torch_weights(model)
    expected = [oracle_logits(state, row, HEADS, dict.fromkeys(BLOCKS, 16))[0] for row in images]
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert np.abs(found - published).max() > 1e-2


def test_batch_mates_do_not_change_an_images_logits():
    model = wm.with_token_sampling(spread_vit(), BLOCKS, 20)
    images = some_images()
    together = compute(model, images)
    for index in range(len(images)):
        np.testing.assert_allclose(compute(model, images[index : index + 1])[0], together[index], atol=2e-6)


@pytest.mark.slow
def test_the_batch_shrinks_to_its_longest_image():
    model = wm.with_token_sampling(spread_vit(), BLOCKS, 20)
    images = some_images()
    counts = wm.count_tokens(model, images).kept
    np.testing.assert_allclose(model.predict_on_batch(images), compute(model, images), atol=2e-6)  # compiled
    probe = keras.Model(model.input, [model.get_layer(f"block{block + 1}").output[0] for block in BLOCKS])
    lengths = [part.shape[1] for part in compute(probe, images)]
    assert lengths == counts.max(axis=0)[list(BLOCKS)].tolist()
    assert min(lengths) < 20
    static = wm.with_token_sampling(model, BLOCKS, 20, "static")
    probe = keras.Model(static.input, static.get_layer("block2").output[0])
    assert compute(probe, images).shape[1] == 20


@pytest.mark.slow
def test_static_equals_adaptive():
    model, images = spread_vit(), some_images()
    adaptive, static = (wm.with_token_sampling(model, BLOCKS, 20, mode) for mode in ("adaptive", "static"))
    np.testing.assert_allclose(compute(adaptive, images), compute(static, images), atol=2e-6)


@pytest.mark.parametrize("mode", ["adaptive", "static"])
@pytest.mark.slow
def test_gradients_reach_the_weights_before_the_sampling(mode):
    import tensorflow as tf

    model = wm.with_token_sampling(spread_vit(), BLOCKS, 20, mode)
    images = tf.constant(some_images())
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.reduce_sum(tf.square(model(images, training=True)))
    gradients = tape.gradient(loss, [images, *(variable.value for variable in model.trainable_variables)])
    names = ["image", *(variable.path for variable in model.trainable_variables)]
    for name, gradient in zip(names, gradients, strict=True):
        value = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(value).all(), name
        assert np.abs(value).max() > 0, name


def test_the_gradient_is_that_of_the_gathered_rows():
    """Finite differences: a step that changes no choice changes the logits as the gradient says."""
    import tensorflow as tf

    model = wm.with_token_sampling(spread_vit(), BLOCKS, 20)
    images = tf.constant(some_images(2))
    kernel = model.get_layer("block1").fc2.kernel
    step = np.random.default_rng(3).normal(size=kernel.shape).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.math.sin(model(images)))
    slope = float(tf.reduce_sum(tape.gradient(loss, kernel.value) * step))
    start, before, losses = kernel.numpy(), wm.count_tokens(model, images.numpy()).kept, []
    for sign in (-1, 1):
        kernel.assign(start + sign * 1e-3 * step)
        np.testing.assert_array_equal(wm.count_tokens(model, images.numpy()).kept, before)
        losses.append(float(tf.reduce_sum(tf.math.sin(model(images)))))
    assert slope == pytest.approx((losses[1] - losses[0]) / 2e-3, rel=0.03)


def test_it_trains_and_a_saved_file_computes_the_same(tmp_path):
    model = wm.with_token_sampling(spread_vit(dropout=0.1, stochastic_depth=0.1), BLOCKS, (24, 16, 9))
    images, labels = some_images(8), np.arange(8) % 4
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    losses = [float(model.train_on_batch(images, labels)) for _ in range(12)]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "sampled.keras")
    loaded = keras.saving.load_model(tmp_path / "sampled.keras")
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(compute(loaded, images), compute(model, images))


@pytest.mark.slow
def test_products_are_counted_with_each_images_own_tokens():
    plain, images = spread_vit(), some_images()
    model = wm.with_token_sampling(plain, BLOCKS, 20)
    counts = wm.count_tokens(model, images, batch_size=4)
    assert wm.count_tokens(plain, images).macs.tolist() == [wm.profile(plain).macs] * len(images)
    # With every slot used, the count of `profile` for the static form, which has the same products.
    full = np.minimum([[31, 20, 20, 20, 20]], 31)
    assert token_macs(model, full)[0] == wm.profile(wm.with_token_sampling(plain, BLOCKS, 20, "static")).macs
    assert (counts.macs < token_macs(model, full)).all()
    assert counts.gmacs == pytest.approx(counts.macs.mean() / 1e9)
    np.testing.assert_allclose(counts.kept_per_block, counts.kept.mean(axis=0))
    batches = wm.count_tokens(model, [(images[:2], [0, 1]), (images[2:], [0] * 4)])
    np.testing.assert_array_equal(batches.kept, counts.kept)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"blocks": (5,)}, r"sampling_blocks must be blocks from 0 to 4, ascending. Received: sampling_blocks=\(5,\)"),
        ({"blocks": (2, 1)}, "ascending"),
        ({"blocks": (1,), "tokens": 7}, "sampling_tokens must be None or at least 8. Received: sampling_tokens=7"),
        ({"blocks": (1, 2), "tokens": (9,)}, "one for each of sampling_blocks"),
        ({"blocks": (1,), "mode": "none"}, "sampling_mode must be one of 'adaptive', 'static'"),
    ],
)
@pytest.mark.slow
def test_mistakes_are_reported(options, words):
    with pytest.raises(ValueError, match=words):
        wm.with_token_sampling(spread_vit(), **options)


def test_only_vits_sample():
    classifier = wm.WaveMixClassifier(num_classes=2, image_shape=(8, 8, 3), width=8, depth=1)
    for call in (lambda: wm.with_token_sampling(classifier, (0,)), lambda: wm.count_tokens(classifier, np.zeros(1))):
        with pytest.raises(ValueError, match=r"vit must be a ViT\. Received: vit of type WaveMixClassifier"):
            call()
    with pytest.raises(ValueError, match=r"must sample tokens in at least one block. Received: sampling_blocks=\(\)"):
        wm.surviving_patches(spread_vit(), some_images(1))
    with pytest.raises(ValueError, match="tokens must be None or at least 8"):
        wm.AdaptiveTokenSampling(3)


def test_gathered_rows(rng):
    x = rng.normal(size=(2, 5, 3)).astype("float32")
    indices = np.array([[0, 4, 4], [2, 0, 1]])
    np.testing.assert_array_equal(GatherTokens()(x, indices), np.take_along_axis(x, indices[..., None], axis=1))


# --- the other backends -----------------------------------------------------------------------------------------------

PROGRAM = """
import sys
import numpy as np
import keras
import wavemix_tf as wm
folder, backend = sys.argv[1], keras.backend.backend()
stored = np.load(f"{folder}/expected.npz")
for mode in ("adaptive", "static"):
    model = keras.saving.load_model(f"{folder}/{mode}.keras", compile=False)
    found = keras.ops.convert_to_numpy(model(stored["images"], training=False))
    np.testing.assert_allclose(found, stored[mode], atol=1e-5, err_msg=mode)
    np.testing.assert_array_equal(wm.count_tokens(model, stored["images"]).kept, stored["kept"])
    probe = keras.Model(model.input, model.get_layer("block2").output[0])
    shrinks = mode == "adaptive" and backend == "torch"
    length = probe.predict_on_batch(stored["images"]).shape[1]
    assert length == (stored["kept"][:, 1].max() if shrinks else 20), (mode, length)
    model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    loss = [float(model.train_on_batch(stored["images"], np.arange(6) % 4)) for _ in range(2)]
    np.testing.assert_allclose(loss, stored[f"{mode}-loss"], rtol=1e-4)
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled")
    images, found = some_images(), {}
    for mode in ("adaptive", "static"):
        model = wm.with_token_sampling(spread_vit(), BLOCKS, 20, mode)
        model.save(folder / f"{mode}.keras")
        found[mode] = compute(model, images)
        found["kept"] = wm.count_tokens(model, images).kept
        model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        found[f"{mode}-loss"] = [float(model.train_on_batch(images, np.arange(6) % 4)) for _ in range(2)]
    np.savez(folder / "expected.npz", images=images, **found)
    return folder


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_sample_and_train_alike(backend, saved):
    """PyTorch's batch shrinks, too; under JAX, whose shapes are fixed, it is masked."""
    if backend not in OTHERS:
        pytest.skip(f"{backend} is not installed")
    run(PROGRAM, backend, saved)
