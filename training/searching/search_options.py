"""The options of a search, and the settings by which its folder identifies it."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.example_weights import plain_weights
from ..recipe import Recipe
from ..tasks import METRICS
from .cost_goal import GOAL_LOSS, CostGoal
from .spaces import Space

SAMPLES, SAMPLE_SEED = 8, 0  # candidates that identify a space


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """The arguments of ``search``, checked; ``objective`` is (name, "max" or "min")."""

    recipe: Recipe
    space: Space
    space_name: str
    tuner: str
    max_trials: int
    epochs: int
    objective: tuple[str, str]
    goal: CostGoal | None
    budget: dict[str, float]
    measures: tuple[Any, ...]
    score: Any
    data: Any
    validation_data: Any
    class_weight: Mapping[Any, float] | None
    median_stopping: bool
    warm_start: bool
    callbacks: Any
    seed: int
    watch: Any
    verbose: int
    out: Path

    def settings(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that distinguish two searches, JSON-serializable.

        Args:
            identity: Digests of the space and of the data: their names do not identify them.
        """
        return {
            "recipe": json.loads(self.recipe.to_json()),
            "space": self.space_name,
            "tuner": self.tuner,
            "epochs": self.epochs,
            "objective": self.objective[0],
            "direction": self.objective[1],
            "budget": self.budget,
            "minimize": None if self.goal is None else self.goal.cost,
            "min_score": None if self.goal is None else self.goal.min_score,
            "costs": [getattr(measure, "identity", "/".join(measure.names)) for measure in self.measures],
            "score": None if self.score is None else _identity_of(self.score),
            "seed": self.seed,
            "class_weight": plain_weights(self.class_weight),
            **({"median_stopping": True} if self.median_stopping else {}),
            **({"warm_start": True} if self.warm_start else {}),
            **identity,
        }

    @property
    def oracle_objective(self) -> tuple[str, str]:
        """(name, direction) of what keras-tuner optimizes."""
        return self.objective if self.goal is None else (GOAL_LOSS, "min")

    def space_digest(self, oracles: Any, probe: Any) -> str:
        """Digest of the hyperparameters with their ranges, and of the recipes that the space makes for some values."""
        made: list[Any] = [probe.get_config()["space"]]
        for values in itertools.islice(oracles.sample(probe, SAMPLE_SEED), SAMPLES):
            hp = oracles.keras_tuner.HyperParameters()
            hp.values = dict(values)
            try:
                made.append([values, json.loads(self.space(hp, self.recipe).to_json())])
            except Exception as error:  # a trial with these values fails and reports it
                made.append([values, str(error)])
        return hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()


def resolve_objective(recipe: Recipe, objective: Any, score: Any) -> tuple[str, str]:
    """(name, direction) of an objective; ValueError if no trial can have it."""
    own = (f"val_{recipe.metric}", "val_loss")
    name, direction = goal = _objective(own[0] if objective is None else objective)
    known = [*own, *getattr(score, "names", ())]
    if name not in known and (score is None or hasattr(score, "names")):
        where = "without a score" if score is None else "including the metrics of score"
        raise ValueError(f"objective must be one of {', '.join(known)} {where}. Received: objective={name!r}")
    natural = "min" if name == own[1] else "max"
    if name in own and direction != natural:
        raise ValueError(f"The direction of {name} must be {natural!r}. Received: direction={direction!r}")
    return goal


def _objective(objective: Any) -> tuple[str, str]:
    """(name, "max" or "min")."""
    if hasattr(objective, "direction"):
        return objective.name, objective.direction
    for ending, direction in (*((metric, "max") for metric in METRICS), ("loss", "min")):
        if isinstance(objective, str) and objective.endswith(ending):
            return objective, direction
    raise ValueError(
        f"objective must be a name that ends in {', '.join(METRICS)} or loss, or a keras_tuner.Objective. "
        f"Received: objective={objective!r}"
    )


def _identity_of(function: Any) -> str:
    """A function's name and a digest of its code, to distinguish different functions of the same name."""
    code = getattr(function, "__code__", None)
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    if code is None:
        return name
    constants = [part for part in code.co_consts if isinstance(part, (int, float, str, tuple, type(None)))]
    return f"{name} {hashlib.sha256(code.co_code + repr(constants).encode()).hexdigest()[:12]}"
