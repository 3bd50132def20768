"""keras-tuner's oracles and tuner, which choose the next candidate, with a budget and a state that survives a kill.

Additions to keras-tuner 1.4: a candidate over budget never becomes a trial; the state is one file, written atomically;
after a kill no trial is lost or run twice; no candidate of a small space is tried twice; failures are counted within
one call, and the first one's message is reported.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import random
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine import hyperparameters as hp_module
from keras_tuner.engine import trial as trial_module
from sklearn.exceptions import ConvergenceWarning

from wavemix_tf.files import write_text
from wavemix_tf.state_files import Fields, read_json, reading

from .keras_tuner_internals import BayesianInternals, HyperbandInternals, OracleInternals, TunerInternals, Values

DRAWS = 1000  # random candidates before the space is enumerated
LARGEST_WALK = 20_000  # combinations of a space that are enumerated at most
NOISE = 0.02  # variance between two trainings of one network, as a share of that between networks
POOL = 512  # candidates from which the Bayesian oracle takes the best
FAILURES = 3  # consecutive failures that end the search
REMEDY = "The search cannot resume without it. To start again: overwrite=True (--overwrite)."
STATE: Fields = {
    **dict.fromkeys(("ongoing_trials", "trials", "hyperparameters", "id_to_hash", "run_times"), dict),
    **dict.fromkeys(("start_order", "end_order", "retry_queue"), list),
}
IDLE_S = 0.5  # a worker waits so long before it requests a trial again
RUNNING, STOPPED, IDLE = (getattr(trial_module.TrialStatus, name) for name in ("RUNNING", "STOPPED", "IDLE"))
COMPLETED, FAILED = trial_module.TrialStatus.COMPLETED, trial_module.TrialStatus.FAILED


def combinations(space: Any) -> Iterator[Values]:
    """Every combination of a ``HyperParameters``, active values only; ten values of a continuous parameter."""
    for chosen in itertools.product(*(_options(parameter) for parameter in space.space)):
        given = {parameter.name: value for parameter, value in zip(space.space, chosen, strict=True)}
        values = _fill(space, lambda parameter: given[parameter.name])  # noqa: B023 - called here
        # An inactive value makes no difference: the combination with its default is enough.
        if all(p.name in values or given[p.name] == p.default for p in space.space):
            yield values


def _options(parameter: Any) -> list[Any]:
    """The values of one hyperparameter, its default first."""
    if isinstance(parameter, hp_module.Fixed):
        return [parameter.value]
    values = list(parameter.values)
    return [parameter.default, *(value for value in values if value != parameter.default)]


def count_combinations(space: Any) -> int:
    """Upper bound of the number of ``combinations``."""
    return math.prod(len(_options(parameter)) for parameter in space.space)


def is_continuous(space: Any) -> bool:
    """Whether one of the hyperparameters has no steps."""
    return any(isinstance(parameter, hp_module.Float) and parameter.step is None for parameter in space.space)


def variations(space: Any, values: Mapping[str, Any]) -> Iterator[Values]:
    """``values`` with one parameter set to the smallest or largest of its options, for each parameter."""
    for parameter in space.space:
        options = sorted(_options(parameter), key=_size)
        for option in options if isinstance(options[0], str) else (options[0], options[-1]):
            changed = {**values, parameter.name: option}
            yield _fill(space, lambda one: changed.get(one.name, one.default))  # noqa: B023 - called here


def sample(space: Any, seed: int) -> Iterator[Values]:
    """Sample candidates of a ``HyperParameters``: the one with the smallest numbers, then random ones."""
    yield _fill(space, lambda parameter: min(_options(parameter), key=_size))
    rng = random.Random(seed)
    while True:
        yield _fill(space, lambda parameter: parameter.random_sample(rng.randrange(2**31)))


def _fill(space: Any, choose: Callable[[Any], Any]) -> Values:
    filled = hp_module.HyperParameters()
    for parameter in space.space:
        filled.merge([parameter])
        if filled.is_active(parameter):
            filled.values[parameter.name] = choose(parameter)
    return filled.values


def _size(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


class _Oracle(OracleInternals):
    """Mixed into keras-tuner's oracles."""

    fits: Callable[[Values], bool] = staticmethod(lambda values: True)
    message_of: Callable[[Any], str] = staticmethod(lambda trial: trial.message or "")
    ongoing_trials: dict[str, Any]
    error: Exception | None = None  # ended the search, and is not a fault of a candidate
    halted: str | None = None  # the first message of the failures that ended the search
    restarted: bool = False  # a chief started again: workers keep their trials until they are silent for too long

    def __init__(self, **options: Any) -> None:
        super().__init__(max_consecutive_failed_trials=FAILURES, **options)
        self.verbose = 0
        self._failures: list[str] = []
        self._own_lock = threading.RLock()
        self.seen: dict[str, float] = {}  # trial -> time of its worker's last heartbeat

    # --- candidates ---

    def random_values(self) -> Values | None:
        """Random untried values within the budget; None if none are left."""
        for _ in range(DRAWS):
            values = super().random_values()
            if values is None:
                break
            if self.fits(values):
                return values
        return self.untried_values()

    def untried_values(self) -> Values | None:
        """The first untried combination of the space within the budget."""
        walk = itertools.islice(combinations(self.hyperparameters), LARGEST_WALK)
        return next((values for values in walk if not self.is_tried(values) and self.fits(values)), None)

    # --- trials ---

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Allow one thread at a time; keras-tuner does not release its own lock after an error."""
        with self._own_lock:
            try:
                yield
            except BaseException:
                self.release_lock()
                raise

    def create_trial(self, tuner_id: str) -> Any:
        with self._locked():
            try:
                return self._create_trial(tuner_id)
            except Exception as error:  # a chief would not show it
                self.error, self.halted = error, str(error)
                return self._create_trial(tuner_id)

    def _create_trial(self, tuner_id: str) -> Any:
        if self.halted is not None and tuner_id not in self.ongoing_trials:
            self.tuner_ids.discard(tuner_id)
            return trial_module.Trial(self.hyperparameters.copy(), trial_id="", status=STOPPED)
        trial = super().create_trial(tuner_id)
        if trial.status == STOPPED and self.ongoing_trials:
            # Other workers are running, and one of them may be lost: a remaining worker takes its trial.
            self.tuner_ids.add(tuner_id)
            trial.status = IDLE
        self.seen[trial.trial_id] = time.monotonic()
        return trial

    def get_trial(self, trial_id: str) -> Any:
        self.seen[trial_id] = time.monotonic()  # a worker's heartbeat; it does not wait for the lock
        return super().get_trial(trial_id)

    def update_trial(self, *given: Any, **named: Any) -> Any:
        with self._locked():
            return super().update_trial(*given, **named)

    def end_trial(self, trial: Any) -> None:
        with self._locked():
            if trial.trial_id in self.end_order:
                return  # a worker that was considered lost returned after another had run its trial
            if trial.trial_id in self.retry_queue:
                self.retry_queue.remove(trial.trial_id)
            super().end_trial(trial)
            self.save()  # keras-tuner saves before it removes the trial from the running ones

    def requeue_silent(self, silent_s: float) -> None:
        """Reassign the trials of workers without a heartbeat for ``silent_s`` seconds."""
        with self._locked():
            self._requeue_silent(silent_s)

    def _requeue_silent(self, silent_s: float) -> None:
        now, lost = time.monotonic(), False
        for tuner_id, trial in list(self.ongoing_trials.items()):
            if now - self.seen.setdefault(trial.trial_id, now) > silent_s:
                del self.ongoing_trials[tuner_id]
                self.tuner_ids.discard(tuner_id)
                self.retry_queue.append(trial.trial_id)
                lost = True
        if lost:
            self.save()

    def count_failures(self) -> None:
        trial = self.trials[self.end_order[-1]]
        self._failures = [*self._failures, self.message_of(trial)] if trial.status == FAILED else []
        if len(self._failures) >= FAILURES:
            self.halted = self._failures[0]

    # --- state ---

    def get_state(self) -> dict[str, Any]:
        trials = {trial_id: trial.get_state() for trial_id, trial in self.trials.items()}
        return {**super().get_state(), "trials": trials}

    def set_state(self, state: dict[str, Any]) -> None:
        self.trials = {trial_id: trial_module.Trial.from_state(one) for trial_id, one in state["trials"].items()}
        super().set_state(state)
        self._had = dict(self.ongoing_trials)

    def reload(self) -> None:
        path = self.state_path
        with reading(path, REMEDY):
            self.set_state(read_json(path, REMEDY, STATE))
        # Every running trial goes to the next process that requests one.
        self.retry_queue += [trial.trial_id for trial in self.ongoing_trials.values()]
        self.ongoing_trials = {}
        if self.restarted:
            self.ongoing_trials = self._had
            self.tuner_ids |= set(self._had)
            running = {trial.trial_id for trial in self._had.values()}
            self.retry_queue = [trial_id for trial_id in self.retry_queue if trial_id not in running]
        # In case of a kill between the end of a trial and its removal from the running ones.
        waiting = list(self.retry_queue)
        self.retry_queue = [trial_id for trial_id in waiting if trial_id not in self.end_order]

    def save(self) -> None:
        write_text(self.state_path, json.dumps(self.get_state(), default=_plain))

    def save_trial(self, trial: Any) -> None:
        """Write nothing: ``save`` stores all trials, and two states could disagree after a kill."""


def _plain(value: Any) -> Any:
    """Convert NumPy scalars to JSON values."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


class RandomOracle(_Oracle, keras_tuner.oracles.RandomSearchOracle):
    """Random candidates."""


class HyperbandOracle(_Oracle, HyperbandInternals):
    """Hyperband (Li et al., arXiv 1603.06560): many candidates for a few epochs, the best of them for more.

    A bracket with more trials than allowed is skipped, because it would end before its best candidates continue. A
    bracket with too few candidates becomes smaller.
    """

    def __init__(self, max_trials: int, **options: Any) -> None:
        self._found: dict[str, int] = {}  # bracket -> number of candidates, if there were too few
        super().__init__(hyperband_iterations=None, **options)
        self.max_trials = max_trials
        self.clear_brackets()
        self.bracket = min(self.bracket, self._largest_bracket())
        self.start_bracket()

    def _largest_bracket(self) -> int:
        sizes = {
            number: sum(self.round_size(number, turn) for turn in range(self.round_count(number)))
            for number in range(self.bracket_count())
        }
        return max((number for number, size in sizes.items() if size <= self.max_trials), default=0)

    def advance_bracket(self) -> None:
        super().advance_bracket()
        self.bracket = min(self.bracket, self._largest_bracket())

    def random_trial(self, trial_id: str, bracket: dict[str, Any]) -> dict[str, Any]:
        response = super().random_trial(trial_id, bracket)
        if response["status"] == STOPPED and bracket["rounds"][0]:
            self._found[str(bracket["bracket_num"])] = len(bracket["rounds"][0])
            return self.populate_space(trial_id)
        return response

    def round_size(self, bracket: int, turn: int) -> int:
        found = self._found.get(str(bracket))
        size = super().round_size(bracket, turn)
        return size if found is None else min(size, max(1, math.ceil(found / self.factor**turn)))

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "found": self._found}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._found = state["found"]


class GridOracle(_Oracle, keras_tuner.oracles.GridSearchOracle):
    """Every combination in turn; keras-tuner's oracle keeps its position in memory and would end after a restart."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        values = self.untried_values()
        return {"status": STOPPED if values is None else RUNNING, "values": values}


class BayesianOracle(_Oracle, BayesianInternals):
    """keras-tuner's Gaussian process, applied to existing candidates.

    keras-tuner searches the best point of a continuous box and rounds it, possibly to a candidate over budget or, in a
    small space, to one that was already tried. This oracle ranks a pool of random candidates by the same confidence
    bound and takes the best within the budget. At most a third of the trials are random, at least three; keras-tuner's
    three per hyperparameter would be most of a short search.
    """

    def __init__(self, max_trials: int, **options: Any) -> None:
        super().__init__(max_trials=max_trials, alpha=NOISE, **options)

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        completed = [trial for trial in self.trials.values() if trial.status == COMPLETED]
        if len(completed) < max(3, min(3 * len(self.varied_parameters()), self.max_trials // 3)):
            return self.random_response()
        x, y = self.trial_vectors()
        with warnings.catch_warnings():
            # For a few points that differ little, all length scales are equally good.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.gpr.fit(np.nan_to_num(x), np.nan_to_num(y))
        pool = self._pool()
        if not pool:
            return self.random_response()
        mean, deviation = self.gpr.predict(np.array([self._vector(values) for values in pool]), return_std=True)
        for index in np.argsort(mean - self.beta * deviation):  # the process models a loss
            if self.fits(pool[index]):
                return {"status": RUNNING, "values": pool[index]}
        return self.random_response()

    def _pool(self) -> list[Values]:
        """Untried values, within the budget or not; each once."""
        pool: dict[str, Values] = {}
        for _ in range(POOL):
            values = self.untried_random_values()
            if values is not None:
                pool.setdefault(self.values_hash(values), values)
        return list(pool.values())

    def _vector(self, values: Mapping[str, Any]) -> list[float]:
        space = self.varied_parameters()
        return [parameter.value_to_prob(values.get(parameter.name, parameter.default)) for parameter in space]


ORACLES = {
    "random": RandomOracle,
    "bayesian": BayesianOracle,
    "hyperband": HyperbandOracle,
    "grid": GridOracle,
}


class _Space(keras_tuner.HyperModel):
    """Lets keras-tuner read a space's hyperparameters; it builds a recipe."""

    def __init__(self, recipe_of: Callable[[Any], Any]) -> None:
        super().__init__()
        self._recipe_of = recipe_of

    def build(self, hp: Any) -> Any:
        return self._recipe_of(hp)


class TrialTuner(TunerInternals):
    """keras-tuner's loop around ``run(trial) -> metrics``.

    Args:
        oracle: One of ``ORACLES``.
        recipe_of: ``hp`` -> the candidate's recipe.
        run: Trains a trial; an exception makes the trial fail.
        folder: Folder of keras-tuner's state.
        overwrite: Start again; the folder's content stays until the first save.
    """

    def __init__(
        self,
        oracle: Any,
        recipe_of: Callable[[Any], Any],
        run: Callable[[Any], Mapping[str, float]],
        folder: Path,
        overwrite: bool,
    ) -> None:
        self._run, self._waited = run, False
        state = Path(folder, "oracle.json")
        super().__init__(oracle, _Space(recipe_of), directory=str(folder.parent), project_name=folder.name)
        if state.is_file() and not overwrite and not self.is_worker():
            oracle.reload()

    def run_trial(self, trial: Any, *_: Any, **__: Any) -> Mapping[str, float]:
        return self._run(trial)

    def try_trial(self, trial: Any) -> None:
        """Run a trial and set its status; keras-tuner would print the traceback and mark it invalid for a retry."""
        try:
            self.run_and_report(trial)
            trial.status = COMPLETED
        except keras_tuner.errors.FatalError:
            raise
        except Exception:
            trial.status, trial.message = FAILED, traceback.format_exc()

    def pre_create_trial(self) -> None:
        if self._waited:
            time.sleep(IDLE_S)  # keras-tuner repeats its request at once
        self._waited = True

    def on_trial_begin(self, trial: Any) -> None:
        self._waited = False

    def on_trial_end(self, trial: Any) -> None:
        self.oracle.end_trial(trial)  # which saves; the tuner itself has no state

    # keras-tuner keeps a file for the tuner in addition to the oracle's, and ignores the oracle's if it is missing.
    def save(self) -> None:
        if not self.is_worker():
            self.oracle.save()

    def tuner_state_path(self) -> Path:
        return Path(self.project_dir, "no_tuner_state.json")
