"""The steps of a run, which the command's verbs share: each reads and writes one run folder.

Only this folder combines ``training`` and ``tflite``. Imports Keras: a verb imports this module after it has checked
its arguments.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..checkpoints.keras_weights import load_weights
from ..files import sha256_of, write_text
from ..networks.base import Network
from ..networks.dynamixer import DynaMixer  # noqa: F401 - registers the layers that a .keras file names
from ..networks.recomputed_model import RecomputedModel  # noqa: F401 - as above
from ..networks.staged import StagedClassifier  # noqa: F401 - as above
from ..networks.token_mixers import TokenMixerClassifier  # noqa: F401 - as above
from ..networks.vit import ViT  # noqa: F401 - as above
from ..networks.wavemix import WaveMixClassifier  # noqa: F401 - as above
from ..state_files import load_keras
from ..tflite.exporting.artifact import Artifact
from ..tflite.layers import fake_quant  # noqa: F401 - as above
from ..tflite.quantization.quantizer import check_options, quantize
from ..tflite.quantization.ranges import MIN_IMAGES
from ..training.data.bundle import DataBundle
from ..training.data.class_counts import write_counts
from ..training.data.datasets import load_data
from ..training.data.identity import check_run
from ..training.distribution import devices_of
from ..training.fitting.dtype_choice import with_dtype_policy
from ..training.fitting.fit_result import FitResult
from ..training.fitting.run_output import prepare_run_folder
from ..training.fitting.saving import save_model
from ..training.fitting.teaching import teacher_file
from ..training.fitting.trainer import build, fit
from ..training.recipe import Recipe
from ..training.run_files import RunFiles
from .arguments import START_FILE, START_RECORD
from .command_line import shell
from .run_folder import START_REMEDY, saved_recipe, started_from
from .terminal import console, note, status, step

# Name of a network in the papers, if it differs from the class name.
NETWORK_TITLES = {
    "WaveMixClassifier": "WaveMix",
    "WaveMixSegmenter": "WaveMix segmenter",
    "WaveMixSuperResolver": "WaveMix super-resolver",
    "MLPMixer": "MLP-Mixer",
}


def load_images(
    recipe: Recipe, out: Path, quantizes: bool = False, fresh: bool = False, known_only: bool = False
) -> DataBundle:
    """Load the data of a recipe, which must be that of the run folder's finished stages.

    Args:
        recipe: Recipe of the data.
        out: Run folder.
        quantizes: Whether a network will be calibrated: too few images for that are refused before any training.
        fresh: Whether the folder's run starts over, so that its list of files is ignored.
        known_only: Skip images that are not in the run's list.
    """
    data = load_data(recipe, None if fresh else out, known_only)
    if not fresh:
        check_run(data, out)
    if quantizes and len(data.calibration) < MIN_IMAGES:
        advice = f"--set calibration_images={MIN_IMAGES}"
        if recipe.calibration_images >= MIN_IMAGES:
            advice = "add images, or use `wavemix-tf fit` and float32 files, which need none"
        raise ValueError(
            f"Quantization needs at least {MIN_IMAGES} calibration images: {advice}. Received: "
            f"calibration_images={recipe.calibration_images}, {len(data.calibration)} of them available"
        )
    print_dataset_summary(recipe, data)
    return data


def print_dataset_summary(recipe: Recipe, data: DataBundle) -> None:
    """Print the number of images in every set and of each class, and notes on the data."""
    write_counts(recipe, data, console.print)
    for text in data.notes:
        note(text)


def load_model(path: Path) -> Any:
    """Load a .keras file of a run folder, with the package's layers registered."""
    folder = path.parent
    maker = ["quantize"] if path.name == "qat.keras" else ["fit", folder / "recipe.json"]
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `{shell(*maker, '--out', folder)}` creates it.")
    return load_keras(path, f"`{shell(*maker, '--out', folder, '--overwrite')}` creates it again.")


def load_start(out: Path, recipe: Recipe) -> Any:
    """Load the network that ``import-torch --new-head`` or ``--from`` saved as the start; None if there is none."""
    if not (out / START_FILE).is_file():
        return None
    if recipe.differences(saved_recipe(out)):
        _remove_start(out)  # left from a run that is being replaced
        return None
    keras.utils.set_random_seed(recipe.seed)  # the file has no states of the random generators
    return load_keras(out / START_FILE, START_REMEDY)


def save_start(model: Any, recipe: Recipe, out: Path, overwrite: bool) -> None:
    """Save a network in a run folder as the start of ``fit``; ``overwrite`` deletes what was trained there."""
    _remove_start(out)
    prepare_run_folder(RunFiles(out, "float"), recipe, overwrite)
    save_model(model, out / START_FILE, recipe)


def begin_from(file: Path, recipe: Recipe, data: DataBundle, out: Path, overwrite: bool) -> None:
    """Save the weights of a file, see ``start_weights``, with a new head as the start of a run, unless it is there."""
    digest = sha256_of(file)
    if not overwrite and (out / START_FILE).is_file() and started_from(out) == digest:
        return
    with devices_of(None) as devices:
        kept = None if overwrite else RunFiles(out, "float")
        recipe = with_dtype_policy(recipe, kept, len(data.class_names), devices)
    keras.utils.set_random_seed(recipe.seed)
    model = build(recipe, len(data.class_names))
    save_start(load_weights(model, file, new_head=True), recipe, out, overwrite)
    write_text(out / START_RECORD, json.dumps({"sha256": digest}) + "\n")


def _remove_start(out: Path) -> None:
    for name in (START_RECORD, START_FILE):
        (out / name).unlink(missing_ok=True)


def train(recipe: Recipe, data: DataBundle, out: Path, overwrite: bool) -> FitResult:
    """Train the float network from the run folder's start, if it has one; an interrupted training resumes."""
    if (out / "checkpoint.npz").is_file() and not overwrite:
        console.print("  resuming after the last finished epoch")
    return fit(recipe, model=load_start(out, recipe), data=data, out=out, overwrite=overwrite)


def quantize_for_tuning(recipe: Recipe, model: Any, data: DataBundle) -> Any:
    """Return the quantization-aware model to fine-tune, by the recipe's ``qat_*`` fields, for every int8 target."""
    with status("  quantize"):
        return quantize(model, data.calibration, observer=recipe.qat_observer, skip=recipe.qat_skip, target="mcu")


def fine_tune(
    recipe: Recipe, model: Any, data: DataBundle, out: Path, overwrite: bool, seconds: dict[str, float]
) -> FitResult:
    """Quantize and fine-tune for every int8 target, with the activations of the most limited one."""
    with step("Quantize", seconds):
        qat = quantize_for_tuning(recipe, model, data)
    with step("Fine-tune with int8 arithmetic", seconds):
        return fit(recipe, model=qat, data=data, out=out, stage="qat", overwrite=overwrite)


def check_network(recipe: Recipe) -> None:
    """Build the network and discard it, to find wrong arguments of the recipe before the data is read."""
    teacher_file(recipe)
    check_options(build(recipe, recipe.num_classes or 2), observer=recipe.qat_observer, skip=recipe.qat_skip)


def trained_model(out: Path, artifact: Artifact, data: DataBundle) -> Any:
    """Return the Keras model that a file of a run folder was made from."""
    if artifact.dtype == "int16x8":
        return quantized_for(artifact, load_model(out / "model.keras"), data)
    if artifact.dtype != "int8":
        return load_model(out / "model.keras")
    if (out / "qat.keras").is_file():
        return load_model(out / "qat.keras")
    return quantized_for(artifact, load_model(out / "model.keras"), data)


def quantized_for(artifact: Artifact, model: Any, data: DataBundle) -> Any:
    """Quantize a float model without fine-tuning as ``export`` did for a file of dtype int8 or int16x8."""
    with status("  quantize"):
        return quantize(model, data.calibration, dtype=artifact.dtype, target=artifact.target)


def count_parameters(model: Any) -> int:
    """Count the trainable parameters, as in the papers."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def network_name(model: Any) -> str:
    """Return the network's kind with its width and depth, as in the papers: WaveMix 16/4."""
    kind = type(model).__name__
    if not isinstance(model, Network):
        return str(model.name)  # a custom model
    title = NETWORK_TITLES.get(kind, kind)
    if hasattr(model, "mixer"):
        title = "WaveMix" if model.mixer == "wavemix" else f"{kind} ({model.mixer})"
    sizes = [getattr(model, name, None) for name in ("width", "depth")]
    return f"{title} {sizes[0]}/{sizes[1]}" if all(isinstance(size, int) for size in sizes) else title
