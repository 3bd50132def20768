"""All uses of private parts of Keras, one function each; ``tests/test_keras_internals.py`` checks a new Keras.

No other module of the package uses these attributes. Where Keras has a public way, the package uses that.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import keras

SUBLAYERS = "_layers"  # attribute of a layer: its sublayers in the order of creation


def flatten_layers(layer: Any, include_self: bool = True) -> list[Any]:
    """Return a layer or model and all its sublayers at any depth, each once.

    ``model.layers`` has only the first level, and a layer has no public list.
    """
    return list(layer._flatten_layers(include_self=include_self))


def trainable_variables_of_its_own(layer: Any) -> list[Any]:
    """Return the trainable variables of a layer without those of its sublayers."""
    return list(layer._trainable_variables)


def producer(tensor: Any) -> tuple[Any, Any]:
    """Return the layer or operation that a KerasTensor comes from, and the call that returned it.

    Keras's public API has the layers of a model, but no edges between them.

    Returns:
        (operation, call) with ``call.arguments.args``, ``.kwargs`` and ``.keras_tensors``, and ``call.outputs``.
    """
    operation, index, _ = tensor._keras_history
    return operation, operation._inbound_nodes[index]


def calls_in_order(model: Any) -> list[Any]:
    """Return the calls of a functional model that compute its outputs, in the order in which Keras runs them."""
    by_depth = model._nodes_by_depth
    return [call for depth in sorted(by_depth, reverse=True) for call in by_depth[depth] if not call.is_input]


def run_call(call: Any, tensors: dict[int, Any], training: bool) -> dict[int, Any]:
    """Compute one call of ``calls_in_order``.

    Args:
        call: The call.
        tensors: id of a KerasTensor -> its value, with those of the call's inputs.
        training: Passed to the operation if it takes it.

    Returns:
        id of a KerasTensor -> its value, for the outputs of the call.
    """
    args, kwargs = call.arguments.fill_in(tensors)
    if "training" in getattr(call.operation, "_call_context_args", ()):
        kwargs["training"] = training
    results = keras.tree.flatten(call.operation(*args, **kwargs))
    return {id(symbol): result for symbol, result in zip(call.outputs, results, strict=True)}


def standardized_inputs(model: Any, inputs: Any) -> list[Any]:
    """Return the inputs of a functional model as tensors in its order, as its ``call`` makes them."""
    return list(model._standardize_inputs(inputs))


def count_calls(operation: Any) -> int:
    """Return how often a layer or operation was called on KerasTensors."""
    return len(operation._inbound_nodes)


def forget_calls(operation: Any) -> None:
    """Clear the recorded calls of a layer or operation, for example of a copy."""
    operation._inbound_nodes, operation._outbound_nodes = [], []


@contextmanager
def without_new_calls(model: Any) -> Iterator[None]:
    """Remove the calls of the model and its layers that were recorded inside the block."""
    layers = flatten_layers(model)
    kept = [(layer, len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers]
    try:
        yield
    finally:
        for layer, inbound, outbound in kept:
            del layer._inbound_nodes[inbound:]
            del layer._outbound_nodes[outbound:]


def set_larger_is_better(metric: Any) -> None:
    """Mark a metric as larger-is-better for ``EarlyStopping(mode="auto")`` and ``ModelCheckpoint``."""
    metric._direction = "up"


def keep_dtype(variable: Any) -> None:
    """Read a variable in its own dtype under a mixed policy, as with ``add_weight(autocast=False)``."""
    variable._autocast = False


def own_value(variable: Any) -> Any:
    """Return a variable's value as a tensor of its own dtype, also inside a layer of a mixed policy."""
    casts, variable._autocast = variable._autocast, False
    try:
        return keras.ops.copy(variable.value)  # `convert_to_tensor` returns a TensorFlow variable itself
    finally:
        variable._autocast = casts


def is_plain_keras(layer: Any) -> bool:
    """Return whether a layer or model is Keras's own, and neither attention nor a loop over time."""
    module = type(layer).__module__
    inner = ("keras.src.layers.attention", "keras.src.layers.rnn")
    return module.startswith(("keras.src.layers", "keras.src.models", "keras.src.ops")) and not module.startswith(inner)


def is_replica() -> bool:
    """Return whether this is one of several replicas of tf.distribute, each with a part of the batch."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context is not None and context.num_replicas_in_sync > 1


def global_generator() -> Any:
    """Return the ``SeedGenerator`` from which ``keras.random`` draws without a seed, or None where Keras has none.

    That is on JAX in a traced function, and in a replica of ``tf.distribute`` before it was first used: a variable
    cannot be made there. Otherwise it is made, and the state of Python's ``random``, from which Keras takes the seeds
    of layers, stays as it was.
    """
    from keras.src.backend.common import global_state
    from keras.src.random import seed_generator

    existing = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    if existing is not None and keras.backend.backend() != "jax":
        return existing
    if is_replica():
        return None
    state = random.getstate()
    try:
        return seed_generator.global_seed_generator()
    except ValueError:  # JAX, tracing
        return None
    finally:
        random.setstate(state)


def learning_rate_or_schedule(optimizer: Any) -> Any:
    """Return an optimizer's learning rate or schedule; ``optimizer.learning_rate`` is a schedule's current value."""
    return optimizer._learning_rate


def excludes_from_weight_decay(optimizer: Any) -> bool:
    """Return whether ``exclude_from_weight_decay`` was called with any argument."""
    return any(value for key, value in vars(optimizer).items() if key.startswith("_exclude_from_weight_decay"))


def moving_averages(optimizer: Any) -> list[Any]:
    """Return the moving averages of the trainable variables under ``use_ema=True``, in their order."""
    return list(getattr(optimizer, "inner_optimizer", optimizer)._model_variables_moving_average)


def public_module(module: str | None, class_name: str) -> str | None:
    """Return a module that has an optimizer's class under every backend.

    On PyTorch ``keras.optimizers.SGD`` creates an SGD of "keras.src.backend.torch.optimizers.torch_sgd".

    Returns:
        "keras.optimizers" for such a class, otherwise ``module``.
    """
    if str(module).startswith("keras.src.backend.") and hasattr(keras.optimizers, class_name):
        return "keras.optimizers"
    return module


def model_that_reads_its_metrics() -> Any:
    """Return the model whose ``get_metrics_result`` is being computed, or None.

    A metric does not know its model, and Keras passes nothing to ``Metric.result``.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "get_metrics_result":
        frame = frame.f_back
    return None if frame is None else frame.f_locals.get("self")
