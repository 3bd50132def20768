"""``x[...]``, ``take``, ``split`` and ``unstack`` -> ``Cut`` and a reshape."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ...layers.token_layers import Cut
from ..graph import Graph, Node, Value
from ..shapes import reshaped, sides_of


def cut(graph: Graph, value: Value, key: tuple[Any, ...], name: str) -> Value | None:
    """``value[key]`` for whole numbers and slices of step 1 that leave the batch unchanged."""
    rank = len(value.shape)
    if any(part is Ellipsis for part in key):
        place = [part is Ellipsis for part in key].index(True)
        named = sum(part is not None for part in key) - 1
        key = (*key[:place], *[slice(None)] * (rank - named), *key[place + 1 :])
    key = (*key, *[slice(None)] * (rank + sum(part is None for part in key) - len(key)))
    if sum(part is not None for part in key) != rank or not isinstance(key[0], slice) or key[0] != slice(None):
        return None
    starts, stops, kept, sides = [], [], [], iter(sides_of(value))
    for part in key[1:]:
        if part is None:
            kept.append(1)
            continue
        side = next(sides)
        if isinstance(part, slice) and part.step in (None, 1):
            start, stop, _ = part.indices(side)
        elif isinstance(part, (int, np.integer)) and not isinstance(part, bool):
            start = int(part) % side
            stop = start + 1
        else:
            return None
        starts.append(start)
        stops.append(stop)
        if isinstance(part, slice):
            kept.append(stop - start)
    if any(stop <= start for start, stop in zip(starts, stops, strict=True)) or not kept:
        return None
    if rank > 4:  # microcontrollers support fewer axes: those that stay whole are merged
        merged: list[list[int]] = []
        for side, start, stop in zip(sides_of(value), starts, stops, strict=True):
            if merged and stop - start == side and merged[-1][1:] == [0, merged[-1][0]]:
                merged[-1] = [merged[-1][0] * side, 0, merged[-1][0] * side]
            else:
                merged.append([side, start, stop])
        value = reshaped(graph, value, [side for side, _, _ in merged], f"{name}_flat")
        starts, stops = [start for _, start, _ in merged], [stop for _, _, stop in merged]
    whole = starts == [0] * len(starts) and tuple(stops) == sides_of(value)
    piece = value if whole else graph.add(Cut(starts, stops, name=name), value)
    return reshaped(graph, piece, kept, f"{name}_shape")


def get_item(graph: Graph, node: Node) -> Value | None:
    key = node.args[1] if len(node.args) > 1 else node.kwargs.get("key")
    return cut(graph, node.inputs[0], tuple(key) if isinstance(key, (tuple, list)) else (key,), node.name)


def take(graph: Graph, node: Node) -> Value | None:
    index = node.args[1] if len(node.args) > 1 else node.kwargs.get("indices")
    rank = len(node.inputs[0].shape)
    if node.layer.axis is None or not isinstance(index, (int, np.integer)):
        return None
    axis = node.layer.axis % rank
    key = tuple(int(index) if place == axis else slice(None) for place in range(rank))
    return cut(graph, node.inputs[0], key, node.name)


def split(graph: Graph, node: Node) -> Value | None:
    """``ops.split`` and ``ops.unstack``: each output becomes a piece of the input."""
    value, rank = node.inputs[0], len(node.inputs[0].shape)
    axis = node.layer.axis % rank
    edges = [0]
    unstacks = node.kind == "ops.Unstack"
    for output in node.outputs:
        edges.append(edges[-1] + (1 if unstacks else int(output.shape[axis] or 0)))
    pieces = []
    for index, (start, stop) in enumerate(itertools.pairwise(edges)):
        part: Any = start if unstacks else slice(start, stop)
        key = tuple(part if place == axis else slice(None) for place in range(rank))
        pieces.append(cut(graph, value, key, f"{node.name}_{index}"))
    if axis == 0 or None in pieces:
        return None
    for output, piece in zip(node.outputs[1:], pieces[1:], strict=True):
        graph.replace(output, piece)  # type: ignore[arg-type]
    return pieces[0]
