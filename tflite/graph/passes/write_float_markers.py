"""KeepFloat(x) -> -(-x), which the converter does not quantize; x after an input of the model."""

from __future__ import annotations

from ...layers.deployed import NegatedTwice
from ..graph import Graph


def write_float_markers(graph: Graph) -> None:
    """Write the markers of ``quantize(skip=...)`` in a form that keeps the converter from quantizing."""
    for node in graph.nodes():
        if node.kind == "KeepFloat" and node.inputs[0].node.layer is None:
            graph.replace(node.output, node.inputs[0])  # an input of the model is float anyway
        elif node.kind == "KeepFloat":
            node.layer = NegatedTwice(name=node.name, dtype="float32")
