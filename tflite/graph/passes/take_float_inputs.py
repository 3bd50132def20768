"""Input of dtype uint8 or int8 -> one of float32."""

from __future__ import annotations

from ..graph import Graph


def take_float_inputs(graph: Graph) -> None:
    """Let the model take float32 where it took pixels: the converter knows grids of real numbers alone."""
    graph.dtypes = ["float32" if value.is_float else value.dtype for value in graph.inputs]
