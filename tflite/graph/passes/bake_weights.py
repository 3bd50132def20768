"""A layer that rounds its weights whenever it runs -> one that contains the rounded weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers, ops

from ...errors import UnsupportedLayerError
from ...layers.copying import config_of, own_value
from ...layers.fake_quant import (
    QUANT_LAYERS,
    QUANT_OPTIONS,
    WEIGHT_LEVELS,
    QuantBatchNormalization,
    round_to_steps,
    round_weights,
    weight_steps,
)
from ..affines import affine_of
from ..graph import Graph, Node
from ..rectifiers import plain_prelu
from ..weights import bias_of, kernel_of, with_weights


def bake_weights(graph: Graph) -> None:
    """Quantized layers -> plain ones whose kernels and biases lie on their grids.

    ``node.grid`` keeps each channel's weight step.
    """
    for node in graph.nodes():
        if node.kind.removeprefix("Quant") in QUANT_LAYERS and hasattr(node.layer, "input_step"):
            _bake_linear(node)
        elif node.kind == "QuantPReLU":
            node.layer = plain_prelu(node.layer, rounded=True)
    for node in graph.nodes():
        if isinstance(node.layer, QuantBatchNormalization):
            _bake_norm(node)


def plain_config(layer: Any) -> dict[str, Any]:
    """Configuration of a quantized layer without the options of quantization."""
    return {key: value for key, value in config_of(layer).items() if key not in QUANT_OPTIONS}


def _input_step(node: Node) -> float:
    """Step of the grid of the input of a layer with a bias; 0: none. Removes it from the call."""
    value = node.kwargs.pop("input_step", None)
    return node.layer.input_step if value is None else value.node.layer.get_step()


def _bake_linear(node: Node) -> None:
    layer, input_step = node.layer, _input_step(node)
    kernel, bias = kernel_of(layer), bias_of(layer)
    rounded = np.asarray(ops.convert_to_numpy(round_weights(kernel, layer.kernel_axes)), np.float32)
    node.grid = np.asarray(ops.convert_to_numpy(weight_steps(kernel, layer.kernel_axes)), np.float32).ravel()
    node.accumulator = node.grid * np.float32(input_step) if input_step else None
    if bias is not None and node.accumulator is not None:
        bias = np.asarray(ops.convert_to_numpy(round_to_steps(bias, node.accumulator)), np.float32)
    plain = getattr(layers, node.kind.removeprefix("Quant"))
    node.layer = with_weights(plain.from_config(plain_config(layer)), rounded, bias)
    node.outputs = node.outputs[:1]


def _bake_norm(node: Node) -> None:
    """Move the rounding of the shift into beta."""
    layer = node.layer
    found = affine_of(node)
    if found is None:
        raise UnsupportedLayerError(f"Batch norm must act on the last axis. Received: layer={node.name!r}")
    scale, shift = found
    steps: Any = _input_step(node) / WEIGHT_LEVELS
    if "steps" in node.kwargs:
        accumulator = node.kwargs.pop("steps").node.accumulator
        steps = 0.0 if accumulator is None else accumulator.astype(np.float64)
    plain = layers.BatchNormalization.from_config({**plain_config(layer), "center": True})
    plain.build(node.inputs[0].shape)
    grid = np.abs(scale) * steps
    rounded = np.where(grid > 0, np.round(shift / np.maximum(grid, 1e-30)) * grid, shift)
    plain.beta.assign(rounded - shift + (ops.convert_to_numpy(layer.beta) if layer.center else 0.0))
    if layer.scale:
        plain.gamma.assign(own_value(layer.gamma))
    plain.moving_mean.assign(own_value(layer.moving_mean))
    plain.moving_variance.assign(own_value(layer.moving_variance))
    node.layer = plain
