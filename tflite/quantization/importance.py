"""Importance of each channel of a tensor to its consumers: the energy of the weights that the channel meets.

An error in a channel reaches the next weighted layer's outputs multiplied by that channel's weights. A channel that no
weight reads may be clipped to zero, however large it is; a channel that small weights read may be clipped earlier.
"""

from __future__ import annotations

import numpy as np

from ..graph.activation_names import activation_name
from ..graph.graph import Graph, Node, Value
from ..graph.layer_kinds import KEEPS_CHANNELS, WEIGHTED
from ..graph.weights import kernel_of


def channel_importance(graph: Graph) -> dict[Value, np.ndarray]:
    """Value -> float64 array that broadcasts to (..., C) without the batch axis, its mean 1; ones where unknown."""
    found: dict[Value, np.ndarray] = {}
    readers = graph.consumers()
    for node in reversed(graph.nodes()):
        for value in node.outputs:
            channels = value.shape[-1] if len(value.shape) > 1 else None
            if not channels:
                found[value] = np.ones(min(len(value.shape) - 1, 1) * (1,))  # one number per image has no axis
                continue
            parts = [_importance_for(reader, value, found) for reader in readers.get(value, [])]
            if value in graph.outputs:
                parts.append(np.ones(channels))
            if any(part.ndim == 1 for part in parts):
                parts = [part if part.ndim == 1 else part.reshape(-1, channels).mean(0) for part in parts]
            total = sum(part / part.mean() for part in parts if part.mean() > 0)
            found[value] = np.asarray(total) / np.mean(total) if np.any(total) else np.ones(channels)
    return found


def _importance_for(node: Node, value: Value, found: dict[Value, np.ndarray]) -> np.ndarray:
    """Importance of the channels of ``value`` to one consumer."""
    kind, channels = node.kind.removeprefix("Quant"), int(value.shape[-1] or 1)
    everything = np.ones(channels)
    behind = found.get(node.output, np.ones(1)) if node.outputs else np.ones(1)
    if value is not node.inputs[0] and kind not in (*KEEPS_CHANNELS, "Concatenate"):
        return everything
    if kind in WEIGHTED:
        squares = np.square(np.asarray(kernel_of(node.layer), np.float64))
        if kind == "Conv2D":
            return squares.sum((0, 1, 3)) if squares.shape[2] == channels else everything
        if kind == "Conv2DTranspose":
            return squares.sum((0, 1, 2))
        if kind == "Dense":
            return squares.sum(1)
        outputs = behind if behind.ndim == 1 else behind.reshape(-1, behind.shape[-1]).mean(0)
        return (squares.sum((0, 1)) * np.broadcast_to(outputs, squares[0, 0].size).reshape(channels, -1)).sum(1)
    if kind in ("Flatten", "Reshape"):
        size = int(np.prod([side or 1 for side in value.shape[1:]]))
        if behind.size == size:
            return behind.reshape([side or 1 for side in value.shape[1:]])
        return behind if behind.shape == (channels,) else everything
    if kind == "Concatenate" and node.layer.axis in (-1, len(value.shape) - 1):
        behind = behind if behind.ndim == 1 else behind.reshape(-1, behind.shape[-1]).mean(0)
        start = 0
        for part in node.inputs:
            if part is value:
                return behind[start : start + channels] if behind.size >= start + channels else everything
            start += int(part.shape[-1] or 0)
    if (kind in KEEPS_CHANNELS or activation_name(node) in POINTWISE) and node.output.shape[-1] == channels:
        return behind if behind.ndim == 1 or node.output.shape == value.shape else everything
    return everything


POINTWISE = ("relu", "relu6", "leaky_relu", "gelu", "hard_silu", "silu", "quick_gelu", "sigmoid", "tanh")
