"""Gradients that TensorFlow registers during tracing are released with their graph, not earlier."""

import gc
import weakref

import keras
import numpy as np
import pytest

from wavemix_tf import WaveMixClassifier
from wavemix_tf.gradient_registry import release_gradients, releasing_gradients
from wavemix_tf.training import Recipe, fit

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's registry")


def registered():
    from tensorflow.python.framework import ops

    names = ops.gradient_registry._registry
    return {name for name in names if name.startswith("CustomGradient-")}


def graphs():
    gc.collect()
    return sum(type(item).__name__ == "FuncGraph" for item in gc.get_objects())


def traced(scale):
    """A function whose gradient is its own: five times the true one."""
    import tensorflow as tf

    @tf.custom_gradient
    def scaled(x):
        return scale * x, lambda upstream: 5.0 * scale * upstream

    return tf.function(lambda x: scaled(x) ** 2)


def gradient_of(function):
    import tensorflow as tf

    x = tf.constant(3.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return float(tape.gradient(y, x))


@pytest.mark.slow
def test_a_function_that_is_still_there_keeps_its_gradient():
    """Also where it is differentiated for the first time after its entry was let go."""
    import tensorflow as tf

    release_gradients()
    gc.collect()  # releases what earlier tests left
    before = registered()
    function = traced(2.0)
    function(tf.constant(3.0))  # traced, not differentiated
    assert len(registered() - before) == 1
    assert release_gradients() == 1
    gc.collect()
    assert len(registered() - before) == 1
    assert gradient_of(function) == 2 * (2.0 * 3.0) * 5.0 * 2.0
    assert release_gradients() <= 1  # the backward pass may have traced it again
    graph = weakref.ref(function.get_concrete_function(tf.constant(3.0)).graph)
    del function
    gc.collect()
    assert graph() is None
    assert registered() <= before


def test_also_after_an_error():
    import tensorflow as tf

    release_gradients()
    before = registered()

    @releasing_gradients
    def fails():
        traced(2.0)(tf.constant(1.0))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fails()
    gc.collect()
    assert registered() <= before


def test_fits_leave_nothing_behind(rng):
    recipe = Recipe(
        name="again",
        dataset="none",
        image_shape=(8, 8, 1),
        num_classes=4,
        calibration_images=8,
        batch_size=16,
        epochs=1,
        warmup_epochs=0,
    )
    data = (rng.random((80, 8, 8, 1)).astype("float32"), np.arange(80) % 4)

    def once():
        keras.utils.set_random_seed(0)
        model = WaveMixClassifier(num_classes=4, image_shape=(8, 8, 1), width=4, depth=1, activation="gelu")
        fit(recipe, model=model, data=data, verbose=0)

    once()
    entries, alive = registered(), graphs()
    for _ in range(2):
        once()
    assert graphs() <= alive
    assert registered() <= entries
