"""Copies of layers with their whole state: weights, statistics, tables, states of random generators.

A copy is made from the layer's configuration and filled through the hooks with which Keras saves and loads a layer
(``save_own_variables``, ``save_assets``), part by part. A user's layer that cannot be copied is kept: the copied graph
then shares it with the given model.
"""

from __future__ import annotations

import inspect
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

from wavemix_tf.keras_internals import SUBLAYERS, forget_calls

from ..errors import UnsupportedLayerError

# Objects that a configuration serializes, and that compute the same for every layer.
STATELESS = (keras.initializers.Initializer, keras.regularizers.Regularizer, keras.constraints.Constraint)
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def copy_layer(layer: Any, dtype: str | None = None, arguments: Callable[[], Arguments] | None = None) -> Any:
    """A new layer with the configuration and the state of ``layer``; a user's layer that cannot be copied, itself.

    Args:
        layer: A ``keras.Layer``.
        dtype: dtype policy of the copy; None: the layer's own.
        arguments: Returns the symbolic arguments of the model's call; a composite may make its parts in that call.

    Raises:
        UnsupportedLayerError: Keras has already quantized the layer; or it cannot be copied, and must be.
    """
    mode = getattr(layer, "quantization_mode", None)
    if mode is not None:
        raise UnsupportedLayerError(
            f"Layer {layer.name!r} has {mode} weights, made by keras.Model.quantize: pass the float model that they "
            f"were made from. Received: layer={layer.name!r} of type {type(layer).__name__}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the user saw a layer's warnings when it was made
            clone = _rebuild(layer, dtype)
            _build(clone, layer, arguments)
            _copy_state(layer, clone)
            _check_equal(layer, clone)
        return clone
    except Exception as error:  # a user's constructor, build or get_config may raise anything
        # Layers with weights whose kind is known here are rewritten in place; all others may stay as they are.
        free = not layer.weights or type(layer).__module__.partition(".")[0] not in ("keras", "wavemix_tf")
        if free and (dtype is None or layer.compute_dtype == dtype):
            return layer
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UnsupportedLayerError(
            f"Layer {layer.name!r} of type {type(layer).__name__} cannot be copied{_in_dtype(layer, dtype)} "
            f"({reason.rstrip('.')}): give its class, or its parts, a get_config() that the constructor accepts. "
            f"Received: layer={layer.name!r}"
        ) from error


def copy_operation(operation: Any) -> Any:
    """A new operation of ``keras.ops``, such as ``x + y``: it has attributes, no weights and no configuration."""
    twin = object.__new__(type(operation))
    vars(twin).update(vars(operation))
    forget_calls(twin)  # they belong to the given model
    return twin


def _in_dtype(layer: Any, dtype: str | None) -> str:
    return "" if dtype is None or layer.compute_dtype == dtype else f" in {dtype}"


def config_of(layer: Any) -> dict[str, Any]:
    """``layer.get_config()`` with unserialized functions and stateless objects, which then need no registered name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a lambda is not safe to save; nothing is saved here
        config = dict(layer.get_config())
    for key, written in config.items():
        live = getattr(layer, key, None)
        if isinstance(written, (dict, str)) and (inspect.isfunction(live) or isinstance(live, STATELESS)):
            config[key] = live
    return config


def _rebuild(layer: Any, dtype: str | None) -> Any:
    config = config_of(layer)
    if getattr(layer, "lora_enabled", False):  # it is saved, and so copied, with its update added to the kernel
        config = {key: value for key, value in config.items() if not key.startswith("lora_")}
    if dtype is not None:
        config["dtype"] = dtype
    if type(layer) is keras.layers.Lambda:  # its from_config refuses functions that were not serialized
        return keras.layers.Lambda(**config)
    return type(layer).from_config(config)


def _build(clone: Any, layer: Any, arguments: Callable[[], Arguments] | None) -> None:
    if not layer.built:
        return
    if type(layer).build is not keras.Layer.build:
        clone.build_from_config(layer.get_build_config())
    if _shapes(clone) != _shapes(layer) and arguments is not None:
        args, kwargs = arguments()
        clone(*args, **kwargs)
    for given, copied in _parts(layer, clone):  # such as an activation, which Keras builds on first use
        if isinstance(given, keras.Layer) and given.built and not copied.built:
            copied.build_from_config(given.get_build_config())


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [tuple(variable.shape) for variable in layer.variables]


def own_value(variable: Any) -> np.ndarray:
    """A copy of a variable's value, to assign to another.

    On JAX ``assign`` of the variable itself would share its array: a step of the one that donates its arrays, as
    ``predict`` and ``fit`` do, would delete those of the other.
    """
    return np.array(keras.ops.convert_to_numpy(variable))


def copy_variables(layer: Any, twin: Any) -> Any:
    """Copy the variables of ``layer`` to ``twin``, a layer of another class with the same ones; returns ``twin``."""
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    twin.load_own_variables({key: own_value(variable) for key, variable in store.items()})
    return twin


def unroll(layer: Any) -> None:
    """Set the recurrent layers among ``layer`` and its parts to compute step by step: a file has no loops.

    Args:
        layer: A copy; changed in place.
    """
    for part, _ in _parts(layer, layer):
        if getattr(part, "unroll", None) is False:
            part.unroll = True


def _copy_state(layer: Any, clone: Any) -> None:
    for given, copied in _parts(layer, clone):
        if isinstance(given, keras.random.SeedGenerator):
            copied.state.assign(own_value(given.state))
            continue
        if copied.trainable != given.trainable:
            copied.trainable = given.trainable  # this also sets its parts, which are corrected later
        store: dict[str, Any] = {}
        given.save_own_variables(store)
        if store:
            copied.load_own_variables({key: own_value(variable) for key, variable in store.items()})
        if hasattr(given, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                given.save_assets(folder)
                copied.load_assets(folder)
    for given, copied in zip(layer.weights, clone.weights, strict=False):
        if given.trainable != copied.trainable:
            copied.trainable = given.trainable


def _parts(layer: Any, clone: Any) -> Iterator[tuple[Any, Any]]:
    """(given, copied) for a layer, its sublayers and its random generators, parents first."""
    seen: set[int] = set()
    queue = [(layer, clone)]
    while queue:
        given, copied = queue.pop(0)
        if id(given) in seen or type(given) is not type(copied):
            continue
        seen.add(id(given))
        yield given, copied
        if isinstance(given, keras.Layer):
            twins = vars(copied)
            # By the names of the attributes; Keras's own list has the parts in order of creation.
            for name, held in sorted(vars(given).items(), key=lambda item: item[0] == SUBLAYERS):
                queue += _pair_parts(held, twins.get(name))


def _pair_parts(given: Any, copied: Any) -> list[tuple[Any, Any]]:
    if isinstance(given, (keras.Layer, keras.random.SeedGenerator)):
        return [(given, copied)]
    if isinstance(given, dict) and isinstance(copied, dict):
        keys = [key for key in given if key in copied]
        return [pair for key in keys for pair in _pair_parts(given[key], copied[key])]
    if isinstance(given, (list, tuple)) and isinstance(copied, (list, tuple)):
        return [pair for one, other in zip(given, copied, strict=False) for pair in _pair_parts(one, other)]
    return []


def _check_equal(layer: Any, clone: Any) -> None:
    """Raise a ValueError unless the copy has the same state as the layer."""
    if getattr(layer, "lora_enabled", False):
        return  # fewer variables that compute the same
    if _shapes(layer) != _shapes(clone):
        raise ValueError(f"its copy has {len(clone.variables)} variables of {len(layer.variables)}")
    for given, copied in zip(layer.variables, clone.variables, strict=True):
        values = (np.asarray(keras.ops.convert_to_numpy(v)) for v in (given, copied))
        one, other = (v if v.dtype.kind in "iub" else v.astype(np.float32) for v in values)
        if not np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
            raise ValueError(f"the copy's variable {copied.path!r} has other values")
