"""The Pareto front of items with a cost and a gain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def pareto_front(items: Iterable[T], cost: Callable[[T], float], gain: Callable[[T], float]) -> list[T]:
    """Return the Pareto front: items for which no other has at least the gain at the same or a smaller cost.

    Args:
        items: Candidates; of equal ones the first is taken.
        cost: Cost of an item; smaller is better.
        gain: Gain of an item; larger is better. An item with a NaN gain is never on the front.

    Returns:
        The front, cheapest first.
    """
    front: list[T] = []
    best = float("-inf")
    numbers = [item for item in items if gain(item) > best]  # NaN would break the sort
    for item in sorted(numbers, key=lambda item: (cost(item), -gain(item))):
        if gain(item) > best:
            best = gain(item)
            front.append(item)
    return front
