"""[x W][:, a:b] -> x W[:, a:b] if all consumers read such pieces."""

from __future__ import annotations

import math

import numpy as np

from ..graph import Graph, Node, Value
from ..shapes import reshaped, sides_of
from ..weights import bias_of, is_restrained, kernel_of, with_weights


def split_dense(graph: Graph) -> None:
    """A dense layer of which only pieces are read -> one dense layer per piece, each with a separate range.

    Example: query, key and value from one layer of three times the width.
    """
    consumers, shared = graph.consumers(), graph.shared()
    for node in graph.nodes():
        if node.kind != "Dense" or id(node.layer) in shared or is_restrained(node.layer):
            continue
        ids = np.arange(math.prod(sides_of(node.output))).reshape(sides_of(node.output))
        pieces = _channel_pieces(graph, node.output, ids, ids, consumers)
        if not pieces or len({edges for _, edges in pieces}) < 2:
            continue
        kernel, bias = kernel_of(node.layer), bias_of(node.layer)
        parts: dict[tuple[int, int], Value] = {}
        for cut, (start, stop) in pieces:
            if (start, stop) not in parts:
                own = with_weights(
                    node.layer,
                    kernel[:, start:stop],
                    None if bias is None else bias[start:stop],
                    units=stop - start,
                    name=f"{node.name}_{len(parts)}",
                )
                own.trainable = node.layer.trainable
                parts[start, stop] = graph.add(own, node.inputs[0])
            value = parts[start, stop]
            graph.replace(cut.output, reshaped(graph, value, sides_of(cut.output), f"{cut.name}_sides"))


def _channel_pieces(
    graph: Graph, value: Value, ids: np.ndarray, whole: np.ndarray, consumers: dict[Value, list[Node]]
) -> list[tuple[Node, tuple[int, int]]]:
    """(piece, its channels) for all consumers of ``value``; empty if one is not a piece of whole channels."""
    if value in graph.outputs:
        return []
    found: list[tuple[Node, tuple[int, int]]] = []
    for reader in consumers.get(value, []):
        if reader.kind == "Reshape":
            inner = _channel_pieces(graph, reader.output, ids.reshape(sides_of(reader.output)), whole, consumers)
            if not inner:
                return []
            found += inner
            continue
        if reader.kind != "Cut":
            return []
        seen = ids[tuple(map(slice, reader.layer.starts, reader.layer.stops))]
        channels = np.unique(seen % whole.shape[-1])
        start, stop = int(channels[0]), int(channels[-1]) + 1
        if not np.array_equal(seen.ravel(), whole[..., start:stop].ravel()):
            return []
        found.append((reader, (start, stop)))
    return found
