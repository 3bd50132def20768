"""transpose(x, (2, 0, ...))[i] -> transpose(x[:, :, i], ...)."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from ..operations.slices import cut
from ..shapes import permuted


def index_before_transposing(graph: Graph) -> None:
    """``ops.transpose(x, (2, 0, ...))[i]`` -> x[:, :, i], transposed: query, key and value of one dense layer.

    A transposition that moves the batch axis has no form otherwise.
    """
    consumers = graph.consumers()
    for node in graph.nodes():
        if node.kind != "ops.Transpose" or not node.layer.axes or 0 in node.layer.axes[:1]:
            continue
        order = [axis % len(node.output.shape) for axis in node.layer.axes]
        if order[1:2] != [0] or node.output in graph.outputs:
            continue
        picks = [(reader, _first_index(reader, index)) for reader in consumers.get(node.output, [])
                 for index in range(len(reader.outputs))]  # fmt: skip
        if any(index is None for _, index in picks):
            continue
        for position, (reader, picked) in enumerate(picks):
            index = int(picked or 0)
            rank = len(order)
            key = tuple(index if axis == order[0] else slice(None) for axis in range(rank))
            output = reader.outputs[index if reader.kind == "ops.Unstack" else 0]
            value = cut(graph, node.inputs[0], key, f"{node.name}_{position}")
            if value is None:
                break
            left = [axis - (axis > order[0]) for axis in order[1:]]
            graph.replace(output, permuted(graph, value, left, f"{node.name}_{position}_order"))


def _first_index(node: Node, output: int) -> int | None:
    """The whole number i if ``node`` computes x[i]; None if it computes something else."""
    if node.kind == "ops.Unstack" and node.layer.axis == 0:
        return output
    if node.kind == "ops.GetItem":
        key = node.args[1] if len(node.args) > 1 else node.kwargs.get("key")
        key = key[0] if isinstance(key, (tuple, list)) and len(key) == 1 else key
        return int(key) if isinstance(key, (int, np.integer)) and key >= 0 else None
    if node.kind == "ops.Take" and node.layer.axis == 0:
        index = node.args[1] if len(node.args) > 1 else node.kwargs.get("indices")
        return int(index) if isinstance(index, (int, np.integer)) and index >= 0 else None
    return None
