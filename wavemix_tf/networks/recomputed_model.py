"""``RecomputedModel``: any functional Keras model, trained in less memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras

from ..keras_internals import calls_in_order, flatten_layers
from .segments import divide, has_mask, run_segments

LIMITS = 64  # sizes of the largest segment that are tried
UNKNOWN_SIDE = 64  # stands for a side of unknown length


@keras.saving.register_keras_serializable(package="wavemix_tf")
class RecomputedModel(keras.Model):
    """Functional model that computes its activations again in the backward pass, segment by segment.

    A training step keeps only the tensors between segments. The segments are chosen for the least memory: the tensors
    that are kept plus the activations of the largest segment (Chen et al., "Training Deep Nets with Sublinear Memory
    Cost", arXiv 1604.06174, section 4). Gradients, dropout masks and moving statistics are those of ``keras.Model``, up
    to rounding, if its layers draw random numbers by ``keras.random``: those of ``tf.random`` differ between the two
    passes. A step computes its forward pass twice, except for the last segment. Inference is unchanged. A nested model
    is one layer of the graph, and is not divided.

    Args:
        inputs: As for ``keras.Model``.
        outputs: As for ``keras.Model``.
        name: As for ``keras.Model``.

    Raises:
        ValueError: a layer makes a mask (Masking, Embedding with ``mask_zero``).

    Example:
    >>> base = keras.applications.MobileNetV2(weights=None, classes=10, input_shape=(96, 96, 3))
    >>> model = wm.RecomputedModel(base.inputs, base.outputs)
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(inputs=inputs, outputs=outputs, name=name, **kwargs)
        for layer in flatten_layers(self, include_self=False):
            if isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False):
                raise ValueError(f"RecomputedModel supports no layers that make a mask. Received: layer {layer.name!r}")
        self._places = tuple(best_places(self))  # once: eager steps would choose them again

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """As ``keras.Model``; with ``training=True`` and without a mask in segments."""
        if not training or has_mask(mask):
            return super().call(inputs, training=training, mask=mask)
        found = divide(self, self._places)
        # The backward pass begins with the last segment: its activations are needed at once.
        return run_segments(self, inputs, found, lambda index: index < len(found) - 1)


def best_places(model: Any) -> list[int]:
    """Return where to cut a functional model for the least memory, see ``divide``.

    Args:
        model: The model.
    """
    calls = calls_in_order(model)
    made = {id(tensor): -1 for tensor in model.inputs} | {
        id(tensor): place for place, call in enumerate(calls) for tensor in call.outputs
    }
    used: dict[int, int] = {id(tensor): len(calls) for tensor in model.outputs}  # id -> last call that reads it
    sizes: dict[int, int] = {id(tensor): 0 for tensor in model.inputs}  # the batch is there in any case
    for place, call in enumerate(calls):
        for tensor in call.input_tensors:
            used[id(tensor)] = max(place, used.get(id(tensor), 0))
        sizes |= {id(tensor): _size(tensor) for tensor in call.outputs}
    kept = [0] * (len(calls) + 1)  # place of a cut -> size of the tensors that live across it
    for name, last in used.items():
        for place in range(made[name] + 1, last + 1):
            kept[place] += sizes[name]
    total = [0]
    for call in calls:
        total.append(total[-1] + sum(sizes[id(tensor)] for tensor in call.outputs))
    return _cuts(kept, total)


def _cuts(kept: Sequence[int], total: Sequence[int]) -> list[int]:
    """Return the places to cut at: least sum of what is kept there plus the size of the largest segment.

    Args:
        kept: Place -> size of what lives across it.
        total: Place -> size of all outputs before it.
    """
    end = len(kept) - 1
    smallest = max((after - before for before, after in pairwise(total)), default=0)
    best, chosen = float("inf"), list[int]()
    for number in range(LIMITS):
        limit = smallest * (max(total[end], 1) / max(smallest, 1)) ** (number / (LIMITS - 1))
        cuts = _cheapest(kept, total, limit)
        largest = max(total[after] - total[before] for before, after in pairwise([0, *cuts, end]))
        memory = sum(kept[place] for place in cuts) + largest
        if memory < best:
            best, chosen = memory, cuts
    return chosen


def _cheapest(kept: Sequence[int], total: Sequence[int], limit: float) -> list[int]:
    """Return the cuts that keep the least while no segment is larger than ``limit``."""
    end = len(kept) - 1
    costs, origins = [0], [0]
    window = deque([0])  # places where the last segment may start, by rising costs: the first is the best
    for place in range(1, end + 1):
        while total[place] - total[window[0]] > limit * (1 + 1e-9):
            window.popleft()
        origins.append(window[0])
        costs.append(costs[window[0]] + kept[place])
        while window and costs[window[-1]] >= costs[place]:
            window.pop()
        window.append(place)
    cuts, place = list[int](), end
    while (place := origins[place]) > 0:
        cuts.append(place)
    return cuts[::-1]


def _size(tensor: Any) -> int:
    return math.prod(side or UNKNOWN_SIDE for side in tensor.shape[1:])
