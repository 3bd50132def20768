"""AdamW in one operation a weight, against Keras's own."""

import keras
import numpy as np
import pytest

from wavemix_tf.training import FusedAdamW


def trained(kind, steps=4, dtype=None, **options):
    """(weights, optimizer variables) after some steps."""
    keras.utils.set_random_seed(0)
    # No convolution before a batch norm: the gradient of its bias is rounding alone, of which Adam makes whole steps.
    parts = [keras.layers.Flatten(), keras.layers.Dense(16, "gelu", dtype=dtype), keras.layers.Dense(3, dtype=dtype)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *parts])
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, 10)
    optimizer = kind(schedule, weight_decay=0.1, **options)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    random = np.random.default_rng(0)
    for _ in range(steps):
        model.train_on_batch(random.random((16, 8, 8, 1), "float32"), random.integers(0, 3, 16))
    return (
        [keras.ops.convert_to_numpy(one) for one in model.weights],
        [keras.ops.convert_to_numpy(one) for one in optimizer.variables],
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"global_clipnorm": 0.1},
        {"use_ema": True, "ema_momentum": 0.9},
        {"gradient_accumulation_steps": 2},
        {"amsgrad": True},
    ],
)
def test_weights_and_moments_are_keras_own(options):
    fused, plain = (trained(kind, **options) for kind in (FusedAdamW, keras.optimizers.AdamW))
    for mine, theirs in zip((*fused[0], *fused[1]), (*plain[0], *plain[1]), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-4, atol=2e-6)
    moved = trained(FusedAdamW, steps=1, **options)[0]
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(fused[0], moved, strict=True))


@pytest.mark.slow
def test_mixed_precision_and_float64_weights():
    for dtype in ("mixed_bfloat16", "float64"):
        fused, plain = (trained(kind, steps=2, dtype=dtype) for kind in (FusedAdamW, keras.optimizers.AdamW))
        for mine, theirs in zip(fused[1], plain[1], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's kernel")
def test_the_step_has_one_operation_a_weight():
    import tensorflow as tf

    weight = keras.Variable(np.ones((4, 4), "float32"))
    optimizer = FusedAdamW(1e-2)
    optimizer.build([weight])
    step = tf.function(lambda: optimizer.apply([tf.ones((4, 4))], [weight]))
    kinds = [op.type for op in step.get_concrete_function().graph.get_operations()]
    assert kinds.count("ResourceApplyAdam") == 1
    assert len(kinds) < 60


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's kernel")
def test_another_weight_adds_few_operations():
    """Its three resources, the update, and the weight decay; the numbers of the step are shared."""
    import tensorflow as tf

    def operations(count):
        weights = [keras.Variable(np.ones((4, 4), "float32")) for _ in range(count)]
        optimizer = FusedAdamW(1e-2, weight_decay=0.1)
        optimizer.build(weights)
        step = tf.function(lambda gradient: optimizer.apply([gradient] * count, weights))
        return len(step.get_concrete_function(tf.TensorSpec((4, 4))).graph.get_operations())

    assert (operations(11) - operations(1)) / 10 <= 8


def test_it_is_saved_and_loaded():
    optimizer = FusedAdamW(1e-2, weight_decay=0.1, beta_1=0.8)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, FusedAdamW)
    assert again.beta_1 == 0.8
