"""What networks of tokens write with ``keras.ops``, in the few forms that the quantizer knows. Every pass is exact.

``canonicalize`` calls ``token_operation`` for each operation and ``settle`` behind it; ``quantize`` calls
``write_norms``, which gives layer and group norms the steps that int8 kernels have.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from ..layers.token_layers import AddConstant, ChannelAffine, Cut, MatMul, Mean, Rsqrt, with_constant
from . import folding
from .graph import Graph, Node, Value

# An epsilon below it is no step of an int8 variance that is worth one.
LEAST_EPSILON = 1e-4
NORMS = ("LayerNormalization", "GroupNormalization")


def token_operation(graph: Graph, node: Node) -> Value | None:
    """What computes the operation of ``node`` in canonical form; None if there is no such form."""
    kind = node.kind.removeprefix("ops.")
    if kind not in FORMS or node.output.shape[0] is not None:
        return None
    return FORMS[kind](graph, node)


def _sides(value: Value) -> tuple[int, ...]:
    """The sides behind the batch; they are known, as the model's inputs are."""
    return tuple(int(side or 0) for side in value.shape[1:])


def permuted(graph: Graph, value: Value, order: Sequence[int], name: str) -> Value:
    """``value`` with its axes in this order, the batch 0 among them and first."""
    if list(order) == sorted(order):
        return value
    return graph.add(layers.Permute(tuple(order)[1:], name=name), value)


def reshaped(graph: Graph, value: Value, sides: Sequence[int], name: str) -> Value:
    """``value`` with these sides behind the batch."""
    return value if _sides(value) == tuple(sides) else graph.add(layers.Reshape(tuple(sides), name=name), value)


def constant_of(leaf: Any) -> tuple[np.ndarray, bool] | None:
    """(values, whether they train) of what a call was given beside tensors of the graph; None for no numbers."""
    if isinstance(leaf, Value) or leaf is None or isinstance(leaf, (str, bool)):
        return None
    try:
        values = np.asarray(keras.ops.convert_to_numpy(leaf), np.float32)
    except (TypeError, ValueError):
        return None
    return values, bool(isinstance(leaf, keras.Variable) and leaf.trainable)


def _operands(node: Node) -> tuple[Any, Any]:
    both = (*node.args, *node.kwargs.values())
    return both[0], both[1]


def _transpose(graph: Graph, node: Node) -> Value | None:
    rank = len(node.inputs[0].shape)
    operation, kind = node.layer, node.kind
    if kind == "ops.Swapaxes":
        order = list(range(rank))
        first, second = operation.axis1 % rank, operation.axis2 % rank
        order[first], order[second] = order[second], order[first]
    elif kind == "ops.Moveaxis":
        pairs = sorted(
            (to % rank, source % rank) for source, to in zip(operation.source, operation.destination, strict=True)
        )
        order = [axis for axis in range(rank) if axis not in [source for _, source in pairs]]
        for to, source in pairs:
            order.insert(to, source)
    else:
        order = [axis % rank for axis in operation.axes] if operation.axes is not None else list(range(rank))[::-1]
    return permuted(graph, node.inputs[0], order, node.name) if order[0] == 0 else None


def _get_item(graph: Graph, node: Node) -> Value | None:
    key = node.args[1] if len(node.args) > 1 else node.kwargs.get("key")
    return _cut(graph, node.inputs[0], tuple(key) if isinstance(key, (tuple, list)) else (key,), node.name)


def _cut(graph: Graph, value: Value, key: tuple[Any, ...], name: str) -> Value | None:
    """``value[key]`` for whole numbers and slices of step 1, the batch left alone."""
    rank = len(value.shape)
    if any(part is Ellipsis for part in key):
        place = [part is Ellipsis for part in key].index(True)
        named = sum(part is not None for part in key) - 1
        key = (*key[:place], *[slice(None)] * (rank - named), *key[place + 1 :])
    key = (*key, *[slice(None)] * (rank + sum(part is None for part in key) - len(key)))
    if sum(part is not None for part in key) != rank or not isinstance(key[0], slice) or key[0] != slice(None):
        return None
    starts, stops, kept, sides = [], [], [], iter(_sides(value))
    for part in key[1:]:
        if part is None:
            kept.append(1)
            continue
        side = next(sides)
        if isinstance(part, slice) and part.step in (None, 1):
            start, stop, _ = part.indices(side)
        elif isinstance(part, (int, np.integer)) and not isinstance(part, bool):
            start = int(part) % side
            stop = start + 1
        else:
            return None
        starts.append(start)
        stops.append(stop)
        if isinstance(part, slice):
            kept.append(stop - start)
    if any(stop <= start for start, stop in zip(starts, stops, strict=True)) or not kept:
        return None
    if rank > 4:  # more than microcontrollers cut: axes that stay whole are one
        merged: list[list[int]] = []
        for side, start, stop in zip(_sides(value), starts, stops, strict=True):
            if merged and stop - start == side and merged[-1][1:] == [0, merged[-1][0]]:
                merged[-1] = [merged[-1][0] * side, 0, merged[-1][0] * side]
            else:
                merged.append([side, start, stop])
        value = reshaped(graph, value, [side for side, _, _ in merged], f"{name}_flat")
        starts, stops = [start for _, start, _ in merged], [stop for _, _, stop in merged]
    whole = starts == [0] * len(starts) and tuple(stops) == _sides(value)
    piece = value if whole else graph.add(Cut(starts, stops, name=name), value)
    return reshaped(graph, piece, kept, f"{name}_shape")


def _take(graph: Graph, node: Node) -> Value | None:
    index = node.args[1] if len(node.args) > 1 else node.kwargs.get("indices")
    rank = len(node.inputs[0].shape)
    if node.layer.axis is None or not isinstance(index, (int, np.integer)):
        return None
    axis = node.layer.axis % rank
    key = tuple(int(index) if place == axis else slice(None) for place in range(rank))
    return _cut(graph, node.inputs[0], key, node.name)


def _split(graph: Graph, node: Node) -> Value | None:
    """``ops.split`` and ``ops.unstack``: each output becomes a piece of the input."""
    value, rank = node.inputs[0], len(node.inputs[0].shape)
    axis = node.layer.axis % rank
    edges = [0]
    unstacks = node.kind == "ops.Unstack"
    for output in node.outputs:
        edges.append(edges[-1] + (1 if unstacks else int(output.shape[axis] or 0)))
    pieces = []
    for index, (start, stop) in enumerate(itertools.pairwise(edges)):
        part: Any = start if unstacks else slice(start, stop)
        key = tuple(part if place == axis else slice(None) for place in range(rank))
        pieces.append(_cut(graph, value, key, f"{node.name}_{index}"))
    if axis == 0 or None in pieces:
        return None
    for output, piece in zip(node.outputs[1:], pieces[1:], strict=True):
        graph.replace(output, piece)  # type: ignore[arg-type]
    return pieces[0]


def _mean(graph: Graph, node: Node) -> Value | None:
    rank, axis = len(node.inputs[0].shape), node.layer.axis
    if axis is None:
        return None
    axes = tuple(sorted(a % rank for a in (axis if isinstance(axis, (tuple, list)) else (axis,))))
    if 0 in axes:
        return None
    return graph.add(Mean(axes, bool(node.layer.keepdims), name=node.name), node.inputs[0])


def _softmax(graph: Graph, node: Node) -> Value | None:
    rank = len(node.inputs[0].shape)
    axis = node.layer.axis
    if not isinstance(axis, int) or axis % rank == 0:
        return None
    axis %= rank
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    value = permuted(graph, node.inputs[0], order, f"{node.name}_to_last")
    value = graph.add(layers.Activation("softmax", name=node.name), value)
    return permuted(graph, value, order, f"{node.name}_back")


def _square(graph: Graph, node: Node) -> Value | None:
    return graph.add(layers.Multiply(name=node.name), node.inputs[0], node.inputs[0])


def _stack(graph: Graph, node: Node) -> Value | None:
    rank = len(node.output.shape)
    axis = node.layer.axis % rank
    if axis == 0 or len(node.inputs) < 2:
        return None
    sides = list(_sides(node.output))
    sides[axis - 1] = 1
    parts = [reshaped(graph, value, sides, f"{node.name}_{index}") for index, value in enumerate(node.inputs)]
    return graph.add(layers.Concatenate(axis=axis, name=node.name), *parts)


def _add(graph: Graph, node: Node) -> Value | None:
    """A constant of more than a number a channel."""
    if len(node.inputs) != 1 or node.inputs[0].shape != node.output.shape:
        return None
    found = [constant_of(leaf) for leaf in _operands(node)]
    constant = next((part for part in found if part is not None), None)
    return None if constant is None else _added(graph, node.inputs[0], constant, node.name)


def _added(graph: Graph, value: Value, constant: tuple[np.ndarray, bool], name: str) -> Value | None:
    values, trains = constant
    rank = len(value.shape)
    values = values.reshape((1,) * (rank - values.ndim) + values.shape)
    if values.shape[0] != 1 or not np.isfinite(values).all():
        return None
    layer = with_constant(AddConstant(values.shape[1:], name=name), values[0])
    layer.trainable = trains
    return graph.add(layer, value)


def _pad(graph: Graph, node: Node) -> Value | None:
    """Zeros before and behind the tokens."""
    operation = node.layer
    widths = np.asarray(operation.pad_width)
    if operation.mode != "constant" or len(node.inputs) != 1 or widths.shape != (3, 2) or widths[[0, 2]].any():
        return None
    if any(np.any(leaf) for leaf in node.kwargs.values() if not isinstance(leaf, Value)):
        return None  # another constant
    before, behind = (int(width) for width in widths[1])
    return graph.add(layers.ZeroPadding1D((before, behind), name=node.name), node.inputs[0])


def _matmul(graph: Graph, node: Node) -> Value | None:
    left, right = _operands(node)
    tensors = [part for part in (left, right) if isinstance(part, Value)]
    if len(tensors) == 2:
        a, b = tensors
        if len(a.shape) != len(b.shape) or len(a.shape) < 3 or a.shape[1:-2] != b.shape[1:-2]:
            return None
        return _product(graph, a, b, False, node.name)
    constant = constant_of(right if isinstance(left, Value) else left)
    rank = len(tensors[0].shape)
    if constant is None or constant[0].ndim != 2 or rank < 2 or (rank < 3 and isinstance(right, Value)):
        return None
    if isinstance(left, Value):
        return _dense(graph, left, constant[0], constant[1], node.name)
    order = [*range(rank - 2), rank - 1, rank - 2]
    value = permuted(graph, tensors[0], order, f"{node.name}_to_last")
    value = _dense(graph, value, constant[0].T, constant[1], node.name)
    return permuted(graph, value, order, f"{node.name}_back")


def _dense(graph: Graph, value: Value, kernel: np.ndarray, trains: bool, name: str) -> Value:
    layer = layers.Dense(kernel.shape[1], use_bias=False, name=name)
    layer.build((None, kernel.shape[0]))
    layer.kernel.assign(kernel)
    layer.trainable = trains
    return graph.add(layer, value)


def _product(graph: Graph, a: Value, b: Value, transpose_b: bool, name: str) -> Value:
    """The matrix product of (B, ..., M, K) and (B, ..., K, N), of at most four axes: more than one op knows."""
    order = [*range(len(b.shape) - 2), len(b.shape) - 1, len(b.shape) - 2]
    if not transpose_b and b.node.kind == "Permute" and [0, *b.node.layer.dims] == order:
        b, transpose_b = b.node.inputs[0], True  # the op transposes by itself
    sides = _sides(a)[:-2]
    if len(sides) > 1:
        a = reshaped(graph, a, (math.prod(sides), *_sides(a)[-2:]), f"{name}_left")
        b = reshaped(graph, b, (math.prod(sides), *_sides(b)[-2:]), f"{name}_right")
    value = graph.add(MatMul(transpose_b, name=name), a, b)
    return reshaped(graph, value, (*sides, *_sides(value)[-2:]), f"{name}_shape")


def _einsum(graph: Graph, node: Node) -> Value | None:
    given = [part for part in node.args if not isinstance(part, str)]
    left, _, result = node.layer.subscripts.replace(" ", "").partition("->")
    names = left.split(",")
    if len(names) != 2 or len(given) != 2 or not result or "." in left:
        return None
    return contraction(graph, names[0], names[1], result, given[0], given[1], node.name)


def contraction(graph: Graph, first: str, second: str, result: str, a: Any, b: Any, name: str) -> Value | None:
    """Two operands' sum of products, their axes named by letters as ``einsum`` names them."""
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
        value = _dense(graph, value, kernel, constant[1], name)
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
        value = _product(graph, value, reshaped(graph, right, (*leading, *last), f"{name}_b_shape"), transpose_b, name)
        letters = batch + own + other
    value = reshaped(graph, value, [int(sides[letter] or 0) for letter in letters[1:]], f"{name}_sides")
    return permuted(graph, value, [letters.index(letter) for letter in result], f"{name}_order")


FORMS: dict[str, Any] = {
    "Add": _add,
    "Einsum": _einsum,
    "GetItem": _get_item,
    "Matmul": _matmul,
    "Mean": _mean,
    "Moveaxis": _transpose,
    "Pad": _pad,
    "Softmax": _softmax,
    "Split": _split,
    "Square": _square,
    "Stack": _stack,
    "Swapaxes": _transpose,
    "Take": _take,
    "Transpose": _transpose,
    "Unstack": _split,
}


def index_before_transposing(graph: Graph) -> None:
    """``ops.transpose(x, (2, 0, ...))[i]`` -> x[:, :, i], transposed: how query, key and value leave one dense layer.

    A transposition that moves the batch from its place has no form of its own.
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
            value = _cut(graph, node.inputs[0], key, f"{node.name}_{position}")
            if value is None:
                break
            left = [axis - (axis > order[0]) for axis in order[1:]]
            graph.replace(output, permuted(graph, value, left, f"{node.name}_{position}_order"))


def _first_index(node: Node, output: int) -> int | None:
    """The whole number i where ``node`` computes x[i]; None where it computes something else."""
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


def write_layers(graph: Graph) -> None:
    """This package's layers of tokens -> the layers that they are made of."""
    for node in graph.nodes():
        layer, name = node.layer, node.name
        if node.kind == "ClassTokenAndPositions":
            table = folding.to_float64(layer.positions).copy()
            table[:, 0] += folding.to_float64(layer.class_token)[:, 0]
            value = graph.add(
                layers.ZeroPadding1D((1, 0), name=f"{name}_pad", dtype=layer.dtype_policy), node.inputs[0]
            )
            graph.replace(node.output, _added(graph, value, (table, True), name))  # type: ignore[arg-type]


def settle(graph: Graph) -> None:
    """The passes over graphs whose operations are layers already."""
    write_layers(graph)
    cut_before_permuting(graph)
    split_dense(graph)
    push_scales(graph)


def cut_before_permuting(graph: Graph) -> None:
    """A piece of a transposed tensor -> the transposed piece."""
    for node in graph.nodes():
        above = node.inputs[0].node if node.kind == "Cut" else None
        if above is None or above.kind != "Permute":
            continue
        places = [axis - 1 for axis in above.layer.dims]
        starts, stops = [0] * len(places), [0] * len(places)
        for place, start, stop in zip(places, node.layer.starts, node.layer.stops, strict=True):
            starts[place], stops[place] = start, stop
        value = graph.add(Cut(starts, stops, name=node.name), above.inputs[0])
        graph.replace(node.output, graph.add(layers.Permute(above.layer.dims, name=f"{node.name}_order"), value))


def split_dense(graph: Graph) -> None:
    """A dense layer of which only pieces are read -> a dense layer a piece, each with a range of its own.

    So leave query, key and value one layer of three times the width.
    """
    consumers, shared = graph.consumers(), graph.shared()
    for node in graph.nodes():
        if node.kind != "Dense" or id(node.layer) in shared or folding.is_restrained(node.layer):
            continue
        ids = np.arange(math.prod(_sides(node.output))).reshape(_sides(node.output))
        pieces = _channel_pieces(graph, node.output, ids, ids, consumers)
        if not pieces or len({edges for _, edges in pieces}) < 2:
            continue
        kernel, bias = folding.kernel_of(node.layer), folding.bias_of(node.layer)
        parts: dict[tuple[int, int], Value] = {}
        for cut, (start, stop) in pieces:
            if (start, stop) not in parts:
                own = folding.with_weights(
                    node.layer,
                    kernel[:, start:stop],
                    None if bias is None else bias[start:stop],
                    units=stop - start,
                    name=f"{node.name}_{len(parts)}",
                )
                own.trainable = node.layer.trainable
                parts[start, stop] = graph.add(own, node.inputs[0])
            value = parts[start, stop]
            graph.replace(cut.output, reshaped(graph, value, _sides(cut.output), f"{cut.name}_sides"))


def _channel_pieces(
    graph: Graph, value: Value, ids: np.ndarray, whole: np.ndarray, consumers: dict[Value, list[Node]]
) -> list[tuple[Node, tuple[int, int]]]:
    """(piece, its channels) of all that reads ``value``; nothing if one reader is no piece of whole channels."""
    if value in graph.outputs:
        return []
    found: list[tuple[Node, tuple[int, int]]] = []
    for reader in consumers.get(value, []):
        if reader.kind == "Reshape":
            inner = _channel_pieces(graph, reader.output, ids.reshape(_sides(reader.output)), whole, consumers)
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


def push_scales(graph: Graph) -> None:
    """A factor common to all channels behind a matrix product (1 / sqrt(d)) -> into the weights before it."""
    shared = graph.shared()
    for node in graph.nodes():
        if node.kind != "Rescaling" or np.size(node.layer.scale) != 1 or np.any(node.layer.offset):
            continue
        scale = float(np.ravel(node.layer.scale)[0])
        consumers, value, token = graph.consumers(), node.inputs[0], False
        while graph.sole_consumer(value, consumers) is not None and value.node.kind in (
            "MatMul", "Permute", "Reshape", "Cut"
        ):  # fmt: skip
            token = token or value.node.kind != "Reshape"
            value = value.node.inputs[0]
        source = value.node
        alone = graph.sole_consumer(value, consumers) is not None and id(source.layer) not in shared
        if not token or not alone or source.kind not in folding.LINEAR or folding.is_restrained(source.layer):
            continue
        kernel, bias = folding.kernel_of(source.layer) * np.float32(scale), folding.bias_of(source.layer)
        trains = source.layer.trainable
        source.layer = folding.with_weights(source.layer, kernel, None if bias is None else bias * np.float32(scale))
        source.layer.trainable = trains
        graph.replace(node.output, node.inputs[0])


def has_steps(node: Node) -> bool:
    """Whether ``write_norms`` can write the norm of ``node``: over the last axis, or of groups of channels."""
    layer, rank = node.layer, len(node.output.shape)
    if node.kind == "LayerNormalization":
        axis = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
        return not getattr(layer, "rms_scaling", False) and [a % rank for a in axis] == [rank - 1] and rank > 1
    return node.kind == "GroupNormalization" and layer.axis % rank == rank - 1 and rank == 4


def write_norms(graph: Graph, skipped: frozenset[Node] | set[Node] = frozenset(), integer: bool = False) -> None:
    """Layer and group norms -> mean, difference, square, mean, 1 / sqrt, product: ops that int8 kernels have.

    Scale and offset go into the dense layers behind where nothing else reads them, else into a 1x1 depthwise
    convolution.

    Args:
        graph: Edited.
        skipped: Nodes to leave alone.
        integer: Whether each step is to be rounded to a range of its own: no epsilon below what shows there.
    """
    for node in graph.nodes():
        if node.kind in NORMS and node not in skipped and has_steps(node):
            _write_norm(graph, node, integer)


def _write_norm(graph: Graph, node: Node, integer: bool) -> None:
    layer, name, value = node.layer, node.name, node.inputs[0]
    dtype, sides = layer.dtype_policy, _sides(value)

    def mean(source: Value, role: str) -> Value:
        for index, axes in enumerate(steps):
            last = index == len(steps) - 1
            source = graph.add(Mean(axes, True, name=f"{name}_{role}{'' if last else index}", dtype=dtype), source)
        return source

    def shape(source: Value, target: tuple[int, ...], role: str) -> Value:
        if _sides(source) == target:
            return source
        return graph.add(layers.Reshape(target, name=f"{name}_{role}", dtype=dtype), source)

    # The NPUs reduce the channels of a row of pixels alone, and up to 4095 elements of an axis.
    if node.kind == "LayerNormalization":
        steps: list[tuple[int, ...]] = [(2,)]
        value = shape(value, (math.prod(sides[:-1]), sides[-1]), "rows")
    elif layer.groups == 1:
        steps = [(1, 2), (3,)]
    else:
        steps = [(1,), (3,)]
        value = shape(value, (sides[0] * sides[1], layer.groups, sides[2] // layer.groups), "groups")
    centred = graph.add(layers.Subtract(name=f"{name}_centred", dtype=dtype), value, mean(value, "mean"))
    square = graph.add(layers.Multiply(name=f"{name}_square", dtype=dtype), centred, centred)
    variance = mean(square, "variance")
    floor = min(layer.epsilon, LEAST_EPSILON) or 1e-12 if integer else 0.0
    if layer.epsilon >= LEAST_EPSILON or not integer:
        epsilon = with_constant(AddConstant((1,) * (len(variance.shape) - 1), name=f"{name}_epsilon", dtype=dtype),
                                layer.epsilon)  # fmt: skip
        epsilon.trainable = False
        variance = graph.add(epsilon, variance)
    inverse = graph.add(Rsqrt(floor, name=f"{name}_rsqrt", dtype=dtype), variance)
    value = graph.add(layers.Multiply(name=f"{name}_product", dtype=dtype), centred, inverse)
    value = shape(value, sides, "sides")
    scale = np.ones(sides[-1]) if layer.gamma is None else folding.to_float64(layer.gamma)
    offset = np.zeros(sides[-1]) if layer.beta is None else folding.to_float64(layer.beta)
    if (layer.gamma is None and layer.beta is None) or _into_dense(graph, node, scale, offset):
        graph.replace(node.output, value)
        return
    affine = ChannelAffine(name=name, dtype=dtype)
    affine.build(node.output.shape)
    affine.set_weights([scale, offset])
    affine.trainable = layer.trainable
    graph.replace(node.output, graph.add(affine, value))


def _into_dense(graph: Graph, node: Node, scale: np.ndarray, offset: np.ndarray) -> bool:
    """Multiply the kernels of all that reads a norm by its scale, if these are dense layers."""
    shared, readers = graph.shared(), graph.consumers().get(node.output, [])
    if node.output in graph.outputs or not readers:
        return False
    if any(r.kind != "Dense" or id(r.layer) in shared or folding.is_restrained(r.layer) for r in readers):
        return False
    for reader in readers:
        kernel, bias = folding.kernel_of(reader.layer).astype(np.float64), folding.bias_of(reader.layer)
        moved = offset @ kernel + (0.0 if bias is None else bias)
        trains = reader.layer.trainable
        reader.layer = folding.with_weights(
            reader.layer, (kernel * scale[:, None]).astype(np.float32), moved.astype(np.float32)
        )
        reader.layer.trainable = trains
    return True
