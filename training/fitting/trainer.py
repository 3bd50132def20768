"""`fit`: trains a recipe in a run folder, and goes on where it was interrupted."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from wavemix_tf.escaping import printable
from wavemix_tf.files import remove_abandoned, replacing, write_text
from wavemix_tf.gradient_registry import releasing_gradients
from wavemix_tf.keras_internals import moving_averages, public_module
from wavemix_tf.preprocessing import write_to_keras_file
from wavemix_tf.state_files import check_keras_file, load_keras

from ..data import identity
from ..data.class_counts import tell
from ..data.datasets import DataBundle, check_finished, load_data
from ..data.given import as_bundle, told
from ..data.weights import Weighting, check_class_weight, class_table, plain_weights
from ..distribution import Devices, alone, devices_of, evaluate
from ..recipe import Recipe
from ..run_files import RunFiles
from . import checkpoint
from .batchnorm import BATCHES, BatchNormRecalibration
from .optimizers import Phase, build_optimizer, phases, scaled_for
from .pipeline import EpochBatches, first_batches, training_batches
from .results import FitResult
from .tasks import Task, task_of

STAGES = ("float", "qat")


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
    """Train a network by a recipe; called again with the same arguments it resumes, or has nothing to do.

    After every epoch the run folder holds a whole checkpoint (weights, optimizer, moving average, states of the random
    generators, history). A process killed at any moment goes on from its last finished epoch to the numbers that the
    uninterrupted run would have reached.

    Several devices are Keras's matter: on TensorFlow call it in the scope of a ``tf.distribute.MirroredStrategy``; on
    JAX after ``keras.distribution.set_distribution(keras.distribution.DataParallel())``, in one process or, after
    ``keras.distribution.initialize``, in several, of which the first writes the run folder and all must see it. The
    loss curve is that of one device (docs/training.md).

    Args:
        recipe: What to do; its ``batch_size`` is that of all devices together, and a multiple of their number.
        model: A Keras model that takes (B, H, W, C) in [0, 1] and returns what the recipe's task asks for: logits
            (B, classes), logits (B, H, W, classes), or images (B, scale*H, scale*W, C). None: built from the recipe. It
            is trained in place.
        data: A ``DataBundle``; arrays (images, targets) or (images, targets, weights), images uint8 or floating point
            in [0, 1], of which validation and calibration images are taken as in ``load_data`` (targets: integer labels
            (N,), masks (N, H, W), either also one-hot, or the enlarged images; weights: one an image); or a
            ``keras.utils.PyDataset`` or batched ``tf.data.Dataset`` of the same, which keeps its own order. None:
            ``load_data(recipe)``. Arrays and PyDatasets need no TensorFlow on the JAX and PyTorch backends.
        out: Run folder; None: nothing is written, and nothing can be resumed.
        stage: "float", or "qat" for fine-tuning a model that ``wavemix_tf.tflite.quantize`` made, by the recipe's
            ``qat_*`` fields and with hard labels; what its dropout draws is decided by the recipe's seed.
        validation_data: With arrays or a dataset: the images that choose the best epoch.
        class_weight: How much the training loss of each class weighs, by its number or name; 1 for the others. Of masks
            it weighs pixels. Metrics, and the validation loss, stay unweighted.
        callbacks: Keras callbacks; "val_loss" and "val_accuracy" ("val_mean_iou", "val_psnr_y") are in their epoch
            logs.
        verbose: As in ``keras.Model.fit``; "auto": a progress bar on a terminal, otherwise one line an epoch.
        overwrite: Begin anew where the folder holds this stage, or a run of another recipe.

    Returns:
        A ``FitResult``.

    Raises:
        ValueError: the folder holds a run of another recipe, the model does not suit the data, a batch does not
            divide among the devices, or images, targets or weights are out of their range, with the batch's number.
    """
    if stage not in STAGES:
        raise ValueError(f"stage must be one of {', '.join(map(repr, STAGES))}. Received: stage={stage!r}")
    if stage == "qat" and model is None:
        raise ValueError("stage='qat' needs the model that tflite.quantize returned. Received: model=None")
    check_class_weight(class_weight, recipe)
    files = RunFiles(Path(out), stage) if out is not None else None
    with devices_of(model) as devices:
        if verbose == "auto":
            verbose = (1 if sys.stdout.isatty() else 2) if devices.writes else 0
        if data is None or isinstance(data, (DataBundle, tuple, list)):  # a dataset has batches of its own
            devices.check_batch_size(recipe.batch_size)
        if files is not None:
            if devices.processes > 1:
                devices.agree("What the run folder holds", files.checksums())
            _check_claim(files, recipe, overwrite)
            if files.result.is_file() and files.model.is_file() and not overwrite:
                if devices.writes:
                    files.checkpoint.unlink(missing_ok=True)  # killed after the last file was written
                if data is None:
                    check_finished(recipe, files.folder)
                else:
                    data = as_bundle(recipe, data, validation_data)
                if data is not None and verbose:
                    _tell_order(data)
                return _finished(recipe, model, data, files, class_weight)

        known, given = out if stage == "qat" or not overwrite else None, data
        data = load_data(recipe, known) if given is None else as_bundle(recipe, given, validation_data)
        if verbose and tell(recipe, data) and data is not given:  # the notes of a DataBundle were there to be read
            print("".join(f"{text}\n" for text in data.notes), end="")
        if files is not None and stage == "qat":
            identity.check_run(data, files.folder)
        if model is None:
            keras.utils.set_random_seed(recipe.seed)
            model = build(recipe, len(data.class_names))
        run = _Run(recipe, model, data, files, stage, callbacks, verbose, devices, class_weight)
        if files is not None:
            going_on = files.checkpoint.is_file() and not overwrite
            run.list = identity.grown(run.list, files.folder if going_on else None)
        devices.agree("The data", run.state.fingerprint)
        was_there = files is not None and files.folder.exists()
        is_new = files is not None and devices.writes and not (was_there and any(files.folder.iterdir()))
        if files is not None and devices.writes:  # not before all that can be wrong has been found
            _claim(files, recipe, overwrite)
            if stage == "float" or not RunFiles(files.folder, "float").result.is_file():
                identity.record(data, run.list, files.folder)
        if stage == "qat":  # a process may begin with it
            checkpoint.seed(model, recipe.seed)
        devices.agree("The run folder", "claimed")  # nobody looks for a checkpoint before
        try:
            return run.train()
        except Exception:
            if files is not None and is_new and not files.checkpoint.is_file():
                _give_up(files, was_there)
            raise


def adopt(recipe: Recipe, model: Any, num_classes: int, out: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Make a model that was trained elsewhere the finished float stage of a run folder; ``fit`` will not train it.

    Args:
        recipe: Names the network, and the data for later stages.
        model: Its weights are the result.
        num_classes: Classes it tells apart; 0 for "super_resolution".
        out: Run folder.
        overwrite: Replace what the folder holds.

    Raises:
        FileExistsError: the folder holds a trained model.
        ValueError: it holds a run of another recipe.
    """
    files = RunFiles(Path(out), "float")
    if files.model.exists() and not overwrite:
        raise FileExistsError(f"{files.model} exists; overwrite=True replaces it.")
    _check_claim(files, recipe, overwrite)
    _claim(files, recipe, overwrite)
    task = task_of(recipe, num_classes)
    _compile_for_use(model, task)
    save_model(model, files.model, recipe)
    _write_result(files, "float", checkpoint.TrainingState(), task)


def claim(out: str | os.PathLike[str], recipe: Recipe, overwrite: bool = False) -> None:
    """Make a run folder a recipe's; with ``overwrite`` what another, or an earlier one, trained there goes."""
    _claim(RunFiles(Path(out), "float"), recipe, overwrite)


def build(recipe: Recipe, num_classes: int) -> Any:
    """The network of a recipe, freshly initialised."""
    return task_of(recipe, num_classes).build()


class _Run:
    """One stage: its phases, its state and what is written after every epoch."""

    def __init__(
        self,
        recipe: Recipe,
        model: Any,
        data: DataBundle,
        files: RunFiles | None,
        stage: str,
        callbacks: Iterable[Any],
        verbose: Any,
        devices: Devices,
        class_weight: Mapping[Any, float] | None = None,
    ) -> None:
        if stage == "qat":
            recipe = dataclasses.replace(recipe, mixup=0.0, cutmix=0.0, label_smoothing=0.0)
        self.recipe = recipe
        self.model, self.data, self.files, self.stage = model, data, files, stage
        self.callbacks, self.verbose, self.devices = list(callbacks), verbose, devices
        self.phases = phases(recipe, stage)
        self.steps = data.train_source.steps(recipe.batch_size)
        if self.steps < 1:
            raise ValueError(
                "batch_size must not exceed the number of training images: "
                f"--set batch_size={max(data.train_source.size // 4, 1)}, or more images. Received: "
                f"batch_size={recipe.batch_size}, training images: {data.train_source.size}"
            )
        self.task = task_of(recipe, len(data.class_names))
        if devices.count > 1 and recipe.task == "segmentation":
            raise ValueError(
                "Several devices train classifiers and super-resolution: the IoU of masks is that of one confusion "
                f"matrix, which they would have to share. Received: task={recipe.task!r}, devices={devices.count}"
            )
        self.task.check_model(model)
        self.variables = checkpoint.state_variables(model)
        # What nobody will ask for is not read: it may be behind a large shuffle buffer.
        asked = files is not None or devices.processes > 1
        self.list = identity.split_list(data) if asked else identity.SplitList({})
        self.state = checkpoint.TrainingState(fingerprint=dict(self.list.fingerprint))
        self.weighting = Weighting(recipe, class_table(class_weight, data.class_names, recipe))
        self.class_weight = plain_weights(class_weight)
        if self.class_weight is not None:
            self.state.fingerprint["class_weight"] = self.class_weight
        self.best: list[Any] = []
        self.recalibrate = BatchNormRecalibration(model)
        self.resumed = 0

    @property
    def _written(self) -> RunFiles | None:
        """The files, where this process writes them."""
        return self.files if self.devices.writes else None

    def train(self) -> FitResult:
        optimizer_arrays = self._restore()
        while self.state.phase < len(self.phases):
            phase = self.phases[self.state.phase]
            optimizer = build_optimizer(phase, self.recipe, self.steps, self.devices)
            optimizer = scaled_for(self.model, optimizer)
            optimizer.build(self.model.trainable_variables)
            if optimizer_arrays:
                checkpoint.assign(optimizer.variables, optimizer_arrays, self.files and self.files.checkpoint)
                optimizer_arrays = []
            self._train_phase(phase, optimizer)
            # The next phase starts from the best weights, which are also what the last one leaves.
            if self.best:
                checkpoint.assign(self.variables, self.best, "the best epoch")
            self.state.phase += 1
            self.state.phase_epoch = self.state.waited = 0
            self.state.phase_best = None
        return self._finish()

    def _train_phase(self, phase: Phase, optimizer: Any) -> None:
        state = self.state
        if state.phase_epoch >= phase.epochs or _out_of_patience(phase, state):
            return
        self.model.compile(
            optimizer=optimizer,
            **self.task.compile_arguments(),
            # On JAX there is no other compiled form.
            jit_compile=self.recipe.jit_compile or keras.backend.backend() == "jax",
        )
        first, last = state.epoch, state.epoch - state.phase_epoch + phase.epochs
        batches = training_batches(
            self.data.train_source, self.recipe, first, last, self.task, self.devices, self.weighting
        )
        extra = []
        if self._written is not None and _has_tensorflow():  # TensorBoard's files are written by it
            extra.append(keras.callbacks.TensorBoard(str(self._written.tensorboard), write_graph=False))
        try:
            self.model.fit(
                batches,
                initial_epoch=first,
                epochs=last,
                steps_per_epoch=None if isinstance(batches, EpochBatches) else self.steps,
                callbacks=[_Epochs(self, phase, optimizer, batches), *extra, *self.callbacks],
                verbose=self.verbose,
                shuffle=False,
            )
        except Exception as error:
            uneven = self.devices.complaint(error)
            if uneven:
                raise ValueError(uneven) from None
            with told(self.data.train_source, self.data.validation_source):
                raise

    def end_epoch(self, phase: Phase, optimizer: Any, logs: dict[str, float], seconds: float) -> bool:
        """Validate, keep the best, write the checkpoint; True when the phase is to end."""
        state = self.state
        raw = checkpoint.values(self.variables) if phase.ema else None
        if phase.ema:
            # Copies: on JAX an assigned array would be shared, and gone after the evaluation that is given it.
            averages = checkpoint.values(moving_averages(optimizer))
            checkpoint.assign(self.model.trainable_variables, averages, "the moving average")
            batches = self.data.train_source.batches(self.recipe.batch_size)
            self.recalibrate(first_batches(batches, BATCHES))
        validation = {f"val_{name}": value for name, value in evaluate(self.model, self.data.validation).items()}
        score = (validation[f"val_{self.task.metric}"], -validation["val_loss"])
        if state.best is None or score > state.best:
            state.best, state.best_epoch = score, state.epoch + 1
            self.best = checkpoint.values(self.variables)
        state.waited += 1
        if state.phase_best is None or score > state.phase_best:
            state.phase_best, state.waited = score, 0
        if raw is not None:
            checkpoint.assign(self.variables, raw, "this epoch")

        logs.update(validation)
        state.epoch += 1
        state.phase_epoch += 1
        row = {"epoch": state.epoch, **logs, "learning_rate": _rate(optimizer), "seconds": round(seconds, 3)}
        state.history.append({name: float(value) for name, value in row.items()})
        if self._written is not None:
            arrays = {"model": self.variables, "optimizer": optimizer.variables}
            groups = {name: checkpoint.values(variables) for name, variables in arrays.items()}
            checkpoint.save(self._written.checkpoint, state, {**groups, "best": self.best})
            _write_history(self._written.history, state.history)
        return _out_of_patience(phase, state)

    def _restore(self) -> list[Any]:
        """Take up the checkpoint, if there is one; returns the optimizer's arrays."""
        if self.files is None or not self.files.checkpoint.is_file():
            return []
        mine = self.state.fingerprint
        self.state, groups = checkpoint.load(self.files.checkpoint)
        if self.state.fingerprint in self.list.extends:
            self.state.fingerprint = mine
            if self.verbose:
                print("Images were added: those that were known stay where they are, the new ones are dealt.")
        if not identity.same_data(self.state.fingerprint, mine):
            raise ValueError(
                "To resume, the data must be as before. Received: "
                f"{mine}, {self.files.checkpoint} was written with {self.state.fingerprint}"
            )
        self.state.fingerprint = mine  # which may know more than that of an older version
        checkpoint.assign(self.variables, groups["model"], self.files.checkpoint)
        self.best = groups.get("best", [])
        self.resumed = self.state.epoch
        if self.verbose:
            print(printable(f"Resuming {self.files.folder} after epoch {self.resumed}."))
            _tell_order(self.data)
        return groups["optimizer"]

    def _finish(self) -> FitResult:
        state = self.state
        _compile_for_use(self.model, self.task)
        if self._written is not None:
            with alone():
                save_model(self.model, self._written.model, self.recipe)
            if state.history:
                _write_history(self._written.history, state.history)
        more = {} if self.class_weight is None else {"class_weight": self.class_weight}
        summary = _write_result(self._written, self.stage, state, self.task, self.list.fingerprint, more)
        if self._written is not None:
            self._written.checkpoint.unlink(missing_ok=True)
        self.devices.agree("The run folder", "finished")  # the next to look finds all of it
        return _result(self.recipe, self.model, summary, _columns(state.history), self.files, self.resumed, self.data)


class _Epochs(keras.callbacks.Callback):
    """Begins and ends every epoch for the run; first in the list, so that later callbacks see the validation."""

    def __init__(self, run: _Run, phase: Phase, optimizer: Any, batches: Any) -> None:
        super().__init__()
        self._run, self._phase, self._optimizer, self._batches = run, phase, optimizer, batches
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if isinstance(self._batches, EpochBatches):
            self._batches.start_epoch(epoch)
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self._started
        if self._run.end_epoch(self._phase, self._optimizer, logs, seconds):
            self.model.stop_training = True


def _tell_order(data: DataBundle) -> None:
    note = identity.order_note(data)
    if note:
        print(note)


def _has_tensorflow() -> bool:
    try:
        import tensorflow  # noqa: F401
    except ImportError:
        return False
    return True


def _check_claim(files: RunFiles, recipe: Recipe, overwrite: bool) -> None:
    """Say why the folder cannot be this recipe's, if so."""
    if not files.recipe.is_file() or overwrite:
        return
    qat = RunFiles(files.folder, "qat")
    free = files.stage == "qat" and not any(path.exists() for path in (qat.result, qat.checkpoint))
    different = recipe.differences(files.read_recipe(), ignore="qat_" if free else None)
    if different:
        raise ValueError(
            f"{files.folder} holds a run of another recipe (recipe.json): take another folder, or overwrite=True. "
            f"Received: {', '.join(different)}"
        )


def _claim(files: RunFiles, recipe: Recipe, overwrite: bool) -> None:
    """Make the folder this recipe's; what killed processes left half-written goes."""
    remove_abandoned(files.folder)
    if overwrite:
        for stage in STAGES if files.stage == "float" else ("qat",):
            old = RunFiles(files.folder, stage)
            for path in (old.result, old.checkpoint, old.history, old.model):
                path.unlink(missing_ok=True)
    if files.recipe.is_file() and files.recipe.read_bytes() == recipe.to_json().encode():
        return
    files.folder.mkdir(parents=True, exist_ok=True)
    write_text(files.recipe, recipe.to_json())


def _give_up(files: RunFiles, keep_folder: bool) -> None:
    """Take back what a training wrote that failed in its first epoch, as of a batch that cannot be trained on."""
    folder = files.folder
    for path in (files.recipe, *(folder / name for name in identity.BEGUN_WITH)):
        path.unlink(missing_ok=True)
    shutil.rmtree(files.tensorboard.parent, ignore_errors=True)
    if not keep_folder and not any(folder.iterdir()):
        folder.rmdir()


def _write_result(
    files: RunFiles | None,
    stage: str,
    state: checkpoint.TrainingState,
    task: Task,
    data: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a finished stage reached, and of which data; the file that says that it is finished."""
    summary = {
        "stage": stage,
        "epochs": state.epoch,
        "best_epoch": state.best_epoch or 0,
        "metric": task.metric,
        "validation_score": state.best[0] if state.best else None,
        "validation_loss": -state.best[1] if state.best else None,
        "seconds": round(sum(row["seconds"] for row in state.history), 3),
        "test": None,
        "data": data,
        **(more or {}),
    }
    if files is not None:
        write_text(files.result, json.dumps(summary, indent=1) + "\n")
    return summary


def _finished(
    recipe: Recipe, model: Any, data: Any, files: RunFiles, class_weight: Mapping[Any, float] | None = None
) -> FitResult:
    """The result of a stage that an earlier call finished."""
    summary, history = files.read_result(), files.read_history()
    if summary.get("class_weight") != plain_weights(class_weight):
        raise ValueError(
            f"{files.folder} was trained with another class_weight: take another folder, or overwrite=True. Received: "
            f"class_weight={class_weight!r} (there {summary.get('class_weight')})"
        )
    if data is not None:
        identity.check_trained_on(data, files.folder, summary.get("data"))
    if model is None:
        model = load_keras(files.model, files.remedy)
    else:
        check_keras_file(files.model, files.remedy)
        model.load_weights(files.model)
    _compile_for_use(model, task_of(recipe, model.output_shape[-1]))
    return _result(recipe, model, summary, _columns(history), files, int(summary["epochs"]), data)


def _result(
    recipe: Recipe,
    model: Any,
    summary: dict[str, Any],
    history: dict[str, list[float]],
    files: RunFiles | None,
    resumed: int,
    data: Any,
) -> FitResult:
    return FitResult(
        model=model,
        recipe=recipe,
        stage=summary["stage"],
        history=history,
        best_epoch=summary["best_epoch"],
        metric=summary["metric"],
        validation_score=summary["validation_score"],
        validation_loss=summary["validation_loss"],
        seconds=summary["seconds"],
        resumed_epochs=resumed,
        out=files.folder if files else None,
        _load_test=lambda: _test_set(recipe, data, files, summary),
    )


def _test_set(recipe: Recipe, data: DataBundle | None, files: RunFiles | None, summary: dict[str, Any]) -> Any:
    """The test images of a result, read when they are asked for."""
    if data is None:
        data = load_data(recipe, None if files is None else files.folder)
        if files is not None:
            identity.check_trained_on(data, files.folder, summary.get("data"))
    return data.test


def _compile_for_use(model: Any, task: Task) -> None:
    """Compile with losses and metrics that Keras or the core has, so that a saved file needs nothing of training.

    Plain SGD has no variables of its own: any other optimizer, saved before its first step, warns when it is loaded.
    """
    model.compile(
        optimizer="sgd",
        **task.plain_compile_arguments(),
        jit_compile=keras.backend.backend() == "jax",
    )


def save_model(model: Any, path: Path, recipe: Recipe) -> None:
    """Save as .keras, whole or not at all; in it how images were made to fit, and no class of one back end alone."""
    compiled = model.get_compile_config()
    with replacing(path) as temporary:
        model.get_compile_config = lambda: portable(compiled)
        try:
            model.save(temporary)
        finally:
            del model.get_compile_config
        write_to_keras_file(temporary, recipe.preprocessing)


def portable(config: Any) -> Any:
    """A serialized configuration with public names for the classes that Keras has once for each back end.

    On PyTorch ``keras.optimizers.SGD`` makes a "keras.src.backend.torch.optimizers.torch_sgd" SGD: no other back end
    knows that module, and ``load_model`` fails there.
    """
    if isinstance(config, (list, tuple)):
        return [portable(part) for part in config]
    if not isinstance(config, dict):
        return config
    config = {key: portable(value) for key, value in config.items()}
    module = public_module(config.get("module"), str(config.get("class_name")))
    return config if module == config.get("module") else {**config, "module": module, "registered_name": None}


def _out_of_patience(phase: Phase, state: checkpoint.TrainingState) -> bool:
    return phase.patience is not None and state.waited >= phase.patience


def _rate(optimizer: Any) -> float:
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def _columns(history: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in history] for name in (history[0] if history else {})}


def _write_history(path: Path, history: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "epoch": int(row["epoch"])} for row in history)
    write_text(path, text.getvalue())
