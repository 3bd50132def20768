"""Load a checkpoint of the WaveMix authors by the name of its preset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from ..checkpoints.inference import infer_arguments
from ..checkpoints.torch_files import read_file
from ..checkpoints.torch_weights import load_torch_weights
from ..preprocessing import NONE, Preprocessing
from ..variants import build_model
from .authors_table import AUTHORS, CLASS_NAMES, ENDPOINT, LICENSE, REPOSITORY, SOURCE, AuthorsCheckpoint
from .card import ModelCard
from .hub import download_checkpoint
from .preprocessor import ImagePreprocessor
from .saving import count_parameters, network_name

INFERRED_PARAMETERS = 27_857_608  # of wavemix_192_16_l3_p4, to check the size of a file whose network is not known yet


def load_authors(
    name: str, overrides: Mapping[str, Any]
) -> tuple[keras.Model, ModelCard, tuple[str, ...], ImagePreprocessor]:
    """Return the network of an official checkpoint with its card, class names and preprocessing.

    Args:
        name: Key of ``AUTHORS``.
        overrides: Arguments of the network that replace those of the row, such as ``dropout`` or ``normalize``.

    Raises:
        ValueError: the file is damaged, or of another network.
        FileNotFoundError: it cannot be downloaded.
        ImportError: huggingface_hub or PyTorch is not installed.
    """
    row = AUTHORS[name]
    model = None if row.variant is None else _build(row, row.variant, {}, overrides)
    path = download_checkpoint(row.path, INFERRED_PARAMETERS if model is None else model.count_params())
    if model is None:
        model = _build(row, "WaveMixClassifier", infer_arguments(read_file(path)), overrides)
    load_torch_weights(model, path)
    count = model.outputs[0].shape[-1]
    class_names = CLASS_NAMES.get(row.dataset, tuple(map(str, range(count))))
    rules = Preprocessing() if row.task == "classification" else Preprocessing(resize=NONE)
    return model, _card(name, row, model, path), class_names, ImagePreprocessor(model.image_shape, rules)


def _build(row: AuthorsCheckpoint, name: str, found: Mapping[str, Any], overrides: Mapping[str, Any]) -> keras.Model:
    return build_model(name, **{**found, **row.arguments, "normalize": row.normalize, **overrides})


def _card(name: str, row: AuthorsCheckpoint, model: keras.Model, path: Path) -> ModelCard:
    url = f"{ENDPOINT}/{REPOSITORY}/blob/main/{row.path}"
    return ModelCard(
        name=name,
        task=row.task,
        description=f"The WaveMix authors' network for {row.dataset}, read from their PyTorch checkpoint {path.name}.",
        network=network_name(model),
        parameters=count_parameters(model),
        data={"name": row.dataset, "license": "that of the dataset"},
        metric=row.metric,
        results=(
            {
                "form": "PyTorch checkpoint",
                "runtime": "PyTorch",
                "value": row.value,
                "images": None,
                "by": "published by the authors; not measured here",
            },
        ),
        command=f"wm.from_preset({name!r})",
        license=LICENSE,
        source=f"{SOURCE}; {url}",
        notes=tuple(
            filter(
                None,
                (
                    row.note,
                    "" if row.dataset in CLASS_NAMES else "The checkpoint has no class names: they are numbers.",
                    f"Images were standardized as for {row.normalize}: the network does it."
                    if row.normalize
                    else "Images were not standardized.",
                ),
            )
        ),
    )
