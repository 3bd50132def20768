"""Costs of a candidate network before training, and the check against a budget."""

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
from wavemix_tf.state_files import check_fields, read_json, reading

from ..errors import BudgetError
from ..recipe import Recipe

# Read from the Keras graph in 0.1 to 0.2 seconds; callables measure the other costs.
GRAPH_COSTS = ("parameters", "macs", "int8_bytes", "int8_activation_bytes")
SAMPLE = 64  # networks from which the share within the budget is estimated
SAMPLE_S = 2.5
NEAREST = 3
DESCENTS = 3  # steps toward a network within the budget, each from the nearest so far
UNBOUNDED = (0.0, math.inf)


def graph_costs(model: Any) -> dict[str, float]:
    """Costs of a Keras model, computed from its graph.

    Args:
        model: ``keras.Model`` with known image sides.

    Returns:
        "parameters" (trainable), "macs" of one image, "int8_bytes" (kernels with one byte per weight, an int32 bias per
        output channel; a lower bound of the file size) and "int8_activation_bytes" (the peak of the activations held at
        one time, one byte each, without fusion or in-place writes).
    """
    found = profile(model)
    kernels = [weight.shape for weight in model.trainable_weights if len(weight.shape) > 1]
    return {
        "parameters": found.parameters,
        "macs": found.macs,
        # The smaller of a kernel's last two sides: which one counts the outputs depends on the layer.
        "int8_bytes": sum(math.prod(shape) + 4 * min(shape[-2:]) for shape in kernels),
        "int8_activation_bytes": found.peak_activation_bytes // 4,  # counted in float32
    }


@dataclasses.dataclass
class _Network:
    """The known costs of a network, bounds of costs not yet measured, and why a device refuses it."""

    costs: dict[str, float]
    bounds: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    refusal: str | None = None

    def least(self) -> dict[str, float]:
        """Each cost, or its lower bound."""
        return {name: low for name, (low, _) in self.bounds.items()} | self.costs


class Candidates:
    """Costs of candidates; each network is built and measured once, and its costs are kept on disk.

    Args:
        recipe_of: Values of a search space -> the candidate's recipe.
        build: Recipe -> the untrained Keras model.
        budget: Cost -> upper limit.
        measures: Callables ``(model) -> {cost: value}`` with an attribute ``names``; they raise ValueError if their
            device cannot run the network. They may have ``bounds(model) -> {cost: (low, high)}``, which decides clear
            cases without measuring, and ``start(model)``, which starts measuring in the background.
        path: JSON file of the costs; None: they are not kept.
        writes: Whether this process writes its measurements to the file; otherwise it only reads the file.
    """

    def __init__(
        self,
        recipe_of: Callable[[Mapping[str, Any]], Recipe],
        build: Callable[[Recipe], Any],
        budget: Mapping[str, float],
        measures: Sequence[Any] = (),
        path: Path | None = None,
        writes: bool = True,
    ) -> None:
        self.recipe_of, self.build, self.budget, self.measures = recipe_of, build, budget, measures
        self.path, self._writes = path, writes
        check_budget(budget, measures)
        self.refused: set[str] = set()  # networks that were over budget
        self._known: dict[str, _Network] = {}
        self._last: tuple[str, Any] | None = None
        self._taken = False  # the last network is being trained
        self._read()

    def fits(self, values: Mapping[str, Any]) -> bool:
        """Whether a candidate is within the budget. True if it cannot be built: then its trial reports the error."""
        if not self.budget:
            return True
        try:
            recipe = self.recipe_of(values)
            self._network(recipe)
        except Exception:
            return True
        if not self.excess(recipe):
            return True
        self.refused.add(_key(recipe))
        return False

    def excess(self, recipe: Recipe, measured: bool = True) -> dict[str, float]:
        """Cost -> multiple of its limit, for the limits that are exceeded.

        Args:
            recipe: The candidate.
            measured: Measure costs that the bounds do not decide; False: they count as within the budget.
        """
        network = self._network(recipe)
        over = self._over(network)
        if over or not measured:
            return over
        for measure in self.measures:
            unknown = [name for name in measure.names if name in self.budget and name not in network.costs]
            if any(network.bounds.get(name, UNBOUNDED)[1] > self.budget[name] for name in unknown):
                self._measure(measure, recipe, network)
        return self._over(network)

    def start(self, recipe: Recipe) -> None:
        """Start measuring the costs of a candidate in the background."""
        self._read()
        network = self._network(recipe)
        waiting = [m for m in self.measures if hasattr(m, "start") and not set(m.names) <= set(network.costs)]
        if waiting and network.refusal is None:
            model = self._model(recipe)
            for measure in waiting:
                measure.start(model)

    def costs(self, recipe: Recipe) -> dict[str, float]:
        """Every cost of a candidate, measured; without costs of a measure that refused the network."""
        network = self._network(recipe)
        for measure in self.measures:
            if network.refusal is None and not set(measure.names) <= set(network.costs):
                self._measure(measure, recipe, network)
        return dict(network.costs)

    def build_for_training(self, recipe: Recipe) -> Any:
        """The untrained network, for training: one build serves its costs and the trial."""
        if self._taken:
            self._last = None
        model = self._model(recipe)
        self._taken = True
        return model

    def refusal(self, recipe: Recipe) -> str | None:
        """Why a measure refused the network; None if none did."""
        return self._network(recipe).refusal

    def check(
        self, sample: Iterable[Mapping[str, Any]], variations: Callable[[Mapping[str, Any]], Iterable[Any]]
    ) -> tuple[int, int, int]:
        """Count (networks within the budget, networks that must be measured, networks inspected).

        Args:
            sample: Values of candidates; inspected within a time limit.
            variations: Values -> values near the ends of the space, which are searched for the nearest network if no
                sample is within the budget.

        Raises:
            BudgetError: no network is within the budget; the message names the nearest.
        """
        begun = time.perf_counter()
        seen: dict[str, tuple[Recipe, Mapping[str, Any]]] = {}
        for draw, values in enumerate(sample):
            if draw >= 4 * SAMPLE or len(seen) >= SAMPLE or time.perf_counter() - begun > SAMPLE_S:
                break
            self._inspect(values, seen)
        if not seen:
            return 0, 0, 0  # nothing can be built: a trial reports the error
        for _ in range(DESCENTS):
            nearest = min(seen.values(), key=lambda one: self._distance(one[0]))
            if self._distance(nearest[0]) <= 1:
                break
            for values in variations(nearest[1]):
                self._inspect(values, seen)
        recipes = [recipe for recipe, _ in seen.values()]
        within = [recipe for recipe in recipes if not self._over(self._network(recipe))]
        sure = [recipe for recipe in within if self._certainly_within(recipe)]
        if not sure:
            smallest = sorted(within, key=lambda recipe: (self._distance(recipe), self._network(recipe).costs["macs"]))
            if all(self.excess(recipe) for recipe in smallest[:NEAREST]):
                raise BudgetError(self._nearest(recipes))
        return len(sure), len(within) - len(sure), len(recipes)

    def _inspect(self, values: Mapping[str, Any], seen: dict[str, Any]) -> None:
        try:
            recipe = self.recipe_of(values)
            self._network(recipe)
        except Exception:
            return  # its trial reports the error
        seen.setdefault(_key(recipe), (recipe, values))

    def _over(self, network: _Network) -> dict[str, float]:
        if network.refusal is not None:
            return {"refused": math.inf}
        least = network.least()
        return {name: least[name] / most for name, most in self.budget.items() if least.get(name, 0) > most}

    def _distance(self, recipe: Recipe) -> float:
        """The largest known cost as a multiple of its limit."""
        network = self._network(recipe)
        least = network.least()
        found = max((least.get(name, 0) / most for name, most in self.budget.items()), default=0.0)
        return math.inf if network.refusal is not None else found

    def _certainly_within(self, recipe: Recipe) -> bool:
        network = self._network(recipe)
        most = {name: high for name, (_, high) in network.bounds.items()} | network.costs
        return all(most.get(name, math.inf) <= limit for name, limit in self.budget.items())

    def _nearest(self, recipes: Sequence[Recipe]) -> str:
        """The message of a BudgetError."""
        lines = []
        for recipe in sorted(recipes, key=self._distance)[:NEAREST]:
            network = self._network(recipe)
            known = network.least()
            costs = ", ".join(
                f"{name} {'' if name in network.costs else 'at least '}{format_cost(known[name])}"
                for name in self.budget
                if name in known
            )
            lines.append(f"{_arguments(recipe)}: {network.refusal or costs}")
        limits = ", ".join(f"{name}<={format_cost(most)}" for name, most in self.budget.items())
        return (
            f"A network of the space must be within the budget; none of {len(recipes)} is, the nearest: "
            f"{'; '.join(lines)}. Received: budget={limits}"
        )

    def _network(self, recipe: Recipe) -> _Network:
        key = _key(recipe)
        found = self._known.get(key)
        unknown = found is None or not set(self.budget) <= {*found.costs, *found.bounds}
        if unknown and (found is None or not found.bounds):
            model = self._model(recipe)
            found = found or _Network(graph_costs(model))
            for measure in self.measures:
                if hasattr(measure, "bounds"):
                    found.bounds |= measure.bounds(model)
            self._known[key] = found
        return self._known[key]

    def _model(self, recipe: Recipe) -> Any:
        """The network; the last one is kept, because it is requested several times in a row."""
        key = _key(recipe)
        if self._last is None or self._last[0] != key:
            self._last, self._taken = (key, self.build(recipe)), False
        return self._last[1]

    def _measure(self, measure: Any, recipe: Recipe, network: _Network) -> None:
        try:
            network.costs |= {name: float(value) for name, value in measure(self._model(recipe)).items()}
        except ValueError as error:  # why the device refuses the network
            network.refusal = str(error)
        if self.path is not None and self._writes:
            rows = {key: row.costs for key, row in self._known.items()}
            write_text(self.path, json.dumps(rows, indent=1) + "\n")

    def _read(self) -> None:
        if self.path is None or not self.path.is_file():
            return
        remedy = "Delete it: its costs are measured again."
        with reading(self.path, remedy):
            stored = read_json(self.path, remedy, {})
            for costs in stored.values():
                check_fields(costs, dict.fromkeys(costs, float))
        for key, costs in stored.items():
            if key in self._known:
                self._known[key].costs |= costs
            else:
                self._known[key] = _Network(costs)


def check_budget(budget: Mapping[str, float], measures: Sequence[Any]) -> None:
    """Raise ValueError unless every limit is a positive number for a known cost, and no two costs share a name."""
    known = [*GRAPH_COSTS, *(name for measure in measures for name in measure.names)]
    if twice := sorted({name for name in known if known.count(name) > 1}):
        raise ValueError(f"Each cost must have a name of its own. Received: {', '.join(twice)} more than once")
    for name, most in budget.items():
        if name not in known:
            raise ValueError(f"budget must limit costs of {', '.join(known)}. Received: budget={dict(budget)!r}")
        if not isinstance(most, (int, float)) or not most > 0:
            raise ValueError(f"A limit must be a positive number. Received: {name}={most!r}")


def format_cost(value: float) -> str:
    """Format a cost in a few digits, as 12,345 or 0.87."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _key(recipe: Recipe) -> str:
    return json.dumps([recipe.model, recipe.image_shape, recipe.num_classes, recipe.model_args], sort_keys=True)


def _arguments(recipe: Recipe) -> str:
    return " ".join(f"{name}={value}" for name, value in recipe.model_args.items() if name != "dropout")
