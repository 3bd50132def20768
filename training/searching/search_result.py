"""The result of a search: every trial, the Pareto fronts, their files and their plot."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wavemix_tf.files import replacing, write_text
from wavemix_tf.pareto import pareto_front
from wavemix_tf.state_files import Fields, check_fields, read_json, reading

from ..recipe import Recipe
from .candidates import format_cost
from .cost_goal import CostGoal

COMPLETED, FAILED, OVER_BUDGET = "completed", "failed", "over budget"
SEARCH_FILE, OUTCOME_FILE = "search.json", "outcome.json"
SETTINGS: Fields = {"objective": str, "direction": str, "budget": dict, "recipe": dict}
# Costs that are those of another core than the device's, whatever the board: stated wherever they are shown.
COST_NOTES = {"instructions": "estimated for a Cortex-M4"}
OUTCOME: Fields = {
    **dict.fromkeys(("trial_id", "status"), str),
    **dict.fromkeys(("values", "metrics", "costs", "recipe"), dict),
    "score": (float, type(None)),
    "epochs": int,
    "seconds": float,
    **dict.fromkeys(("error", "traceback"), (str, type(None))),
}


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trained candidate.

    Attributes:
        trial_id: Its number, as text.
        status: "completed", "failed", or "over budget": its costs were only estimated before the training, and then
            measured to be too large.
        values: Values of the search's hyperparameters.
        score: The objective; None if the trial failed.
        metrics: The metrics of the training and of ``score``.
        costs: Cost -> value.
        epochs: Trained epochs, including those of earlier Hyperband rounds.
        seconds: Time of the whole trial; if it was interrupted, of its last part.
        error: Why it failed, or why its device refuses the network.
        traceback: Traceback of the failure.
        recipe: The trained recipe; with the epochs of the recipe that the search started from.
    """

    trial_id: str
    status: str
    values: Mapping[str, Any]
    score: float | None
    metrics: Mapping[str, float]
    costs: Mapping[str, float]
    epochs: int
    seconds: float
    error: str | None
    traceback: str | None
    recipe: Recipe

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-serializable values; ``from_dict`` reads them."""
        return {**dataclasses.asdict(self), "recipe": json.loads(self.recipe.to_json())}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Trial:
        return cls(**{**row, "recipe": Recipe.from_json(json.dumps(row["recipe"]))})

    @classmethod
    def load(cls, path: Path) -> Trial:
        """Read an outcome.json; DamagedFileError if it is truncated or not a trial."""
        remedy = (
            "Delete it: the search continues without this trial's result. To start again: overwrite=True (--overwrite)."
        )
        with reading(path, remedy):
            row = read_json(path, remedy, OUTCOME)
            check_fields(row["metrics"], dict.fromkeys(row["metrics"], float))
            check_fields(row["costs"], dict.fromkeys(row["costs"], float))
            return cls.from_dict(row)

    def describe(self) -> str:
        """The values as text, for example "depth=4 width=16"; without keras-tuner's internal values."""
        return " ".join(
            f"{name}={_short(value)}" for name, value in self.values.items() if not name.startswith("tuner/")
        )


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """A finished or interrupted search, as stored in its folder.

    Attributes:
        objective: Name of the optimized metric.
        direction: "max" or "min".
        budget: Cost -> upper limit.
        trials: All trials, in their order.
        goal: The cost to minimize and the least score; None: the best score within the budget.
    """

    objective: str
    direction: str
    budget: Mapping[str, float]
    trials: tuple[Trial, ...]
    goal: CostGoal | None = None

    @classmethod
    def load(cls, out: str | os.PathLike[str]) -> SearchResult:
        """Read the folder of a search.

        Raises:
            FileNotFoundError: the folder has no search.
            DamagedFileError: one of its files is truncated or invalid.
        """
        folder = Path(out)
        if not (folder / SEARCH_FILE).is_file():
            raise FileNotFoundError(f"out must have a search, with its {SEARCH_FILE}. Received: out={str(out)!r}")
        settings = read_settings(folder)
        paths = sorted((folder / "trials").glob(f"*/{OUTCOME_FILE}"), key=_number_of)
        found = {name: settings[name] for name in ("objective", "direction", "budget")}
        cost, least = settings.get("minimize"), settings.get("min_score")  # searches of earlier versions have none
        goal = None if cost is None or least is None else CostGoal(cost, least)
        return cls(**found, trials=tuple(map(Trial.load, paths)), goal=goal)

    @property
    def completed(self) -> tuple[Trial, ...]:
        """The completed trials, best first; ties go to the one that uses less of the budget, then to the smaller.

        With a ``goal``: those that keep its score, cheapest first, then the others, nearest first.
        """
        done = [trial for trial in self.trials if trial.status == COMPLETED and trial.score is not None]
        return tuple(sorted(done, key=self._rank))

    @property
    def best(self) -> Trial | None:
        """The best trial within the budget; None if no trial completed, or none kept the score of the ``goal``."""
        first = self.nearest
        return first if first is not None and (self.goal is None or self.goal.keeps(first.score)) else None

    @property
    def nearest(self) -> Trial | None:
        """The first of ``completed``, also if it does not keep the score of the ``goal``."""
        done = self.completed
        return done[0] if done else None

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of the trials' costs; the one to minimize and those with a limit first."""
        names = dict.fromkeys(name for trial in self.completed for name in trial.costs)
        first = None if self.goal is None else self.goal.cost
        return tuple(sorted(names, key=lambda name: (name != first, name not in self.budget)))

    def front(self, cost: str) -> tuple[Trial, ...]:
        """The Pareto front, cheapest first: trials that no other trial beats at the same or a lower cost.

        Args:
            cost: One of ``costs``.

        Raises:
            ValueError: unknown name.
        """
        if cost not in self.costs:
            raise ValueError(f"cost must be one of {', '.join(self.costs)}. Received: cost={cost!r}")
        there = [trial for trial in self.completed if cost in trial.costs]
        return tuple(pareto_front(there, lambda trial: trial.costs[cost], self._gain))

    def save(self, out: str | os.PathLike[str]) -> None:
        """Write ``trials.csv``, ``front.csv``, ``front.png``, ``best.json``, and ``recipes/<trial>.json``."""
        folder = Path(out)
        write_text(folder / "trials.csv", self._trials_csv())
        write_text(folder / "front.csv", self._front_csv())
        members = {trial.trial_id: trial for cost in self.costs for trial in self.front(cost)}
        for trial in members.values():
            write_text(folder / "recipes" / f"{trial.trial_id}.json", self._ready(trial).to_json())
        for stale in (folder / "recipes").glob("*.json"):
            if stale.stem not in members:
                stale.unlink()
        if self.best is not None:
            write_text(folder / "best.json", self._ready(self.best).to_json())
        else:
            (folder / "best.json").unlink(missing_ok=True)
        if self.completed:
            with replacing(folder / "front.png") as temporary:
                self.draw(temporary)

    def draw(self, path: str | os.PathLike[str]) -> None:
        """Plot the trials and the front of the objective against each cost, one panel each."""
        import matplotlib
        from matplotlib.figure import Figure

        costs = [name for name in self.costs if len({trial.costs.get(name) for trial in self.completed}) > 1]
        costs = costs or list(self.costs[:1])
        columns = min(len(costs), 3)
        rows = -(-len(costs) // columns)
        with matplotlib.rc_context(_STYLE):
            figure = Figure(figsize=(4.4 * columns, 3.5 * rows + 0.5), layout="constrained")
            axes = figure.subplots(rows, columns, squeeze=False).ravel()
            for axis, cost in zip(axes, costs, strict=False):
                self._draw_panel(axis, cost)
            for axis in axes[len(costs) :]:
                axis.set_visible(False)
            handles, labels = axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
            figure.suptitle(f"{len(self.completed)} trained networks, Pareto front of {self.objective}", fontsize=11)
            figure.savefig(path, dpi=130)

    def _draw_panel(self, axis: Any, cost: str) -> None:
        from matplotlib import ticker

        front = self.front(cost)
        others = [trial for trial in self.completed if trial not in front and cost in trial.costs]
        over = [trial for trial in self.trials if trial.status == OVER_BUDGET and cost in trial.costs]
        axis.scatter([t.costs[cost] for t in others], [t.score for t in others], s=22, color="#9aa5b1", label="trial")
        if over:
            axis.scatter(
                [t.costs[cost] for t in over],
                [t.score for t in over],
                s=26,
                marker="x",
                color="#c8553d",
                label="over budget",
            )
        axis.plot(
            [t.costs[cost] for t in front],
            [t.score for t in front],
            "o-",
            color="#1f8a70",
            ms=5.5,
            lw=1.4,
            drawstyle="steps-post",
            label="front",
        )
        if self.best is not None and cost in self.best.costs:
            axis.scatter(
                [self.best.costs[cost]],
                [self.best.score],
                s=130,
                facecolors="none",
                edgecolors="#d4602a",
                lw=1.6,
                label="best",
            )
        for trial in front:
            axis.annotate(
                trial.trial_id,
                (trial.costs[cost], trial.score),
                (4, -10),
                textcoords="offset points",
                fontsize=7,
                color="#6a7485",
            )
        values = [trial.costs[cost] for trial in [*self.completed, *over] if cost in trial.costs]
        if cost in self.budget:
            axis.axvline(self.budget[cost], color="#c8553d", lw=1, ls="--")
            values.append(self.budget[cost])
            axis.annotate(
                f"limit {format_cost(self.budget[cost])}",
                (self.budget[cost], 0.02),
                (-4, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                rotation=90,
                ha="right",
                va="bottom",
                fontsize=7.5,
                color="#c8553d",
            )
        if self.goal is not None:
            axis.axhline(self.goal.min_score, color="#c8553d", lw=1, ls="--")
            axis.annotate(
                f"at least {self.goal.min_score:g}",
                (0.98, self.goal.min_score),
                (0, 2),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                fontsize=7.5,
                color="#c8553d",
            )
        if min(values) > 0 and max(values) > 8 * min(values):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
            axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
        axis.set_title(cost_title(cost), loc="left", fontsize=10)
        axis.set_ylabel(self.objective if axis.get_subplotspec().is_first_col() else "")

    def _share(self, trial: Trial) -> float:
        """The largest cost as a share of its limit."""
        return max((trial.costs.get(name, 0) / most for name, most in self.budget.items()), default=0.0)

    def _rank(self, trial: Trial) -> tuple[float, ...]:
        """Key of the order of ``completed``."""
        ties = (self._share(trial), trial.costs.get("parameters", 0))
        if self.goal is None or not self.goal.keeps(trial.score):
            return (1.0, -self._gain(trial), *ties)
        return (0.0, trial.costs.get(self.goal.cost, math.inf), -self._gain(trial), *ties)

    def _gain(self, trial: Trial) -> float:
        score = trial.score if trial.score is not None else float("-inf")
        return score if self.direction == "max" else -score

    def _ready(self, trial: Trial) -> Recipe:
        """The recipe for ``run``, with its origin in the description."""
        costs = ", ".join(f"{name} {format_cost(value)}" for name, value in trial.costs.items())
        found = f"{self.objective} {trial.score:.4f} after {trial.epochs} epochs" if trial.score is not None else ""
        return dataclasses.replace(
            trial.recipe, description=f"Trial {trial.trial_id} of a search: {trial.describe()}; {found}; {costs}."
        )

    def _trials_csv(self) -> str:
        values = list(dict.fromkeys(name for trial in self.trials for name in trial.values))
        metrics = list(dict.fromkeys(name for trial in self.trials for name in trial.metrics))
        costs = list(dict.fromkeys(name for trial in self.trials for name in trial.costs))
        header = [
            "trial",
            "status",
            self.objective,
            *values,
            *(m for m in metrics if m != self.objective),
            *costs,
            "epochs",
            "seconds",
            "error",
        ]
        rows = []
        for trial in self.trials:
            rows.append([
                trial.trial_id, trial.status, trial.score,
                *(trial.values.get(name) for name in values),
                *(trial.metrics.get(name) for name in metrics if name != self.objective),
                *(trial.costs.get(name) for name in costs),
                trial.epochs, round(trial.seconds, 2), " ".join(trial.error.split()) if trial.error else None,
            ])  # fmt: skip
        return _csv([header, *rows])

    def _front_csv(self) -> str:
        rows = [
            [
                cost,
                trial.costs[cost],
                trial.score,
                trial.trial_id,
                f"recipes/{trial.trial_id}.json",
                COST_NOTES.get(cost),
            ]
            for cost in self.costs
            for trial in self.front(cost)
        ]
        return _csv([["cost", "value", self.objective, "trial", "recipe", "note"], *rows])


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the settings that identify a search; DamagedFileError if the file is truncated or invalid."""
    path, remedy = folder / SEARCH_FILE, "To start again: overwrite=True (--overwrite)."
    with reading(path, remedy):
        settings = read_json(path, remedy, SETTINGS)
        Recipe.from_json(json.dumps(settings["recipe"]))
        check_fields(settings["budget"], dict.fromkeys(settings["budget"], float))
        return dict(settings)


def _number_of(path: Path) -> tuple[int, str]:
    name = path.parent.name
    return (int(name), name) if name.isdecimal() else (sys.maxsize, name)


_STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,  # a name may contain dollar signs
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#dcdad4",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dcdad4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def cost_title(cost: str) -> str:
    """Name of a cost in words, with its note; "instructions, estimated for a Cortex-M4"."""
    known = {
        "macs": "multiply-accumulates",
        "int8_bytes": "int8 weights, bytes",
        "int8_activation_bytes": "int8 activations, bytes",
    }
    name = known.get(cost, cost.replace("_bytes", ", bytes").replace("_ms", ", ms").replace("_", " "))
    return f"{name}, {COST_NOTES[cost]}" if cost in COST_NOTES else name


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
