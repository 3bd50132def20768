"""`CostGoal`: the cheapest network that keeps a score, instead of the best network within a budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from ..tasks import TASKS

# What the oracle minimizes. It is not a metric of a trial: a trial has its score and its costs.
GOAL_LOSS = "cost_goal_loss"
SHARES = tuple(task.metric for task in TASKS.values() if task.metric_unit == "%")
UNUSABLE = 128.0  # of a network that the device refuses; the logarithms of real costs are below 64


@dataclasses.dataclass(frozen=True)
class CostGoal:
    """Minimize a cost among the networks whose score is at least ``min_score``.

    Attributes:
        cost: Name of the cost, e.g. "instructions" or "latency_ms".
        min_score: Least score, in the units of the search's objective (accuracy and mIoU from 0 to 1, PSNR in dB).
    """

    cost: str
    min_score: float

    def keeps(self, score: float | None) -> bool:
        """Whether a score is high enough."""
        return score is not None and score >= self.min_score

    def loss(self, score: float, costs: Mapping[str, float]) -> float:
        """What the oracle minimizes: the logarithm of the cost, and a penalty for a score that is too low.

        The cost is multiplied by (1 + p)^2 for a score that is p percent of ``min_score`` too low. A step would tell a
        model of the scores nothing about how near a network was, and a steeper penalty would hide the costs. The
        penalty guides the proposals alone: ``keeps`` and the cost decide which trial is the best.
        """
        if self.cost not in costs:
            return UNUSABLE
        percent = 100.0 * max(0.0, self.min_score - score) / self.min_score
        return math.log2(max(costs[self.cost], 1e-9)) + 2 * math.log2(1 + percent)


def resolve_cost_goal(
    minimize: str | None, min_score: float | None, objective: tuple[str, str], known: list[str]
) -> CostGoal | None:
    """The goal that the arguments of ``search`` state; None without one.

    Args:
        minimize: Name of a cost, or None.
        min_score: The least score, or None.
        objective: (name, "max" or "min") of the score.
        known: Names of the costs that the search has.

    Raises:
        ValueError: one without the other, an unknown cost, a score that is not positive, or an objective that is
            better if it is smaller.
    """
    if (minimize is None) != (min_score is None):
        raise ValueError(
            "minimize and min_score must be given together: the cheapest network that keeps the score. "
            f"Received: minimize={minimize!r}, min_score={min_score!r}"
        )
    if minimize is None or min_score is None:
        return None
    if minimize not in known:
        raise ValueError(f"minimize must be a cost of {', '.join(known)}. Received: minimize={minimize!r}")
    if isinstance(min_score, bool) or not isinstance(min_score, (int, float)) or not 0 < min_score < math.inf:
        raise ValueError(f"min_score must be a positive number. Received: min_score={min_score!r}")
    name, direction = objective
    if min_score > 1 and name.endswith(SHARES):
        raise ValueError(f"min_score of {name} is a share from 0 to 1: 97 % is 0.97. Received: min_score={min_score!r}")
    if direction != "max":
        raise ValueError(f"min_score needs an objective that is better if it is larger. Received: objective={name!r}")
    return CostGoal(minimize, float(min_score))
