"""Kernels and biases of layers as arrays, and layers made from them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from ..layers.copying import config_of


def kernel_of(layer: Any) -> np.ndarray:
    """float32 kernel: Conv2D (h, w, in, out), Conv2DTranspose (h, w, out, in), DepthwiseConv2D (h, w, in, m), Dense."""
    return np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float32)


def bias_of(layer: Any) -> np.ndarray | None:
    return np.asarray(keras.ops.convert_to_numpy(layer.bias), np.float32) if layer.use_bias else None


def to_float64(values: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(values), np.float64)


def per_output(kind: str, kernel: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Reshape ``factors`` (one per output channel) so that ``kernel * result`` scales a layer's outputs."""
    if kind.endswith("Conv2DTranspose"):
        return factors.reshape(1, 1, -1, 1)
    if kind.endswith("DepthwiseConv2D"):
        return factors.reshape(1, 1, *kernel.shape[2:])
    return factors.reshape((1,) * (kernel.ndim - 1) + (-1,))


def with_weights(layer: Any, kernel: np.ndarray, bias: np.ndarray | None, **changes: Any) -> Any:
    """A new layer configured as ``layer`` except for ``changes``, with these weights. The old one may be shared."""
    new = type(layer).from_config({**config_of(layer), **changes, "use_bias": bias is not None})
    channels = kernel.shape[-1] if isinstance(new, layers.Conv2DTranspose) else kernel.shape[-2]
    if isinstance(new, layers.Conv2D):
        channels *= new.groups
    new.build((None, channels) if isinstance(new, layers.Dense) else (None, None, None, channels))
    new.set_weights([kernel] if bias is None else [kernel, bias])
    return new


def conv2d(kernel: np.ndarray, bias: np.ndarray | None, name: str, cls: Any = layers.Conv2D, **options: Any) -> Any:
    """A float32 Conv2D (or DepthwiseConv2D, by ``cls``) with these weights."""
    sizes: dict[str, Any] = {"kernel_size": kernel.shape[:2], "use_bias": bias is not None, "name": name}
    if issubclass(cls, layers.DepthwiseConv2D):
        sizes["depth_multiplier"] = kernel.shape[3]
    else:
        sizes["filters"] = kernel.shape[3]
    layer = cls(**sizes, **{"dtype": "float32", **options})
    layer.build((None, None, None, kernel.shape[2]))
    layer.set_weights([kernel] if bias is None else [kernel, bias])
    return layer


def is_pointwise(layer: Any) -> bool:
    """Whether a Conv2D is 1x1, of stride 1, and mixes all channels."""
    return tuple(layer.kernel_size) == (1, 1) and tuple(layer.strides) == (1, 1) and layer.groups == 1


def is_restrained(layer: Any) -> bool:
    """Whether a penalty or a constraint on the layer's weights would change its meaning if they are rescaled."""
    parts = ("kernel_regularizer", "kernel_constraint", "depthwise_regularizer", "depthwise_constraint")
    return any(getattr(layer, part, None) is not None for part in parts)
