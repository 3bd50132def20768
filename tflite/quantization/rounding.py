"""Weight rounding for post-training use: the next weights of a channel compensate for the rounding of each weight.

GPTQ (Frantar et al., arXiv 2210.17323, section 3; after Optimal Brain Surgeon): a channel's weights are rounded one by
one, and each error is spread over those not yet rounded so that the layer's output on the calibration images changes
least. NumPy on sampled inputs of each layer, so the result is the same on every backend.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers, ops

from ..graph.graph import Graph, Node
from ..graph.inputs import predict
from ..graph.weights import kernel_of
from ..layers.fake_quant import QUANT_LAYERS, WEIGHT_LEVELS

POSITIONS_PER_IMAGE = 32  # sampled output positions; with 128 images 4,096 equations for a channel's weights
MAX_IMAGES = 128
DAMPING = 0.01  # share of the mean squared input, added to each input: one that is always zero must not divide by zero
PROBE_BYTES = 256 << 20  # bytes of sampled inputs in memory at once


class _SamplePatches(layers.Layer):
    """(B, H, W, C) -> (B, positions, taps * C): sampled patches that a convolution reads. (B, ..., C) -> (B, n, C)."""

    def __init__(self, window: dict[str, Any] | None, margin: tuple[int, int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window, self.margin = window, margin

    def call(self, x: Any) -> Any:
        x = ops.cast(x, "float32")
        if self.window is not None:
            x = ops.pad(x, [(0, 0), *((m, m) for m in self.margin), (0, 0)]) if any(self.margin) else x
            x = ops.image.extract_patches(x, data_format="channels_last", **self.window)
        rows = ops.reshape(x, (-1, int(np.prod(x.shape[1:-1], dtype=int)), x.shape[-1]))
        places = np.random.default_rng(0).permutation(rows.shape[1])[:POSITIONS_PER_IMAGE].astype("int32")
        return ops.take(rows, places, axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], None, None)  # `call` computes the rest; nothing reads it here


def round_with_feedback(graph: Graph, arrays: list[np.ndarray]) -> None:
    """Round the kernels of a quantized graph to their grids; the weights after each one compensate for its rounding.

    Kernels without a window form (grouped convolutions, transposed ones whose stride does not divide the kernel) are
    rounded to the nearest integers.

    Args:
        graph: From ``insert_fake_quant``, calibrated; the kernels of its layers are assigned.
        arrays: Calibration images, one array per input.
    """
    calls: dict[int, list[Node]] = {}
    for node in graph.nodes():
        if node.kind.removeprefix("Quant") in QUANT_LAYERS and hasattr(node.layer, "input_step"):
            if _window(node.layer) is not None:
                calls.setdefault(id(node.layer), []).append(node)
    images = [array[:MAX_IMAGES] for array in arrays]
    rows = min(len(images[0]), MAX_IMAGES) * POSITIONS_PER_IMAGE
    group: list[list[Node]] = []
    size = 0
    for nodes in calls.values():
        group.append(nodes)
        size += 4 * rows * int(np.prod(nodes[0].layer.kernel.shape[:-1])) * len(nodes)
        if size > PROBE_BYTES:
            _round_group(graph, group, images)
            group, size = [], 0
    if group:
        _round_group(graph, group, images)


def _round_group(graph: Graph, group: list[list[Node]], images: list[np.ndarray]) -> None:
    flat = [node for nodes in group for node in nodes]
    taps = []
    for index, node in enumerate(flat):
        window, margin = _window(node.layer) or (None, (0, 0))
        sampler = _SamplePatches(window or None, margin, name=f"patches_{index}")
        taps.append(graph.add(sampler, node.inputs[0]))
    seen = predict(graph.to_model("patches", outputs=taps), images)
    tables = iter(seen if len(flat) > 1 else [seen])
    for nodes in group:
        table = np.concatenate([next(tables) for _ in nodes])
        layer = nodes[0].layer
        layer.kernel.assign(_compensate(layer, table.reshape(-1, table.shape[-1])))


def _window(layer: Any) -> tuple[dict[str, Any], tuple[int, int]] | None:
    """(arguments of ``extract_patches``, zero margin before it); ({}, ...) for a Dense layer; None: not supported."""
    kind = type(layer).__name__.removeprefix("Quant")
    if kind == "Dense":
        return {}, (0, 0)
    if kind == "Conv2DTranspose":
        stride, kernel = layer.strides, layer.kernel_size
        if (
            layer.padding != "same"
            or layer.dilation_rate != (1, 1)
            or any(k % s for k, s in zip(kernel, stride, strict=True))
        ):
            return None
        taps = tuple(k // s for k, s in zip(kernel, stride, strict=True))
        return {"size": taps, "strides": (1, 1), "padding": "valid"}, (taps[0] - 1, taps[1] - 1)
    if getattr(layer, "groups", 1) != 1:
        return None
    dilated = layer.dilation_rate != (1, 1)
    strides = (1, 1) if dilated else layer.strides
    window = {"size": layer.kernel_size, "strides": strides, "padding": layer.padding}
    return {**window, **({"dilation_rate": layer.dilation_rate} if dilated else {})}, (0, 0)


def _compensate(layer: Any, rows: np.ndarray) -> np.ndarray:
    """The layer's kernel on its grid, from rows (n, taps * C) of its inputs."""
    kind = type(layer).__name__.removeprefix("Quant")
    kernel = kernel_of(layer)
    if kind == "DepthwiseConv2D":  # each channel has its own inputs and step
        height, width, channels, multiplier = kernel.shape
        inputs = rows.reshape(len(rows), height * width, channels)
        rounded = np.empty_like(kernel)
        for channel in range(channels):
            part = kernel[:, :, channel].reshape(height * width, multiplier)
            rounded[:, :, channel] = _gptq(part, inputs[:, :, channel]).reshape(height, width, multiplier)
        return rounded
    if kind == "Conv2DTranspose":
        # Each of the s*s phases of the output reads the same window through its own taps, in reverse; see
        # lowering._write_subpixel. All share their channel's step.
        (sy, sx), (ky, kx, out, inner) = layer.strides, kernel.shape
        phases = kernel.reshape(ky // sy, sy, kx // sx, sx, out, inner)[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
        steps = np.abs(kernel).max((0, 1, 3)) / WEIGHT_LEVELS
        matrix = phases.reshape(-1, sy * sx * out)
        rounded = _gptq(matrix, rows, np.tile(steps, sy * sx)).reshape(phases.shape)
        return rounded.transpose(0, 3, 1, 4, 5, 2)[::-1, :, ::-1].reshape(kernel.shape)
    return _gptq(kernel.reshape(-1, kernel.shape[-1]), rows).reshape(kernel.shape)


def _gptq(weights: np.ndarray, rows: np.ndarray, steps: np.ndarray | None = None) -> np.ndarray:
    """``weights`` (d, out) on their grids, so that ``rows @ weights`` changes little.

    The largest weight of each grid stays at 127 steps: the layer derives its step from it.
    """
    work = weights.astype(np.float64)
    largest = np.abs(work).max(0)
    steps = np.maximum(largest, 1e-12) / WEIGHT_LEVELS if steps is None else np.maximum(steps, 1e-12)
    ends = np.abs(work) >= steps * WEIGHT_LEVELS * (1 - 1e-9)
    gram = rows.T.astype(np.float64) @ rows
    damping = DAMPING * max(float(np.trace(gram)) / len(gram), 1e-12)
    # Upper factor of the inverse: its row i states how the weights after i compensate for an error of i.
    upper = np.linalg.cholesky(np.linalg.inv(gram + damping * np.eye(len(gram)))).T
    rounded = np.empty_like(work)
    for i in range(len(work)):
        whole = np.clip(np.round(work[i] / steps), -WEIGHT_LEVELS, WEIGHT_LEVELS)
        whole = np.where(ends[i], np.sign(weights[i]) * WEIGHT_LEVELS, whole)
        rounded[i] = whole * steps
        error = (work[i] - rounded[i]) / upper[i, i]
        work[i + 1 :] -= upper[i, i + 1 :, None] * error
    return rounded.astype(np.float32)
