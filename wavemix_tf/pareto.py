"""`pareto_front`: of things that cost and gain, those that nothing cheaper or better beats."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def pareto_front(items: Iterable[T], cost: Callable[[T], float], gain: Callable[[T], float]) -> list[T]:
    """The Pareto front: the items than which no other gains as much at the same or a smaller cost.

    Args:
        items: To choose from; of equal ones the first is taken.
        cost: Of an item; smaller is better.
        gain: Of an item; larger is better. An item whose gain is no number is never on the front.

    Returns:
        The front, cheapest first.
    """
    front: list[T] = []
    best = float("-inf")
    numbers = [item for item in items if gain(item) > best]  # a NaN would disturb the order
    for item in sorted(numbers, key=lambda item: (cost(item), -gain(item))):
        if gain(item) > best:
            best = gain(item)
            front.append(item)
    return front
