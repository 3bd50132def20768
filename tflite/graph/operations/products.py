"""Matrix products: ``matmul`` and ``einsum`` -> ``MatMul`` of two tensors, ``Dense`` with a constant."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import layers

from ...layers.token_layers import MatMul
from ..graph import Graph, Node, Value
from ..shapes import permuted, reshaped, sides_of
from .constants import constant_of, operands


def matmul(graph: Graph, node: Node) -> Value | None:
    left, right = operands(node)
    tensors = [part for part in (left, right) if isinstance(part, Value)]
    if len(tensors) == 2:
        a, b = tensors
        if len(a.shape) != len(b.shape) or len(a.shape) < 3 or a.shape[1:-2] != b.shape[1:-2]:
            return None
        return product(graph, a, b, False, node.name)
    constant = constant_of(right if isinstance(left, Value) else left)
    rank = len(tensors[0].shape)
    if constant is None or constant[0].ndim != 2 or rank < 2 or (rank < 3 and isinstance(right, Value)):
        return None
    if isinstance(left, Value):
        return dense(graph, left, constant[0], constant[1], node.name)
    order = [*range(rank - 2), rank - 1, rank - 2]
    value = permuted(graph, tensors[0], order, f"{node.name}_to_last")
    value = dense(graph, value, constant[0].T, constant[1], node.name)
    return permuted(graph, value, order, f"{node.name}_back")


def dense(graph: Graph, value: Value, kernel: np.ndarray, trains: bool, name: str) -> Value:
    layer = layers.Dense(kernel.shape[1], use_bias=False, name=name)
    layer.build((None, kernel.shape[0]))
    layer.kernel.assign(kernel)
    layer.trainable = trains
    return graph.add(layer, value)


def product(graph: Graph, a: Value, b: Value, transpose_b: bool, name: str) -> Value:
    """The matrix product of (B, ..., M, K) and (B, ..., K, N), of at most four axes: some ops support no more."""
    order = [*range(len(b.shape) - 2), len(b.shape) - 1, len(b.shape) - 2]
    if not transpose_b and b.node.kind == "Permute" and [0, *b.node.layer.dims] == order:
        b, transpose_b = b.node.inputs[0], True  # the op itself transposes
    sides = sides_of(a)[:-2]
    if len(sides) > 1:
        a = reshaped(graph, a, (math.prod(sides), *sides_of(a)[-2:]), f"{name}_left")
        b = reshaped(graph, b, (math.prod(sides), *sides_of(b)[-2:]), f"{name}_right")
    value = graph.add(MatMul(transpose_b, name=name), a, b)
    return reshaped(graph, value, (*sides, *sides_of(value)[-2:]), f"{name}_shape")


def einsum(graph: Graph, node: Node) -> Value | None:
    given = [part for part in node.args if not isinstance(part, str)]
    left, _, result = node.layer.subscripts.replace(" ", "").partition("->")
    names = left.split(",")
    if len(names) != 2 or len(given) != 2 or not result or "." in left:
        return None
    return contraction(graph, names[0], names[1], result, given[0], given[1], node.name)


def contraction(graph: Graph, first: str, second: str, result: str, a: Any, b: Any, name: str) -> Value | None:
    """The contraction of two operands, with their axes named by letters as in ``einsum``."""
    if not isinstance(a, Value):
        first, second, a, b = second, first, b, a
    shared = [letter for letter in first if letter in second]
    summed = [letter for letter in shared if letter not in result]
    batch = [letter for letter in shared if letter in result]
    own = [letter for letter in first if letter not in second]
    other = [letter for letter in second if letter not in first]
    repeated = any(len(set(part)) != len(part) for part in (first, second, result))
    if repeated or not summed or set(own + other + batch) != set(result) or first[0] != result[0]:
        return None
    sides = dict(zip(first, a.shape, strict=True))
    if not isinstance(b, Value):
        constant = constant_of(b)
        if constant is None or batch or constant[0].ndim != len(second):
            return None
        sides.update(zip(second, constant[0].shape, strict=True))
        kernel = constant[0].transpose([second.index(letter) for letter in summed + other])
        kernel = kernel.reshape(math.prod(int(sides[letter] or 0) for letter in summed), -1)
        value = permuted(graph, a, [first.index(letter) for letter in own + summed], f"{name}_to_last")
        value = reshaped(graph, value, [*(int(sides[x] or 0) for x in own[1:]), kernel.shape[0]], f"{name}_flat")
        value = dense(graph, value, kernel, constant[1], name)
        letters = own + other
    else:
        if batch[:1] != [first[0]] or second[0] != first[0]:
            return None
        sides.update(zip(second, b.shape, strict=True))
        size = {letter: int(side or 0) for letter, side in sides.items()}
        leading = [size[letter] for letter in batch[1:]]
        rows, inner, columns = (math.prod(size[letter] for letter in part) for part in (own, summed, other))
        transpose_b = [second.index(letter) for letter in batch + other + summed] == [*range(len(second))]
        behind = other + summed if transpose_b else summed + other
        value = permuted(graph, a, [first.index(letter) for letter in batch + own + summed], f"{name}_a")
        value = reshaped(graph, value, (*leading, rows, inner), f"{name}_a_shape")
        right = permuted(graph, b, [second.index(letter) for letter in batch + behind], f"{name}_b")
        last = (columns, inner) if transpose_b else (inner, columns)
        value = product(graph, value, reshaped(graph, right, (*leading, *last), f"{name}_b_shape"), transpose_b, name)
        letters = batch + own + other
    value = reshaped(graph, value, [int(sides[letter] or 0) for letter in letters[1:]], f"{name}_sides")
    return permuted(graph, value, [letters.index(letter) for letter in result], f"{name}_order")
