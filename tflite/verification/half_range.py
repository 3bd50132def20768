"""Activations that float16 cannot represent: a GPU computes in it, whatever the file's inputs and outputs are."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers, ops

from ..errors import FidelityError
from ..graph.graph import Graph
from ..graph.inputs import predict

LARGEST = 65504.0  # largest finite float16


class _Largest(layers.Layer):
    """(B, ...) -> (B,): the largest magnitude; NaN where there is one."""

    def call(self, x: Any) -> Any:
        return ops.max(ops.abs(ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))), axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0],)


def largest_activations(model: Any, arrays: list[np.ndarray]) -> dict[str, float]:
    """Layer -> the largest magnitude that it computes on these images, in the order of the graph.

    Args:
        model: Functional float model, as ``deploy`` writes it: folded layers compute no separate tensor.
        arrays: For each input an array (N, ...).
    """
    graph = Graph.from_model(model)
    values = [value for node in graph.nodes() for value in node.outputs if value.is_float and len(value.shape) > 1]
    taps = [graph.add(_Largest(name=f"largest_{index}"), value) for index, value in enumerate(values)]
    found = predict(graph.to_model("largest", outputs=taps), arrays)
    found = found if isinstance(found, list) else [found]
    table: dict[str, float] = {}
    for value, part in zip(values, found, strict=True):
        table[value.name] = max(float(np.max(part)), table.get(value.name, 0.0))
    return table


def check_half_range(model: Any, arrays: list[np.ndarray], target: str) -> None:
    """Raise FidelityError if a tensor of ``model`` exceeds float16's range on these images; arguments as above."""
    for name, largest in largest_activations(model, arrays).items():
        if not largest <= LARGEST:
            raise FidelityError(
                f"Target {target!r} computes in float16, whose largest number is {LARGEST:,.0f}: layer {name!r} "
                f"computes {largest:,.0f} on the verification images, which becomes infinity there. Scale its input "
                "or its weights, put a normalization before it, or export for another target."
            )
