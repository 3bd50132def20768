"""KeepFloat(x) -> -(-x), which the converter has no integer form of; of an input of the model, x."""

from __future__ import annotations

from ...layers.deployed import NegatedTwice
from ..graph import Graph


def write_float_markers(graph: Graph) -> None:
    """What ``quantize(skip=...)`` put before layers that stay float, as the converter understands it."""
    for node in graph.nodes():
        if node.kind == "KeepFloat" and node.inputs[0].node.layer is None:
            graph.replace(node.output, node.inputs[0])  # an input of the model is float as it is
        elif node.kind == "KeepFloat":
            node.layer = NegatedTwice(name=node.name, dtype="float32")
