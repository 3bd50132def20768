"""Every reach into private parts of Keras, each a function; ``tests/test_keras_internals.py`` checks a new Keras.

No other module of the package names these attributes. Where Keras has a public way, that one is used and nothing stands
here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

SUBLAYERS = "_layers"  # attribute of a layer: its sublayers in the order in which they were made


def flatten_layers(layer: Any, include_self: bool = True) -> list[Any]:
    """A layer or model and all its sublayers, however deep, each once.

    ``model.layers`` has the first level alone, and of a layer there is no public list.
    """
    return list(layer._flatten_layers(include_self=include_self))


def trainable_variables_of_its_own(layer: Any) -> list[Any]:
    """The trainable variables of a layer without those of its sublayers."""
    return list(layer._trainable_variables)


def producer(tensor: Any) -> tuple[Any, Any]:
    """The layer or operation that a KerasTensor comes from, and the call that made it.

    Keras's public API has the layers of a model, and no edges between them.

    Returns:
        (operation, call) with ``call.arguments.args``, ``.kwargs`` and ``.keras_tensors``, and ``call.outputs``.
    """
    operation, index, _ = tensor._keras_history
    return operation, operation._inbound_nodes[index]


def count_calls(operation: Any) -> int:
    """How often a layer or operation was called on KerasTensors."""
    return len(operation._inbound_nodes)


def forget_calls(operation: Any) -> None:
    """Empty the record of a layer's or operation's calls, as in a copy of it."""
    operation._inbound_nodes, operation._outbound_nodes = [], []


@contextmanager
def without_new_calls(model: Any) -> Iterator[None]:
    """Remove, at the end, the calls that were recorded inside from the model and its layers."""
    layers = flatten_layers(model)
    kept = [(layer, len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers]
    try:
        yield
    finally:
        for layer, inbound, outbound in kept:
            del layer._inbound_nodes[inbound:]
            del layer._outbound_nodes[outbound:]


def set_larger_is_better(metric: Any) -> None:
    """Tell ``EarlyStopping(mode="auto")`` and ``ModelCheckpoint`` so, as Keras's own accuracies do."""
    metric._direction = "up"


def keep_dtype(variable: Any) -> None:
    """Read a variable in its own dtype under a mixed policy: ``add_weight(autocast=False)`` after the fact."""
    variable._autocast = False


def learning_rate_or_schedule(optimizer: Any) -> Any:
    """What an optimizer was given as its learning rate; ``optimizer.learning_rate`` is a schedule's present value."""
    return optimizer._learning_rate


def excludes_from_weight_decay(optimizer: Any) -> bool:
    """Whether ``exclude_from_weight_decay`` was called with anything."""
    return any(value for key, value in vars(optimizer).items() if key.startswith("_exclude_from_weight_decay"))


def moving_averages(optimizer: Any) -> list[Any]:
    """The moving averages that ``use_ema=True`` keeps of the trainable variables, in their order."""
    return list(getattr(optimizer, "inner_optimizer", optimizer)._model_variables_moving_average)


def public_module(module: str | None, class_name: str) -> str | None:
    """The module by which every back end finds an optimizer that Keras has once for each back end.

    On PyTorch ``keras.optimizers.SGD`` makes an SGD of "keras.src.backend.torch.optimizers.torch_sgd".

    Returns:
        "keras.optimizers" for such a class, otherwise ``module``.
    """
    if str(module).startswith("keras.src.backend.") and hasattr(keras.optimizers, class_name):
        return "keras.optimizers"
    return module
