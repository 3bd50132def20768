"""The private parts of Keras that the package uses exist in the installed Keras, and no others are used."""

import io
import random
import tokenize
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

import wavemix_tf as wm
from wavemix_tf import keras_internals as internals

ROOT = Path(__file__).resolve().parents[1]
PRIVATE = {
    "_keras_history",
    "_inbound_nodes",
    "_nodes_by_depth",
    "_standardize_inputs",
    "_call_context_args",
    "_outbound_nodes",
    "_flatten_layers",
    "_layers",
    "_operations",
    "_nodes",
    "_functional",
    "_trainable_variables",
    "_non_trainable_variables",
    "_autocast",
    "_direction",
    "_learning_rate",
    "_model_variables_moving_average",
}


@pytest.fixture
def model():
    """A convolution that is called twice, a block of several layers, a nested model, and a bare operation."""
    inputs = keras.Input((8, 8, 4), name="pixels")
    shared = layers.Conv2D(4, 1, name="shared")
    inner = keras.Sequential([keras.Input((8, 8, 4)), layers.Dense(4, name="dense")], name="inner")
    x = shared(shared(inputs))
    x = inner(wm.WaveMixBlock(4, name="block")(x))
    return keras.Model(inputs, ops.tanh(x) + inputs, name="whole")


def test_flatten_layers_are_all_layers_each_once(model):
    found = internals.flatten_layers(model)
    names = [layer.name for layer in found]
    assert found[0] is model
    assert internals.flatten_layers(model, include_self=False) == found[1:]
    assert {"pixels", "shared", "block", "block_expand1", "inner", "dense"} <= set(names)
    assert names.count("shared") == 1
    assert len({id(layer) for layer in found}) == len(found)


def test_variables_of_a_layer_without_those_of_its_sublayers(model):
    shared, block = model.get_layer("shared"), model.get_layer("block")
    assert internals.trainable_variables_of_its_own(shared) == [shared.kernel, shared.bias]
    assert internals.trainable_variables_of_its_own(block) == []
    assert block.trainable_variables


def test_the_producer_of_a_tensor_is_its_operation_and_call(model):
    add, call = internals.producer(model.outputs[0])
    assert not isinstance(add, keras.Layer)
    assert call.outputs[0] is model.outputs[0]
    tanh, pixels = call.arguments.keras_tensors
    assert internals.producer(pixels)[0] is model.get_layer("pixels")
    nested, call = internals.producer(internals.producer(tanh)[1].arguments.keras_tensors[0])
    assert nested is model.get_layer("inner")
    assert list(call.arguments.args) == call.arguments.keras_tensors
    assert isinstance(call.arguments.kwargs, dict)
    _, second = internals.producer(internals.producer(call.arguments.args[0])[1].arguments.args[0])
    operation, first = internals.producer(second.arguments.args[0])
    assert operation is model.get_layer("shared")
    assert first is not second
    assert internals.producer(first.arguments.args[0])[0] is model.get_layer("pixels")


def test_calls_are_counted_and_forgotten(model):
    shared = model.get_layer("shared")
    assert internals.count_calls(shared) == 2
    before = {layer.name: internals.count_calls(layer) for layer in internals.flatten_layers(model)}
    with internals.without_new_calls(model):
        model.call(keras.Input((8, 8, 4)))
        assert internals.count_calls(shared) == 4
    assert {layer.name: internals.count_calls(layer) for layer in internals.flatten_layers(model)} == before
    add = internals.producer(model.outputs[0])[0]
    internals.forget_calls(add)
    assert internals.count_calls(add) == 0
    add(keras.Input((2,)), keras.Input((2,)))  # it still works
    assert internals.count_calls(add) == 1


def test_the_own_value_of_a_variable_is_a_copy_in_its_dtype():
    found = []

    class Layer(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, x):
            found.append(internals.own_value(self.scale))
            return x * self.scale

    layer = Layer(dtype="mixed_float16")
    assert layer(np.ones(2)).dtype == "float16"
    layer.scale.assign(2.0)
    assert found[-1].dtype == "float32"
    assert float(found[-1]) == 1.0


def test_plain_layers_are_keras_own(model):
    assert all(map(internals.is_plain_keras, (model, layers.Dense(1), layers.Conv2D(1, 1), layers.Add())))
    assert not any(map(internals.is_plain_keras, (layers.LSTM(1), layers.MultiHeadAttention(1, 1), wm.DWT2D())))


def test_draws_without_a_seed_are_of_the_global_generator():
    keras.utils.set_random_seed(0)
    before = np.array(internals.global_generator().state.value)
    keras.random.normal((1,))
    after = np.array(internals.global_generator().state.value)
    np.testing.assert_array_equal(after, (before + 1) * 5387 % 933199)


def test_the_global_generator_is_made_without_a_draw_of_pythons():
    keras.backend.clear_session()
    random.seed(0)
    before = random.getstate()
    first = internals.global_generator()
    assert random.getstate() == before
    assert internals.global_generator() is first


def test_the_calls_of_a_model_in_order(model):
    calls = internals.calls_in_order(model)
    made = {id(tensor) for tensor in model.inputs}
    for call in calls:
        assert {id(tensor) for tensor in call.input_tensors} <= made
        made |= {id(tensor) for tensor in call.outputs}
    x = np.random.default_rng(0).random((2, 8, 8, 4)).astype("float32")
    tensors = {id(model.inputs[0]): internals.standardized_inputs(model, x)[0]}
    for call in calls:
        tensors |= internals.run_call(call, tensors, training=False)
    np.testing.assert_allclose(tensors[id(model.outputs[0])], model(x), rtol=1e-5)


def test_sublayers_stand_in_one_attribute():
    block = wm.WaveMixBlock(4, name="block")
    assert {layer.name for layer in getattr(block, internals.SUBLAYERS)} >= {"block_reduce", "block_residual"}


@pytest.mark.slow
def test_early_stopping_knows_a_metric_of_our_own():
    """Its name tells nothing; Keras says the direction by the metric."""
    for direction, stopped in ((True, 2), (False, None)):
        metric = keras.metrics.MeanMetricWrapper(lambda y, z: ops.mean(z, axis=-1), name="quality")
        if direction:
            internals.set_larger_is_better(metric)
        model = keras.Sequential([keras.Input((1,)), layers.Dense(1, kernel_initializer="ones")])
        model.compile("sgd", "mse", metrics=[metric])
        stop = keras.callbacks.EarlyStopping("quality", patience=1)
        if stopped is None:
            with pytest.raises(ValueError, match="maximized or minimized"):
                model.fit(np.ones((2, 1)), np.zeros((2, 1)), epochs=1, verbose=0, callbacks=[stop])
            continue
        history = model.fit(np.ones((2, 1)), np.zeros((2, 1)), epochs=5, verbose=0, callbacks=[stop])
        assert len(history.history["quality"]) == stopped  # it decreases: two epochs without a larger value end it


def test_a_variable_keeps_its_dtype_under_a_mixed_policy():
    seen = {}

    class Layer(layers.Layer):
        def build(self, shape):
            self.kept = self.add_weight(shape=(1,), name="kept")
            self.cast = self.add_weight(shape=(1,), name="cast")
            internals.keep_dtype(self.kept)

        def call(self, x):
            for name in ("kept", "cast"):
                seen[name] = keras.backend.standardize_dtype(ops.convert_to_tensor(getattr(self, name)).dtype)
            return x

    Layer(dtype="mixed_float16")(np.ones((1, 1), np.float16))
    assert seen == {"kept": "float32", "cast": "float16"}


def test_an_optimizers_schedule_and_its_moving_averages():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    assert internals.learning_rate_or_schedule(keras.optimizers.SGD(schedule)) is schedule
    assert float(internals.learning_rate_or_schedule(keras.optimizers.SGD(0.25))) == 0.25
    variables = [keras.Variable(np.full((2,), value, np.float32)) for value in (1.0, 2.0)]
    for wrap in (lambda optimizer: optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = wrap(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
        optimizer.build(variables)
        assert [tuple(average.shape) for average in internals.moving_averages(optimizer)] == [(2,), (2,)]
    optimizer = keras.optimizers.AdamW(weight_decay=0.1)
    assert not internals.excludes_from_weight_decay(optimizer)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    assert internals.excludes_from_weight_decay(optimizer)


def test_a_metric_finds_the_model_that_reads_it():
    found = []

    class Watch(keras.metrics.Metric):
        def update_state(self, *args, **kwargs):
            pass

        def result(self):
            found.append(internals.model_that_reads_its_metrics())
            return {}

    watch = Watch(name="watch")
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.compile("sgd", "mse", metrics=[watch])
    model.fit(np.ones((2, 1)), np.zeros((2, 1)), epochs=1, verbose=0)
    assert model in found  # outside compiled code, at the end of the epoch
    found.clear()
    watch.result()
    assert found == [None]


def test_classes_of_a_back_end_have_a_public_module():
    kept = keras.saving.serialize_keras_object(keras.optimizers.SGD(0.1))
    module = internals.public_module(kept["module"], kept["class_name"])
    assert module == "keras.optimizers"
    assert internals.public_module("keras.src.backend.torch.optimizers.torch_sgd", "SGD") == "keras.optimizers"
    assert internals.public_module("keras.src.backend.torch.other", "NoSuchOptimizer").startswith("keras.src")
    assert internals.public_module("mine", "SGD") == "mine"
    assert internals.public_module(None, "SGD") is None


@pytest.mark.skipif(not (ROOT / "training").is_dir(), reason="runs in a checkout")
def test_no_other_module_reaches_into_keras():
    found = []
    for folder in ("wavemix_tf", "training", "tflite"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.name == "keras_internals.py":
                continue
            text = path.read_text(encoding="utf-8")
            words = list(tokenize.generate_tokens(io.StringIO(text).readline))
            for index, token in enumerate(words[2:], 2):
                first, second = (word.string for word in words[index - 2 : index])
                attribute = second == "." and (token.string in PRIVATE or (first, token.string) == ("keras", "src"))
                named = token.type == tokenize.STRING and any(
                    token.string.strip("\"'").startswith(word) for word in (*PRIVATE, "_exclude_from_", "keras.src")
                )
                if attribute or named:
                    found.append(f"{path.relative_to(ROOT)}:{token.start[0]}: {token.line.strip()}")
    assert found == []
