"""The activation of a node, in any of its forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .graph import Node

ACTIVATION_LAYERS: dict[str, Callable[[Any], str | None]] = {
    "ReLU": lambda layer: _relu_name(layer),
    "LeakyReLU": lambda layer: "leaky_relu",
    "Softmax": lambda layer: "softmax" if layer.axis in (-1, None) else None,
}


def _relu_name(layer: Any) -> str | None:
    if layer.negative_slope or layer.threshold:
        return None
    return {None: "relu", 6.0: "relu6"}.get(layer.max_value)


def activation_name(node: Node) -> str | None:
    """The function's name if ``node`` is an activation ("gelu", "relu6", "hard_silu", ...); otherwise None."""
    if node.kind == "Activation":
        return getattr(node.layer.activation, "__name__", type(node.layer.activation).__name__)
    if node.kind in ACTIVATION_LAYERS:
        return ACTIVATION_LAYERS[node.kind](node.layer)
    return None
