"""Read the weights of a Keras file into another network of the same architecture, also with another head."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import keras
from keras import ops

from ..keras_internals import flatten_layers, producer
from ..state_files import load_keras
from ..warning import warn_user

KINDS = ".keras or .weights.h5"
NOISE = ("Dropout", "Dropout1D", "Dropout2D", "Noise")  # kinds of layers that do nothing at inference
# Settings of layers that may differ: names, sizes (the weights show them), and those of the training.
FREE = re.compile(
    "^(name|dtype|trainable|seed|units|filters|build_config|synchronized|momentum|recompute|batch_.*|.*shape|"
    "output_size|.*dropout.*|stochastic_depth|rate|.*(initializer|regularizer|constraint))$"
)


def load_weights(model: Any, path: str | os.PathLike[str], new_head: bool = False) -> Any:
    """Load the weights of a file into a network of the same architecture.

    Args:
        model: A built Keras model of any kind; its weights are replaced in place.
        path: ``.keras`` file, or ``.weights.h5`` file of Keras, whose layers must also have the model's names, except
            for the numbers that Keras adds. A ``.keras`` file whose layers have other settings, such as the
            activation, is read with a warning; a ``.weights.h5`` file does not have them.
        new_head: Keep the model's own last layer with a matrix, of any number of classes, and what is behind it: to
            fine-tune on other classes. The file's last layer is not read. For a functional or Sequential model with
            one output.

    Returns:
        ``model``.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: the file is damaged.
        ValueError: the file holds another architecture; the message names the first weight that differs. Then no weight
            of the model is changed.

    Example:
    >>> model = wm.StagedClassifier(num_classes=3)
    >>> wm.load_weights(model, "cifar10.keras", new_head=True)
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file}")
    if not model.built:
        raise ValueError(f"The model must be built. Received: {model.name}")
    if file.suffix == ".keras":
        source = load_keras(file, "Save the model again.")
        theirs, ours = source.weights, model.weights
        if new_head:
            theirs, ours = _without_head(source), _without_head(model)
        _check_same(theirs, ours, file)
        for mine, found in zip(ours, theirs, strict=True):
            mine.assign(found)
        if different := _other_settings(source, model):
            warn_user(f"{file} has the model's weights but other settings: {different}")
    elif file.name.endswith(".weights.h5"):
        _read_h5(model, file, new_head)
    else:
        raise ValueError(f"The file must be {KINDS}. Received: {file}")
    return model


def head_of(model: Any) -> list[Any]:
    """Return the last layer with a matrix, and those with weights behind it: of a classifier its linear layer.

    They are found from the output, because a model lists its layers in the order in which they were made.

    Raises:
        ValueError: the model is subclassed, has several outputs, or ends in several such layers.
    """
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1:
        raise ValueError(
            f"new_head needs a functional or Sequential model with one output. Received: {type(model).__name__} "
            f"{model.name!r}, outputs: {len(outputs) or 'unknown, it is subclassed'}"
        )
    found: list[Any] = []
    tensor = outputs[0]
    entered: list[Any] = []  # the calls of the nested models around the tensor
    while True:
        layer, call = producer(tensor)
        if call.is_input and entered:
            call = entered.pop()
        elif getattr(layer, "outputs", None) and hasattr(layer, "layers") and len(layer.outputs) == 1:
            entered.append(call)
            tensor = layer.outputs[0]
            continue
        elif getattr(layer, "weights", None):
            found.append(layer)
            if any(len(weight.shape) > 1 for weight in layer.weights):
                return found
        inputs = call.arguments.keras_tensors
        if len(inputs) != 1:
            raise ValueError(f"new_head needs a model that ends in one layer with a matrix. Received: {model.name!r}")
        tensor = inputs[0]


def _without_head(model: Any) -> list[Any]:
    skipped = {id(weight) for layer in head_of(model) for weight in layer.weights}
    return [weight for weight in model.weights if id(weight) not in skipped]


def _check_same(theirs: list[Any], ours: list[Any], file: Path) -> None:
    """Raise ValueError unless both are the same weights by kind and shape, in order."""
    for mine, found in zip(ours, theirs, strict=False):
        if mine.name != found.name or tuple(mine.shape) != tuple(found.shape):
            raise ValueError(
                f"{file} must hold the model's architecture. Received: {found.path} {tuple(found.shape)} where the "
                f"model has {mine.path} {tuple(mine.shape)}"
            )
    if len(ours) != len(theirs):
        raise ValueError(
            f"{file} must hold the model's architecture. Received: {len(theirs)} weights, the model has {len(ours)}"
        )


def _other_settings(source: Any, model: Any) -> str:
    """Name the first layer that computes something else with the same weights; "" if none is found."""
    theirs, ours = _settings(source), _settings(model)
    for (their_kind, their_config), (kind, config) in zip(theirs, ours, strict=False):
        if their_kind != kind:
            return f"{their_kind} where the model has {kind}"
        for key, value in their_config.items():
            if value != config.get(key):
                return f"{kind} with {key}={value!r} where the model has {config.get(key)!r}"
    if len(theirs) != len(ours):
        return f"{len(theirs)} layers, the model has {len(ours)}"
    return ""


def _settings(model: Any) -> list[tuple[str, dict[str, Any]]]:
    """List kind and settings of the layers of a model that decide what it computes at inference, sizes excepted."""
    found = []
    for layer in flatten_layers(model, include_self=False):
        if isinstance(layer, (keras.Model, keras.layers.InputLayer)) or type(layer).__name__.endswith(NOISE):
            continue
        found.append((type(layer).__name__, _fixed(keras.saving.serialize_keras_object(layer)["config"])))
    return found


def _fixed(config: Any) -> Any:
    """Return a layer's configuration without the settings that may differ, at any depth."""
    if isinstance(config, dict):
        return {key: _fixed(value) for key, value in config.items() if not FREE.search(key)}
    return [_fixed(value) for value in config] if isinstance(config, (list, tuple)) else config


def _stored(file: Path) -> dict[str, tuple[str, dict[str, tuple[int, ...]]]]:
    """Return place -> (name without Keras's number, shapes) of the layers with weights in a ``.weights.h5`` file."""
    import h5py

    found = {}

    def visit(place: str, group: Any) -> None:
        if place.endswith("vars") and not place.startswith("optimizer/") and "seed_generator" not in place:
            shapes = {str(key): tuple(value.shape) for key, value in group.items()}
            if shapes:
                found[place] = re.sub(r"_\d+$", "", str(group.attrs.get("name", ""))), shapes

    with h5py.File(file) as archive:
        archive.visititems(visit)
    return found


def _read_h5(model: Any, file: Path, new_head: bool) -> None:
    """Read a ``.weights.h5`` file; the model stays as it was if anything but the head differs.

    Keras numbers the layers of a kind and ignores those that the model lacks, so the whole list is compared first.
    """
    head = head_of(model) if new_head else []
    parts = {re.sub(r"_\d+$", "", part.name) for layer in head for part in flatten_layers(layer)}
    shapes = {tuple(weight.shape) for layer in head for weight in layer.weights}
    before = [(weight, ops.convert_to_numpy(weight)) for weight in model.weights]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the head, which `skip_mismatch` passes over
        try:
            model.save_weights(Path(folder) / "own.weights.h5")
            theirs, ours = _stored(file), _stored(Path(folder) / "own.weights.h5")
            for place in sorted(theirs.keys() | ours.keys()):
                their, mine = theirs.get(place), ours.get(place)
                same = their == mine
                if new_head and their is not None and mine is not None and their[0] == mine[0] and mine[0] in parts:
                    same = shapes.issuperset(mine[1].values())
                if not same:
                    raise ValueError(f"{_told(their)} where the model has {_told(mine)} ({place})")
            model.load_weights(file, skip_mismatch=new_head)
        except Exception as error:
            for weight, value in before:
                weight.assign(value)
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(f"{file} must hold the model's architecture. Received: {reason}") from error
    own = {id(weight) for layer in head for weight in layer.weights}
    for weight, value in before:
        if id(weight) in own:
            weight.assign(value)


def _told(stored: tuple[str, dict[str, tuple[int, ...]]] | None) -> str:
    return "nothing" if stored is None else f"{stored[0]!r} {', '.join(map(str, stored[1].values()))}"
