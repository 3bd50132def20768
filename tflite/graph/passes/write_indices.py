"""argmax(x), argmin(x) -> one ARG_MAX or ARG_MIN."""

from __future__ import annotations

from ...layers.deployed import IndexOfExtreme
from ..graph import Graph
from ..layer_kinds import INDICES


def write_indices(graph: Graph) -> None:
    """Write ``keras.ops.argmax`` and ``argmin`` along an axis as the one op that computes them."""
    for node in graph.nodes():
        if node.kind in INDICES and isinstance(node.layer.axis, int):
            axis = node.layer.axis % len(node.inputs[0].shape)
            least = node.kind == "ops.Argmin"
            node.layer = IndexOfExtreme(axis, bool(node.layer.keepdims), least, name=node.name, dtype="float32")
            node.args, node.kwargs = (node.inputs[0],), {}
