"""What a candidate network costs before it is trained, and whether that is within a budget."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wavemix_tf.files import write_text
from wavemix_tf.profiler import profile

from .recipe import Recipe

# Read from the Keras graph in a tenth of a second; what else there is, callables measure.
GRAPH_COSTS = ("parameters", "macs", "int8_bytes", "int8_activation_bytes")
SAMPLE = 64  # networks from which the share that fits is estimated
SAMPLE_S = 4.0
NEAREST = 3


class BudgetError(ValueError):
    """No candidate of the space is within the budget."""


def graph_costs(model: Any) -> dict[str, float]:
    """Costs of a Keras model that its graph tells.

    Args:
        model: ``keras.Model`` with known image sides.

    Returns:
        "parameters" (trainable), "macs" of one image, "int8_bytes" (kernels of one byte a weight, an int32 bias for
        each of their channels; no file is smaller) and "int8_activation_bytes" (the largest sum of activations that are
        held at one time, one byte each, nothing fused or written in place).
    """
    found = profile(model)
    kernels = [weight.shape for weight in model.trainable_weights if len(weight.shape) > 1]
    return {
        "parameters": found.parameters,
        "macs": found.macs,
        "int8_bytes": sum(math.prod(shape) + 4 * min(shape[-2:]) for shape in kernels),
        "int8_activation_bytes": found.peak_activation_bytes // 4,  # counted in float32
    }


@dataclasses.dataclass
class _Architecture:
    """What is known of one network: costs, bounds of costs that were not measured yet, and why it cannot be."""

    costs: dict[str, float]
    bounds: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    refusal: str | None = None


class Candidates:
    """Costs of candidates, each network built and measured once, and kept on disk.

    Args:
        recipe_of: Values of a search space -> the candidate's recipe.
        build: Recipe -> the untrained Keras model.
        budget: Cost -> the most that it may be.
        measures: Callables ``(model) -> {cost: value}`` with an attribute ``names``. They may have ``bounds(model) ->
            {cost: (low, high)}``, which decides clear cases without measuring, and ``start(model)``, which begins to
            measure in the background.
        path: JSON file that keeps the costs; None: they are not kept.
    """

    def __init__(
        self,
        recipe_of: Callable[[Mapping[str, Any]], Recipe],
        build: Callable[[Recipe], Any],
        budget: Mapping[str, float],
        measures: Sequence[Any] = (),
        path: Path | None = None,
    ) -> None:
        self.recipe_of, self.build, self.budget, self.measures, self.path = recipe_of, build, budget, measures, path
        known = [*GRAPH_COSTS, *(name for measure in measures for name in measure.names)]
        for name, most in budget.items():
            if name not in known:
                raise ValueError(f"budget must limit some of {', '.join(known)}. Received: budget={dict(budget)!r}")
            if not most > 0:
                raise ValueError(f"A limit must be positive. Received: {name}={most!r}")
        self.refused = 0
        self.seconds = 0.0  # spent in here
        self._known: dict[str, _Architecture] = {}
        if path is not None and path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))
            self._known = {key: _Architecture(**{**row, "bounds": {}}) for key, row in stored.items()}

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Whether a candidate is within the budget. One that cannot be built is: it fails as a trial, and says why."""
        begun = time.perf_counter()
        try:
            recipe = self.recipe_of(values)
            self._network(recipe)
        except Exception:
            return True
        within = not (self.budget and self.excess(recipe))
        self.refused += not within
        self.seconds += time.perf_counter() - begun
        return within

    def excess(self, recipe: Recipe, measured: bool = True) -> dict[str, float]:
        """Cost -> what it is as a multiple of its limit, for the limits that are exceeded.

        Args:
            recipe: Of the candidate.
            measured: Measure what the bounds leave open; False: that counts as within the budget.
        """
        network = self._network(recipe)
        if network.refusal is not None:
            return {"refused": math.inf}
        least = {**network.costs, **{name: low for name, (low, _) in network.bounds.items()}}
        over = {name: least[name] / most for name, most in self.budget.items() if least.get(name, 0) > most}
        if over or not measured:
            return over
        for measure in self.measures:
            open_names = [name for name in measure.names if name in self.budget and name not in network.costs]
            if any(network.bounds.get(name, (0, math.inf))[1] > self.budget[name] for name in open_names):
                self._measure(measure, recipe, network)
        if network.refusal is not None:
            return {"refused": math.inf}
        return {
            name: network.costs[name] / most for name, most in self.budget.items() if network.costs.get(name, 0) > most
        }

    def start(self, recipe: Recipe) -> None:
        """Begin in the background what ``costs`` will want to know."""
        network = self._network(recipe)
        waiting = [m for m in self.measures if hasattr(m, "start") and not set(m.names) <= set(network.costs)]
        if waiting and network.refusal is None:
            model = self.build(recipe)
            for measure in waiting:
                measure.start(model)

    def costs(self, recipe: Recipe) -> dict[str, float]:
        """Every cost of a candidate, measured; without those of a measure that refused the network."""
        begun = time.perf_counter()
        network = self._network(recipe)
        for measure in self.measures:
            if network.refusal is None and not set(measure.names) <= set(network.costs):
                self._measure(measure, recipe, network)
        self.seconds += time.perf_counter() - begun
        return dict(network.costs)

    def refusal(self, recipe: Recipe) -> str | None:
        """Why a measure refused the network; None: none did."""
        return self._network(recipe).refusal

    def check(self, sample: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
        """(networks within the budget as far as can be told without measuring, networks looked at).

        Args:
            sample: Values of candidates; the first is looked at in any case, others while time lasts.

        Raises:
            BudgetError: none of them is; it names the nearest.
        """
        begun = time.perf_counter()
        seen: dict[str, Recipe] = {}
        for values in sample:
            if len(seen) >= SAMPLE or (seen and time.perf_counter() - begun > SAMPLE_S):
                break
            try:
                recipe = self.recipe_of(values)
                self._network(recipe)
            except Exception:
                continue  # becomes a trial that tells
            seen.setdefault(_key(recipe), recipe)
        recipes = list(seen.values())
        within = [recipe for recipe in recipes if not self.excess(recipe, measured=False)]
        if recipes and not within:
            raise BudgetError(self._nearest(recipes))
        sure = [recipe for recipe in within if self._surely(recipe)]
        if within and not sure:
            smallest = sorted(within, key=lambda recipe: self._network(recipe).costs["parameters"])[:NEAREST]
            if all(self.excess(recipe) for recipe in smallest):
                raise BudgetError(self._nearest(recipes))
        self.seconds += time.perf_counter() - begun
        return len(within), len(recipes)

    def _surely(self, recipe: Recipe) -> bool:
        network = self._network(recipe)
        for name, most in self.budget.items():
            high = network.costs[name] if name in network.costs else network.bounds.get(name, (0, math.inf))[1]
            if high > most:
                return False
        return True

    def _nearest(self, recipes: Sequence[Recipe]) -> str:
        """What a BudgetError says."""
        ranked = sorted(recipes, key=lambda recipe: max(self.excess(recipe, measured=False).values(), default=1.0))
        lines = []
        for recipe in ranked[:NEAREST]:
            network = self._network(recipe)
            known = {**{name: low for name, (low, _) in network.bounds.items()}, **network.costs}
            costs = ", ".join(f"{name} {number(known[name])}" for name in self.budget if name in known)
            lines.append(f"{_arguments(recipe)}: {network.refusal or costs}")
        limits = ", ".join(f"{name}={number(most)}" for name, most in self.budget.items())
        return (
            f"No network of {len(recipes)} that were looked at is within the budget; nearest: {'; '.join(lines)}. "
            f"Received: budget {limits}"
        )

    def _network(self, recipe: Recipe) -> _Architecture:
        key = _key(recipe)
        found = self._known.get(key)
        if found is None or (not found.bounds and any(hasattr(measure, "bounds") for measure in self.measures)):
            model = self.build(recipe)
            found = found or _Architecture(graph_costs(model))
            for measure in self.measures:
                if hasattr(measure, "bounds"):
                    found.bounds |= measure.bounds(model)
            self._known[key] = found
            self._keep()
        return found

    def _measure(self, measure: Any, recipe: Recipe, network: _Architecture) -> None:
        try:
            network.costs |= {name: float(value) for name, value in measure(self.build(recipe)).items()}
        except ValueError as error:  # what is wrong with the network, as its target puts it
            network.refusal = str(error)
        self._keep()

    def _keep(self) -> None:
        if self.path is not None:
            rows = {key: {"costs": row.costs, "refusal": row.refusal} for key, row in self._known.items()}
            write_text(self.path, json.dumps(rows, indent=1) + "\n")


def number(value: float) -> str:
    """A cost in a few digits, as 12,345 or 0.87."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _key(recipe: Recipe) -> str:
    return json.dumps([recipe.model, recipe.image_shape, recipe.num_classes, recipe.model_args], sort_keys=True)


def _arguments(recipe: Recipe) -> str:
    return " ".join(f"{name}={value}" for name, value in recipe.model_args.items() if name != "dropout")
