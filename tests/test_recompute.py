"""Blocks that are computed again in the backward pass train as those that are not."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import wavemix_tf as wm
from wavemix_tf.layers.normalization import FusedBatchNormalization
from wavemix_tf.layers.residual_block import ResidualBlock

BLOCKS = {
    "wavemix": lambda **options: wm.WaveMixBlock(8, levels=2, dropout=0.5, **options),
    "bilinear": lambda **options: wm.WaveMixBlock(8, dropout=0.3, activation="relu", upsample="bilinear", **options),
    "v1": lambda **options: wm.WaveMixV1Block(8, levels=2, dropout=0.5, **options),
    "convmixer": lambda **options: wm.ConvMixerBlock(8, 3, dropout=0.5, **options),
    "poolformer": lambda **options: wm.PoolFormerBlock(8, dropout=0.5, stochastic_depth=0.3, norm="batch", **options),
    "mlp_mixer": lambda **options: wm.MLPMixerBlock(8, dropout=0.5, **options),
    "fourier": lambda **options: wm.FourierBlock(8, dropout=0.5, **options),
}


def trained(block, recompute, policy):
    """Weights, statistics and losses of three steps of a block on its own."""
    keras.utils.set_random_seed(0)
    tried = BLOCKS[block](recompute=recompute, dtype=policy, name="block")
    inputs = keras.Input((8, 8, 8))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D(dtype="float32")(tried(layers.Conv2D(8, 1)(inputs))))
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    x = np.random.default_rng(0).standard_normal((12, 8, 8, 8)).astype("float32")
    losses = model.fit(x, x.mean((1, 2)) ** 2, batch_size=4, epochs=1, verbose=0, shuffle=False).history["loss"]
    return losses, [ops.convert_to_numpy(weight) for weight in model.weights]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.slow
def test_it_trains_as_without(block, policy):
    """The same dropout masks, and moving statistics that are averaged once a step."""
    losses, weights = trained(block, "none", policy)
    for recompute in BLOCKS[block]().recomputes[1:]:
        again, others = trained(block, recompute, policy)
        tolerance = (1e-6 if recompute == "block" else 1e-5) if policy == "float32" else 2e-2
        np.testing.assert_allclose(again, losses, rtol=tolerance)
        for one, other in zip(weights, others, strict=True):
            np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_norm_added_to_its_input_has_the_gradients_of_the_sum(frozen):
    """Also of channels whose gamma is negative or small."""
    random = np.random.default_rng(0)
    x, u, weights = (random.standard_normal((4, 6, 6, 5)).astype("float32") for _ in range(3))
    found = []
    for added in (False, True):
        norm = FusedBatchNormalization()
        norm.build(u.shape)
        norm.gamma.assign([1.0, -0.7, 1e-3, -20.0, 0.3])
        norm.beta.assign([0.0, 1.0, -2.0, 3.0, 0.0])
        norm.trainable = not frozen
        gamma, beta = norm.gamma.value, norm.beta.value
        with tf.GradientTape() as tape:
            inputs = [tf.constant(x), tf.constant(u)]
            tape.watch([*inputs, gamma, beta])
            y = norm.add_to(*inputs) if added else inputs[0] + norm(inputs[1], training=True)
            loss = tf.reduce_sum(y * weights)
        gradients = tape.gradient(loss, [*inputs, gamma, beta])
        found.append([ops.convert_to_numpy(part) for part in (y, norm.moving_mean, norm.moving_variance, *gradients)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5 * np.abs(one).max())


def test_elementwise_keeps_fewer_tensors(monkeypatch):
    """Each block of the chain keeps its input, its hidden activations once, and what its convolutions need."""

    def kept(recompute):
        block = wm.WaveMixBlock(8, dropout=0.5, recompute=recompute)
        block.build((2, 8, 8, 8))

        @tf.function
        def step(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = block(x, training=True)
            return tape.gradient(y, [x, *(variable.value for variable in block.trainable_variables)])

        graph = step.get_concrete_function(tf.TensorSpec((2, 8, 8, 8))).graph
        kernels = [op for op in graph.get_operations() if op.type == "FusedBatchNormGradV3"]
        assert len(kernels) == 1
        return kernels[0].inputs[1].op.type

    assert kept("none") == "BiasAdd"  # the output of the transposed convolution
    assert kept("elementwise") == "Sub"  # from the block's output and input
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU:0"] if kind == "GPU" else [])
    assert kept("elementwise") == "BiasAdd"  # cuDNN's gradient takes another statistic than the CPU's


def test_it_draws_new_masks_in_every_step():
    block = wm.WaveMixBlock(8, dropout=0.5, recompute="block")
    x = np.ones((1, 8, 8, 8), "float32")
    first, second = (ops.convert_to_numpy(block(x, training=True)) for _ in range(2))
    assert not np.array_equal(first, second)


def test_only_training_is_recomputed(monkeypatch):
    block = wm.WaveMixBlock(8, recompute="block")
    block.build((1, 8, 8, 8))
    monkeypatch.setattr(keras, "remat", lambda function: pytest.fail("recomputed"))
    block(np.ones((1, 8, 8, 8), "float32"))
    block(np.ones((1, 8, 8, 8), "float32"), training=False)


def test_a_network_hands_it_to_its_blocks(tmp_path):
    model = wm.WaveMixClassifier(num_classes=3, image_shape=(8, 8, 1), width=8, depth=2, recompute="block")

    def settings(model):
        return [layer.recompute for layer in model.layers if isinstance(layer, ResidualBlock)]

    assert settings(model) == ["block", "block"]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.recompute, settings(loaded)) == ("block", ["block", "block"])
    assert "recompute" not in wm.WaveMixClassifier(3, (8, 8, 1), width=8, depth=1).get_config()
    with pytest.raises(ValueError, match="recompute must be one of 'none', 'elementwise', 'block'"):
        wm.WaveMixClassifier(3, (8, 8, 1), width=8, depth=1, recompute="all")
    with pytest.raises(ValueError, match=r"recompute must be one of 'none', 'block'\. Received: .*elementwise"):
        wm.ConvMixer(3, (8, 8, 1), width=8, depth=1, recompute="elementwise")
