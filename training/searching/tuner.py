"""`search`: architecture search with keras-tuner, within a budget that is checked before a candidate is trained."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.bundle import DataBundle
from ..data.example_weights import class_table
from ..errors import BudgetError
from ..fitting.fit_result import FitResult
from ..recipe import Recipe
from . import cluster
from .candidates import GRAPH_COSTS, Candidates, check_budget, format_cost
from .cost_goal import resolve_cost_goal
from .folder import COSTS_FILE, STATE_FOLDER, SearchFolder
from .progress import LONGEST_ERROR, Progress
from .search_options import SearchOptions, resolve_objective
from .search_result import OUTCOME_FILE, SearchResult
from .spaces import SPACES, Space
from .trial_training import TrialTraining, import_oracles

TUNERS = ("random", "bayesian", "hyperband", "grid")


class SearchStoppedError(RuntimeError):
    """Several trials in a row failed; the message contains the first failure in full."""


def search(
    recipe: Recipe,
    *,
    space: str | Space = "depth-width",
    tuner: str = "bayesian",
    max_trials: int = 20,
    epochs: int | None = None,
    objective: Any = None,
    minimize: str | None = None,
    min_score: float | None = None,
    budget: Mapping[str, float] | None = None,
    costs: Sequence[Any] = (),
    score: Callable[[FitResult, DataBundle], Mapping[str, float]] | None = None,
    data: Any = None,
    validation_data: Any = None,
    class_weight: Mapping[Any, float] | None = None,
    out: str | os.PathLike[str] | None = None,
    median_stopping: bool = False,
    warm_start: bool = False,
    callbacks: Callable[[], Sequence[Any]] | None = None,
    seed: int = 0,
    watch: Callable[[], None] | None = None,
    verbose: int = 1,
    overwrite: bool = False,
) -> Recipe:
    """Search for the best network around a recipe's, within a budget; the same call resumes an interrupted search.

    A candidate over budget is not trained and does not count as a trial. Every trial is a run folder of ``fit``, so
    that a killed trial resumes after its last epoch. The test set is not read. ``SearchResult.load(out)`` has every
    trial and the Pareto fronts; ``out`` has them as ``trials.csv``, ``front.csv``, ``front.png``, ``best.json`` and
    ``recipes/``.

    In keras-tuner's chief and worker mode (its environment variables set the role of a process) every process makes
    this call with the same arguments and the same ``out`` on a shared file system; the chief does not train.

    Args:
        recipe: The starting point; the ranges of the spaces are relative to it.
        space: "depth-width", "small", "full", or a function ``(hp, recipe) -> Recipe``, see
            ``wavemix_tf.training.searching.spaces``.
        tuner: "random", "bayesian", "hyperband" or "grid".
        max_trials: Total number of trials, including those of earlier calls.
        epochs: Epochs of each trial (Hyperband: of the longest); None: half of the recipe's. The returned recipe has
            the epochs of ``recipe``.
        objective: None: the metric of the recipe's task on validation ("val_accuracy", "val_mean_iou" or "val_psnr_y");
            or "val_loss", a name that ``score`` returns (ending as one of these), or a
            ``keras_tuner.Objective``.
        minimize: Name of a cost to minimize among the networks with at least ``min_score``, instead of the best score
            within the budget. One of the costs that ``budget`` may limit.
        min_score: With ``minimize``: the least value of the objective (accuracy and mIoU from 0 to 1, PSNR in dB).
        budget: Cost -> upper limit, for "parameters", "macs", "int8_bytes", "int8_activation_bytes", and the costs that
            ``costs`` measure.
        costs: Callables ``(model) -> {cost: value}`` on an untrained Keras model, with an attribute ``names``: for
            example ``wm.tflite.DeviceCosts("mcu")``.
        score: ``(result, data) -> {metric: value}`` of a trained candidate, for example its int8 accuracy. With an
            attribute ``names``, the metrics that it returns, an unknown objective is refused at once.
        data: As for ``fit``; None: ``load_data`` of the candidate's recipe. If it is given, the resolution is fixed.
        validation_data: As for ``fit``.
        class_weight: As for ``fit``.
        out: Folder of the search; None: a temporary folder, nothing is kept.
        median_stopping: End a trial after a quarter of its epochs or later if its best value so far is worse than the
            median of at least four other trials' running averages (Golovin et al., KDD 2017). By the recipe's metric,
            or by "val_loss" if that is the objective. It spares epochs, and small networks of the Pareto front.
        warm_start: Begin each trial with the weights of the best finished trial whose network fits into the
            candidate's: no wider, no deeper, otherwise the same (Chen et al., arXiv 1511.05641). The scores of later
            trials then include the training of earlier ones; the trained network is in the trial's folder.
        callbacks: Function that returns Keras callbacks for a trial.
        seed: Seed of the choice of candidates.
        watch: For a chief: called a few times per second; an exception from it ends the search.
        verbose: 0: prints nothing.
        overwrite: Start again if the folder holds another search.

    Returns:
        The recipe of the best trial. (A worker: of the best so far.)

    Raises:
        BudgetError: no network of the space is within the budget, or no trial kept ``min_score``; the message names the
            nearest.
        SearchStoppedError: three trials in a row failed.
        ValueError: an option is out of its range, or the folder holds another search: of another recipe, of a space
            with other ranges or other recipes, or on other data.
        RuntimeError: no trial succeeded; the message contains the first failure.
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
            raise ValueError(f"{name} must be a positive integer. Received: {name}={value!r}")
    for name, function in (("score", score), ("callbacks", callbacks), ("watch", watch)):
        if function is not None and not callable(function):
            raise ValueError(f"{name} must be a function. Received: {name}={function!r}")
    if median_stopping and (tuner == "hyperband" or minimize is not None):
        raise ValueError(
            "median_stopping compares the scores of equally long trials for the best score: not with Hyperband, which "
            f"ends trials by itself, nor with minimize. Received: tuner={tuner!r}, minimize={minimize!r}"
        )
    check_budget(budget or {}, costs)
    chosen = resolve_objective(recipe, objective, score)
    known = [*GRAPH_COSTS, *(name for measure in costs for name in measure.names)]
    options = dict(
        recipe=recipe,
        space=SPACES[space] if isinstance(space, str) else space,
        space_name=space if isinstance(space, str) else getattr(space, "__name__", "own"),
        tuner=tuner,
        max_trials=max_trials,
        epochs=epochs or max(1, recipe.epochs // 2),
        objective=chosen,
        goal=resolve_cost_goal(minimize, min_score, chosen, known),
        budget=dict(budget or {}),
        measures=tuple(costs),
        score=score,
        data=data,
        validation_data=validation_data,
        class_weight=class_weight,
        median_stopping=median_stopping,
        warm_start=warm_start,
        callbacks=callbacks,
        seed=seed,
        watch=watch,
        verbose=verbose,
    )
    if out is not None:
        return _Search(SearchOptions(out=Path(out), **options)).search(overwrite)
    with tempfile.TemporaryDirectory() as folder:
        return _Search(SearchOptions(out=Path(folder), **options)).search(overwrite)


class _Search:
    """One call of ``search``."""

    def __init__(self, options: SearchOptions) -> None:
        self.options = options
        self.progress = Progress(options)
        self.training = TrialTraining(options, self.progress)

    def search(self, overwrite: bool) -> Recipe:
        """Return the best recipe; ``overwrite`` replaces the search in the folder."""
        options = self.options
        oracles = import_oracles()
        role = cluster.role()
        overwrite = overwrite and role != "worker"  # only the chief starts again
        if role == "worker":
            cluster.wait_for_chief()  # the folder has its settings by then
        probe, parameters = (oracles.keras_tuner.HyperParameters() for _ in range(2))
        options.space(probe, options.recipe)
        data = self._data()
        identity = {"space_digest": options.space_digest(oracles, probe), "data": data.fingerprint()}
        folder = SearchFolder(options.out, options.recipe, options.settings(identity))
        resumes = folder.is_this_search(overwrite)
        if role != "worker":
            folder.remove_abandoned()
        if options.data is not None and "resolution" in probe.values:
            parameters.Fixed("resolution", 1.0)  # the user's images have one size
        oracle = oracles.ORACLES[options.tuner](
            objective=oracles.keras_tuner.Objective(*options.oracle_objective),
            max_trials=options.max_trials,
            seed=options.seed + 1,  # keras-tuner takes 0 for none
            hyperparameters=parameters,
            **({"max_epochs": options.epochs} if options.tuner == "hyperband" else {}),
        )
        oracle.restarted = role == "chief"
        training = self.training
        try:
            if not resumes and role != "worker":
                folder.begin()
            state = options.out / STATE_FOLDER
            tuner = oracles.TrialTuner(oracle, training.recipe_of, training.run, state, overwrite)
            candidates = Candidates(
                lambda values: training.recipe_of(_hyperparameters(oracle, values)),
                training.build,
                options.budget,
                options.measures,
                None if overwrite else options.out / COSTS_FILE,  # the old costs may be those of another device
                writes=role != "worker",
            )
            training.oracle, training.candidates = oracle, candidates
            oracle.fits, oracle.message_of = candidates.fits, training.error_of
            if role == "worker":
                tuner.search()
                return self._best()
            self.progress.print_space(oracles, oracle, candidates)
        except Exception:
            if not resumes and role != "worker":
                folder.remove_begun()
            raise
        if overwrite:
            folder.clear()
        candidates.path = options.out / COSTS_FILE
        self.progress.resume(SearchResult.load(options.out))
        try:
            if role == "chief":
                oracle.save()
                cluster.serve(oracle, self._poll)
            else:
                tuner.search()
        finally:
            self._save(oracle, candidates)
        if oracle.error is not None:
            raise oracle.error
        if oracle.halted is not None:
            raise SearchStoppedError(f"{oracles.FAILURES} trials in a row failed; the first: {oracle.halted.strip()}")
        return self._best()

    def _data(self) -> DataBundle:
        """The data of the recipe that the search starts from, checked before the first trial."""
        options = self.options
        data = self.training.bundle(options.recipe)
        batch_size = options.recipe.batch_size  # "auto": each trial chooses its own
        if isinstance(batch_size, int) and data.train_source.steps(batch_size) < 1:
            raise ValueError(
                "batch_size must not exceed the number of training images. Received: "
                f"batch_size={options.recipe.batch_size}, training images: {data.train_source.size}"
            )
        class_table(options.class_weight, data.class_names, options.recipe)
        self.training.classes = self.training.classes or len(data.class_names)
        return data

    def _save(self, oracle: Any, candidates: Candidates) -> None:
        """Write the files of the result, and print the summary."""
        result = SearchResult.load(self.options.out)
        result.save(self.options.out)
        fewer = len(result.trials) < self.options.max_trials
        exhausted = fewer and oracle.halted is None and not sys.exc_info()[0]
        self.progress.print_summary(result, exhausted, len(candidates.refused))

    def _best(self) -> Recipe:
        result = SearchResult.load(self.options.out)
        nearest = result.nearest
        if result.best is None and nearest is not None and result.goal is not None:
            goal = result.goal
            raise BudgetError(
                f"A network must have a {result.objective} of at least {goal.min_score:g}; none of "
                f"{len(result.completed)} has. The nearest, trial {nearest.trial_id}: {nearest.score:.4f}, "
                f"{goal.cost} {format_cost(nearest.costs.get(goal.cost, float('nan')))}. "
                "A larger max_trials continues the search. "
                f"Received: min_score={goal.min_score:g}"
            )
        if result.best is None:
            causes = [f"trial {trial.trial_id}: {trial.error}" for trial in result.trials if trial.error]
            cause = f"; the first failure, {' '.join(causes[0].split())[:LONGEST_ERROR]}" if causes else ""
            raise RuntimeError(
                f"No trial succeeded{cause}. Received: {len(result.trials)} trials in {self.options.out}, see their "
                f"{OUTCOME_FILE}"
            )
        return result.best.recipe

    def _poll(self) -> None:
        self.progress.print_ended()
        if self.options.watch is not None:
            self.options.watch()


def _hyperparameters(oracle: Any, values: Mapping[str, Any]) -> Any:
    hp = oracle.hyperparameters.copy()
    hp.values = dict(values)
    hp.ensure_active_values()
    return hp
