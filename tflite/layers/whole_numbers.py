"""Integer inputs: pixels from a camera are quantities, indices of tables are not.

A Keras input of dtype "uint8" whose consumers compute with its values becomes a float one in the graph, so that it can
have a range and a grid. Layers that look its values up in a table (``Embedding``) keep reading integers.
"""

from __future__ import annotations

from typing import Any

# Layers whose input is not a quantity.
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
    """Whether a model's input (or a file's, which has a scale if it represents real numbers) takes integers."""
    return "int" in str(getattr(value, "dtype", "")) and not getattr(value, "scale", 0)
