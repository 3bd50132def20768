"""The output of a search: its space, each finished trial, and the time it took."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from wavemix_tf.escaping import printable

from . import cluster
from .candidates import Candidates, format_cost
from .search_options import SearchOptions
from .search_result import FAILED, OUTCOME_FILE, OVER_BUDGET, SearchResult

LONGEST_ERROR = 300  # characters in the line of a trial; its outcome file has all


class Progress:
    """The output of one call of ``search``.

    Args:
        options: The options of the search; with ``verbose=0`` nothing is printed.
    """

    def __init__(self, options: SearchOptions) -> None:
        self._options = options
        self._begun = time.perf_counter()
        self._ended: set[str] = set()
        self._first = 0  # trials that earlier calls finished
        self.trained_s = 0.0  # seconds of training in this call

    def _print(self, text: str) -> None:
        if self._options.verbose:
            print(printable(text), flush=True)

    def print_space(self, oracles: Any, oracle: Any, candidates: Candidates) -> None:
        """Print the hyperparameters and the share of networks within the budget; ValueError if a grid is too large."""
        options = self._options
        count = oracles.count_combinations(oracle.hyperparameters)
        if options.tuner == "grid" and count > oracles.LARGEST_WALK:
            raise ValueError(
                f"tuner='grid' requires a space of at most {oracles.LARGEST_WALK:,} combinations. "
                f"Received: space={options.space_name!r} of {count:,}"
            )
        size = "continuous" if oracles.is_continuous(oracle.hyperparameters) else f"{count:,} combinations"
        names = ", ".join(parameter.name for parameter in oracle.hyperparameters.space)
        self._print(f"Space {options.space_name}: {names}; {size}.")
        if options.budget:
            with contextlib.suppress(Exception):  # if it cannot be built, its trial fails
                candidates.start(options.recipe)  # measuring takes time to start
            space = oracle.hyperparameters
            sure, unsure, looked = candidates.check(
                oracles.sample(space, options.seed), lambda values: oracles.variations(space, values)
            )
            limits = ", ".join(f"{name} <= {format_cost(most)}" for name, most in options.budget.items())
            self._print(f"Budget {limits}: {share_text(sure, unsure, looked)}.")

    def resume(self, result: SearchResult) -> None:
        """Count the trials that earlier calls finished."""
        self._ended = {trial.trial_id for trial in result.trials}
        self._first = len(self._ended)
        if self._ended:
            self._print(
                f"Resuming {self._options.out}: {self._first} of {self._options.max_trials} trials are finished."
            )

    def print_ended(self) -> None:
        """Print a line for each trial that has ended since the last call."""
        there = {path.parent.name for path in (self._options.out / "trials").glob(f"*/{OUTCOME_FILE}")}
        if not self._options.verbose or cluster.role() == "worker" or there <= self._ended:
            return
        options = self._options
        watched = dict.fromkeys([*([] if options.goal is None else [options.goal.cost]), *options.budget])
        result = SearchResult.load(options.out)
        for trial in result.trials:
            if trial.trial_id in self._ended:
                continue
            self._ended.add(trial.trial_id)
            count, best = len(self._ended), result.best
            parts = [trial.describe()]
            if trial.status == FAILED:
                parts.append(f"failed: {' '.join((trial.error or '').split())[:LONGEST_ERROR]}")
            else:
                costs = [f"{name} {format_cost(trial.costs[name])}" for name in watched if name in trial.costs]
                over = ["over budget"] if trial.status == OVER_BUDGET else []
                if options.median_stopping and trial.epochs < options.epochs:
                    over.append(f"stopped after {trial.epochs} of {options.epochs} epochs")
                parts += [f"{options.objective[0]} {trial.score:.4f}", *costs, *over]
            what = f"trial {trial.trial_id}, {', '.join(parts)} ({duration(trial.seconds)})"
            text = f"{count} of {options.max_trials}: {what}"
            if best is not None:
                text += f"; best {best.score:.4f}, trial {best.trial_id}"
            elif options.goal is not None and result.completed:
                text += f"; none has {options.goal.min_score:g} yet"
            if count < options.max_trials:
                rate = (time.perf_counter() - self._begun) / (count - self._first)
                text += f"; {duration(rate * (options.max_trials - count))} left"
            self._print(text)

    def print_summary(self, result: SearchResult, exhausted: bool, refused: int) -> None:
        """Print the time of the call.

        Args:
            result: The result of the search.
            exhausted: Whether there are fewer trials than requested because no other candidate fits.
            refused: Number of networks over budget.
        """
        if exhausted:
            count = f"{len(result.trials)} of {self._options.max_trials} trials"
            self._print(f"No further candidate within the budget was found: {count}.")
        wall = time.perf_counter() - self._begun
        if self.trained_s:
            share = 100 * self.trained_s / wall
            self._print(f"{duration(wall)}, of which {share:.1f} % was training.")
        if refused:
            self._print(f"{refused} networks over budget were not trained.")


def duration(seconds: float) -> str:
    """Format a duration, as 12 s, 3.4 min or 1.2 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def share_text(sure: int, unsure: int, looked: int) -> str:
    """How many of the sampled networks are within a budget.

    Args:
        sure: Those that are.
        unsure: Those of which only a measurement shows it.
        looked: All.

    Example:
    >>> share_text(0, 10, 10)
    'of 10 sampled networks 10 are not yet known: each is measured when its turn comes'
    >>> share_text(3, 2, 10)
    'of 10 sampled networks 3 (30 %) are within it, 2 are not yet known: each is measured when its turn comes'
    """
    parts = [f"{sure} ({100 * sure / max(looked, 1):.0f} %) are within it"] if sure or not unsure else []
    parts += [f"{unsure} are not yet known: each is measured when its turn comes"] if unsure else []
    return f"of {looked} sampled networks {', '.join(parts)}"
