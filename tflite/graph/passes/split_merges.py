"""a + b + c -> (a + b) + c, products in the same way; average of n -> their sum / n."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import layers

from ..affines import rescaling
from ..graph import Graph

MERGES = ("Add", "Multiply")  # they take any number of inputs, in any order


def split_merges(graph: Graph) -> None:
    """Add and Multiply of many -> a chain of pairs; Average -> Add and a scaling: each stored sum has its range."""
    for node in graph.nodes():
        if node.kind not in (*MERGES, "Average"):
            continue
        values, dtype = node.inputs, node.layer.dtype_policy
        cls: Callable[..., Any] = layers.Multiply if node.kind == "Multiply" else layers.Add
        if node.kind != "Average" and len(values) == 2:
            continue
        total = values[0]
        for index, value in enumerate(values[1:], 1):
            last = index == len(values) - 1 and node.kind != "Average"
            total = graph.add(cls(name=node.name if last else f"{node.name}_{index}", dtype=dtype), total, value)
        if node.kind == "Average":
            total = graph.add(rescaling(1 / len(values), 0.0, node.name, dtype), total)
        graph.replace(node.output, total)
