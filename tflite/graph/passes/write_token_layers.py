"""ClassTokenAndPositions(x) -> zeros before the tokens, plus one constant."""

from __future__ import annotations

from keras import layers

from ..graph import Graph
from ..operations.sums import added
from ..weights import to_float64


def write_token_layers(graph: Graph) -> None:
    """Replace this package's token layers by their parts."""
    for node in graph.nodes():
        layer, name = node.layer, node.name
        if node.kind == "ClassTokenAndPositions":
            table = to_float64(layer.positions).copy()
            table[:, 0] += to_float64(layer.class_token)[:, 0]
            value = graph.add(
                layers.ZeroPadding1D((1, 0), name=f"{name}_pad", dtype=layer.dtype_policy), node.inputs[0]
            )
            graph.replace(node.output, added(graph, value, (table, True), name))  # type: ignore[arg-type]
