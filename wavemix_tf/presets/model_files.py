"""Read and write the network of a preset: ``config.json`` and ``model.weights.h5``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras

from ..networks import dynamixer, token_mixers, vit, wavemix  # noqa: F401 - registers the classes that a config names
from ..registration import register
from ..state_files import DamagedFileError
from .folder import CONFIG, WEIGHTS, PresetFolder, write_json
from .weights_file import load_weights, write_weights

# Layers that run code of a file or of the configuration.
REFUSED = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")


def write_model(model: keras.Model, folder: Path, dtype: str) -> None:
    """Write the configuration and the weights of a model, not compiled; ``dtype`` as of ``as_stored``."""
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)
    write_json(folder / CONFIG, config, indent=None)
    write_weights(model, folder / WEIGHTS, dtype)


def build(config: Any, overrides: Mapping[str, Any] | None = None) -> keras.Model:
    """Build the network of a configuration; no code of the configuration runs.

    Args:
        config: Content of ``config.json``.
        overrides: Arguments of a network of this package that replace its own.

    Raises:
        ValueError: it is no model's, or has a layer that runs code, or one of a class that is not registered.
    """
    register()
    found = sorted({name for name in _class_names(config) if name in REFUSED})
    if found:
        raise ValueError(f"layers that run code are never loaded. Received: {', '.join(found)}")
    if overrides:
        if not str(config.get("registered_name", "")).startswith("wavemix_tf>"):
            raise ValueError(
                f"Arguments replace those of a network of this package. Received: {', '.join(overrides)} for a model "
                f"of class {config.get('class_name')}"
            )
        config = {**config, "config": {**config["config"], **overrides}}
    model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    if not isinstance(model, keras.Model):
        raise ValueError(f"it must be a model. Received: {type(model).__name__}")
    return model


def read_model(folder: PresetFolder, inside: str = "", overrides: Mapping[str, Any] | None = None) -> keras.Model:
    """Read the network of a preset, after a check of its files.

    Args:
        folder: The preset.
        inside: "" or "quantized/".
        overrides: As of ``build``.

    Raises:
        DamagedFileError: a file is damaged, or does not belong to the other.
        ValueError: ``overrides`` change the weights' shapes, or are not the network's.
    """
    config, weights = folder.read_json(inside + CONFIG), folder.checked(inside + WEIGHTS)
    try:
        model = build(config, overrides)
        load_weights(model, weights)
    except Exception as error:  # Keras raises any
        reason = _reason(error)
        if overrides:
            raise ValueError(
                f"Arguments of a preset must keep the shapes of its weights. Received: {_listed(overrides)} for "
                f"{folder.path} ({reason})"
            ) from error
        raise DamagedFileError(f"{weights.parent} must hold a network. Received: {reason}. {folder.remedy}") from error
    return model


def _class_names(config: Any) -> Iterator[str]:
    """Yield every "class_name" anywhere in a configuration."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config["class_name"]
        for part in config.values():
            yield from _class_names(part)
    elif isinstance(config, (list, tuple)):
        for part in config:
            yield from _class_names(part)


def _reason(error: Exception) -> str:
    """Return the reason of Keras's error as a phrase: its text begins with the outermost layer's class."""
    text = str(error).strip()
    found = re.search(r"Could not locate (?:class|function) '([^']+)'", text)
    if found:
        return f"{found[1]} is neither Keras's nor this package's, nor registered in this process"
    return text.split("\n")[0].rstrip(".") or type(error).__name__


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
