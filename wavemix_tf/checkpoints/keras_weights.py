"""Read the weights of a Keras file into another network of the same architecture, also with another head."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

from keras import ops

from ..keras_internals import flatten_layers
from ..state_files import load_keras

KINDS = ".keras or .weights.h5"
SKIPPED = re.compile(r"A total of (?P<count>\d+) objects could not be loaded.*?name=(?P<name>[^,>]+)", re.DOTALL)


def load_weights(model: Any, path: str | os.PathLike[str], new_head: bool = False) -> Any:
    """Load the weights of a file into a network of the same architecture.

    Args:
        model: A built Keras model of any kind; its weights are replaced in place.
        path: ``.keras`` file, or ``.weights.h5`` file of Keras.
        new_head: Keep the model's own last layer with weights, of any number of classes: to fine-tune on other
            classes. The file's last layer is not read.

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
    elif file.name.endswith(".weights.h5"):
        _read_h5(model, file, new_head)
    else:
        raise ValueError(f"The file must be {KINDS}. Received: {file}")
    return model


def head_of(model: Any) -> Any:
    """Return the last layer with weights, at any depth: of a classifier its linear layer."""
    layers = [layer for layer in flatten_layers(model, include_self=False) if layer.weights]
    leaves = [layer for layer in layers if not any(part.weights for part in flatten_layers(layer, include_self=False))]
    if not leaves:
        raise ValueError(f"The model must have weights. Received: {model.name}")
    return leaves[-1]


def _without_head(model: Any) -> list[Any]:
    skipped = {id(weight) for weight in head_of(model).weights}
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


def _read_h5(model: Any, file: Path, new_head: bool) -> None:
    """Read a ``.weights.h5`` file with Keras's reader; the model stays as it was if anything but the head differs."""
    before = [(weight, ops.convert_to_numpy(weight)) for weight in model.weights]
    head = head_of(model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            model.load_weights(file, skip_mismatch=new_head)
            skipped = [found for one in said if (found := SKIPPED.search(str(one.message)))]
            if any(found["count"] != "1" or found["name"] != head.name for found in skipped):
                raise ValueError(str(next(one.message for one in said if SKIPPED.search(str(one.message)))))
        except Exception as error:
            for weight, value in before:
                weight.assign(value)
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(f"{file} must hold the model's architecture. Received: {reason}") from error
    if new_head:
        own = {id(weight) for weight in head.weights}
        for weight, value in before:
            if id(weight) in own:
                weight.assign(value)
