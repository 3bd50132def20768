"""Dropout(x) -> x at inference, and similar layers."""

from __future__ import annotations

from ..graph import Graph
from ..layer_kinds import NOOPS


def drop_inference_noops(graph: Graph) -> None:
    """Remove Dropout and similar layers."""
    for node in graph.nodes():
        if node.kind in NOOPS:
            graph.replace(node.output, node.inputs[0])
