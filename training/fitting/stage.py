"""`StageTraining`: the epochs of one stage, its state, and the files written after every epoch."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from wavemix_tf.escaping import printable
from wavemix_tf.keras_internals import moving_averages

from ..data import identity
from ..data.bundle import DataBundle
from ..data.example_weights import Weighting, class_table, plain_weights
from ..data.given import unwrapped_errors
from ..distribution import Devices, evaluate, without_distribution
from ..endings import check_logits
from ..recipe import Recipe
from ..run_files import RunFiles
from ..tasks import task_of
from . import checkpoint
from .batchnorm import BATCHES, BatchNormRecalibration
from .epoch_batches import EpochBatches, first_batches, training_batches
from .fit_result import FitResult, make_result
from .optimizers import Phase, build_optimizer, phases, with_loss_scaling
from .run_output import write_history, write_result
from .saving import compile_for_use, save_model
from .teaching import Teacher


class StageTraining:
    """One stage: its phases, its state and the files written after every epoch."""

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
        self.steps = data.train_source.steps(recipe.step_images)
        if self.steps < 1:
            raise ValueError(
                "batch_size must not exceed the number of training images: "
                f"--set batch_size={max(data.train_source.size // 4, 1)}, or more images. Received: "
                f"batch_size={recipe.step_images}, training images: {data.train_source.size}"
            )
        self.task = task_of(recipe, len(data.class_names))
        self.task.check_devices(devices.count)
        self.task.check_model(model)
        check_logits(self.task, model)
        self.variables = checkpoint.state_variables(model)
        # The identity is read only if it is needed: it may require filling a large shuffle buffer.
        needed = files is not None or devices.processes > 1
        self.list = identity.split_list(data) if needed else identity.SplitList({})
        self.state = checkpoint.TrainingState(fingerprint=dict(self.list.fingerprint))
        self.weighting = Weighting(recipe, class_table(class_weight, data.class_names, recipe))
        self.class_weight = plain_weights(class_weight)
        self.teacher = Teacher.load(recipe, self.task, devices, data.class_names)
        if self.teacher is not None:
            self.state.fingerprint["teacher"] = self.teacher.digest
        if self.class_weight is not None:
            self.state.fingerprint["class_weight"] = self.class_weight
        self.best: list[Any] = []
        self.recalibrate = BatchNormRecalibration(model)
        self.resumed = 0

    @property
    def _written(self) -> RunFiles | None:
        """The files, if this process writes them."""
        return self.files if self.devices.writes else None

    def train(self) -> FitResult:
        optimizer_arrays = self._restore()
        while self.state.phase < len(self.phases):
            phase = self.phases[self.state.phase]
            optimizer = build_optimizer(phase, self.recipe, self.steps, self.devices)
            optimizer = with_loss_scaling(self.model, optimizer)
            optimizer.build(self.model.trainable_variables)
            if optimizer_arrays:
                checkpoint.assign(optimizer.variables, optimizer_arrays, self.files and self.files.checkpoint)
                optimizer_arrays = []
            self._train_phase(phase, optimizer)
            # The next phase starts from the best weights; they are also the result of the last phase.
            if self.best:
                checkpoint.assign(self.variables, self.best, "the best epoch")
            self.state.phase += 1
            self.state.phase_epoch = self.state.waited = 0
            self.state.phase_best = None
        return self._write_finished()

    def _train_phase(self, phase: Phase, optimizer: Any) -> None:
        state = self.state
        if state.phase_epoch >= phase.epochs or _out_of_patience(phase, state):
            return
        self.model.compile(
            optimizer=optimizer,
            **self.task.compile_arguments(),
            # JAX has no other compiled form.
            jit_compile=self.recipe.jit_compile or keras.backend.backend() == "jax",
        )
        first, last = state.epoch, state.epoch - state.phase_epoch + phase.epochs
        batches = training_batches(
            self.data.train_source, self.recipe, first, last, self.task, self.devices, self.weighting, self.teacher
        )
        extra = []
        if self._written is not None and _has_tensorflow():  # TensorFlow writes TensorBoard's files
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
            uneven = self.devices.share_error(error)
            if uneven:
                raise ValueError(uneven) from None
            with unwrapped_errors(self.data.train_source, self.data.validation_source):
                raise

    def end_epoch(self, phase: Phase, optimizer: Any, logs: dict[str, float], seconds: float) -> bool:
        """Validate, keep the best weights, write the checkpoint; return True if the phase must end."""
        state = self.state
        raw = checkpoint.values(self.variables) if phase.ema else None
        if phase.ema:
            # Copies: on JAX an assigned array would be shared, and deleted by the evaluation that receives it.
            averages = checkpoint.values(moving_averages(optimizer))
            checkpoint.assign(self.model.trainable_variables, averages, "the moving average")
            batches = self.data.train_source.batches(self.recipe.step_images)
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
            write_history(self._written.history, state.history)
        return _out_of_patience(phase, state)

    def _restore(self) -> list[Any]:
        """Restore the checkpoint, if there is one; return the optimizer's arrays."""
        if self.files is None or not self.files.checkpoint.is_file():
            return []
        mine = self.state.fingerprint
        self.state, groups = checkpoint.load(self.files.checkpoint)
        if self.state.fingerprint in self.list.extends:
            self.state.fingerprint = mine
            if self.verbose:
                print("Images were added: known images keep their set, new images are assigned to sets.")
        if not identity.same_data(self.state.fingerprint, mine):
            raise ValueError(
                "To resume, the data must be unchanged. Received: "
                f"{mine}, {self.files.checkpoint} was written with {self.state.fingerprint}"
            )
        self.state.fingerprint = mine  # may have more fields than that of an older version
        checkpoint.assign(self.variables, groups["model"], self.files.checkpoint)
        self.best = groups.get("best", [])
        self.resumed = self.state.epoch
        if self.verbose:
            print(printable(f"Resuming {self.files.folder} after epoch {self.resumed}."))
            print_order_note(self.data)
        return groups["optimizer"]

    def _write_finished(self) -> FitResult:
        state = self.state
        compile_for_use(self.model, self.task)
        if self._written is not None:
            with without_distribution():
                save_model(self.model, self._written.model, self.recipe)
            if state.history:
                write_history(self._written.history, state.history)
        more = {} if self.class_weight is None else {"class_weight": self.class_weight}
        summary = write_result(self._written, self.stage, state, self.task, self.list.fingerprint, more)
        if self._written is not None:
            self._written.checkpoint.unlink(missing_ok=True)
        self.devices.check_equal("The run folder", "finished")  # all files exist before any process continues
        return make_result(self.recipe, self.model, summary, state.history, self.files, self.resumed, self.data)


class _Epochs(keras.callbacks.Callback):
    """Starts and ends every epoch of the run; first in the list, so that later callbacks see the validation."""

    def __init__(self, run: StageTraining, phase: Phase, optimizer: Any, batches: Any) -> None:
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


def print_order_note(data: DataBundle) -> None:
    """Print a note if the order of the user's dataset decides whether a resumed run sees the same batches."""
    note = identity.order_note(data)
    if note:
        print(note)


def _has_tensorflow() -> bool:
    try:
        import tensorflow  # noqa: F401
    except ImportError:
        return False
    return True


def _out_of_patience(phase: Phase, state: checkpoint.TrainingState) -> bool:
    return phase.patience is not None and state.waited >= phase.patience


def _rate(optimizer: Any) -> float:
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
