"""`TrialTraining`: one candidate of a search, trained as a run of `fit` and measured."""

from __future__ import annotations

import dataclasses
import json
import math
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from wavemix_tf.files import write_text
from wavemix_tf.state_files import DamagedFileError, load_keras

from ..data.bundle import DataBundle
from ..data.datasets import load_data
from ..data.given import as_bundle
from ..fitting.trainer import build, fit
from ..recipe import Recipe
from ..run_files import BEGIN_ANEW, RunFiles
from . import cluster
from .cost_goal import GOAL_LOSS
from .median_stopping import MedianStopping
from .progress import Progress
from .search_options import SearchOptions
from .search_result import COMPLETED, FAILED, OUTCOME_FILE, OVER_BUDGET, Trial
from .warm_start import begin_trial


class TrialTraining:
    """Trains the trials of one search.

    Args:
        options: The options of the search.
        progress: Prints each finished trial.

    Attributes:
        classes: Number of classes; None until it is known.
        oracle, candidates: Those of the search, once they exist.
    """

    def __init__(self, options: SearchOptions, progress: Progress) -> None:
        self.options, self.progress = options, progress
        self.classes = options.recipe.num_classes
        self.oracle: Any = None
        self.candidates: Any = None
        self._bundles: dict[tuple[int, ...], DataBundle] = {}

    def recipe_of(self, hp: Any) -> Recipe:
        """The candidate recipe of hyperparameters."""
        return self.options.space(hp, self.options.recipe)

    def build(self, recipe: Recipe) -> Any:
        """The untrained network of a candidate."""
        keras.utils.set_random_seed(recipe.seed)  # the initial weights that `fit` would use
        return build(recipe, self.classes or 0)

    def bundle(self, recipe: Recipe) -> DataBundle:
        """The data at a candidate's resolution; read once per resolution."""
        shape = recipe.image_shape
        if shape not in self._bundles:
            own = self.options.data is not None
            self._bundles[shape] = (
                as_bundle(recipe, self.options.data, self.options.validation_data) if own else load_data(recipe)
            )
        return self._bundles[shape]

    def run(self, trial: Any) -> Mapping[str, float]:
        """Train a trial, unless its outcome is already stored: it is written before the oracle counts the trial."""
        path = self.options.out / "trials" / trial.trial_id / OUTCOME_FILE
        if path.is_file():
            outcome = Trial.load(path)
            if outcome.status != FAILED:
                return self._reported(outcome)
        begun = time.perf_counter()
        found: dict[str, Any] = {"status": FAILED, "score": None, "metrics": {}, "costs": {}, "epochs": 0}
        recipe, failure = None, None
        with cluster.heartbeat(self.oracle, trial.trial_id):
            try:
                recipe = self.recipe_of(trial.hyperparameters)
                found |= self._train(recipe, trial.hyperparameters.values, path.parent)
            except DamagedFileError as error:  # not a fault of the candidate: the search stops until it is repaired
                raise import_oracles().keras_tuner.errors.FatalValueError(str(error)) from error
            except Exception as error:
                failure = error
            try:
                if recipe is not None:
                    found |= self._measured(recipe, failure)
            except Exception as error:
                if failure is None:  # otherwise the network cannot be built, which is already the failure
                    fatal = import_oracles().keras_tuner.errors.FatalRuntimeError
                    raise fatal(f"Measuring the costs failed: {error}") from error
        outcome = Trial(
            trial_id=trial.trial_id,
            values=dict(trial.hyperparameters.values),
            seconds=time.perf_counter() - begun,
            recipe=recipe or self.options.recipe,
            **{"error": None if failure is None else f"{type(failure).__name__}: {failure}"} | found,
            traceback=None if failure is None else "".join(traceback.format_exception(failure)),
        )
        write_text(path, json.dumps(outcome.to_dict(), indent=1) + "\n")
        self.progress.print_ended()
        if failure is not None:
            raise failure
        return self._reported(outcome)

    def _reported(self, outcome: Trial) -> Mapping[str, float]:
        """The metrics that the oracle receives."""
        goal = self.options.goal
        if goal is None or outcome.score is None:
            return outcome.metrics
        return {**outcome.metrics, GOAL_LOSS: goal.loss(outcome.score, outcome.costs)}

    def _measured(self, recipe: Recipe, failure: Exception | None) -> dict[str, Any]:
        """Costs of a trained network, and its status if they exceed the budget. A cost without a value is infinite."""
        known = {name: cost for name, cost in self.candidates.costs(recipe).items() if math.isfinite(cost)}
        found: dict[str, Any] = {"costs": known}
        if failure is None and self.candidates.excess(recipe):
            found["status"], found["error"] = OVER_BUDGET, self.candidates.refusal(recipe)
        return found

    def _train(self, recipe: Recipe, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        # Otherwise every trial's graph stays in memory. Collecting cycles here as well would take a third of a second.
        keras.backend.clear_session(free_memory=False)
        epochs, before = values.get("tuner/epochs", self.options.epochs), values.get("tuner/initial_epoch", 0)
        self.candidates.start(recipe)
        model = self.candidates.build_for_training(recipe)
        if values.get("tuner/trial_id") is not None:  # Hyperband continues the best trials of a round
            files = RunFiles(self.options.out / "trials" / values["tuner/trial_id"], "float")
            keras.utils.set_random_seed(recipe.seed)  # the file does not store dropout's states
            model = load_keras(files.model, f"{BEGIN_ANEW}.")
        elif self.options.warm_start:
            begin_trial(model, folder, 1.0 if self.options.objective[1] == "max" else -1.0)
        share = (epochs - before) / recipe.epochs
        short = dataclasses.replace(
            recipe,
            epochs=epochs - before,
            warmup_epochs=min(recipe.warmup_epochs * share, (epochs - before) / 2),
            qat_epochs=math.ceil(recipe.qat_epochs * min(share, 1.0)),
        )
        data = self.bundle(recipe)
        callbacks = [_StopAtNaN(), *(self.options.callbacks() if self.options.callbacks is not None else ())]
        if self.options.median_stopping:
            direction = self.options.objective[1] if self.options.objective[0] == "val_loss" else "max"
            metric = "val_loss" if direction == "min" else f"val_{recipe.metric}"
            callbacks.append(MedianStopping(metric, direction, short.epochs, folder.parent, folder))
        begun = time.perf_counter()
        verbose = 2 if self.options.verbose > 1 else 0
        weights = self.options.class_weight
        result = fit(
            short, model=model, data=data, out=folder, class_weight=weights, callbacks=callbacks, verbose=verbose
        )
        metrics = {f"val_{result.metric}": result.validation_score, "val_loss": result.validation_loss}
        if self.options.score is not None:
            metrics |= {name: float(value) for name, value in self.options.score(result, data).items()}
        self.progress.trained_s += time.perf_counter() - begun
        epochs = before + len(result.history.get("epoch", ())) if self.options.median_stopping else epochs
        name = self.options.objective[0]
        if name not in metrics:  # every trial would fail the same way
            fatal = import_oracles().keras_tuner.errors.FatalValueError
            raise fatal(f"objective must be one of {', '.join(metrics)}. Received: objective={name!r}")
        if not all(map(math.isfinite, metrics.values())):
            raise ArithmeticError(f"A trial's metrics must be finite. Received: {metrics}")
        _write_hparams(folder / "tensorboard" / "hparams", values, metrics, epochs)
        return {"status": COMPLETED, "score": metrics[name], "metrics": metrics, "epochs": epochs}

    def error_of(self, trial: Any) -> str:
        """Return why a trial failed: keras-tuner's workers do not send it."""
        path = self.options.out / "trials" / trial.trial_id / OUTCOME_FILE
        stored = Trial.load(path) if path.is_file() else None
        return f"{stored.error}\n\n{stored.traceback}" if stored and stored.error else trial.message or "no message"


class _StopAtNaN(keras.callbacks.Callback):
    """Ends a trial whose loss is not finite."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name in ("loss", "val_loss"):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise ArithmeticError(f"{name} became {value} in epoch {epoch + 1}")


def import_oracles() -> Any:
    """Import the module ``oracles``; ImportError without keras-tuner, which only a search needs."""
    try:
        from . import oracles
    except ImportError as error:
        raise ImportError(f"search requires keras-tuner: pip install keras-tuner. Received: {error}") from error
    return oracles


def _write_hparams(folder: Path, values: Mapping[str, Any], metrics: Mapping[str, float], epochs: int) -> None:
    """Write a trial for TensorBoard's HParams page, with TensorFlow's writer."""
    try:
        import tensorflow as tf
        from tensorboard.plugins.hparams import api
    except ImportError:
        return
    with tf.summary.create_file_writer(str(folder)).as_default():
        api.hparams({name: value for name, value in values.items() if not name.startswith("tuner/")}, str(folder))
        for name, value in metrics.items():
            tf.summary.scalar(name, value, step=epochs)
