"""Sides of values, and the layers that change them."""

from __future__ import annotations

from collections.abc import Sequence

from keras import layers

from .graph import Graph, Value


def sides_of(value: Value) -> tuple[int, ...]:
    """The sides after the batch axis; they are known, like those of the model's inputs."""
    return tuple(int(side or 0) for side in value.shape[1:])


def permuted(graph: Graph, value: Value, order: Sequence[int], name: str) -> Value:
    """``value`` with its axes in this order, in which the batch axis 0 is first."""
    if list(order) == sorted(order):
        return value
    return graph.add(layers.Permute(tuple(order)[1:], name=name), value)


def reshaped(graph: Graph, value: Value, sides: Sequence[int], name: str) -> Value:
    """``value`` with these sides after the batch axis."""
    return value if sides_of(value) == tuple(sides) else graph.add(layers.Reshape(tuple(sides), name=name), value)
