"""Dropout(x) -> x at inference, and its kin."""

from __future__ import annotations

from ..graph import Graph
from ..layer_kinds import NOOPS


def drop_inference_noops(graph: Graph) -> None:
    """Remove Dropout and its kin."""
    for node in graph.nodes():
        if node.kind in NOOPS:
            graph.replace(node.output, node.inputs[0])
