"""A preset from a finished run folder, for ``wavemix-tf preset``: its card, its files, its place in the package."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..presets.card import ModelCard
from ..presets.folder import SAMPLE, TFLITE, PresetFolder, open_folder
from ..presets.places import SHIPPED, shipped, shipped_names
from ..presets.preprocessor import ImagePreprocessor
from ..presets.saving import save_to_preset
from ..tflite.exporting.artifact import Artifact
from ..training.data.bundle import DataBundle
from ..training.data.class_counts import split_sizes
from ..training.recipe import Recipe
from ..training.run_files import RunFiles
from .exports import made_from_other_models
from .preset_options import MOST_SHIPPED_BYTES, MOST_SHIPPED_BYTES_EACH, PresetOptions, run_command
from .preset_scores import forms_of, make_sample, scores
from .run_folder import read_report
from .steps import load_model, network_name
from .terminal import console, step

VERSIONS = ("python", "keras", "tensorflow", "numpy")


def make_preset(options: PresetOptions, recipe: Recipe, data: DataBundle) -> PresetFolder:
    """Write the preset of a run folder: what is measured is what is stored, loaded again.

    Args:
        options: Of the command, checked.
        recipe: Recipe of the run.
        data: Its data; the test set is read.

    Raises:
        ValueError: a file was made from another model, or the preset is too large to ship.
    """
    seconds: dict[str, float] = {}
    model = load_model(options.run / "model.keras")
    quantized = load_model(options.run / "qat.keras") if options.quantized else None
    artifacts = [(name, Artifact.load(options.run / "exports" / f"{name}.tflite")) for name in options.files]
    others = made_from_other_models(options.run, artifacts)
    if others:
        raise ValueError(
            "The files of a preset must be made from its models: `wavemix-tf export --overwrite` writes them again. "
            f"Received: {', '.join(others)} of another model"
        )
    files = {f"{TFLITE}/{name}": content for name, content in _exported(artifacts)}
    whole: dict[str, Any] = {
        "class_names": data.class_names,
        "preprocessing": ImagePreprocessor(recipe.image_shape, recipe.preprocessing),
        "quantized": quantized,
    }
    card = _card(options, recipe, data, model)
    with tempfile.TemporaryDirectory() as folder:
        first = open_folder(save_to_preset(model, Path(folder) / "preset", card=card, files=files, **whole), "")
        forms = forms_of(first)
        with step("Run the test images through every form", seconds):
            card = dataclasses.replace(
                card, results=scores(recipe, data, forms, options.test_images, str(options.line))
            )
        if options.sample:
            files[SAMPLE] = make_sample(recipe, data, forms, options.sample)
        second = save_to_preset(model, Path(folder) / "whole", card=card, files=files, **whole)
        if options.ship:
            _check_size(options, open_folder(second, ""))
    path = save_to_preset(model, options.to, card=card, files=files, overwrite=options.overwrite, **whole)
    return open_folder(path, "")


def _exported(artifacts: Sequence[tuple[str, Artifact]]) -> list[tuple[str, bytes]]:
    """Return (name, content) of every file, its card and its labels; not the C code, which is six times as large."""
    kept = (".tflite", ".json", ".txt")
    return [
        (path.name, content)
        for name, artifact in artifacts
        for path, content in artifact.files(f"{name}.tflite").items()
        if path.suffix in kept
    ]


def _card(options: PresetOptions, recipe: Recipe, data: DataBundle, model: Any) -> ModelCard:
    fields = json.loads(recipe.to_json())
    for name in ("data_dir", "description"):  # a folder of this machine; a text about other runs
        fields.pop(name)
    result = RunFiles(options.run, "float").read_result()
    notes = list(options.notes)
    if not result["epochs"]:
        notes.append("The float weights were imported, not trained by this recipe.")
    sizes = {name: count for name, count in split_sizes(data).items() if name in ("train", "validation", "test")}
    trained = (read_report(options.run) or {}).get("versions", {})  # of the run, not of this process
    return ModelCard(
        name=options.name,
        task=recipe.task,
        description=options.description or f"{network_name(model)} for {recipe.dataset}.",
        data={"name": recipe.dataset, "source": options.data_source, "license": options.data_license, **sizes},
        seed=recipe.seed,
        metric=recipe.metric,
        command=f"{run_command(recipe)} && {options.line}",
        license=options.license,
        source="trained with wavemix-tf by the command below",
        notes=tuple(notes),
        recipe=fields,
        versions={name: trained[name] for name in VERSIONS if name in trained},
    )


def _check_size(options: PresetOptions, made: PresetFolder) -> None:
    """Raise a ValueError unless the package stays small with a preset."""
    others = sum(shipped(name).size_bytes for name in shipped_names() if name != options.name)
    for size, most, what in (
        (made.size_bytes, MOST_SHIPPED_BYTES_EACH, "A shipped preset"),
        (others + made.size_bytes, MOST_SHIPPED_BYTES, "All shipped presets"),
    ):
        if size > most:
            raise ValueError(
                f"{what} must have at most {most:,} bytes: --without-quantized omits the quantized model, --sample 0 "
                f"the sample. Received: {size:,} bytes"
            )


def report(made: PresetFolder) -> None:
    """Print what was written."""
    from ..presets.card import format_value
    from .terminal import grid

    card = made.read_card()
    table = grid("weights or file", "runtime", str(card.metric), "images")
    for row in card.results:
        table.add_row(row["form"], row["runtime"], format_value(card.metric, row["value"]), f"{row['images']:,}")
    console.print(table)
    console.print(f"{made.path}: {made.size_bytes:,} bytes")
    name = repr(made.path.name) if made.path.parent == SHIPPED else repr(str(made.path))
    console.print(f"Load it with wavemix_tf.from_preset({name})")
