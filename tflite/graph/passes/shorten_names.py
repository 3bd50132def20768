"""Layer "x_for_gelu" -> layer "x": names cost bytes in the file."""

from __future__ import annotations

from ..graph import Graph
from .substitute_activations import STAND_IN


def shorten_names(graph: Graph) -> None:
    """Remove from layer names the suffix that states which activation was replaced."""
    for node in graph.nodes():
        if node.layer is not None and STAND_IN.search(node.name):
            node.layer.name = STAND_IN.sub("", node.name)
