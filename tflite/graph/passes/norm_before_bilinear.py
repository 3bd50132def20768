"""BatchNorm(bilinear(x)) -> bilinear(BatchNorm'(x))."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers, ops

from ..affines import affine_source
from ..fake_quant_placement import is_nearest
from ..graph import Graph
from ..inputs import predict
from ..layer_kinds import RESIZES


class _Moments(layers.Layer):
    """(B, H, W, C) -> (B, 2C): each image's mean and mean square of every channel."""

    def call(self, x: Any) -> Any:
        wide = ops.cast(x, "float32")
        return ops.concatenate([ops.mean(wide, axis=(1, 2)), ops.mean(ops.square(wide), axis=(1, 2))], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 2 * input_shape[-1])


def norm_before_bilinear(graph: Graph, arrays: list[np.ndarray] | None) -> None:
    """Move a batch norm after bilinear upsampling before it, where the file will have it folded.

    The file rounds the input of the upsampling, so the quantizer must be there too. Interpolation keeps a channel's
    mean but not its variance. The ratio, measured on the calibration images, goes into the moving variance and gamma,
    so that the network computes the same as before at inference and, up to that ratio's spread, in training.
    """
    consumers = graph.consumers()
    moves = []
    for node in graph.nodes():
        found = affine_source(graph, node, consumers) if node.kind == "BatchNormalization" else None
        between = [] if found is None else found[1]
        if len(between) != 1 or between[0].kind not in RESIZES or is_nearest(between[0]):
            continue
        if node.layer.scale:  # gamma takes the ratio
            moves.append((node, between[0]))
    if not moves:
        return
    ends = [value for node, up in moves for value in (up.inputs[0], node.inputs[0])]
    taps = [graph.add(_Moments(name=f"moments_{index}"), value) for index, value in enumerate(ends)]
    variances = [np.ones(value.shape[-1] or 0) for value in ends]
    for index, table in enumerate([] if arrays is None else predict(graph.to_model("moments", outputs=taps), arrays)):
        mean, square = np.split(np.asarray(table, np.float64).mean(0), 2)
        variances[index] = np.maximum(square - mean**2, 1e-12)
    for (node, up), before, after in zip(moves, variances[::2], variances[1::2], strict=True):
        layer = node.layer
        old = np.asarray(ops.convert_to_numpy(layer.moving_variance), np.float64)
        new = old * np.clip(before / after, 1.0, 16.0)
        layer.moving_variance.assign(new)
        layer.gamma.assign(ops.convert_to_numpy(layer.gamma) * np.sqrt((new + layer.epsilon) / (old + layer.epsilon)))
        source = up.inputs[0]
        graph.replace(node.output, up.output)
        node.args, up.args = (source,), (node.output,)
        node.outputs[0].shape = source.shape
