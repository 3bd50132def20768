"""Arguments of an operation's call that are not tensors of the graph."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ..graph import Node, Value


def constant_of(leaf: Any) -> tuple[np.ndarray, bool] | None:
    """(values, whether they train) of an argument that is not a tensor of the graph; None if it is not numeric."""
    if isinstance(leaf, Value) or leaf is None or isinstance(leaf, (str, bool)):
        return None
    try:
        values = np.asarray(keras.ops.convert_to_numpy(leaf), np.float32)
    except (TypeError, ValueError):
        return None
    return values, bool(isinstance(leaf, keras.Variable) and leaf.trainable)


def operands(node: Node) -> tuple[Any, Any]:
    both = (*node.args, *node.kwargs.values())
    return both[0], both[1]
