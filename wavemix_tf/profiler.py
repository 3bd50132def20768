"""``profile``: parameters, multiply-accumulates and activation memory of a Keras model, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from .layers.wavelets import DWT2D, IDWT2D, LowPass2D

# At inference their output is their input, under the same or another shape: no memory of its own.
VIEWS = (
    keras.layers.Dropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
    keras.layers.Identity,
    keras.layers.Flatten,
    keras.layers.Reshape,
)
VIEW_OPS = {"Reshape", "Squeeze", "ExpandDims", "Identity", "StopGradient", "Ravel"}


@dataclass(frozen=True)
class LayerProfile:
    """One layer, however often the model calls it; what it computes beside its sublayers, which have rows of their own.

    Args:
        name: Of the layer, or of the operation where the model calls one without a layer.
        kind: Class.
        output_shape: Of its first call, batch axis first (1).
        parameters: Trainable weights of its own.
        macs: Multiply-accumulates of one inference.
        activation_bytes: Memory of its outputs.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class ModelProfile:
    """What a model takes at batch 1. ``str()`` is a table.

    Args:
        name: Of the model.
        layers: In the order in which they run.
        parameters: Trainable weights, as the papers count.
        other_parameters: The rest: moving statistics, fixed filters.
        macs: Multiply-accumulates of convolutions, dense layers and matrix products, attention's included.
        peak_activation_bytes: Largest sum of the activations that are held at one time, the input included, if each is
            held from its making to its last use and nothing is fused or written in place.
        uncounted: Layers whose inside could not be seen: what they multiply is missing in ``macs``.
    """

    name: str
    layers: tuple[LayerProfile, ...]
    parameters: int
    other_parameters: int
    macs: int
    peak_activation_bytes: int
    uncounted: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [("layer", "kind", "output", "parameters", "MMAC", "KiB")]
        for row in self.layers:
            shape = "x".join(map(str, row.output_shape[1:]))
            macs = f"{row.macs / 1e6:.3f}" if row.macs else ""
            size = f"{row.activation_bytes / 1024:.1f}" if row.activation_bytes else ""
            rows.append((row.name, row.kind, shape, f"{row.parameters:,}" if row.parameters else "", macs, size))
        peak = f"peak {self.peak_activation_bytes / 1024:.1f}"
        rows.append((self.name, "total", "", f"{self.parameters:,}", f"{self.macs / 1e6:.3f}", peak))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                text.ljust(width) if column < 3 else text.rjust(width)
                for column, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        rule = "-" * max(map(len, lines))
        table = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        if self.uncounted:
            table.append(f"Not counted, their inside could not be seen: {', '.join(self.uncounted)}")
        return "\n".join(table)


def profile(model: Any) -> ModelProfile:
    """Count a model's parameters, multiply-accumulates and activation memory at batch 1, at inference.

    The model is traced on symbolic tensors, so nothing is computed and the backend does not matter. A layer that holds
    others is opened (by its ``inline`` where it has one), and so is a custom one: every product in it counts, whether
    written as a layer or with ``keras.ops``. Taps of a convolution that lie on padding count, biases and elementwise
    steps do not; a transposed convolution does one product for each input value, tap and output channel. A Haar
    transform (``DWT2D``, ``IDWT2D``) adds and halves, and contracts with the convolution behind it (``fold_dwt``): it
    counts as no products; other wavelets count.

    Args:
        model: ``keras.Model`` with known image sides: functional, ``Sequential`` or a subclass that runs on symbolic
            tensors.

    Returns:
        A ``ModelProfile``.

    Raises:
        ValueError: not a Keras model, not built, or a side of its input is unknown.

    Example:
    >>> print(wm.profile(wm.WaveMixClassifier(10, (32, 32, 3), width=32, depth=7)))
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"model must be a keras.Model. Received: model of type {type(model).__name__}")
    try:
        specs = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    except (AttributeError, ValueError, TypeError):
        raise ValueError(
            f"model must know its inputs: functional, or a Sequential with an Input. Received: model={model.name!r}"
        ) from None
    for tensor in keras.tree.flatten(specs):
        if None in tensor.shape[1:]:
            raise ValueError(
                f"The sides of the model's input must be known. Received: input_shape={tuple(tensor.shape)}"
            )
    tracer = _Tracer()
    with _unchanged(model):
        # Once more through the graph, at batch 1: an unknown batch hides in shapes that merge it with other axes.
        stand_ins = keras.tree.map_structure(
            lambda tensor: keras.Input(batch_shape=(1, *tensor.shape[1:]), dtype=tensor.dtype), specs
        )
        tracer.inputs(keras.tree.flatten(stand_ins))
        results = keras.tree.flatten(model.call(stand_ins))
        tracer.walk(results, owner=model)
    layers = tracer.rows()
    return ModelProfile(
        name=model.name,
        layers=layers,
        parameters=_parameters(model.trainable_weights),
        other_parameters=_parameters(model.non_trainable_weights),
        macs=sum(row.macs for row in layers),
        peak_activation_bytes=tracer.peak_bytes(results),
        uncounted=tuple(dict.fromkeys(tracer.uncounted)),
    )


@contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Forget the calls that tracing adds to the layers' records."""
    layers = [model, *model._flatten_layers(include_self=False)]
    kept = [(layer, len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in layers]
    try:
        yield
    finally:
        for layer, inbound, outbound in kept:
            del layer._inbound_nodes[inbound:]
            del layer._outbound_nodes[outbound:]


@dataclass(eq=False)
class _Buffer:
    """Memory of one activation; views share it."""

    nbytes: int


@dataclass(eq=False)
class _Step:
    """One operation as it runs."""

    reads: list[_Buffer]
    writes: list[_Buffer]


class _Row:
    """A growing ``LayerProfile``."""

    def __init__(self, operation: Any, shape: tuple[int, ...]) -> None:
        self.name = operation.name
        self.kind = type(operation).__name__
        self.shape = shape
        self.parameters = 0
        self.macs = 0
        self.nbytes = 0


class _Tracer:
    """Walks what Keras recorded of symbolic calls, opening layers that hold computation of their own."""

    def __init__(self) -> None:
        self.uncounted: list[str] = []
        self._steps: list[_Step] = []
        self._rows: dict[int, _Row] = {}
        self._buffers: dict[int, _Buffer] = {}  # id(tensor) -> its memory
        self._alive: list[Any] = []  # tensors and operations, so that no id comes twice

    def rows(self) -> tuple[LayerProfile, ...]:
        return tuple(
            LayerProfile(row.name, row.kind, row.shape, row.parameters, row.macs, row.nbytes)
            for row in self._rows.values()
        )

    def inputs(self, tensors: Sequence[Any]) -> None:
        """Let ``tensors`` be there from the start."""
        for tensor in tensors:
            self._alive.append(tensor)
            self._buffers[id(tensor)] = _Buffer(_nbytes(tensor))
        self._steps.append(_Step([], [self._buffers[id(tensor)] for tensor in tensors]))

    def peak_bytes(self, results: Sequence[Any]) -> int:
        """Largest sum of buffers between their writing and their last reading."""
        last = {buffer: index for index, step in enumerate(self._steps) for buffer in (*step.reads, *step.writes)}
        last |= {self._buffers[id(tensor)]: len(self._steps) for tensor in results}
        held: set[_Buffer] = set()
        peak = 0
        for index, step in enumerate(self._steps):
            held.update(step.writes)
            peak = max(peak, sum(buffer.nbytes for buffer in held))
            held = {buffer for buffer in held if last[buffer] > index}
        return peak

    def walk(self, results: Sequence[Any], owner: Any) -> None:
        """Visit every call that leads to ``results``, producers first.

        Args:
            results: KerasTensors.
            owner: The layer whose inside this is; bare operations count as its own.
        """
        stack = [(tensor, False) for tensor in reversed(results)]
        while stack:
            tensor, expanded = stack.pop()
            if id(tensor) in self._buffers or not isinstance(tensor, keras.KerasTensor):
                continue
            # `_keras_history` is where Keras keeps the edges; its public API has the layers alone.
            operation, index, _ = tensor._keras_history
            call = operation._inbound_nodes[index]
            if expanded:
                self._visit(operation, call, owner)
            else:
                stack.append((tensor, True))
                stack.extend((t, False) for t in reversed(call.arguments.keras_tensors) if id(t) not in self._buffers)

    def _visit(self, operation: Any, call: Any, owner: Any) -> None:
        self._alive += [operation, *call.outputs]
        is_layer = isinstance(operation, keras.Layer)
        if is_layer and _opens(operation):
            row = self._row(operation, call)  # first, so that a layer stands before its sublayers
            row.parameters = _parameters(operation._trainable_variables)
            if self._open(operation, call):
                return
            self.uncounted.append(operation.name)
        if type(operation).__name__ == "ConvertToTensor":  # what a model does with its inputs
            self._buffers[id(call.outputs[0])] = self._buffers[id(call.arguments.keras_tensors[0])]
            return
        counted = operation if is_layer or isinstance(owner, keras.Model) else owner
        row = self._row(counted, call)
        if is_layer:
            row.parameters = _parameters(operation.trainable_weights)
        if any(None in tensor.shape for tensor in (*call.arguments.keras_tensors, *call.outputs)):
            self.uncounted.append(row.name)  # a side that is known at run time alone
        row.macs += _count(operation, call)
        reads = [self._buffers[id(tensor)] for tensor in call.arguments.keras_tensors]
        view = isinstance(operation, VIEWS) or type(operation).__name__ in VIEW_OPS
        writes = []
        for tensor in call.outputs:
            if view and reads:
                self._buffers[id(tensor)] = reads[0]
            else:
                writes.append(self._buffers.setdefault(id(tensor), _Buffer(_nbytes(tensor))))
        row.nbytes += sum(buffer.nbytes for buffer in writes)
        scratch = [_Buffer(_scratch_bytes(operation, call))]
        self._steps.append(_Step(reads, [*writes, *scratch]))

    def _row(self, operation: Any, call: Any) -> _Row:
        if id(operation) not in self._rows:
            self._rows[id(operation)] = _Row(operation, _shape(call.outputs[0]))
        return self._rows[id(operation)]

    def _open(self, layer: Any, call: Any) -> bool:
        """Trace the inside of a layer; False where it does not run on symbolic tensors."""
        args, kwargs = call.arguments.args, {k: v for k, v in call.arguments.kwargs.items() if v is not None}
        try:
            results = keras.tree.flatten(
                layer.inline(*args) if hasattr(layer, "inline") else layer.call(*args, **kwargs)
            )
        except Exception:  # whatever a layer of someone's does with a tensor that has no values
            return False
        results = [result for result in results if isinstance(result, keras.KerasTensor)]
        if [_shape(result) for result in results] != [_shape(tensor) for tensor in call.outputs]:
            return False
        self._alive += results
        self.walk(results, owner=layer)
        for outer, inner in zip(call.outputs, results, strict=True):
            self._buffers[id(outer)] = self._buffers[id(inner)]
        return True


def _built_in(layer: Any) -> type:
    """The class of Keras's own that a layer is or is made from."""
    return next(cls for cls in type(layer).__mro__ if cls.__module__.split(".")[0] == "keras")


def _parameters(weights: Iterable[Any]) -> int:
    return sum(_size(weight.shape) for weight in weights)


def _free(operation: Any) -> bool:
    """Whether it is a Haar transform: signs and halves, no products."""
    return isinstance(operation, (DWT2D, IDWT2D, LowPass2D)) and getattr(operation, "wavelet", "haar") == "haar"


def _opens(layer: Any) -> bool:
    """Whether a layer is to be counted by its inside."""
    if _free(layer):
        return False
    if hasattr(layer, "inline") or isinstance(layer, keras.Model):
        return True
    kind = _built_in(layer)
    if kind is keras.Layer:
        return True  # a custom layer
    return kind.__name__ not in COUNTS and any(True for _ in layer._flatten_layers(include_self=False))


def _count(operation: Any, call: Any) -> int:
    """Multiply-accumulates of one call of a layer or an operation that is not opened."""
    kind = _built_in(operation) if isinstance(operation, keras.Layer) else type(operation)
    count = None if _free(operation) else COUNTS.get(kind.__name__)
    return 0 if count is None else int(count(operation, call))


# --- the products of each kind of layer and operation -----------------------------------------------------------------


def _tensors(call: Any) -> list[Any]:
    """Everything with a shape that a call was given, weights included."""
    flat = keras.tree.flatten((call.arguments.args, call.arguments.kwargs))
    return [leaf for leaf in flat if hasattr(leaf, "shape")]


def _kernel(layer: Any, call: Any) -> Any:
    return layer.kernel if isinstance(layer, keras.Layer) else _tensors(call)[1]


def _conv(layer: Any, call: Any) -> int:
    return _size(_shape(call.outputs[0])) * _size(_kernel(layer, call).shape[:-1])  # kernel (k..., C / groups, F)


def _depthwise(layer: Any, call: Any) -> int:
    return _size(_shape(call.outputs[0])) * _size(_kernel(layer, call).shape[:-2])  # kernel (k..., C, multiplier)


def _transposed(layer: Any, call: Any) -> int:
    return _size(_shape(_tensors(call)[0])) * _size(_kernel(layer, call).shape[:-1])  # kernel (k..., F, C)


def _separable(layer: Any, call: Any) -> int:
    if isinstance(layer, keras.Layer):
        depthwise, pointwise = layer.depthwise_kernel.shape, layer.pointwise_kernel.shape
    else:
        depthwise, pointwise = (tensor.shape for tensor in _tensors(call)[1:3])
    positions = _size(_shape(call.outputs[0])) // pointwise[-1]
    return positions * (_size(depthwise) + _size(pointwise))


def _dense(layer: Any, call: Any) -> int:
    return _size(_shape(call.outputs[0])) * layer.kernel.shape[0]


def _einsum_dense(layer: Any, call: Any) -> int:
    return _einsum_products(layer.equation, [_shape(_tensors(call)[0]), tuple(layer.kernel.shape)])


def _einsum(operation: Any, call: Any) -> int:
    return _einsum_products(operation.subscripts, [_shape(tensor) for tensor in _tensors(call)])


def _einsum_products(equation: str, shapes: Sequence[tuple[int, ...]]) -> int:
    """Product of all sides that an einsum runs over; one operand multiplies nothing."""
    if len(shapes) < 2:
        return 0
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sides: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        before, dots, after = term.partition("...")
        covered = len(shape) - len(before) - len(after) if dots else 0
        # Axes under the dots are named by their distance from the last of them, as broadcasting matches them.
        names = [*before, *(f".{covered - i}" for i in range(covered)), *after]
        for name, side in zip(names, shape, strict=True):
            sides[name] = max(sides.get(name, 1), side)
    return math.prod(sides.values()) * (len(shapes) - 1)


def _matmul(operation: Any, call: Any) -> int:
    return _size(_shape(call.outputs[0])) * _shape(_tensors(call)[0])[-1]


def _tensordot(operation: Any, call: Any) -> int:
    first, second = (_size(_shape(tensor)) for tensor in _tensors(call)[:2])
    return math.isqrt(first * second * _size(_shape(call.outputs[0])))  # of sides kept and summed: (k s)(s m)(k m)


def _attention_op(operation: Any, call: Any) -> int:
    query, key, value = (_shape(tensor) for tensor in _tensors(call)[:3])  # (B, T, N, H), (B, S, K, H), (B, S, K, V)
    return _size(query) * key[1] + _size(query[:-1]) * key[1] * value[-1]


def _attention(layer: Any, call: Any) -> int:
    shapes = [_shape(tensor) for tensor in keras.tree.flatten(call.arguments.args)[:3] if hasattr(tensor, "shape")]
    query, value, key = shapes[0], shapes[1], shapes[2] if len(shapes) > 2 else shapes[1]
    # Additive attention adds where the other multiplies, but scales each sum.
    return _size(query) * key[1] + _size(query[:2]) * key[1] * value[-1]


def _heads(layer: Any, call: Any) -> tuple[int, int, dict[str, tuple[int, ...]]]:
    """(positions of the query, of key and value, sublayer -> kernel shape) of a multi-head attention."""
    given = call.arguments.kwargs
    positional = [arg for arg in call.arguments.args if hasattr(arg, "shape")]
    query = given["query"] if "query" in given else positional[0]
    value = given["value"] if "value" in given else positional[-1 if "query" in given else 1]
    parts = {part.name: part for part in layer._flatten_layers(include_self=False) if hasattr(part, "kernel")}
    kernels = {name: tuple(part.kernel.shape) for name, part in parts.items()}  # (C, heads, head), (heads, head, C)
    return _size(_shape(query)[:-1]), _size(_shape(value)[:-1]), kernels


def _multi_head(layer: Any, call: Any) -> int:
    queries, keys, kernels = _heads(layer, call)
    projections = sum((keys if name in ("key", "value") else queries) * _size(shape) for name, shape in kernels.items())
    _, heads, key_dim = kernels["query"]
    return projections + heads * queries * keys * (key_dim + kernels["attention_output"][-2])


def _scratch_bytes(operation: Any, call: Any) -> int:
    """Activations inside an attention that is not opened: projected query, key and value, and the scores."""
    if not isinstance(operation, keras.Layer) or COUNTS.get(_built_in(operation).__name__) is not _multi_head:
        return 0
    queries, keys, kernels = _heads(operation, call)
    projected = sum({"query": queries, "key": keys, "value": keys}.get(n, 0) * _size(k[1:]) for n, k in kernels.items())
    itemsize = _nbytes(call.outputs[0]) // max(1, _size(_shape(call.outputs[0])))
    return (projected + kernels["query"][1] * queries * keys) * itemsize


COUNTS = {
    **{f"Conv{rank}D": _conv for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _depthwise for rank in (1, 2)},
    **{f"SeparableConv{rank}D": _separable for rank in (1, 2)},
    **{f"Conv{rank}DTranspose": _transposed for rank in (1, 2, 3)},
    "Dense": _dense,
    "EinsumDense": _einsum_dense,
    # Not opened: Keras's own einsums inside lose the number of positions.
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


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(1 if side is None else int(side) for side in tensor.shape)


def _size(shape: Sequence[int]) -> int:
    return math.prod(int(side) for side in shape)


def _nbytes(tensor: Any) -> int:
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    # NumPy has no bfloat16 and no 8-bit floats.
    size = {"bfloat16": 2}.get(dtype) or (1 if dtype.startswith("float8") else np.dtype(dtype).itemsize)
    return _size(_shape(tensor)) * size
