"""`from_preset`: a preset as a Keras model with its preprocessing, class names and card."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import keras

from .authors import load_authors
from .authors_table import AUTHORS
from .card import ModelCard
from .folder import QUANTIZED, WEIGHTS, PresetFolder
from .model_files import read_model
from .places import find
from .preprocessor import ImagePreprocessor
from .saving import save_to_preset


def from_preset(preset: str | os.PathLike[str], *, quantized: bool = False, **overrides: Any) -> keras.Model:
    """Load a trained network: the Keras model, with its preprocessing, class names and model card as attributes.

    The model has the attributes ``preprocessing`` (an ``ImagePreprocessor``: pictures of any size to inputs),
    ``class_names`` (a tuple; () if the outputs are no classes), ``card`` (a ``ModelCard``), ``preset_folder`` (a
    ``Path`` with the ``.tflite`` files in ``tflite/``; None for a checkpoint of the authors), and the method
    ``save_to_preset``.

    Args:
        preset: One of

            - a name of ``list_presets()``: shipped with the package, or a checkpoint of the WaveMix authors, which is
              downloaded (``pip install 'wavemix-tf[hub,torch]'``);
            - a folder that ``save_to_preset`` wrote, as a path or a ``file://`` URL;
            - ``hf://owner/repository[@revision][/folder]``, such a folder on Hugging Face.
        quantized: Load the quantized model to fine-tune or export, if the preset has one.
        **overrides: Arguments of the network's class that replace its own and keep the weights' shapes, such as
            ``dropout=0.0`` or ``image_shape=(64, 64, 3)``.

    Returns:
        The model, not compiled.

    Raises:
        ValueError: an unknown name or URL, or overrides that change the weights' shapes.
        DamagedFileError: a file is damaged, truncated or not whole (a ValueError).
        FileNotFoundError: no such folder; or the file cannot be downloaded: the message says what to put where.
        ImportError: a download needs huggingface_hub, or a checkpoint PyTorch, which is not installed.

    Example:
    >>> model = wm.from_preset("digits")
    >>> best = model.predict(model.preprocessing(pictures)).argmax(-1)
    >>> print([model.class_names[index] for index in best], model.card.value)
    """
    name = os.fspath(preset)
    if name in AUTHORS:
        if quantized:
            raise ValueError(f"A checkpoint of the authors has no quantized model. Received: {name!r}, quantized=True")
        model, card, class_names, rules = load_authors(name, overrides)
        return attach(model, card, class_names, rules, None)
    return open_preset(find(preset), quantized, **overrides)


def open_preset(folder: PresetFolder, quantized: bool = False, **overrides: Any) -> keras.Model:
    """Return the model of a preset folder, as ``from_preset``."""
    if quantized and f"{QUANTIZED}/{WEIGHTS}" not in folder.files:
        raise ValueError(f"The preset has no quantized model: wm.tflite.quantize makes one. Received: {folder.path}")
    card, rules, class_names = folder.read_card(), folder.read_preprocessor(), folder.read_labels()
    model = read_model(folder, f"{QUANTIZED}/" if quantized else "", overrides)
    if "image_shape" in overrides:
        rules = ImagePreprocessor(tuple(overrides["image_shape"]), rules.rules, rules.value_range)
    return attach(model, card, class_names, rules, folder.path)


def attach(
    model: keras.Model,
    card: ModelCard,
    class_names: tuple[str, ...],
    preprocessing: ImagePreprocessor,
    folder: Path | None,
) -> keras.Model:
    """Give a model the attributes of a preset, in place."""
    model.card, model.class_names = card, class_names
    model.preprocessing, model.preset_folder = preprocessing, folder
    if not hasattr(model, "save_to_preset"):  # a model of plain Keras
        model.save_to_preset = functools.partial(save_to_preset, model)
    return model
