"""`save_to_preset`: a model as a preset folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .. import __version__
from ..checks import check_option
from ..files import remove_abandoned_beside, replacing_folder
from ..preprocessing import NONE, Preprocessing
from ..state_files import DamagedFileError
from .card import ModelCard
from .folder import (
    CARD,
    CARD_PAGE,
    FILE_NAME,
    LABELS,
    METADATA,
    PREPROCESSOR,
    QUANTIZED,
    REQUIRED,
    check_replaceable,
    open_folder,
    write_json,
    write_metadata,
)
from .model_files import read_model, write_model
from .preprocessor import ImagePreprocessor

DTYPES = ("float16", "float32")


def save_to_preset(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] | None = None,
    preprocessing: ImagePreprocessor | None = None,
    card: ModelCard | None = None,
    quantized: keras.Model | None = None,
    files: Mapping[str, bytes] | None = None,
    dtype: str = "float16",
    overwrite: bool = False,
) -> Path:
    """Write a model as a preset, a folder that ``from_preset`` reads: network, weights, preprocessing, classes, card.

    The folder is written under a temporary name and then renamed: it is whole, or it is not there.

    Args:
        model: A network of this package, or any functional Keras model whose layers Keras or this package define.
        path: The folder; it must not exist.
        class_names: Name of each class of the output; None: those of ``model.class_names``, else their numbers for a
            classifier of this package, else none.
        preprocessing: How pictures become inputs; None: ``model.preprocessing``, else resized to the input's size with
            a triangle filter, in [0, 1].
        card: Its model card; None: ``model.card``, else one that says what the model shows and "unknown" elsewhere.
        quantized: The quantized model that was fine-tuned from it (``wm.tflite.quantize``), stored in float32.
        files: Further files, name -> content, for example "tflite/mcu-int8.tflite" and its card.
        dtype: "float16": float weights are rounded to it, which halves the file; "float32": they stay as they are.
        overwrite: Replace ``path`` if it holds a preset.

    Returns:
        ``path``.

    Raises:
        ValueError: a model of another kind, another number of class names, or a name of a file that is not plain.
        FileExistsError: ``path`` exists.

    Example:
    >>> wm.save_to_preset(model, "flowers", class_names=["daisy", "rose"])
    >>> model = wm.from_preset("flowers")
    """
    check_option("dtype", dtype, DTYPES)
    for one in filter(None, (model, quantized)):
        _check_model(one)
    folder, extra = Path(path), dict(files or {})
    strange = [name for name in extra if not FILE_NAME.fullmatch(name) or name in (METADATA, *REQUIRED)]
    if strange:
        raise ValueError(f"files must have plain names, in at most one folder. Received: {', '.join(strange)}")
    names = _class_names(model, class_names)
    rules = preprocessing or getattr(model, "preprocessing", None) or _default_preprocessing(model)
    if card is None:
        card = getattr(model, "card", None) or ModelCard(name=folder.name, task=task_of(model))
    card = dataclasses.replace(card, network=network_name(model), parameters=count_parameters(model))
    remove_abandoned_beside(folder)
    check_replaceable(folder, overwrite)
    with replacing_folder(folder) as inside:
        write_model(model, inside, dtype)
        if quantized is not None:
            (inside / QUANTIZED).mkdir()
            write_model(quantized, inside / QUANTIZED, "float32")
        write_json(inside / PREPROCESSOR, rules.to_dict())
        write_json(inside / CARD, card.to_dict())
        (inside / CARD_PAGE).write_bytes(card.to_markdown().encode())
        if names:
            (inside / LABELS).write_bytes("".join(f"{name}\n" for name in names).encode())
        for name, content in extra.items():
            (inside / name).parent.mkdir(exist_ok=True)
            (inside / name).write_bytes(content)
        about = {"name": card.name, "task": card.task, "parameters": card.parameters}
        write_metadata(inside, {**about, "wavemix_tf_version": __version__, "keras_version": keras.__version__})
        _check_readable(inside, quantized is not None)
    return folder


def task_of(model: keras.Model) -> str:
    """Return the task of a network of this package; "" for other models."""
    kinds = {"WaveMixSegmenter": "segmentation", "WaveMixSuperResolver": "super_resolution"}
    if not hasattr(model, "layer_policy"):
        return ""
    return kinds.get(type(model).__name__, "classification")


def network_name(model: keras.Model) -> str:
    """Return the class of a model, with its width and depth if it has them."""
    sizes = [getattr(model, name, None) for name in ("width", "depth")]
    return (
        f"{type(model).__name__} {sizes[0]}/{sizes[1]}"
        if all(isinstance(one, int) for one in sizes)
        else (type(model).__name__)
    )


def count_parameters(model: keras.Model) -> int:
    """Count the trainable parameters, as in the papers."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def _check_model(model: Any) -> None:
    try:
        functional = isinstance(model, keras.Model) and bool(model.inputs) and bool(model.outputs)
    except (AttributeError, ValueError):
        functional = False
    if not functional:
        raise ValueError(
            "A preset's model must be a functional Keras model, whose configuration builds it again. Received: "
            f"{type(model).__name__}"
        )


def _class_names(model: keras.Model, given: Sequence[str] | None) -> tuple[str, ...]:
    count = getattr(model, "num_classes", None)
    if given is None:
        given = getattr(model, "class_names", None)
    if given is None:
        given = tuple(map(str, range(count))) if count and task_of(model) == "classification" else ()
    names = tuple(given)
    outputs = model.outputs[0].shape[-1]
    if names and len(names) != outputs:
        raise ValueError(
            f"class_names must have one name for each of the {outputs} outputs. Received: {len(names)} names"
        )
    if any(not isinstance(name, str) or not name.isprintable() or not name for name in names):
        raise ValueError(
            "A class name must be a text without control characters: labels.txt has one a line. Received: "
            f"{', '.join(map(ascii, names[:8]))}"
        )
    return names


def _default_preprocessing(model: keras.Model) -> ImagePreprocessor:
    shape = tuple(model.inputs[0].shape[1:])
    if len(model.inputs) != 1 or len(shape) != 3 or shape[2] is None:
        raise ValueError(
            "A preset's model must have one input (height, width, channels), or preprocessing must be given. Received: "
            f"inputs of {[tuple(one.shape) for one in model.inputs]}"
        )
    rules = Preprocessing() if task_of(model) in ("classification", "") else Preprocessing(resize=NONE)
    return ImagePreprocessor((shape[0], shape[1], shape[2]), rules)


def _check_readable(folder: Path, quantized: bool) -> None:
    """Raise a ValueError for what nobody could load, such as a class that is not registered."""
    written = open_folder(folder, "")
    try:
        for part in ("", f"{QUANTIZED}/") if quantized else ("",):
            read_model(written, part)
    except DamagedFileError as error:
        reason = str(error).partition("Received: ")[2].rstrip(". ")
        raise ValueError(f"A preset's model must be one that Keras builds again. Received: {reason}") from error
