"""What a preset reaches: its float and quantized weights and its files, on a test set or on its stored sample."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics import confusion_matrix, mean_iou
from ..presets.card import ModelCard
from ..presets.folder import QUANTIZED, SAMPLE, TFLITE, WEIGHTS, PresetFolder
from ..presets.loading import open_preset
from ..state_files import read_arrays
from ..tflite.exporting.artifact import Artifact
from ..tflite.file.flatbuffer import read_file
from ..tflite.graph.inputs import predict
from ..tflite.names import RUNTIMES
from ..tflite.runtimes.running import run_file, runtimes_of
from ..tflite.targets.table import get_target
from ..training.data.bundle import DataBundle
from ..training.recipe import Recipe
from ..training.tasks import task_type
from . import task_evaluation
from .terminal import console

FLOAT, QAT = "float16 weights", "quantized model"


@dataclass(frozen=True)
class Form:
    """One form of a preset: its float weights, its quantized model, or a file.

    Attributes:
        name: As in the card.
        runtime: Title of what runs it.
        run: float32 images (N, H, W, C) -> outputs (N, ...).
        large: The same for a network whose outputs are images or masks; opened once.
    """

    name: str
    runtime: str
    run: Callable[[np.ndarray], np.ndarray]
    large: Callable[[], task_evaluation.Run]


def forms_of(folder: PresetFolder) -> list[Form]:
    """Load every form of a preset, after a check of all its files."""
    folder.check()
    models = {FLOAT: open_preset(folder)}
    if f"{QUANTIZED}/{WEIGHTS}" in folder.files:
        models[QAT] = open_preset(folder, quantized=True)
    found = [_of_model(name, model) for name, model in models.items()]
    return found + [_of_file(name, Artifact.load(path)) for name, path in folder.tflite().items()]


def _of_model(name: str, model: Any) -> Form:
    return Form(name, "Keras", lambda images: predict(model, images), lambda: task_evaluation.keras_run(model))


def _of_file(name: str, artifact: Artifact) -> Form:
    runtime = runtimes_of(get_target(artifact.target), read_file(artifact.content))[0]
    return Form(
        f"{TFLITE}/{name}.tflite",
        RUNTIMES[runtime].title,
        lambda images: run_file(artifact.content, images, runtime),
        lambda: task_evaluation.file_run(artifact.content, runtime),
    )


def scores(
    recipe: Recipe, data: DataBundle, forms: Sequence[Form], limit: int, command: str
) -> tuple[dict[str, Any], ...]:
    """Return the rows of a card's ``results``: every form on the same test images, by the task's metric.

    Args:
        recipe: Recipe of the training.
        data: Its data; the test set is read.
        forms: Of ``forms_of``.
        limit: Largest number of test images.
        command: Written into the rows.
    """
    rows = []
    large = task_type(recipe).large_outputs
    images, labels = (np.zeros(0), np.zeros(0)) if large else data.sample("test", limit)
    for form in forms:
        with console.status(f"  {form.name}"):
            if large:
                score = task_evaluation.evaluation_of(recipe).score(recipe, data, form.large(), limit)
                value, count = score.value, score.images
            else:
                value, count = float((form.run(images).argmax(-1) == labels).mean()), len(images)
        rows.append({"form": form.name, "runtime": form.runtime, "value": value, "images": count, "by": command})
    return tuple(rows)


# --- the stored sample ---


def make_sample(recipe: Recipe, data: DataBundle, forms: Sequence[Form], count: int) -> bytes:
    """Return ``sample.npz``: some test images as uint8, their targets, and what each form reaches on them.

    Args:
        recipe: Recipe of the training.
        data: Its data.
        forms: Of ``forms_of``.
        count: Number of images; patches for super-resolution.
    """
    images, targets = data.sample("test", count)
    pixels = np.round(255 * images).astype(np.uint8)
    stored: dict[str, Any] = {"images": pixels, "targets": _small(targets)}
    found = sample_values(recipe, stored, forms)
    stored |= {"forms": np.array(list(found)), "values": np.array(list(found.values()), np.float64)}
    if not task_type(recipe).large_outputs:
        stored["outputs"] = forms[0].run(_floats(pixels)).astype(np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **stored)
    return buffer.getvalue()


def read_sample(folder: PresetFolder) -> dict[str, np.ndarray] | None:
    """Read the stored sample; None if the preset has none."""
    return read_arrays(folder.checked(SAMPLE), folder.remedy) if SAMPLE in folder.files else None


def sample_values(recipe: Recipe, sample: Mapping[str, np.ndarray], forms: Sequence[Form]) -> dict[str, float]:
    """Return name of a form -> its metric on the sample, of which any part may be void."""
    images, targets = _floats(sample["images"]), sample["targets"]
    return {form.name: _value(recipe, form.run(images), targets) for form in forms}


def _value(recipe: Recipe, outputs: np.ndarray, targets: np.ndarray) -> float:
    kind = task_type(recipe).targets
    if kind == "labels":
        return float((outputs.argmax(-1) == targets).mean())
    if kind == "masks":
        classes = outputs.shape[-1]
        return mean_iou(confusion_matrix(targets, outputs.argmax(-1), classes, recipe.void))
    pixels = np.round(255 * np.clip(outputs, 0, 1)).astype(np.uint8)
    pairs = zip(pixels, targets, strict=True)
    return float(np.mean([task_evaluation.qualities(mine, truth, recipe.scale)["psnr_y"] for mine, truth in pairs]))


def _small(targets: np.ndarray) -> np.ndarray:
    """Targets in few bytes: enlarged images as uint8, classes as the smallest integers."""
    if targets.dtype.kind == "f":
        return np.round(255 * targets).astype(np.uint8)
    return targets.astype(np.min_scalar_type(int(targets.max())) if targets.min() >= 0 else np.int16)


def _floats(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(255)


def recipe_of(card: ModelCard) -> Recipe:
    """Return the recipe of a card.

    Raises:
        ValueError: The card has none.
    """
    if card.recipe is None:
        raise ValueError(
            f"A preset that is evaluated must have a recipe in its card. Received: {card.name}, without one"
        )
    return Recipe.from_json(json.dumps(dict(card.recipe)))
