"""`search`: keras-tuner looks for the network, within a budget that is checked before anything is trained."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from wavemix_tf.escaping import printable
from wavemix_tf.files import write_text
from wavemix_tf.state_files import DamagedFileError, load_keras

from ..data.datasets import DataBundle, load_data
from ..data.given import as_bundle
from ..data.weights import class_table, plain_weights
from ..fitting.results import FitResult
from ..fitting.trainer import build, fit
from ..recipe import METRICS, Recipe
from ..run_files import BEGIN_ANEW, RunFiles
from . import cluster
from .candidates import Candidates, check_budget, number
from .folder import COSTS_FILE, STATE_FOLDER, SearchFolder
from .results import COMPLETED, FAILED, OUTCOME_FILE, OVER_BUDGET, SearchResult, Trial
from .spaces import SPACES, Space

TUNERS = ("random", "bayesian", "hyperband", "grid")
SAMPLES, SAMPLE_SEED = 8, 0  # candidates by which a space is known again
LONGEST_ERROR = 300  # characters in the line of a trial; its outcome has all


class SearchStoppedError(RuntimeError):
    """Several trials in a row failed; the message holds the first one's in full."""


def search(
    recipe: Recipe,
    *,
    space: str | Space = "depth-width",
    tuner: str = "bayesian",
    max_trials: int = 20,
    epochs: int | None = None,
    objective: Any = None,
    budget: Mapping[str, float] | None = None,
    costs: Sequence[Any] = (),
    score: Callable[[FitResult, DataBundle], Mapping[str, float]] | None = None,
    data: Any = None,
    validation_data: Any = None,
    class_weight: Mapping[Any, float] | None = None,
    out: str | os.PathLike[str] | None = None,
    callbacks: Callable[[], Sequence[Any]] | None = None,
    seed: int = 0,
    watch: Callable[[], None] | None = None,
    verbose: int = 1,
    overwrite: bool = False,
) -> Recipe:
    """Look for the best network around a recipe's, within a budget; the same call goes on where it was interrupted.

    A candidate over budget is never trained and is no trial. Every trial is a run folder of ``fit``, so that one that
    was killed goes on after its last epoch. The test set is not read. ``SearchResult.load(out)`` has every trial and
    the Pareto fronts; ``out`` has them as ``trials.csv``, ``front.csv``, ``front.png``, ``best.json`` and ``recipes/``.

    In keras-tuner's chief and worker mode (its environment variables say who a process is) every process makes this
    call with the same arguments and the same ``out`` on a shared file system; the chief trains nothing.

    Args:
        recipe: Where to begin; the ranges of the spaces are relative to it.
        space: "depth-width", "small", "full", or a function ``(hp, recipe) -> Recipe``, see
            ``wavemix_tf.training.searching.spaces``.
        tuner: "random", "bayesian", "hyperband" or "grid".
        max_trials: Trials in all, those of earlier calls included.
        epochs: Of each trial (of Hyperband's longest); None: half of the recipe's. The recipe that is returned has the
            recipe's own.
        objective: None: the metric of the recipe's task on validation ("val_accuracy", "val_mean_iou" or "val_psnr_y");
            or "val_loss", a name that ``score`` returns (ending as one of these), or a
            ``keras_tuner.Objective``.
        budget: Cost -> the most that it may be: "parameters", "macs", "int8_bytes", "int8_activation_bytes", and what
            ``costs`` measure.
        costs: Callables ``(model) -> {cost: value}`` on an untrained Keras model, with an attribute ``names``: such as
            ``wm.tflite.DeviceCosts("mcu")``.
        score: ``(result, data) -> {metric: value}`` of a trained candidate, such as its accuracy in int8. An attribute
            ``names`` with the metrics that it returns lets an objective that is none of them be told at once.
        data: As for ``fit``; None: ``load_data`` of the candidate's recipe. With own data the resolution is fixed.
        validation_data: As for ``fit``.
        class_weight: As for ``fit``.
        out: Folder of the search; None: a temporary one, nothing is kept.
        callbacks: Makes Keras callbacks for a trial.
        seed: Of the choice of candidates.
        watch: A chief's: called a few times a second; what it raises ends the search.
        verbose: 0: prints nothing.
        overwrite: Begin anew where the folder holds another search.

    Returns:
        The recipe of the best trial. (A worker: of the best so far.)

    Raises:
        BudgetError: nothing in the space is within the budget; it names the nearest.
        SearchStoppedError: three trials in a row failed.
        ValueError: an option out of its range, or the folder holds another search: of another recipe, of a space with
            other ranges or other recipes, or on other data.
        RuntimeError: no trial succeeded; the message holds the first failure.
        ImportError: keras-tuner is not installed.

    Example:
    >>> costs = [wm.tflite.DeviceCosts("mcu")]
    >>> recipe = wm.training.RECIPES["digits"]
    >>> best = wm.training.search(recipe, budget={"arena_bytes": 65536}, costs=costs, out="found")
    >>> wm.training.fit(best, out="runs/best")
    """
    if tuner not in TUNERS:
        raise ValueError(f"tuner must be one of {', '.join(map(repr, TUNERS))}. Received: tuner={tuner!r}")
    if isinstance(space, str) and space not in SPACES:
        raise ValueError(
            f"space must be one of {', '.join(map(repr, SPACES))}, or a function. Received: space={space!r}"
        )
    for name, value in (("max_trials", max_trials), ("epochs", epochs)):
        if value is not None and (type(value) is not int or value < 1):
            raise ValueError(f"{name} must be a positive whole number. Received: {name}={value!r}")
    for name, function in (("score", score), ("callbacks", callbacks), ("watch", watch)):
        if function is not None and not callable(function):
            raise ValueError(f"{name} must be a function, see its argument. Received: {name}={function!r}")
    check_budget(budget or {}, costs)
    goal = _goal(recipe, objective, score)
    options = dict(
        recipe=recipe,
        space=SPACES[space] if isinstance(space, str) else space,
        space_name=space if isinstance(space, str) else getattr(space, "__name__", "own"),
        tuner=tuner,
        max_trials=max_trials,
        epochs=epochs or max(1, recipe.epochs // 2),
        objective=goal,
        budget=dict(budget or {}),
        measures=tuple(costs),
        score=score,
        data=data,
        validation_data=validation_data,
        class_weight=class_weight,
        callbacks=callbacks,
        seed=seed,
        watch=watch,
        verbose=verbose,
    )
    if out is not None:
        return _Search(out=Path(out), **options).search(overwrite)
    with tempfile.TemporaryDirectory() as folder:
        return _Search(out=Path(folder), **options).search(overwrite)


@dataclasses.dataclass
class _Search:
    """One call of ``search``."""

    recipe: Recipe
    space: Space
    space_name: str
    tuner: str
    max_trials: int
    epochs: int
    objective: tuple[str, str]
    budget: dict[str, float]
    measures: tuple[Any, ...]
    score: Any
    data: Any
    validation_data: Any
    class_weight: Mapping[Any, float] | None
    callbacks: Any
    seed: int
    watch: Any
    verbose: int
    out: Path

    def __post_init__(self) -> None:
        self._bundles: dict[tuple[int, ...], DataBundle] = {}
        self._classes = self.recipe.num_classes
        self._begun = time.perf_counter()
        self._trained_s = 0.0  # in this call
        self._identity: dict[str, Any] = {}  # of the space and the data: a name says too little of either
        self._ended: set[str] = set()
        self._first = 0
        self._tuner: Any = None
        self.candidates: Any = None
        self.folder: Any = None

    # --- the whole ---

    def search(self, overwrite: bool) -> Recipe:
        oracles = _import_oracles()
        role = cluster.role()
        overwrite = overwrite and role != "worker"  # it is the chief who begins anew
        if role == "worker":
            cluster.find_chief()  # who has claimed the folder by then
        probe, parameters = (oracles.keras_tuner.HyperParameters() for _ in range(2))
        self.space(probe, self.recipe)
        data = self._bundle(self.recipe)
        if data.train_source.steps(self.recipe.batch_size) < 1:
            raise ValueError(
                "batch_size must not exceed the number of training images. Received: "
                f"batch_size={self.recipe.batch_size}, training images: {data.train_source.size}"
            )
        class_table(self.class_weight, data.class_names, self.recipe)  # told before the first trial
        self._classes = self._classes or len(data.class_names)
        self._identity = {"space_digest": self._space_digest(oracles, probe), "data": data.fingerprint()}
        self.folder = SearchFolder(self.out, self.recipe, self._settings())
        claimed = self.folder.holds_it(overwrite)
        if role != "worker":
            self.folder.tidy()
        if self.data is not None and "resolution" in probe.values:
            parameters.Fixed("resolution", 1.0)  # own images have one size
        oracle = oracles.ORACLES[self.tuner](
            objective=oracles.keras_tuner.Objective(*self.objective),
            max_trials=self.max_trials,
            seed=self.seed + 1,  # keras-tuner takes 0 for none
            hyperparameters=parameters,
            **({"max_epochs": self.epochs} if self.tuner == "hyperband" else {}),
        )
        oracle.restarted = role == "chief"
        state = self.out / STATE_FOLDER
        try:
            if not claimed and role != "worker":
                self.folder.begin()
            self._tuner = oracles.TrialTuner(oracle, self._recipe, self._run, state, overwrite)
            self.candidates = Candidates(
                lambda values: self._recipe(_hyperparameters(oracle, values)),
                self._build,
                self.budget,
                self.measures,
                None if overwrite else self.out / COSTS_FILE,  # which may be another device's
                writes=role != "worker",
            )
            oracle.fits, oracle.message_of = self.candidates.fits, self._message
            if role == "worker":
                self._tuner.search()
                return self._best()
            self._tell_space(oracles, oracle)
        except Exception:
            if not claimed and role != "worker":
                self.folder.withdraw()
            raise
        self._claim(overwrite)
        try:
            if role == "chief":
                oracle.save()
                cluster.serve(oracle, self._poll)
            else:
                self._tuner.search()
        finally:
            self._save()
        if oracle.error is not None:
            raise oracle.error
        if oracle.halted is not None:
            raise SearchStoppedError(f"{oracles.FAILURES} trials in a row failed; the first: {oracle.halted.strip()}")
        return self._best()

    def _settings(self) -> dict[str, Any]:
        """What makes two searches different."""
        return {
            "recipe": json.loads(self.recipe.to_json()),
            "space": self.space_name,
            "tuner": self.tuner,
            "epochs": self.epochs,
            "objective": self.objective[0],
            "direction": self.objective[1],
            "budget": self.budget,
            "costs": [getattr(measure, "identity", "/".join(measure.names)) for measure in self.measures],
            "score": None if self.score is None else _identity_of(self.score),
            "seed": self.seed,
            "class_weight": plain_weights(self.class_weight),
            **self._identity,
        }

    def _space_digest(self, oracles: Any, probe: Any) -> str:
        """Of the hyperparameters with their ranges, and of the recipes that the space makes of some of their values."""
        made: list[Any] = [probe.get_config()["space"]]
        for values in itertools.islice(oracles.sample(probe, SAMPLE_SEED), SAMPLES):
            hp = oracles.keras_tuner.HyperParameters()
            hp.values = dict(values)
            try:
                made.append([values, json.loads(self.space(hp, self.recipe).to_json())])
            except Exception as error:  # a trial with these values fails, and says so
                made.append([values, str(error)])
        return hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()

    def _claim(self, overwrite: bool) -> None:
        """Take up what the folder holds of this search."""
        if overwrite:
            self.folder.clear()
        self.candidates.path = self.out / COSTS_FILE
        ended = SearchResult.load(self.out).trials
        self._ended = {trial.trial_id for trial in ended}
        self._first = len(ended)
        if ended:
            self._say(f"Resuming {self.out}: {len(ended)} of {self.max_trials} trials have ended.")

    def _save(self) -> None:
        """The files of the result, and what the search took."""
        result = SearchResult.load(self.out)
        result.save(self.out)
        if len(result.trials) < self.max_trials and self._tuner.oracle.halted is None and not sys.exc_info()[0]:
            self._say(f"No further candidate that fits was found: {len(result.trials)} of {self.max_trials} trials.")
        wall = time.perf_counter() - self._begun
        if self._trained_s:
            share = 100 * self._trained_s / wall
            self._say(f"{duration(wall)}, of which {share:.1f} % was training.")
        if self.candidates.refused:
            self._say(f"{len(self.candidates.refused)} networks over budget were not trained.")

    def _best(self) -> Recipe:
        result = SearchResult.load(self.out)
        if result.best is None:
            causes = [f"trial {trial.trial_id}: {trial.error}" for trial in result.trials if trial.error]
            cause = f"; the first failure, {' '.join(causes[0].split())[:LONGEST_ERROR]}" if causes else ""
            raise RuntimeError(
                f"No trial succeeded{cause}. Received: {len(result.trials)} trials in {self.out}, see their "
                f"{OUTCOME_FILE}"
            )
        return result.best.recipe

    # --- a candidate ---

    def _recipe(self, hp: Any) -> Recipe:
        return self.space(hp, self.recipe)

    def _build(self, recipe: Recipe) -> Any:
        keras.utils.set_random_seed(recipe.seed)  # the weights with which `fit` would begin
        return build(recipe, self._classes or 0)

    def _bundle(self, recipe: Recipe) -> DataBundle:
        shape = recipe.image_shape
        if shape not in self._bundles:
            own = self.data is not None
            self._bundles[shape] = as_bundle(recipe, self.data, self.validation_data) if own else load_data(recipe)
        return self._bundles[shape]

    def _run(self, trial: Any) -> Mapping[str, float]:
        """Train a trial, unless it had ended when the process was killed: its outcome is written before it counts."""
        path = self.out / "trials" / trial.trial_id / OUTCOME_FILE
        if path.is_file():
            outcome = Trial.load(path)
            if outcome.status != FAILED:
                return outcome.metrics
        begun = time.perf_counter()
        found: dict[str, Any] = {"status": FAILED, "score": None, "metrics": {}, "costs": {}, "epochs": 0}
        recipe, failure = None, None
        with cluster.alive(self._tuner.oracle, trial.trial_id):
            try:
                recipe = self._recipe(trial.hyperparameters)
                found |= self._train(recipe, trial.hyperparameters.values, path.parent)
            except DamagedFileError as error:  # is no candidate's fault: the search waits until it is mended
                raise _import_oracles().keras_tuner.errors.FatalValueError(str(error)) from error
            except Exception as error:
                failure = error
            try:
                if recipe is not None:
                    found |= self._measured(recipe, failure)
            except Exception as error:
                if failure is None:  # otherwise the network cannot be built, which is what the trial failed of
                    fatal = _import_oracles().keras_tuner.errors.FatalRuntimeError
                    raise fatal(f"Costs could not be measured: {error}") from error
        outcome = Trial(
            trial_id=trial.trial_id,
            values=dict(trial.hyperparameters.values),
            seconds=time.perf_counter() - begun,
            recipe=recipe or self.recipe,
            **{"error": None if failure is None else f"{type(failure).__name__}: {failure}"} | found,
            traceback=None if failure is None else "".join(traceback.format_exception(failure)),
        )
        write_text(path, json.dumps(outcome.to_dict(), indent=1) + "\n")
        self._tell_ended()
        if failure is not None:
            raise failure
        return outcome.metrics

    def _measured(self, recipe: Recipe, failure: Exception | None) -> dict[str, Any]:
        """Costs of a trained network, and what they say of it."""
        found: dict[str, Any] = {"costs": self.candidates.costs(recipe)}
        if failure is None and self.candidates.excess(recipe):
            found["status"], found["error"] = OVER_BUDGET, self.candidates.refusal(recipe)
        return found

    def _train(self, recipe: Recipe, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        # Or every trial's graph stays in memory. Python collects what is in cycles when it likes: to do it here takes a
        # third of a second.
        keras.backend.clear_session(free_memory=False)
        epochs, before = values.get("tuner/epochs", self.epochs), values.get("tuner/initial_epoch", 0)
        self.candidates.start(recipe)
        model = self.candidates.take(recipe)
        if values.get("tuner/trial_id") is not None:  # Hyperband goes on with the best of a round
            files = RunFiles(self.out / "trials" / values["tuner/trial_id"], "float")
            keras.utils.set_random_seed(recipe.seed)  # the file does not hold the states of dropout
            model = load_keras(files.model, f"{BEGIN_ANEW}.")
        share = (epochs - before) / recipe.epochs
        short = dataclasses.replace(
            recipe,
            epochs=epochs - before,
            warmup_epochs=min(recipe.warmup_epochs * share, (epochs - before) / 2),
            qat_epochs=math.ceil(recipe.qat_epochs * min(share, 1.0)),
        )
        data = self._bundle(recipe)
        callbacks = [_StopAtNaN(), *(self.callbacks() if self.callbacks is not None else ())]
        begun = time.perf_counter()
        verbose = 2 if self.verbose > 1 else 0
        weights = self.class_weight
        result = fit(
            short, model=model, data=data, out=folder, class_weight=weights, callbacks=callbacks, verbose=verbose
        )
        metrics = {f"val_{result.metric}": result.validation_score, "val_loss": result.validation_loss}
        if self.score is not None:
            metrics |= {name: float(value) for name, value in self.score(result, data).items()}
        self._trained_s += time.perf_counter() - begun
        name = self.objective[0]
        if name not in metrics:  # as it will be in every trial
            fatal = _import_oracles().keras_tuner.errors.FatalValueError
            raise fatal(f"objective must be one of {', '.join(metrics)}. Received: objective={name!r}")
        if not all(map(math.isfinite, metrics.values())):
            raise ArithmeticError(f"A trial's metrics must be finite. Received: {metrics}")
        _write_hparams(folder / "tensorboard" / "hparams", values, metrics, epochs)
        return {"status": COMPLETED, "score": metrics[name], "metrics": metrics, "epochs": epochs}

    def _message(self, trial: Any) -> str:
        """Why a trial failed: keras-tuner's workers do not send it."""
        path = self.out / "trials" / trial.trial_id / OUTCOME_FILE
        stored = Trial.load(path) if path.is_file() else None
        return f"{stored.error}\n\n{stored.traceback}" if stored and stored.error else trial.message or "no message"

    # --- what the user sees ---

    def _say(self, text: str) -> None:
        if self.verbose:
            print(printable(text), flush=True)

    def _tell_space(self, oracles: Any, oracle: Any) -> None:
        count = oracles.count_combinations(oracle.hyperparameters)
        if self.tuner == "grid" and count > oracles.LARGEST_WALK:
            raise ValueError(
                f"tuner='grid' takes a space of at most {oracles.LARGEST_WALK:,} combinations. "
                f"Received: space={self.space_name!r} of {count:,}"
            )
        size = "continuous" if oracles.is_continuous(oracle.hyperparameters) else f"{count:,} combinations"
        names = ", ".join(parameter.name for parameter in oracle.hyperparameters.space)
        self._say(f"Space {self.space_name}: {names}; {size}.")
        if self.budget:
            with contextlib.suppress(Exception):  # a recipe that cannot be built becomes a trial that tells
                self.candidates.start(self.recipe)  # what measures takes its time to begin
            space = oracle.hyperparameters
            sure, unsure, looked = self.candidates.check(
                oracles.sample(space, self.seed), lambda values: oracles.variations(space, values)
            )
            limits = ", ".join(f"{name} <= {number(most)}" for name, most in self.budget.items())
            share = f"{sure} of {looked} networks looked at ({100 * sure / max(looked, 1):.0f} %) are within it"
            self._say(f"Budget {limits}: {share}{f', {unsure} have to be measured' if unsure else ''}.")

    def _poll(self) -> None:
        self._tell_ended()
        if self.watch is not None:
            self.watch()

    def _tell_ended(self) -> None:
        """A line for each trial that has ended since the last call."""
        there = {path.parent.name for path in (self.out / "trials").glob(f"*/{OUTCOME_FILE}")}
        if not self.verbose or cluster.role() == "worker" or there <= self._ended:
            return
        result = SearchResult.load(self.out)
        for trial in result.trials:
            if trial.trial_id in self._ended:
                continue
            self._ended.add(trial.trial_id)
            count, best = len(self._ended), result.best
            parts = [trial.describe()]
            if trial.status == FAILED:
                parts.append(f"failed: {' '.join((trial.error or '').split())[:LONGEST_ERROR]}")
            else:
                costs = [f"{name} {number(trial.costs[name])}" for name in self.budget if name in trial.costs]
                over = ["over budget"] if trial.status == OVER_BUDGET else []
                parts += [f"{self.objective[0]} {trial.score:.4f}", *costs, *over]
            text = (
                f"{count} of {self.max_trials}: trial {trial.trial_id}, {', '.join(parts)} ({duration(trial.seconds)})"
            )
            if best is not None:
                text += f"; best {best.score:.4f}, trial {best.trial_id}"
            if count < self.max_trials:
                rate = (time.perf_counter() - self._begun) / (count - self._first)
                text += f"; {duration(rate * (self.max_trials - count))} left"
            self._say(text)


class _StopAtNaN(keras.callbacks.Callback):
    """Ends a trial whose loss is no number any more."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name in ("loss", "val_loss"):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise ArithmeticError(f"{name} became {value} in epoch {epoch + 1}")


def duration(seconds: float) -> str:
    """As 12 s, 3.4 min or 1.2 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _goal(recipe: Recipe, objective: Any, score: Any) -> tuple[str, str]:
    """(name, direction) of an objective that a trial can have; a ValueError if none has it."""
    own = (f"val_{recipe.metric}", "val_loss")
    name, direction = goal = _objective(own[0] if objective is None else objective)
    known = [*own, *getattr(score, "names", ())]
    if name not in known and (score is None or hasattr(score, "names")):
        where = "where there is no score" if score is None else "and what score returns"
        raise ValueError(f"objective must be one of {', '.join(known)} {where}. Received: objective={name!r}")
    natural = "min" if name == own[1] else "max"
    if name in own and direction != natural:
        raise ValueError(f"The direction of {name} must be {natural!r}. Received: direction={direction!r}")
    return goal


def _objective(objective: Any) -> tuple[str, str]:
    """(name, "max" or "min")."""
    if hasattr(objective, "direction"):
        return objective.name, objective.direction
    for ending, direction in (*((metric, "max") for metric in METRICS.values()), ("loss", "min")):
        if isinstance(objective, str) and objective.endswith(ending):
            return objective, direction
    raise ValueError(
        f"objective must be a name that ends in {', '.join(METRICS.values())} or loss, or a keras_tuner.Objective. "
        f"Received: objective={objective!r}"
    )


def _identity_of(function: Any) -> str:
    """A function's name and a digest of its code, by which a search knows another measure under the same name."""
    code = getattr(function, "__code__", None)
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    if code is None:
        return name
    constants = [part for part in code.co_consts if isinstance(part, (int, float, str, tuple, type(None)))]
    return f"{name} {hashlib.sha256(code.co_code + repr(constants).encode()).hexdigest()[:12]}"


def _hyperparameters(oracle: Any, values: Mapping[str, Any]) -> Any:
    hp = oracle.hyperparameters.copy()
    hp.values = dict(values)
    hp.ensure_active_values()
    return hp


def _import_oracles() -> Any:
    try:
        from . import oracles
    except ImportError as error:
        raise ImportError(f"search needs keras-tuner: pip install keras-tuner. Received: {error}") from error
    return oracles


def _write_hparams(folder: Path, values: Mapping[str, Any], metrics: Mapping[str, float], epochs: int) -> None:
    """What TensorBoard's HParams page shows of a trial; its writer is TensorFlow's."""
    try:
        import tensorflow as tf
        from tensorboard.plugins.hparams import api
    except ImportError:
        return
    with tf.summary.create_file_writer(str(folder)).as_default():
        api.hparams({name: value for name, value in values.items() if not name.startswith("tuner/")}, str(folder))
        for name, value in metrics.items():
            tf.summary.scalar(name, value, step=epochs)
