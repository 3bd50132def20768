"""Input of dtype uint8 or int8 -> one of float32."""

from __future__ import annotations

from ..graph import Graph


def take_float_inputs(graph: Graph) -> None:
    """Give the model float32 inputs instead of pixels: the converter supports only grids of real numbers."""
    graph.dtypes = ["float32" if value.is_float else value.dtype for value in graph.inputs]
