"""Blocks that are computed again in the backward pass train as those that are not."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import wavemix_tf as wm
from wavemix_tf.keras_internals import calls_in_order, flatten_layers
from wavemix_tf.layers.normalization import FusedBatchNormalization
from wavemix_tf.layers.residual_block import ResidualBlock
from wavemix_tf.networks.recomputed_model import best_places
from wavemix_tf.networks.segments import divide
from wavemix_tf.training.fitting.checkpoint import seed

BLOCKS = {
    "wavemix": lambda **options: wm.WaveMixBlock(8, levels=2, dropout=0.5, **options),
    "bilinear": lambda **options: wm.WaveMixBlock(8, dropout=0.3, activation="relu", upsample="bilinear", **options),
    "v1": lambda **options: wm.WaveMixV1Block(8, levels=2, dropout=0.5, **options),
    "convmixer": lambda **options: wm.ConvMixerBlock(8, 3, dropout=0.5, **options),
    "wtconv": lambda **options: wm.WTConvBlock(8, 3, levels=2, dropout=0.5, **options),
    "inverted_bottleneck": lambda **options: wm.InvertedBottleneckBlock(8, dropout=0.5, **options),
    "resnet": lambda **options: wm.ResidualConvBlock(8, dropout=0.5, **options),
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

    assert settings(model) == ["block", "none"]  # the last would be computed twice at once
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (loaded.recompute, settings(loaded)) == ("block", ["block", "none"])
    assert "recompute" not in wm.WaveMixClassifier(3, (8, 8, 1), width=8, depth=1).get_config()
    with pytest.raises(ValueError, match="recompute must be one of 'none', 'elementwise', 'block'"):
        wm.WaveMixClassifier(3, (8, 8, 1), width=8, depth=1, recompute="all")
    with pytest.raises(ValueError, match=r"recompute must be one of 'none', 'block'\. Received: .*elementwise"):
        wm.ConvMixer(3, (8, 8, 1), width=8, depth=1, recompute="elementwise")


class Penalty(layers.Layer):
    """Adds a loss of its own."""

    def call(self, x):
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return x


class Counter(layers.Layer):
    """Counts its calls in training."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False)

    def call(self, x, training=False):
        if training:
            self.calls.assign_add(1)
        return x


def branched(kind):
    """A network with every state that a step changes: dropout, moving statistics, losses of layers, two outputs."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", activity_regularizer="l2")(inputs)
    for number in range(4):
        y = layers.BatchNormalization(momentum=0.5)(layers.Conv2D(8, 3, padding="same")(x))
        y = Penalty()(Counter()(layers.Dropout(0.4, seed=number)(ops.tanh(y))))
        x = layers.Add()([x, y])
    pooled = layers.GlobalAveragePooling2D()(x)
    outputs = {"sum": layers.Dense(2, kernel_regularizer="l2", name="sum")(pooled), "mean": pooled}
    return kind(inputs, outputs)


def steps_of(model):
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    x = np.random.default_rng(0).standard_normal((12, 12, 12, 3)).astype("float32")
    y = {"sum": x.mean((1, 2))[:, :2], "mean": np.tile(x.mean((1, 2)), (1, 3))[:, :8]}
    losses = model.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False).history["loss"]
    return losses, [ops.convert_to_numpy(variable) for variable in model.variables]


def test_any_functional_model_trains_as_without(tmp_path):
    losses, variables = steps_of(branched(keras.Model))
    model = branched(wm.RecomputedModel)
    again, others = steps_of(model)
    np.testing.assert_allclose(again, losses, rtol=1e-5)
    for one, other in zip(variables, others, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={"Penalty": Penalty, "Counter": Counter})
    assert type(loaded) is wm.RecomputedModel
    x = np.ones((2, 12, 12, 3), "float32")
    np.testing.assert_allclose(loaded(x)["sum"], model(x)["sum"], rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_models_that_compute_nothing_or_have_a_mask():
    inputs = keras.Input((3,))
    x = np.ones((2, 3), "float32")
    np.testing.assert_array_equal(wm.RecomputedModel(inputs, inputs)(x, training=True), x)
    doubled = wm.RecomputedModel(inputs, 2 * inputs)
    np.testing.assert_array_equal(doubled(x, training=True), 2 * x)
    np.testing.assert_array_equal(doubled(x, training=True, mask=np.ones((2,), bool)), 2 * x)


class Unseeded(layers.Layer):
    """Draws from Keras's global generator."""

    def call(self, x, training=False):
        return keras.random.dropout(x, 0.5) if training else x


def test_draws_without_a_seed_are_the_same_in_both_passes():
    """And those of a model without recomputation, in every step."""
    found = []
    for kind in (keras.Model, wm.RecomputedModel):
        inputs = x = keras.Input((64,))
        for _ in range(4):
            x = Unseeded()(layers.Dense(64, kernel_initializer="identity")(x))
        model = kind(inputs, x)
        ones = tf.ones((1, 64))

        @tf.function
        def step(model=model, ones=ones):
            with tf.GradientTape() as tape:
                tape.watch(ones)
                y = model(ones, training=True)
            return y, tape.gradient(y, ones)

        keras.utils.set_random_seed(3)
        outputs = [ops.convert_to_numpy(part) for _ in range(3) for part in step()]
        for y, gradient in zip(outputs[::2], outputs[1::2], strict=True):
            np.testing.assert_array_equal(y != 0, gradient != 0)
        assert not np.array_equal(outputs[0], outputs[2])
        found.append(outputs)
    np.testing.assert_array_equal(*found)


def test_several_inputs_are_recomputed_too(monkeypatch):
    """For a list or dict of inputs Keras passes a mask of the same structure, with nothing in it."""
    inputs = {name: keras.Input((8, 8, 3), name=name) for name in ("left", "right")}
    x = layers.Add()([layers.Conv2D(8, 3, padding="same")(one) for one in inputs.values()])
    for _ in range(4):
        x = layers.Conv2D(8, 3, padding="same", activation="tanh")(x)
    found, remat = [], keras.remat
    monkeypatch.setattr(keras, "remat", lambda function: found.append(function) or remat(function))
    images = np.ones((2, 8, 8, 3), "float32")
    for model, given in (
        (wm.RecomputedModel(inputs, x), {"left": images, "right": images}),
        (wm.RecomputedModel(list(inputs.values()), x), [images, images]),
    ):
        found.clear()
        model(given, training=True)
        assert len(found) >= 2


def nested(kind, recompute):
    """A part that is computed again inside another: a model in a model, and blocks with a setting of their own."""
    keras.utils.set_random_seed(0)
    inputs, entry = keras.Input((8, 8, 8)), keras.Input((8, 8, 8))
    inner = inputs
    for number in range(3):
        inner = layers.Dropout(0.4, seed=number)(layers.Conv2D(8, 3, padding="same", activation="tanh")(inner))
    x = kind(inputs, inner, name="inner")(entry)
    for number in range(3):
        x = wm.WaveMixBlock(8, dropout=0.5, recompute=recompute, name=f"block{number}")(x)
    return kind(entry, layers.GlobalAveragePooling2D()(x))


@pytest.mark.slow
@pytest.mark.parametrize("recompute", ["block", "elementwise"])
def test_parts_inside_parts_train_as_without(recompute):
    """The same masks in every step, and generators that go on as without."""
    found = []
    for kind, setting in ((keras.Model, "none"), (wm.RecomputedModel, recompute)):
        model = nested(kind, setting)
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        x = np.random.default_rng(0).standard_normal((12, 8, 8, 8)).astype("float32")
        losses = model.fit(x, x.mean((1, 2)), batch_size=4, epochs=2, verbose=0, shuffle=False).history["loss"]
        found.append([losses, *(ops.convert_to_numpy(variable) for variable in model.variables)])
        assert not any("next" in vars(layer.seed_generator) for layer in flatten_layers(model) if is_random(layer))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5)


def is_random(layer):
    return getattr(layer, "seed_generator", None) is not None


def test_any_functional_model_keeps_less():
    plain, again = (
        wm.profile(branched(kind), training=True, batch_size=8) for kind in (keras.Model, wm.RecomputedModel)
    )
    assert again.training.step < 0.6 * plain.training.step


def test_segments_need_the_least_memory():
    """Compared with every way to cut a chain in whose middle the tensors are large."""
    inputs = keras.Input((8, 8, 4))
    x = inputs
    for width in (4, 16, 4, 12, 32, 8, 4, 20, 4, 4):
        x = layers.Conv2D(width, 1)(x)
    model = keras.Model(inputs, x)
    calls = calls_in_order(model)
    sizes = [int(np.prod(call.outputs[0].shape[1:])) for call in calls]

    def memory(bounds):
        kept = sum(sizes[place - 1] for place in bounds[1:-1])
        return kept + max(sum(sizes[start:end]) for start, end in itertools.pairwise(bounds))

    end = len(calls)
    ways = itertools.chain(*(itertools.combinations(range(1, end), count) for count in range(end)))
    best = min(memory([0, *way, end]) for way in ways)
    places = best_places(model)
    assert memory([0, *places, end]) <= 1.01 * best
    parts = divide(model, places)
    assert [call for part in parts for call in part.calls] == calls
    assert all(one.outputs == other.inputs for one, other in itertools.pairwise(parts))


def test_a_model_with_a_mask_is_refused():
    inputs = keras.Input((5, 2))
    with pytest.raises(ValueError, match=r"supports no layers that make a mask\. Received: layer 'mask'"):
        wm.RecomputedModel(inputs, layers.LSTM(3)(layers.Masking(name="mask")(inputs)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Training exceeded")  # the moving statistics of an untrained network
def test_fine_tuning_is_recomputed_too():
    """A quantized network trains as without, in less memory, with the same ranges, statistics and masks."""
    found = {}
    for recompute in ("none", "block"):
        keras.utils.set_random_seed(0)
        model = wm.WaveMixClassifier(3, (16, 16, 3), width=4, depth=2, dropout=0.3, recompute=recompute)
        images = np.random.default_rng(0).random((64, 16, 16, 3), "float32")
        quantized = wm.tflite.quantize(model, images)
        seed(quantized, 0)
        quantized.compile(keras.optimizers.SGD(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        quantized.fit(images[:32], np.arange(32) % 3, batch_size=16, verbose=0, shuffle=False)
        found[recompute] = quantized, wm.profile(quantized, training=True, batch_size=16).training.step
    assert type(found["block"][0]) is wm.RecomputedModel
    assert found["block"][1] < 0.6 * found["none"][1]
    for one, other in zip(*(quantized.variables for quantized, _ in found.values()), strict=True):
        if "excess" not in one.path:  # clipped squares near zero
            np.testing.assert_allclose(
                ops.convert_to_numpy(other), ops.convert_to_numpy(one), rtol=1e-3, atol=1e-4, err_msg=one.path
            )
