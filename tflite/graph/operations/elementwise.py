"""Operations of ``keras.ops`` that a single Keras layer computes: activations, arithmetic, reshapes."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers

from ..affines import rescaling
from ..graph import Node, Value

# Operations of keras.ops -> the activation layer that computes the same.
ACTIVATION_OPERATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
    "Tanh": "tanh",
}


def layer_for(node: Node) -> Any:
    """The layer that computes the same as the operation of ``node`` from the same tensors; None if there is none."""
    operation, kind, name = node.layer, type(node.layer).__name__, node.name
    if kind in ACTIVATION_OPERATIONS:
        return layers.Activation(ACTIVATION_OPERATIONS[kind], name=name)
    if kind == "Softmax" and operation.axis in (-1, len(node.output.shape) - 1):
        return layers.Activation("softmax", name=name)
    if kind == "Gelu" and not operation.approximate:
        return layers.Activation("gelu", name=name)
    if kind == "LeakyRelu":
        return layers.LeakyReLU(negative_slope=operation.negative_slope, name=name)
    if kind in ("Add", "Subtract", "Multiply", "TrueDivide", "Divide", "Negative"):
        return _arithmetic_layer(node, "Divide" if kind == "TrueDivide" else kind)
    if kind == "Mean" and len(node.inputs[0].shape) == 4 and _axes(operation.axis, 4) == (1, 2):
        return layers.GlobalAveragePooling2D(keepdims=bool(operation.keepdims), name=name)
    if kind in ("Reshape", "Squeeze", "ExpandDims") and None not in node.output.shape[1:]:
        before, behind = (math.prod(side or 0 for side in v.shape[1:]) for v in (node.inputs[0], node.output))
        if before != behind:
            return None  # it changes the batch axis
        return layers.Reshape(node.output.shape[1:], name=name)
    if kind == "Concatenate" and len(node.inputs) > 1:
        return layers.Concatenate(axis=operation.axis, name=name)
    return None


def _axes(axis: Any, rank: int) -> tuple[int, ...]:
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    return tuple(sorted(a % rank for a in given)) if None not in given else ()


def _arithmetic_layer(node: Node, kind: str) -> Any:
    name = node.name
    if len(node.inputs) == 2:
        merges = {"Add": layers.Add, "Subtract": layers.Subtract, "Multiply": layers.Multiply}
        return merges[kind](name=name) if kind in merges else None
    if kind == "Negative":
        return layers.Rescaling(-1.0, name=name)
    left, right = node.args[:2] if len(node.args) > 1 else (node.args[0], *node.kwargs.values())
    first = isinstance(left, Value)
    constant = np.asarray(keras.ops.convert_to_numpy(right if first else left), np.float64)
    channels = node.inputs[0].shape[-1]
    if constant.size not in (1, channels) or (constant.size > 1 and constant.shape[-1] != channels):
        return None
    value = float(constant.ravel()[0]) if constant.size == 1 else constant.ravel()
    if kind == "Divide":
        return rescaling(1.0 / np.asarray(value), 0.0, name) if first else None
    scale, offset = {
        "Add": (1.0, value),
        "Multiply": (value, 0.0),
        "Subtract": (1.0, -np.asarray(value)) if first else (-1.0, value),
    }[kind]
    return rescaling(scale, offset, name)
