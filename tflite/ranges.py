"""The range of every quantizer: observers of what calibration images make a network compute."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers, ops

from . import folding
from .folding import activation_name
from .graph import Graph, Node, Value
from .images import predict
from .placement import is_nearest

OBSERVERS = ("minmax", "moving_average", "percentile", "mse")
MIN_IMAGES = 32
PERCENTILE = 99.99
AVERAGING_IMAGES = 16  # in each batch of the moving average, and its weight
AVERAGING_MOMENTUM = 0.9
SAMPLES_PER_IMAGE = 512  # values of each tensor that the percentile and MSE observers see of every calibration image
# What a mask adds to a score before a softmax, and what stands for it in int8: exp(-32) is no share of anything.
MASK_FROM, MASKED = -1000.0, -32.0


class Observe(layers.Layer):
    """(B, ...) -> (B, 2 + samples): each image's minimum, maximum and some of its values.

    The values are taken at random places, the same for every image: at regular ones, a stride that shares a factor
    with the number of channels would see a few channels and never the others.
    """

    def call(self, x: Any) -> Any:
        flat = ops.reshape(ops.cast(x, "float32"), (-1, int(np.prod(x.shape[1:]))))
        places = np.random.default_rng(0).permutation(flat.shape[1])[:SAMPLES_PER_IMAGE].astype("int32")
        extremes = [ops.min(flat, axis=1, keepdims=True), ops.max(flat, axis=1, keepdims=True)]
        return ops.concatenate([*extremes, ops.take(flat, places, axis=1)], axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 2 + min(int(np.prod(input_shape[1:])), SAMPLES_PER_IMAGE))


def find_ranges(graph: Graph, arrays: list[np.ndarray], observer: str) -> dict[str, tuple[float, float]]:
    """Set the range of every quantizer that is not fixed; returns name -> (minimum, maximum)."""
    quantizers = [node for node in graph.nodes() if node.kind == "FakeQuant"]
    if all(node.layer.fixed for node in quantizers):
        return {}
    first = {id(node.layer): node for node in reversed(quantizers) if not node.layer.fixed}
    observed = list(first.values())
    taps = [graph.add(Observe(name=f"observe_{index}"), node.inputs[0]) for index, node in enumerate(observed)]
    probe = graph.to_model("calibration", outputs=taps, skip=quantizers)
    statistics = predict(probe, arrays)
    statistics = statistics if len(observed) > 1 else [statistics]
    ranges, readers = {}, graph.consumers()
    for node, table in zip(observed, statistics, strict=True):
        # A clipped square would make the very tokens too large whose variance is the largest.
        own = "minmax" if observer == "percentile" and _is_of_norm(node, readers) else observer
        low, high = _range(np.asarray(table, np.float32), own)
        if low < MASK_FROM and _only_softmax_reads(node.output, readers):
            # Scores keep their levels: those that are not masked, and no lower than they are.
            seen = np.asarray(table, np.float32)[:, 2:]
            seen = seen[seen > MASK_FROM]
            low = min(MASKED, float(seen.min())) if seen.size else MASKED
        if not np.isfinite([low, high]).all():
            raise ValueError(
                "The model's activations must be finite on the calibration images. "
                f"Received: minimum={low}, maximum={high} at layer={node.inputs[0].node.name!r}"
            )
        node.layer.set_range(low, high)
        ranges[node.name] = node.layer.get_range()
    return ranges


def _is_of_norm(node: Node, readers: dict[Value, list[Node]]) -> bool:
    """Whether a quantizer rounds a step of a layer or group norm: difference, square, variance, its inverse root."""
    if node.inputs[0].node.kind == "Rsqrt":
        return True
    for reader in readers.get(node.output, []):
        squares = reader.kind == "Multiply" and reader.inputs == [node.output] * 2
        through = squares or reader.kind in ("Mean", "FakeQuant", "AddConstant")
        if reader.kind == "Rsqrt" or (through and _is_of_norm_read(reader.output, readers)):
            return True
    return False


def _is_of_norm_read(value: Value, readers: dict[Value, list[Node]]) -> bool:
    """Whether an inverse root is taken of ``value``, or of its mean."""
    return any(
        reader.kind == "Rsqrt"
        or (reader.kind in ("Mean", "FakeQuant", "AddConstant") and _is_of_norm_read(reader.output, readers))
        for reader in readers.get(value, [])
    )


def _only_softmax_reads(value: Value, readers: dict[Value, list[Node]]) -> bool:
    """Whether ``value`` is added to what a softmax reads, and nothing else."""
    follows = readers.get(value, [])
    return bool(follows) and all(
        activation_name(node) == "softmax"
        or (
            node.kind in ("FakeQuant", "Add", "AddConstant", *folding.MOVES_VALUES)
            and _only_softmax_reads(node.output, readers)
        )
        for node in follows
    )


def _range(table: np.ndarray, observer: str) -> tuple[float, float]:
    low, high = float(table[:, 0].min()), float(table[:, 1].max())
    values = table[:, 2:].ravel()
    if observer == "moving_average":
        low, high = (float(_moving_average(part)) for part in (table[:, 0], -table[:, 1]))
        high = -high
    elif observer == "percentile":
        low_q, high_q = np.percentile(values, [100 - PERCENTILE, PERCENTILE])
        low, high = max(low, float(low_q)), min(high, float(high_q))
    elif observer == "mse":
        low, high = _least_squares(values, min(low, 0.0), max(high, 0.0))
    return low, high


def _moving_average(minima: np.ndarray) -> float:
    """Of the batches' minima, as a training loop sees them."""
    batches = [minima[start : start + AVERAGING_IMAGES].min() for start in range(0, len(minima), AVERAGING_IMAGES)]
    average = batches[0]
    for value in batches[1:]:
        average = AVERAGING_MOMENTUM * average + (1 - AVERAGING_MOMENTUM) * value
    return float(average)


def _least_squares(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The range with the smallest squared error of rounding and clipping among shrunken [low, high]."""
    values = values[:: max(1, len(values) // 20_000)]
    best, best_range = np.inf, (low, high)
    for low_factor in np.linspace(0.3, 1.0, 15) if low < 0 else [1.0]:
        for high_factor in np.linspace(0.3, 1.0, 15) if high > 0 else [1.0]:
            ends = (low * low_factor, high * high_factor)
            step = max(ends[1] - ends[0], 1e-9) / 255
            error = np.square(np.clip(np.round(values / step) * step, *ends) - values).sum()
            if error < best:
                best, best_range = error, ends
    return best_range


def set_input_steps(graph: Graph) -> None:
    """Tell every layer that rounds a bias the step of the grid its input lies on, as far as all its calls agree."""
    found: dict[int, set[float]] = {}
    nodes = [node for node in graph.nodes() if hasattr(node.layer, "input_step") and "steps" not in node.kwargs]
    for node in nodes:
        source = node.inputs[0].node
        while source.kind in folding.MOVES_VALUES or is_nearest(source):
            source = source.inputs[0].node
        step = source.layer.get_step() if source.kind == "FakeQuant" else 0.0
        found.setdefault(id(node.layer), set()).add(step)
    for node in nodes:
        steps = found[id(node.layer)]
        node.layer.input_step = steps.pop() if len(steps) == 1 else 0.0
        steps.add(node.layer.input_step)
