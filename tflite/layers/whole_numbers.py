"""Inputs of whole numbers: pixels straight from a camera are numbers like any others, indices of tables are not.

A Keras input of dtype "uint8" whose readers compute with its values becomes a float one in the graph, so that a range
and a grid mean something there. What looks its values up in a table (``Embedding``) goes on reading integers.
"""

from __future__ import annotations

from typing import Any

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
