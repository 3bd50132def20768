"""`fit`: trains a recipe in a run folder, and resumes an interrupted training."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from wavemix_tf.gradient_registry import releasing_gradients

from ..data import identity
from ..data.bundle import DataBundle
from ..data.class_counts import write_counts
from ..data.datasets import check_finished, load_data
from ..data.example_weights import check_class_weight
from ..data.given import as_bundle
from ..distribution import devices_of
from ..dtypes import warn_if_emulated
from ..endings import check_logits
from ..recipe import Recipe
from ..recipe_fields import AUTO
from ..run_files import RunFiles
from ..tasks import task_of
from . import checkpoint
from .dtype_choice import with_dtype_policy
from .fit_result import FitResult, finished_result
from .memory_check import warn_if_too_large, with_batch_size
from .run_output import STAGES, check_same_recipe, prepare_run_folder, remove_failed_start, write_result
from .saving import compile_for_use, save_model
from .stage import StageTraining, print_order_note


@releasing_gradients
def fit(
    recipe: Recipe,
    model: Any = None,
    data: Any = None,
    out: str | os.PathLike[str] | None = None,
    stage: str = "float",
    *,
    validation_data: Any = None,
    class_weight: Mapping[Any, float] | None = None,
    callbacks: Sequence[Any] = (),
    verbose: str | int = "auto",
    overwrite: bool = False,
) -> FitResult:
    """Train a network by a recipe; called again with the same arguments it resumes, or returns the finished result.

    After every epoch the run folder holds a complete checkpoint (weights, optimizer, moving average, states of the
    random generators, history). A process that is killed at any moment resumes after its last finished epoch, and
    reaches the same numbers as the uninterrupted run.

    Keras selects the devices: on TensorFlow call ``fit`` in the scope of a ``tf.distribute.MirroredStrategy``; on JAX
    after ``keras.distribution.set_distribution(keras.distribution.DataParallel())``, in one process or, after
    ``keras.distribution.initialize``, in several. Then the first process writes the run folder, and all must see it.
    The loss curve is the same as on one device (docs/training.md).

    Args:
        recipe: The recipe; its ``batch_size`` is that of all devices together, and a multiple of their number.
        model: A Keras model that takes (B, H, W, C) in [0, 1] and returns the output of the recipe's task: logits
            (B, classes), logits (B, H, W, classes), or images (B, scale*H, scale*W, C). None: built from the recipe. It
            is trained in place.
        data: A ``DataBundle``; arrays (images, targets) or (images, targets, weights); or a ``keras.utils.PyDataset``
            or batched ``tf.data.Dataset`` of the same, which keeps its order. Images are uint8 or floating point in
            [0, 1]; targets are integer labels (N,), masks (N, H, W), either also one-hot, or the enlarged images;
            weights are one per image. Validation and calibration images are split from arrays as in ``load_data``.
            None: ``load_data(recipe)``. Arrays and PyDatasets need no TensorFlow on the JAX and PyTorch backends.
        out: Run folder; None: nothing is written, and the training cannot be resumed.
        stage: "float", or "qat" to fine-tune a model of ``wavemix_tf.tflite.quantize`` by the recipe's ``qat_*``
            fields, with hard labels; the recipe's seed determines its dropout.
        validation_data: With arrays or a dataset: the images that choose the best epoch.
        class_weight: Weight of each class in the training loss, by its number or name; 1 for the others. For masks it
            weights pixels. Metrics and the validation loss are not weighted.
        callbacks: Keras callbacks; "val_loss" and "val_accuracy" ("val_mean_iou", "val_psnr_y") are in their epoch
            logs.
        verbose: As in ``keras.Model.fit``; "auto": a progress bar on a terminal, otherwise one line per epoch.
        overwrite: Start again if the folder holds this stage, or a run of another recipe.

    Returns:
        A ``FitResult``.

    Raises:
        ValueError: the folder holds a run of another recipe, the model does not fit the data or ends in probabilities,
            a set has no images, a batch does not divide evenly among the devices, or images, targets or weights are out
            of range (the message has the batch's number).
    """
    if stage not in STAGES:
        raise ValueError(f"stage must be one of {', '.join(map(repr, STAGES))}. Received: stage={stage!r}")
    if stage == "qat" and model is None:
        raise ValueError("stage='qat' requires the model that tflite.quantize returned. Received: model=None")
    check_class_weight(class_weight, recipe)
    files = RunFiles(Path(out), stage) if out is not None else None
    with devices_of(model) as devices:
        if verbose == "auto":
            verbose = (1 if sys.stdout.isatty() else 2) if devices.writes else 0
        if data is None or isinstance(data, (DataBundle, tuple, list)):  # a dataset has its own batch size
            if recipe.batch_size != AUTO:
                devices.check_batch_size(recipe.step_images)
        if files is not None:
            if devices.processes > 1:
                devices.check_equal("The content of the run folder", files.checksums())
            check_same_recipe(files, recipe, overwrite)
            if files.result.is_file() and files.model.is_file() and not overwrite:
                if devices.writes:
                    files.checkpoint.unlink(missing_ok=True)  # if the process was killed after writing the result
                if data is None:
                    check_finished(recipe, files.folder)
                else:
                    data = as_bundle(recipe, data, validation_data)
                if data is not None and verbose:
                    print_order_note(data)
                return finished_result(recipe, model, data, files, class_weight)

        known, given = out if stage == "qat" or not overwrite else None, data
        data = load_data(recipe, known) if given is None else as_bundle(recipe, given, validation_data)
        # The user can read the notes of a DataBundle.
        if verbose and write_counts(recipe, data) and data is not given:
            print("".join(f"{text}\n" for text in data.notes), end="")
        if files is not None and stage == "qat":
            identity.check_run(data, files.folder)
        own = given is None or isinstance(given, (DataBundle, tuple, list))  # a dataset has its own batch size
        kept = None if overwrite and stage == "float" else files
        recipe = with_dtype_policy(recipe, kept, len(data.class_names) if model is None else None, devices)
        if model is None:
            keras.utils.set_random_seed(recipe.seed)
            model = build(recipe, len(data.class_names))
        warn_if_emulated(model)
        recipe = with_batch_size(recipe, kept, model if own else None, data.train_source.size, devices)
        if own:
            warn_if_too_large(model, recipe.step_images // devices.count)
        run = StageTraining(recipe, model, data, files, stage, callbacks, verbose, devices, class_weight)
        if files is not None:
            resumes = files.checkpoint.is_file() and not overwrite
            run.list = identity.merge_lists(run.list, files.folder if resumes else None)
        devices.check_equal("The data", run.state.fingerprint)
        was_there = files is not None and files.folder.exists()
        is_new = files is not None and devices.writes and not (was_there and any(files.folder.iterdir()))
        if files is not None and devices.writes:  # only after all checks
            prepare_run_folder(files, recipe, overwrite)
            if stage == "float" or not RunFiles(files.folder, "float").result.is_file():
                identity.write_split_list(data, run.list, files.folder)
        if stage == "qat":  # the process may have loaded the model, without its generator states
            checkpoint.seed(model, recipe.seed)
        devices.check_equal("The run folder", "claimed")  # no process reads a checkpoint before this
        try:
            return run.train()
        except Exception:
            if files is not None and is_new and not files.checkpoint.is_file():
                remove_failed_start(files, was_there)
            raise


def import_trained_model(
    recipe: Recipe, model: Any, num_classes: int, out: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """Make an already trained model the finished float stage of a run folder; ``fit`` will not train it.

    Args:
        recipe: Names the network, and the data for later stages.
        model: The model with the trained weights.
        num_classes: Number of its classes; 0 for "super_resolution".
        out: Run folder.
        overwrite: Replace the content of the folder.

    Raises:
        FileExistsError: the folder holds a trained model.
        ValueError: it holds a run of another recipe, or the model ends in probabilities.
    """
    files = RunFiles(Path(out), "float")
    if files.model.exists() and not overwrite:
        raise FileExistsError(f"out must not hold a model; overwrite=True replaces it. Received: {files.model}")
    check_same_recipe(files, recipe, overwrite)
    task = task_of(recipe, num_classes)
    check_logits(task, model)
    prepare_run_folder(files, recipe, overwrite)
    compile_for_use(model, task)
    save_model(model, files.model, recipe)
    write_result(files, "float", checkpoint.TrainingState(), task)


def build(recipe: Recipe, num_classes: int) -> Any:
    """Build the network of a recipe, with initial weights."""
    return task_of(recipe, num_classes).build()
