"""Parts of a functional model's graph, some of which are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import keras

from ..keras_internals import calls_in_order, flatten_layers, run_call, standardized_inputs
from ..layers.recompute import is_float, recomputed


@dataclass(frozen=True)
class Segment:
    """Calls of a model from one place to the next; ``inputs`` and ``outputs`` are ids of KerasTensors."""

    calls: tuple[Any, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def divide(model: Any, places: Sequence[int]) -> list[Segment]:
    """Divide a functional model.

    Args:
        model: The model.
        places: Where to cut, rising: a number of calls in the order of ``calls_in_order``. None at the ends.
    """
    calls = calls_in_order(model)
    made = {id(tensor): place for place, call in enumerate(calls) for tensor in call.outputs}
    used = {id(tensor): place for place, call in enumerate(calls) for tensor in call.input_tensors}
    used |= {id(tensor): len(calls) for tensor in model.outputs}
    found = []
    for start, end in pairwise([0, *places, len(calls)]):
        part = calls[start:end]
        reads = dict.fromkeys(id(tensor) for call in part for tensor in call.input_tensors)
        makes = [id(tensor) for call in part for tensor in call.outputs]
        before = tuple(name for name in reads if made.get(name, -1) < start)
        found.append(Segment(tuple(part), before, tuple(name for name in makes if used.get(name, -1) >= end)))
    return found


def run_segments(model: Any, inputs: Any, segments: Sequence[Segment], again: Callable[[int], bool]) -> Any:
    """Compute a functional model in training mode.

    Args:
        model: The model.
        inputs: As it is called with.
        segments: Of ``divide``.
        again: Whether the segment of an index is computed again in the backward pass. One without an input that is
            floating point is not.

    Returns:
        The outputs, in the model's structure.
    """
    given = standardized_inputs(model, inputs)
    tensors = {id(symbol): tensor for symbol, tensor in zip(model.inputs, given, strict=True)}
    for index, segment in enumerate(segments):
        values = [tensors[name] for name in segment.inputs]

        def run(*values: Any, segment: Segment = segment) -> list[Any]:
            known = dict(zip(segment.inputs, values, strict=True))
            for call in segment.calls:
                known |= run_call(call, known, training=True)
            return [known[name] for name in segment.outputs]

        if again(index) and any(map(is_float, values)):
            layers = {id(layer): layer for call in segment.calls for layer in _layers_of(call.operation)}
            results = recomputed(run, list(layers.values()), *values)
        else:
            results = run(*values)
        tensors |= dict(zip(segment.outputs, results, strict=True))
    outputs = [tensors[id(symbol)] for symbol in model.outputs]
    return outputs[0] if len(outputs) == 1 else keras.tree.pack_sequence_as(model.output, outputs)


def has_mask(mask: Any) -> bool:
    """Whether a mask was passed to a model; for a list or dict of inputs Keras passes one of None."""
    return any(part is not None for part in keras.tree.flatten(mask))


def _layers_of(operation: Any) -> list[Any]:
    return flatten_layers(operation) if isinstance(operation, keras.Layer) else []
