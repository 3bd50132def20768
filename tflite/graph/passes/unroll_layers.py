"""Layers that loop over time steps -> the same, unrolled."""

from __future__ import annotations

import keras

from ...layers.copying import unroll
from ..graph import Graph


def unroll_layers(graph: Graph) -> None:
    """Set ``unroll`` of recurrent layers: the file format has no loop that microcontrollers support."""
    for node in graph.nodes():
        if isinstance(node.layer, keras.Layer) and id(node.layer) not in graph.kept:
            unroll(node.layer)
