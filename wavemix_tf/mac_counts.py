"""Multiply-accumulates of each kind of Keras layer and operation: the table ``COUNTS``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from .keras_internals import flatten_layers
from .layers.wavelets import DWT2D, IDWT2D, LowPass2D


def count_macs(operation: Any, call: Any) -> int:
    """Return the multiply-accumulates of one call of a layer or an operation that is not opened."""
    kind = built_in_class(operation) if isinstance(operation, keras.Layer) else type(operation)
    count = None if is_free(operation) else COUNTS.get(kind.__name__)
    return 0 if count is None else int(count(operation, call))


def is_free(operation: Any) -> bool:
    """Return whether an operation is a Haar transform, which needs no products."""
    return isinstance(operation, (DWT2D, IDWT2D, LowPass2D)) and getattr(operation, "wavelet", "haar") == "haar"


def built_in_class(layer: Any) -> type:
    """Return the Keras class that a layer is or inherits from."""
    return next(cls for cls in type(layer).__mro__ if cls.__module__.split(".")[0] == "keras")


def _tensors(call: Any) -> list[Any]:
    """Return all arguments of a call that have a shape, including weights."""
    flat = keras.tree.flatten((call.arguments.args, call.arguments.kwargs))
    return [leaf for leaf in flat if hasattr(leaf, "shape")]


def _kernel(layer: Any, call: Any) -> Any:
    return layer.kernel if isinstance(layer, keras.Layer) else _tensors(call)[1]


def _conv(layer: Any, call: Any) -> int:
    return size_of(shape_of(call.outputs[0])) * size_of(_kernel(layer, call).shape[:-1])  # kernel (k..., C / groups, F)


def _depthwise(layer: Any, call: Any) -> int:
    return size_of(shape_of(call.outputs[0])) * size_of(_kernel(layer, call).shape[:-2])  # kernel (k..., C, multiplier)


def _transposed(layer: Any, call: Any) -> int:
    return size_of(shape_of(_tensors(call)[0])) * size_of(_kernel(layer, call).shape[:-1])  # kernel (k..., F, C)


def _separable(layer: Any, call: Any) -> int:
    if isinstance(layer, keras.Layer):
        depthwise, pointwise = layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
    else:
        depthwise, pointwise = (tensor.shape for tensor in _tensors(call)[1:3])
    positions = size_of(shape_of(call.outputs[0])) // pointwise[-1]
    return positions * (size_of(depthwise) + size_of(pointwise))


def _dense(layer: Any, call: Any) -> int:
    return size_of(shape_of(call.outputs[0])) * layer.kernel.shape[0]


def _einsum_dense(layer: Any, call: Any) -> int:
    return _einsum_products(layer.equation, [shape_of(_tensors(call)[0]), tuple(layer.kernel.shape)])


def _einsum(operation: Any, call: Any) -> int:
    return _einsum_products(operation.subscripts, [shape_of(tensor) for tensor in _tensors(call)])


def _einsum_products(equation: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """Return the product of all axes of an einsum; 0 for a single operand."""
    if len(shapes) < 2:
        return 0
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sides: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        before, dots, after = term.partition("...")
        covered = len(shape) - len(before) - len(after) if dots else 0
        # Axes in "..." are named by their distance from the last one, as in broadcasting.
        names = [*before, *(f".{covered - i}" for i in range(covered)), *after]
        for name, side in zip(names, shape, strict=True):
            sides[name] = max(sides.get(name, 1), side)
    return math.prod(sides.values()) * (len(shapes) - 1)


def _matmul(operation: Any, call: Any) -> int:
    return size_of(shape_of(call.outputs[0])) * shape_of(_tensors(call)[0])[-1]


def _tensordot(operation: Any, call: Any) -> int:
    first, second = (size_of(shape_of(tensor)) for tensor in _tensors(call)[:2])
    return math.isqrt(first * second * size_of(shape_of(call.outputs[0])))  # the sides kept and summed: (k s)(s m)(k m)


def _attention_op(operation: Any, call: Any) -> int:
    query, key, value = (shape_of(tensor) for tensor in _tensors(call)[:3])  # (B, T, N, H), (B, S, K, H), (B, S, K, V)
    return size_of(query) * key[1] + size_of(query[:-1]) * key[1] * value[-1]


def _attention(layer: Any, call: Any) -> int:
    shapes = [shape_of(tensor) for tensor in keras.tree.flatten(call.arguments.args)[:3] if hasattr(tensor, "shape")]
    query, value, key = shapes[0], shapes[1], shapes[2] if len(shapes) > 2 else shapes[1]
    # Additive attention adds instead of multiplying, but scales each sum.
    return size_of(query) * key[1] + size_of(query[:2]) * key[1] * value[-1]


def _heads(layer: Any, call: Any) -> tuple[int, int, dict[str, tuple[int, ...]]]:
    """Return (query positions, key/value positions, sublayer -> kernel shape) of a multi-head attention."""
    given = call.arguments.kwargs
    positional = [arg for arg in call.arguments.args if hasattr(arg, "shape")]
    query = given["query"] if "query" in given else positional[0]
    value = given["value"] if "value" in given else positional[-1 if "query" in given else 1]
    parts = {part.name: part for part in flatten_layers(layer, include_self=False) if hasattr(part, "kernel")}
    kernels = {name: tuple(part.kernel.shape) for name, part in parts.items()}  # (C, heads, head), (heads, head, C)
    return size_of(shape_of(query)[:-1]), size_of(shape_of(value)[:-1]), kernels


def _multi_head(layer: Any, call: Any) -> int:
    queries, keys, kernels = _heads(layer, call)
    projections = sum(
        (keys if name in ("key", "value") else queries) * size_of(shape) for name, shape in kernels.items()
    )
    _, heads, key_dim = kernels["query"]
    return projections + heads * queries * keys * (key_dim + kernels["attention_output"][-2])


def scratch_bytes(operation: Any, call: Any) -> int:
    """Return the bytes inside an attention that is not opened: projected query, key and value, and the scores."""
    if not isinstance(operation, keras.Layer) or COUNTS.get(built_in_class(operation).__name__) is not _multi_head:
        return 0
    queries, keys, kernels = _heads(operation, call)
    projected = sum(
        {"query": queries, "key": keys, "value": keys}.get(n, 0) * size_of(k[1:]) for n, k in kernels.items()
    )
    itemsize = bytes_of(call.outputs[0]) // max(1, size_of(shape_of(call.outputs[0])))
    return (projected + kernels["query"][1] * queries * keys) * itemsize


COUNTS = {
    **{f"Conv{rank}D": _conv for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _depthwise for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _separable for rank in (1, 2)},
    **{f"Conv{rank}DTranspose": _transposed for rank in (1, 2, 3)},
    "Dense": _dense,
    "EinsumDense": _einsum_dense,
    # Not opened: the einsums inside lose the number of positions.
    "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": _multi_head,
    "Attention": _attention,
    "AdditiveAttention": _attention,
    # Operations of keras.ops.
    "Conv": _conv,
    "DepthwiseConv": _depthwise,
    "SeparableConv": _separable,
    "ConvTranspose": _transposed,
    "Einsum": _einsum,
    "Matmul": _matmul,
    "Dot": _tensordot,
    "Tensordot": _tensordot,
    "DotProductAttention": _attention_op,
}


def shape_of(tensor: Any) -> tuple[int, ...]:
    return tuple(1 if side is None else int(side) for side in tensor.shape)


def size_of(shape: Sequence[int]) -> int:
    return math.prod(int(side) for side in shape)


def bytes_of(tensor: Any) -> int:
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    # NumPy has no bfloat16 and no 8-bit floats.
    size = {"bfloat16": 2}.get(dtype) or (1 if dtype.startswith("float8") else np.dtype(dtype).itemsize)
    return size_of(shape_of(tensor)) * size
