"""A Keras functional model as a graph that passes can rewrite, and back.

Keras's own graph records calls and cannot be edited. ``Graph`` is an editable copy: nodes contain a layer and refer to
values; a pass replaces values and adds nodes. Unreachable nodes disappear, because the graph consists of the nodes that
its outputs reach. Layers are cloned with their weights when a model is read, so no pass changes the model.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from wavemix_tf.keras_internals import producer

from ..errors import UnsupportedLayerError
from ..layers.augmentation import passes_at_inference
from ..layers.copying import copy_layer, copy_operation

UNROUNDED = "_unrounded"  # suffix of a layer whose name went to its quantizer, because it was the name of an output
# Classes that compute the same as another, in a different way.
SAME_FUNCTION = {
    "FusedBatchNormalization": "BatchNormalization",
    "QuantBatchNormalization": "BatchNormalization",
    "ByteDropout": "Dropout",
    "FusedActivation": "Activation",
}


@dataclass(eq=False)
class Value:
    """One output of one node. ``shape`` has the batch axis first."""

    node: Node
    index: int
    shape: tuple[int | None, ...]
    dtype: str = "float32"

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def is_float(self) -> bool:
        """Whether it contains floating point numbers, as all values except indices and masks do."""
        return "float" in self.dtype


@dataclass(eq=False)
class Node:
    """One call of a layer; ``layer`` is None for an input of the model, which ``label`` names.

    ``args`` and ``kwargs`` are the arguments of the call, with ``Value`` in place of tensors. For a layer whose weights
    lie on an int8 grid, ``grid`` is the step of each output channel, and ``accumulator`` is that times the step of its
    input.
    """

    layer: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    outputs: list[Value] = field(default_factory=list)
    grid: np.ndarray | None = None
    accumulator: np.ndarray | None = None
    label: str = "input"
    # Names of the layers of the given model that this node computes, or computes part of: the layer itself, and the
    # composites and nested models that contain it. ``replace`` copies them, so passes need not.
    origin: tuple[str, ...] = ()
    # Whether the layer acts only in training and returns its input at inference.
    passes: bool = False

    @property
    def kind(self) -> str:
        """Class name of a layer of Keras or this package, "Input" for an input.

        A user's layer is "custom Name", whatever it inherits, and an operation "ops.Name": neither computes the same as
        a layer of that name. Any layer that acts only in training is "TrainingOnly"; "Step" is the step of a
        quantizer's grid (``ranges.connect_steps``).
        """
        if self.layer is None:
            return "Input"
        if "step_only" in self.kwargs:
            return "Step"
        if self.passes:
            return "TrainingOnly"
        cls = type(self.layer)
        name = cls.__name__
        if not isinstance(self.layer, keras.Layer):
            return f"ops.{name}"
        if cls.__module__.partition(".")[0] not in ("keras", "wavemix_tf"):
            return f"custom {name}"
        return SAME_FUNCTION.get(name, name)

    @property
    def name(self) -> str:
        return self.label if self.layer is None else self.layer.name

    @property
    def inputs(self) -> list[Value]:
        if not self.kwargs and len(self.args) == 1 and isinstance(self.args[0], Value):
            return [self.args[0]]  # nearly every node; flattening each of them in every pass would take seconds
        flat = keras.tree.flatten((self.args, self.kwargs))
        return [leaf for leaf in flat if isinstance(leaf, Value)]

    @property
    def output(self) -> Value:
        return self.outputs[0]

    def redirect(self, old: Value, new: Value) -> None:
        """Replace ``old`` by ``new`` in the arguments of the call."""
        self.args, self.kwargs = keras.tree.map_structure(
            lambda leaf: new if leaf is old else leaf, (self.args, self.kwargs)
        )


class Graph:
    """Editable copy of a functional model. ``Graph.from_model`` makes it, ``to_model`` converts it back."""

    def __init__(
        self,
        inputs: list[Value],
        outputs: list[Value],
        dtypes: list[str],
        structure: tuple[Any, Any],
        output_names: Sequence[str],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.dtypes = list(dtypes)  # one for each input
        self.output_names = list(output_names)  # losses and metrics use them; passes can ignore them
        self.kept: dict[int, Any] = {}  # id -> a layer that could not be copied and belongs to the given model
        self._structure = structure  # structure of the model's inputs and outputs: a single tensor, a list or a dict

    @classmethod
    def from_model(cls, model: Any, dtype: str | None = None) -> Graph:
        """Copy a functional model; nested models and composite layers are replaced by their parts.

        A composite is a layer with a method ``inline(x)`` that computes the same by calling its sublayers.

        Args:
            model: Functional ``keras.Model`` (or ``Sequential``) with known image sides.
            dtype: dtype policy of the copied layers; None keeps each layer's own.

        Raises:
            UnsupportedLayerError: the model is not functional, or its image sides are unknown.
        """
        cls.check(model)
        copier = _Copier(dtype)
        inputs = []
        for tensor in model.inputs:
            node = Node(None, label=producer(tensor)[0].name)
            node.origin = (node.label,)
            node.outputs = [Value(node, 0, tuple(tensor.shape), tensor.dtype)]
            inputs.append(node.output)
        values = copier.trace(model.outputs, dict(zip(map(id, model.inputs), inputs, strict=True)))
        names = [producer(tensor)[0].name for tensor in model.outputs]
        graph = cls(inputs, values, [tensor.dtype for tensor in model.inputs], structures(model), names)
        graph.kept = copier.kept
        return graph

    @staticmethod
    def check(model: Any) -> None:
        """Raise an UnsupportedLayerError unless ``model`` is functional with known image sides."""
        _check_functional(model)
        for tensor in model.inputs:
            if re.search(r"[^\w.\-/]", tensor.name):
                raise UnsupportedLayerError(
                    f"An input's name must consist of letters, digits and _ . - /. Received: name={tensor.name!r}"
                )
            if None in tensor.shape[1:]:
                raise UnsupportedLayerError(
                    "The model's input sides must be known: build it with a fixed image_shape. "
                    f"Received: input_shape={tuple(tensor.shape)}"
                )

    def copy(self) -> Graph:
        """The same graph in new nodes that share the layers: for passes that replace layers."""
        values: dict[Value, Value] = {}
        for node in self.nodes():
            args, kwargs = keras.tree.map_structure(
                lambda leaf: values[leaf] if isinstance(leaf, Value) else leaf, (node.args, node.kwargs)
            )
            twin = Node(node.layer, args, kwargs, [], node.grid, node.accumulator, node.label, node.origin, node.passes)
            twin.outputs = [Value(twin, value.index, value.shape, value.dtype) for value in node.outputs]
            values.update(zip(node.outputs, twin.outputs, strict=True))
        for value in self.inputs:
            if value not in values:  # no output depends on it
                twin = Node(None, label=value.node.label, origin=value.node.origin)
                twin.outputs = [Value(twin, 0, value.shape, value.dtype)]
                values[value] = twin.output
        inputs, outputs = ([values[value] for value in part] for part in (self.inputs, self.outputs))
        graph = Graph(inputs, outputs, self.dtypes, self._structure, self.output_names)
        graph.kept = self.kept
        return graph

    def nodes(self) -> list[Node]:
        """Every node that the outputs depend on, producers before consumers."""
        order: list[Node] = []
        done: set[Node] = set()
        stack: list[tuple[Node, bool]] = [(value.node, False) for value in reversed(self.outputs)]
        while stack:  # not recursive: a deep network would exceed Python's recursion limit
            node, expanded = stack.pop()
            if expanded:
                order.append(node)
            elif node not in done:
                done.add(node)
                stack.append((node, True))
                stack.extend((value.node, False) for value in reversed(node.inputs) if value.node not in done)
        return order

    def consumers(self) -> dict[Value, list[Node]]:
        """Value -> the nodes that read it, one entry per use. Model outputs are not listed: see ``outputs``.

        A quantizer's step is not listed either, because it does not depend on the values.
        """
        table: dict[Value, list[Node]] = {}
        for node in self.nodes():
            for value in () if node.kind == "Step" else node.inputs:
                table.setdefault(value, []).append(node)
        return table

    def shared(self) -> set[int]:
        """``id`` of every layer with more than one call."""
        calls = Counter(id(node.layer) for node in self.nodes() if node.kind not in ("Input", "Step"))
        return {layer for layer, count in calls.items() if count > 1}

    def add(self, layer: Any, *values: Value, grid: np.ndarray | None = None) -> Value:
        """Append a call of ``layer`` on ``values`` (several are passed as one list, as for merging layers)."""
        shapes = [value.shape for value in values]
        shape = layer.compute_output_shape(shapes[0] if len(shapes) == 1 else shapes)
        node = Node(layer, args=(values[0] if len(values) == 1 else list(values),), grid=grid)
        node.outputs = [Value(node, 0, tuple(shape))]
        return node.output

    def replace(self, old: Value, new: Value, keep: Iterable[Node] = ()) -> None:
        """Replace ``old`` by ``new`` in all nodes, except those in ``keep``, and in the model's outputs."""
        kept = set(keep)
        fresh = [new.node]
        while fresh:
            node = fresh.pop()
            if not node.origin:
                node.origin = old.node.origin
                fresh += [value.node for value in node.inputs]

        for node in self.nodes():
            if node not in kept and old in node.inputs:
                node.redirect(old, new)
        self.outputs = [new if value is old else value for value in self.outputs]

    def sole_consumer(self, value: Value, consumers: dict[Value, list[Node]]) -> Node | None:
        """The only node that reads ``value``; None if several do or the model returns it."""
        readers = consumers.get(value, [])
        return readers[0] if len(readers) == 1 and value not in self.outputs else None

    def to_model(
        self, name: str, outputs: Sequence[Value] | None = None, skip: Iterable[Node] = (), kind: Any = keras.Model
    ) -> Any:
        """Build the functional model.

        Args:
            name: Name of the model.
            outputs: Values to return instead of the model's outputs.
            skip: Nodes to bypass: their output is their input.
            kind: Class of the model, which takes inputs, outputs and a name.
        """
        skipped = set(skip)
        tensors: dict[Value, Any] = {}
        if outputs is None:
            self._name_outputs()
        wanted, self.outputs = self.outputs, list(outputs) if outputs is not None else self.outputs
        try:
            order = self.nodes()
        finally:
            targets, self.outputs = self.outputs, wanted
        for value, dtype in zip(self.inputs, self.dtypes, strict=True):
            tensors[value] = keras.Input(batch_shape=value.shape, dtype=dtype, name=value.node.name)

        def tensor_of(leaf: Any) -> Any:
            return tensors[leaf] if isinstance(leaf, Value) else leaf

        named: dict[str, Any] = {value.name: None for value in self.inputs}
        named.update((layer.name, layer) for layer in self.kept.values())  # they cannot be renamed
        for node in order:
            if node.layer is None:
                continue
            while named.setdefault(node.name, node.layer) is not node.layer:  # a pass made several layers from one
                node.layer.name += "_again"
            if node in skipped:
                source = tensors[node.inputs[0]]
                if "float" not in source.dtype and node.output.is_float:  # the input is pixels
                    source = keras.ops.cast(source, node.layer.compute_dtype)
                tensors[node.output] = source
                continue
            args, kwargs = keras.tree.map_structure(tensor_of, (node.args, node.kwargs))
            results = keras.tree.flatten(node.layer(*args, **kwargs))
            tensors.update(zip(node.outputs, results, strict=True))
        starts, ends = ([tensors[value] for value in values] for values in (self.inputs, targets))
        inputs = keras.tree.pack_sequence_as(self._structure[0], starts)
        if outputs is None:
            ends = keras.tree.pack_sequence_as(self._structure[1], ends)
        return kind(inputs, ends[0] if outputs is not None and len(ends) == 1 else ends, name=name)

    def _name_outputs(self) -> None:
        """Rename the layers that compute the outputs to the original names of the outputs."""
        shared = self.shared()
        claimed: set[int] = set()
        for index, name in enumerate(self.output_names):
            value = self.outputs[index]
            layer = value.node.layer
            if value.name != name and (layer is None or id(layer) in {*shared, *claimed, *self.kept}):
                value = self.outputs[index] = self.add(keras.layers.Identity(name=name, dtype=value.dtype), value)
                layer = value.node.layer
            for node in self.nodes():
                if node.layer not in (None, layer) and node.name == name and id(node.layer) not in self.kept:
                    node.layer.name = name + UNROUNDED
            if layer is not None and layer.name != name:
                layer.name = name
            claimed.add(id(layer))


class _Copier:
    """Traverses Keras's graph; makes one copy of each layer, however often the model calls it."""

    def __init__(self, dtype: str | None) -> None:
        self.dtype = dtype
        self.clones: dict[int, Any] = {}
        self.kept: dict[int, Any] = {}  # layers that cannot be copied, by id

    def trace(self, outputs: Sequence[Any], known: dict[int, Value], owners: tuple[str, ...] = ()) -> list[Value]:
        """Copy the nodes up to ``outputs`` (KerasTensors); ``known`` maps id(tensor) to its value."""
        stack = [(tensor, False) for tensor in reversed(outputs)]
        while stack:
            tensor, expanded = stack.pop()
            if id(tensor) in known:
                continue
            operation, call = producer(tensor)
            if not expanded:
                stack.append((tensor, True))
                stack.extend((t, False) for t in reversed(call.arguments.keras_tensors) if id(t) not in known)
                continue
            values = self._copy_call(operation, call, known, owners)
            for result, value in zip(call.outputs, values, strict=True):
                known[id(result)] = value
        return [known[id(tensor)] for tensor in outputs]

    def _copy_call(self, operation: Any, call: Any, known: dict[int, Value], owners: tuple[str, ...]) -> list[Value]:
        origin = (*owners, operation.name)
        tensors = call.arguments.keras_tensors
        sources = [known[id(tensor)] for tensor in tensors]
        if is_functional(operation):
            starts = _nested_inputs(operation, call)
            return self.trace(operation.outputs, {id(i): known[id(t)] for i, t in starts}, origin)
        opened = _inlined(operation)
        if opened is not None:
            stand_ins = [keras.Input(batch_shape=t.shape, dtype=t.dtype) for t in tensors]
            results = keras.tree.flatten(opened(*stand_ins))
            return self.trace(results, dict(zip(map(id, stand_ins), sources, strict=True)), origin)
        table = dict(zip(map(id, tensors), sources, strict=True))

        def value_of(leaf: Any) -> Any:
            return table.get(id(leaf), leaf)

        args, kwargs = keras.tree.map_structure(value_of, (call.arguments.args, call.arguments.kwargs))
        # Keras passes the model's own `training` to every layer, whatever the call had here.
        given = {k: v for k, v in kwargs.items() if v is not None and k != "training"}
        node = Node(self._clone(operation, call), args, given, origin=origin)
        node.outputs = [Value(node, index, tuple(t.shape), t.dtype) for index, t in enumerate(call.outputs)]
        node.passes = passes_at_inference(node)
        return node.outputs

    def _clone(self, operation: Any, call: Any) -> Any:
        if not isinstance(operation, keras.Layer):
            return copy_operation(operation)
        if id(operation) not in self.clones:

            def arguments() -> Any:
                stand_ins = {
                    id(t): keras.Input(batch_shape=t.shape, dtype=t.dtype) for t in call.arguments.keras_tensors
                }
                given = (call.arguments.args, call.arguments.kwargs)
                return keras.tree.map_structure(lambda leaf: stand_ins.get(id(leaf), leaf), given)

            clone = copy_layer(operation, self.dtype, arguments)
            if clone is operation:
                self.kept[id(operation)] = operation
            self.clones[id(operation)] = clone
        return self.clones[id(operation)]


def _inlined(operation: Any) -> Any:
    """A function that calls the parts of a composite layer on its input tensors; None for another layer."""
    if hasattr(operation, "inline"):
        return operation.inline
    if type(operation) is keras.layers.Pipeline:
        return lambda x: functools.reduce(lambda tensor, layer: layer(tensor), operation.layers, x)
    return None


def _nested_inputs(model: Any, call: Any) -> list[tuple[Any, Any]]:
    """(input of a nested model, argument of its call) pairs."""
    given = call.arguments.args[0] if call.arguments.args else next(iter(call.arguments.kwargs.values()))
    if isinstance(given, dict) and not isinstance(structures(model)[0], dict):
        return [(tensor, given[tensor.name]) for tensor in model.inputs]  # Keras also goes by the inputs' names
    return list(zip(model.inputs, call.arguments.keras_tensors, strict=True))


def structures(model: Any) -> tuple[Any, Any]:
    """Structures of a functional model's inputs and outputs: a single tensor, a list or a dict."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def is_functional(model: Any) -> bool:
    """Whether ``model`` is a Keras model whose graph is readable."""
    if not isinstance(model, keras.Model):
        return False
    owner = next(cls for cls in type(model).__mro__ if "call" in vars(cls))
    try:
        traced = bool(model.inputs) and bool(model.outputs)
    except (AttributeError, ValueError):
        traced = False
    return traced and owner.__module__.startswith(("keras.", "wavemix_tf.networks."))  # ours run the same graph


def _check_functional(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise UnsupportedLayerError(f"model must be a keras.Model. Received: model of type {type(model).__name__}")
    if isinstance(model, keras.Sequential) and not model.built:
        raise UnsupportedLayerError(
            "The model must be built, so that its input's sides are known: put keras.Input(shape) first, or call it "
            f"once on a batch of images. Received: model={model.name!r}"
        )
    if not is_functional(model):
        raise UnsupportedLayerError(
            "The model must be functional (keras.Model(inputs, outputs), Sequential or such a subclass): the graph "
            "of a model with a custom call() is not visible. "
            f"Received: model={model.name!r} of type {type(model).__name__}"
        )
