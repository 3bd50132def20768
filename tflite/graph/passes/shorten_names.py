"""Layer "x_for_gelu" -> layer "x": names cost bytes in the file."""

from __future__ import annotations

from ..graph import Graph
from .substitute_activations import STAND_IN


def shorten_names(graph: Graph) -> None:
    """Take out of the names which activation a stand-in replaced."""
    for node in graph.nodes():
        if node.layer is not None and STAND_IN.search(node.name):
            node.layer.name = STAND_IN.sub("", node.name)
