"""Trace a model on symbolic tensors, operation by operation: the work, inputs and outputs of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from .keras_internals import flatten_layers, producer, trainable_variables_of_its_own
from .mac_counts import COUNTS, built_in_class, bytes_of, count_macs, is_free, scratch_bytes, shape_of, size_of

# At inference the output is the input, possibly reshaped: it needs no additional memory.
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
    """Profile of one layer over all its calls, without its sublayers, which have separate rows.

    Args:
        name: Name of the layer, or of an operation that the model calls without a layer.
        kind: Name of the class.
        output_shape: Shape of its first call's output, batch axis first (1).
        parameters: Trainable weights, without those of sublayers.
        macs: Multiply-accumulates of one inference.
        activation_bytes: Memory of its outputs.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    activation_bytes: int


@dataclass(eq=False)
class _Buffer:
    """Memory of one activation; views share it."""

    nbytes: int


@dataclass(eq=False)
class _Step:
    """One executed operation."""

    reads: list[_Buffer]
    writes: list[_Buffer]


class _Row:
    """A ``LayerProfile`` under construction."""

    def __init__(self, operation: Any, shape: tuple[int, ...]) -> None:
        self.name = operation.name
        self.kind = type(operation).__name__
        self.shape = shape
        self.parameters = 0
        self.macs = 0
        self.nbytes = 0


class Tracer:
    """Walk the symbolic calls that Keras recorded, and open layers that contain several operations."""

    def __init__(self) -> None:
        self.uncounted: list[str] = []
        self._steps: list[_Step] = []
        self._rows: dict[int, _Row] = {}
        self._buffers: dict[int, _Buffer] = {}  # id(tensor) -> its memory
        self._alive: list[Any] = []  # tensors and operations, kept so that ids stay unique

    def rows(self) -> tuple[LayerProfile, ...]:
        return tuple(
            LayerProfile(row.name, row.kind, row.shape, row.parameters, row.macs, row.nbytes)
            for row in self._rows.values()
        )

    def inputs(self, tensors: Sequence[Any]) -> None:
        """Register ``tensors`` as the inputs."""
        for tensor in tensors:
            self._alive.append(tensor)
            self._buffers[id(tensor)] = _Buffer(bytes_of(tensor))
        self._steps.append(_Step([], [self._buffers[id(tensor)] for tensor in tensors]))

    def peak_bytes(self, results: Sequence[Any]) -> int:
        """Return the largest sum of live buffers, each alive from its write to its last read."""
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
            owner: The opened layer; operations without a layer count as part of it.
        """
        stack = [(tensor, False) for tensor in reversed(results)]
        while stack:
            tensor, expanded = stack.pop()
            if id(tensor) in self._buffers or not isinstance(tensor, keras.KerasTensor):
                continue
            operation, call = producer(tensor)
            if expanded:
                self._visit(operation, call, owner)
            else:
                stack.append((tensor, True))
                stack.extend((t, False) for t in reversed(call.arguments.keras_tensors) if id(t) not in self._buffers)

    def _visit(self, operation: Any, call: Any, owner: Any) -> None:
        self._alive += [operation, *call.outputs]
        is_layer = isinstance(operation, keras.Layer)
        if is_layer and is_opened(operation):
            row = self._row(operation, call)  # first, so that a layer comes before its sublayers
            row.parameters = count_values(trainable_variables_of_its_own(operation))
            if self._open(operation, call):
                return
            self.uncounted.append(operation.name)
        if type(operation).__name__ == "ConvertToTensor":  # a model applies it to its inputs
            self._buffers[id(call.outputs[0])] = self._buffers[id(call.arguments.keras_tensors[0])]
            return
        counted = operation if is_layer or isinstance(owner, keras.Model) else owner
        row = self._row(counted, call)
        if is_layer:
            row.parameters = count_values(operation.trainable_weights)
        if any(None in tensor.shape for tensor in (*call.arguments.keras_tensors, *call.outputs)):
            self.uncounted.append(row.name)  # a side that is known only at run time
        row.macs += count_macs(operation, call)
        reads = [self._buffers[id(tensor)] for tensor in call.arguments.keras_tensors]
        view = isinstance(operation, VIEWS) or type(operation).__name__ in VIEW_OPS
        writes = []
        for tensor in call.outputs:
            if view and reads:
                self._buffers[id(tensor)] = reads[0]
            else:
                writes.append(self._buffers.setdefault(id(tensor), _Buffer(bytes_of(tensor))))
        row.nbytes += sum(buffer.nbytes for buffer in writes)
        scratch = [_Buffer(scratch_bytes(operation, call))]
        self._steps.append(_Step(reads, [*writes, *scratch]))

    def _row(self, operation: Any, call: Any) -> _Row:
        if id(operation) not in self._rows:
            self._rows[id(operation)] = _Row(operation, shape_of(call.outputs[0]))
        return self._rows[id(operation)]

    def _open(self, layer: Any, call: Any) -> bool:
        """Trace the inside of a layer; False if it does not run on symbolic tensors."""
        args, kwargs = call.arguments.args, {k: v for k, v in call.arguments.kwargs.items() if v is not None}
        try:
            results = keras.tree.flatten(
                layer.inline(*args) if hasattr(layer, "inline") else layer.call(*args, **kwargs)
            )
        except Exception:  # a custom layer may raise anything on a symbolic tensor
            return False
        results = [result for result in results if isinstance(result, keras.KerasTensor)]
        if [shape_of(result) for result in results] != [shape_of(tensor) for tensor in call.outputs]:
            return False
        self._alive += results
        self.walk(results, owner=layer)
        for outer, inner in zip(call.outputs, results, strict=True):
            self._buffers[id(outer)] = self._buffers[id(inner)]
        return True


def is_opened(layer: Any) -> bool:
    """Return whether a layer is counted by its operations."""
    if is_free(layer):
        return False
    if hasattr(layer, "inline") or isinstance(layer, keras.Model):
        return True
    kind = built_in_class(layer)
    if kind is keras.Layer:
        return True  # a custom layer
    return kind.__name__ not in COUNTS and bool(flatten_layers(layer, include_self=False))


def count_values(weights: Iterable[Any]) -> int:
    return sum(size_of(weight.shape) for weight in weights)
