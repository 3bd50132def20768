"""Activation("linear")(x) -> x."""

from __future__ import annotations

from ..activation_names import activation_name
from ..graph import Graph


def drop_linear_activations(graph: Graph) -> None:
    """Remove ``Activation("linear")`` and ``Activation(None)``."""
    for node in graph.nodes():
        if activation_name(node) == "linear":
            graph.replace(node.output, node.inputs[0])
