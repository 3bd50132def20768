"""The range of every quantizer: observers of a network's activations on calibration images."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers, ops

from ..graph.activation_names import activation_name
from ..graph.fake_quant_placement import is_nearest
from ..graph.graph import Graph, Node, Value
from ..graph.inputs import predict
from ..graph.layer_kinds import MOVES_VALUES
from ..layers.saturation import clipped_square, clipped_squares, per_image
from .importance import channel_importance
from .range_choice import LayerRange, RangeChoice, sole_image

OBSERVERS = ("image_error", "minmax", "moving_average", "percentile", "mse")
DEFAULT_OBSERVER = "image_error"
MIN_IMAGES = 32
PERCENTILE = 99.99
AVERAGING_IMAGES = 16  # images in each batch of the moving average; its weight is the next constant
AVERAGING_MOMENTUM = 0.9
# Values of each tensor that the observers keep of a calibration image, and of all: with many images, fewer of each.
SAMPLES_PER_IMAGE, FEWEST_SAMPLES, SAMPLES = 512, 32, 512 * 256
# A score below MASK_FROM is masked before a softmax. MASKED is its distance below the least score, by bits: exp(-7) is
# less than half a step of the softmax's output, whatever the other scores are.
MASK_FROM, MASKED = -1000.0, {8: 7.0, 16: 12.0}


class Observe(layers.Layer):
    """(B, ...) -> (B, 2 + samples): each image's minimum, maximum and some of its values.

    The values are taken at random places, the same for every image. A regular stride that shares a factor with the
    number of channels would sample only a few channels.

    Args:
        needed: bool array that broadcasts to a value's shape; where False, a value counts as zero. None: all needed.
        images: Number of calibration images, which decides the number of samples.
    """

    def __init__(self, needed: np.ndarray | None = None, images: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.needed, self.images = needed, images

    def call(self, x: Any) -> Any:
        x = ops.cast(x, "float32")
        if self.needed is not None and not self.needed.all():
            x = ops.where(ops.convert_to_tensor(self.needed), x, 0.0)
        flat = ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))
        extremes = [ops.min(flat, axis=1, keepdims=True), ops.max(flat, axis=1, keepdims=True)]
        return ops.concatenate([*extremes, ops.take(flat, sampled_places(flat.shape[1], self.images), axis=1)], axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 2 + len(sampled_places(int(np.prod(input_shape[1:])), self.images)))


def sampled_places(size: int, images: int) -> np.ndarray:
    """Indices of the values of an image, ``size`` in all, that the observers sample of each of ``images`` images."""
    count = min(SAMPLES_PER_IMAGE, max(FEWEST_SAMPLES, SAMPLES // images))
    return np.random.default_rng(0).permutation(size)[:count].astype("int32")


class ClippingErrors(layers.Layer):
    """(B, ...) -> (B, lows + highs): the squared error of clipping each image at each end, see ``clipped_squares``.

    Args:
        lows: Lower ends, first the extreme of all images.
        highs: Upper ends, as well.
        weights: Importance of the values, broadcast to their shape.
    """

    def __init__(self, lows: np.ndarray, highs: np.ndarray, weights: np.ndarray, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lows, self.highs = [float(end) for end in lows], [float(end) for end in highs]
        self.weights_of_values = weights.astype(np.float32)

    def call(self, x: Any) -> Any:
        x, weights = ops.cast(x, "float32"), ops.convert_to_tensor(self.weights_of_values)
        none = ops.zeros((ops.shape(x)[0],), "float32")  # at the first end of each side, the extreme of all images
        below = [clipped_square(end - x, weights) for end in self.lows[1:]]
        above = [clipped_square(x - end, weights) for end in self.highs[1:]]
        return ops.stack([none, *below, none, *above], axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], len(self.lows) + len(self.highs))


class ClippedShare(layers.Layer):
    """(B, ...) -> (B, 2): the share of each image's values outside a range, and their squared error."""

    def __init__(self, low: float, high: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.low, self.high = low, high

    def call(self, x: Any) -> Any:
        x = per_image(ops.cast(x, "float32"))
        slack = 1e-3 * (self.high - self.low)  # zero lies on a step, which moves an end by half of one
        outside = ops.cast((x < self.low - slack) | (x > self.high + slack), "float32")
        below, above = clipped_squares(x, self.low, self.high)
        return ops.stack([ops.mean(outside, axis=tuple(range(1, len(x.shape)))), below + above], axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 2)


def find_ranges(graph: Graph, arrays: list[np.ndarray], observer: str) -> list[LayerRange]:
    """Set the range of every quantizer that is not fixed.

    The images run through the network once for their extremes and samples, and once more for exact errors where
    clipping may be useful. Only a few numbers of each image and tensor are kept, no activations.

    Returns:
        One row per quantizer, in the order of the graph.
    """
    disconnect_steps(graph)  # activations are measured with unrounded biases
    quantizers = [node for node in graph.nodes() if node.kind == "FakeQuant"]
    first: dict[int, Node] = {}
    for node in quantizers:
        if not node.layer.fixed:
            first.setdefault(id(node.layer), node)
    observed = list(first.values())
    if not observed:
        return []

    def measure(taps: dict[int, Any], task: str, images: Any = None) -> dict[int, np.ndarray]:
        """Index of an observed quantizer -> output of a layer on the quantizer's input, for each of the images."""
        ends = [graph.add(layer, observed[index].inputs[0]) for index, layer in taps.items()]
        model = graph.to_model("calibration", outputs=ends, skip=quantizers) if ends else None
        found = [] if model is None else predict(model, arrays, task, images)
        tables = found if len(ends) != 1 else [found]
        return {index: np.asarray(table, np.float32) for index, table in zip(taps, tables, strict=True)}

    weighted = observer == DEFAULT_OBSERVER
    importance = channel_importance(graph) if weighted else {}
    places = [np.broadcast_to(importance.get(node.inputs[0], np.ones(1)), _sides_of_input(node)) for node in observed]
    kept = [part > 1e-9 * part.max() for part in places]
    count = len(arrays[0])
    tables = measure(
        {index: Observe(part, count, name=f"observe_{index}") for index, part in enumerate(kept)}, "extremes"
    )
    readers = graph.consumers()
    chosen: dict[int, tuple[float, float]] = {}
    undecided: dict[int, RangeChoice] = {}
    masked: set[int] = set()
    for index, node in enumerate(observed):
        table = tables[index]
        low, high = float(table[:, 0].min()), float(table[:, 1].max())
        hidden = low < MASK_FROM and _only_softmax_reads(node.output, readers)
        if not np.isfinite(high) or not (hidden or np.isfinite(table).all()):
            raise ValueError(
                "The model's activations must be finite on the calibration images. "
                f"Received: minimum={low}, maximum={high} at layer={node.inputs[0].node.name!r}"
            )
        # Clipping a square would affect exactly the tokens with the largest variance.
        of_norm = observer in ("percentile", DEFAULT_OBSERVER) and _is_of_norm(node, readers)
        if hidden or of_norm or not weighted:
            chosen[index] = _range(table, "minmax" if of_norm or weighted else observer)
            if hidden:
                # The levels go to the scores that are not masked, down to the least of them.
                seen = table[:, 2:][table[:, 2:] > MASK_FROM]
                least = min(float(seen.min()), 0.0) if seen.size else 0.0
                chosen[index] = (least - MASKED[node.layer.bits], chosen[index][1])
                masked.add(index)
            continue
        weights = places[index].ravel()[sampled_places(places[index].size, count)]
        choice = RangeChoice(table[:, 0], table[:, 1], table[:, 2:], weights, places[index].size)
        chosen[index] = (low, high)
        if choice.may_gain():
            undecided[index] = choice
    probes = {
        index: ClippingErrors(*choice.ends, importance[observed[index].inputs[0]], name=f"clip_{index}")
        for index, choice in undecided.items()
    }
    for index, table in measure(probes, "errors of clipping").items():
        lows = len(undecided[index].ends[0])
        chosen[index] = undecided[index].choose(table[:, :lows], table[:, lows:])
    for index, node in enumerate(observed):
        node.layer.set_range(*chosen[index])
    clips = {
        index: ClippedShare(*node.layer.get_range(), name=f"clipped_{index}")
        for index, node in enumerate(observed)
        if not kept[index].all() or _outside(tables[index], node.layer).any()
    }
    # Images within all these ranges have no share: they need not run again.
    outside = [_outside(tables[index], observed[index].layer, 0.0) | (not kept[index].all()) for index in clips]
    images = np.flatnonzero(np.any(outside, axis=0)) if clips else np.zeros(0, int)
    shares = {index: np.zeros((len(arrays[0]), 2), np.float32) for index in clips}
    for index, found in (measure(clips, "clipped shares", images) if len(images) else {}).items():
        shares[index][images] = found
    rows = _rows(observed, tables, chosen, shares)
    for index in masked:
        if observed[index].layer.watched:  # a masked score never justifies a wider range
            observed[index].layer.tolerance.assign(np.finfo(np.float32).max)
    return rows


def _sides_of_input(node: Node) -> list[int]:
    """Sides of one image's tensor."""
    return [int(side or 1) for side in node.inputs[0].shape[1:]]


def _outside(table: np.ndarray, quantizer: Any, steps: float = 1.0) -> np.ndarray:
    """(N,) whether an image has values outside a range by more than ``steps``, of the channels that anything reads."""
    low, high = quantizer.get_range()
    slack = steps * (high - low) / quantizer.levels
    return np.asarray((table[:, 0] < low - slack) | (table[:, 1] > high + slack))


def _rows(
    observed: list[Node],
    tables: dict[int, np.ndarray],
    chosen: dict[int, tuple[float, float]],
    clipped: dict[int, np.ndarray],
) -> list[LayerRange]:
    rows = []
    for index, node in enumerate(observed):
        table, shares = tables[index], clipped.get(index, np.zeros((1, 2)))
        if node.layer.watched:  # intentional clipping in training changes no range
            node.layer.tolerance.assign(min(float(shares[:, 1].max()), 1e30))
            node.layer.excess.assign(0.0)
        low, high = node.layer.get_range()
        rows.append(
            LayerRange(
                name=node.inputs[0].node.name,
                minimum=low,
                maximum=high,
                seen_minimum=float(table[:, 0].min()),
                seen_maximum=float(table[:, 1].max()),
                clipped_share=float(shares[:, 0].mean()),
                worst_clipped_share=float(shares[:, 0].max()),
                sole_image=sole_image(table[:, 0], table[:, 1], chosen[index]),
            )
        )
    return rows


def _is_of_norm(node: Node, readers: dict[Value, list[Node]]) -> bool:
    """Whether a quantizer rounds a step of a layer or group norm: difference, square, variance, inverse root."""
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
    """Whether ``value`` is only added to the input of a softmax."""
    follows = readers.get(value, [])
    return bool(follows) and all(
        activation_name(node) == "softmax"
        or (
            node.kind in ("FakeQuant", "Add", "AddConstant", *MOVES_VALUES)
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
    """Moving average of the batches' minima, as in a training loop."""
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


def input_grids(graph: Graph) -> dict[Node, Node]:
    """Node that rounds a bias -> the quantizer whose grid its input lies on."""
    found = {}
    for node in graph.nodes():
        if not hasattr(node.layer, "input_step") or "steps" in node.kwargs:
            continue
        source = node.inputs[0].node
        while source.kind in MOVES_VALUES or is_nearest(source):
            source = source.inputs[0].node
        if source.kind == "FakeQuant":
            found[node] = source
    return found


def connect_steps(graph: Graph) -> None:
    """Pass the step of each quantizer to the layers that round a bias by it, as an argument of the call.

    The step is read from the range whenever the network runs, so that the weights alone define what it computes.
    """
    steps: dict[Value, Value] = {}
    for node, source in input_grids(graph).items():
        # Called on the layer's input, so that a model from the layer's input to its output is complete.
        value = node.inputs[0]
        if value not in steps:
            call = Node(source.layer, (value,), {"step_only": True}, origin=source.origin)
            call.outputs = [Value(call, 0, ())]
            steps[value] = call.output
        node.kwargs["input_step"] = steps[value]


def disconnect_steps(graph: Graph) -> None:
    """Undo ``connect_steps``, and clear the constants of version 0.1."""
    for node in graph.nodes():
        if hasattr(node.layer, "input_step"):
            node.kwargs.pop("input_step", None)
            node.layer.input_step = 0.0
