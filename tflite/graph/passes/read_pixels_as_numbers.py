"""Integer input that the network computes with -> a float32 input."""

from __future__ import annotations

import keras
import numpy as np

from ...layers.augmentation import takes_training
from ...layers.whole_numbers import LOOK_UP, RANGES, is_whole
from ..graph import Graph, Node, Value
from ..layer_kinds import MOVES_VALUES
from ..shapes import sides_of


def read_pixels_as_numbers(graph: Graph) -> None:
    """Make integer inputs float32 if they are used as quantities. The model's inputs keep their dtype."""
    consumers = graph.consumers()
    for value in graph.inputs:
        moved = _moved(graph, value, consumers) if is_whole(value) else None
        for part in moved or ():
            part.dtype = "float32"
            for node in consumers.get(part, []):
                if node.kind == "ops.Cast":
                    graph.replace(node.output, part)


def _moved(graph: Graph, value: Value, consumers: dict[Value, list[Node]]) -> list[Value] | None:
    """``value`` and its moved forms, if all their consumers compute with numbers; otherwise None."""
    found = [value]
    if value in graph.outputs:
        return None
    for node in consumers.get(value, []):
        if all(output.is_float for output in node.outputs):
            if not _computes_with_numbers(node, value):
                return None
            continue
        inner = _moved(graph, node.output, consumers) if node.kind in MOVES_VALUES else None
        if inner is None:
            return None
        found += inner
    return found


def _computes_with_numbers(node: Node, value: Value) -> bool:
    """Whether a node returns the same for integers and for the same numbers in float32."""
    if node.kind in LOOK_UP or node.inputs != [value]:
        return False
    low, high = RANGES.get(value.dtype, (0, 255))
    sample = np.random.default_rng(0).integers(int(low), int(high) + 1, (2, *sides_of(value)))
    results = []
    for dtype in (value.dtype, "float32"):
        given = keras.ops.convert_to_tensor(sample.astype(dtype))
        args, kwargs = keras.tree.map_structure(
            lambda leaf, given=given: given if leaf is value else leaf, (node.args, node.kwargs)
        )
        if takes_training(node.layer):
            kwargs = {**kwargs, "training": False}
        try:
            flat = keras.tree.flatten(node.layer(*args, **kwargs))
        except Exception:  # a user's layer may refuse any input
            return False
        results.append([np.asarray(keras.ops.convert_to_numpy(part), np.float32) for part in flat])
    return all(np.allclose(one, other, 1e-5, 1e-5) for one, other in zip(*results, strict=True))
