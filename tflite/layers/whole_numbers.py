"""Inputs of whole numbers: pixels straight from a camera are numbers like any others, indices of tables are not.

A Keras input of dtype "uint8" whose readers compute with its values becomes a float one in the graph, so that a range
and a grid mean something there. What looks its values up in a table (``Embedding``) goes on reading integers.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from .augmentation import takes_training

# Layers to which an input is no quantity.
LOOK_UP = (
    "Embedding",
    "ReversibleEmbedding",
    "IntegerLookup",
    "StringLookup",
    "CategoryEncoding",
    "Hashing",
    "HashedCrossing",
)
RANGES: dict[str, tuple[float, float]] = {"uint8": (0.0, 255.0), "int8": (-128.0, 127.0)}


def is_whole(value: Any) -> bool:
    """Whether a model's input (or a file's, which has a scale where it stands for real numbers) takes integers."""
    return "int" in str(getattr(value, "dtype", "")) and not getattr(value, "scale", 0)


def read_pixels_as_numbers(graph: Any, moves_values: tuple[str, ...]) -> None:
    """Call float32 the integer inputs of a ``Graph`` that are read as quantities.

    Args:
        graph: Edited; its models' inputs keep their dtype.
        moves_values: Kinds of layers that return some of their input's values, in its dtype.
    """
    consumers = graph.consumers()
    for value in graph.inputs:
        moved = _moved(graph, value, consumers, moves_values) if is_whole(value) else None
        for part in moved or ():
            part.dtype = "float32"
            for node in consumers.get(part, []):
                if node.kind == "ops.Cast":
                    graph.replace(node.output, part)


def _moved(graph: Any, value: Any, consumers: Any, moves_values: tuple[str, ...]) -> list[Any] | None:
    """``value`` and what only moves it, if all that reads these computes with numbers; otherwise None."""
    found = [value]
    if value in graph.outputs:
        return None
    for node in consumers.get(value, []):
        if all(output.is_float for output in node.outputs):
            if not _computes_with_numbers(node, value):
                return None
            continue
        inner = _moved(graph, node.output, consumers, moves_values) if node.kind in moves_values else None
        if inner is None:
            return None
        found += inner
    return found


def _computes_with_numbers(node: Any, value: Any) -> bool:
    """Whether a node returns the same for integers and for the same numbers in float32."""
    if node.kind in LOOK_UP or node.inputs != [value]:
        return False
    low, high = RANGES.get(value.dtype, (0, 255))
    sample = np.random.default_rng(0).integers(int(low), int(high) + 1, (2, *value.shape[1:]))
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
        except Exception:  # whatever a user's layer does not take
            return False
        results.append([np.asarray(keras.ops.convert_to_numpy(part), np.float32) for part in flat])
    return all(np.allclose(one, other, 1e-5, 1e-5) for one, other in zip(*results, strict=True))
