"""W1x1 * Haar(x) -> W2x2 * x with stride 2."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers

from wavemix_tf.layers.wavelets import fold_dwt

from ..graph import Graph, Node, Value
from ..haar import is_plain_haar
from ..weights import bias_of, is_pointwise, kernel_of, with_weights


def fold_wavelets(graph: Graph) -> None:
    """Haar DWT2D before a 1x1 convolution -> one 2x2 convolution of stride 2 with the same number of weights.

    Also through a concatenation, conv(concat[a, b]) = conv_a(a) + conv_b(b). The transform stays if another node reads
    it. Odd sides: "same" padding of a 2x2 window adds the same single zero at the end as the transform.
    """
    made: dict[tuple[Any, ...], Any] = {}  # calls that share a convolution also share its replacement
    for node in graph.nodes():
        if node.kind != "Conv2D" or not is_pointwise(node.layer):
            continue
        source = node.inputs[0].node
        parts = [node.inputs[0]]
        if source.kind == "Concatenate" and source.layer.axis in (-1, 3):
            parts = source.inputs
        if not any(_is_foldable(part.node) for part in parts):
            continue
        graph.replace(node.output, _split_conv(graph, node, parts, made))


def _is_foldable(node: Node) -> bool:
    return node.kind == "DWT2D" and is_plain_haar(node)


def _split_conv(graph: Graph, node: Node, parts: list[Value], made: dict[tuple[Any, ...], Any]) -> Value:
    kernel, bias = kernel_of(node.layer), bias_of(node.layer)
    plain: list[tuple[Value, np.ndarray]] = []
    terms: list[Value] = []
    widths = [int(part.shape[-1] or 0) for part in parts]
    pattern = (id(node.layer), *widths, *(_is_foldable(part.node) for part in parts))

    def term(index: int, rows: np.ndarray, bias: np.ndarray | None, **changes: Any) -> Any:
        key = (index, *pattern)
        if key not in made:
            made[key] = with_weights(node.layer, rows, bias, **changes)
        return made[key]

    for part, rows in zip(parts, np.split(kernel, np.cumsum(widths)[:-1], axis=2), strict=True):
        if not _is_foldable(part.node):
            plain.append((part, rows))
            continue
        name = node.name if not terms else f"{node.name}_{len(terms)}"
        window: dict[str, Any] = {"kernel_size": (2, 2), "strides": (2, 2), "padding": "same"}
        folded = term(len(terms), np.asarray(fold_dwt(rows)), bias, name=name, **window)
        terms.append(graph.add(folded, part.node.inputs[0]))
        bias = None  # only once
    if plain:
        value = plain[0][0]
        if len(plain) > 1:
            join = layers.Concatenate(name=f"{node.name}_join_concat", dtype=node.layer.dtype_policy)
            value = graph.add(join, *[part for part, _ in plain])
        rows = np.concatenate([rows for _, rows in plain], axis=2)
        terms.append(graph.add(term(-1, rows, None, name=f"{node.name}_join"), value))
    total = terms[0]
    for index, value in enumerate(terms[1:]):
        suffix = f"_{index + 1}" if index else ""
        total = graph.add(layers.Add(name=f"{node.name}_sum{suffix}", dtype=node.layer.dtype_policy), total, value)
    return total
