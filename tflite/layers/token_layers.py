"""Layers for operations of token networks with ``keras.ops``: one layer for each op of the file.

``canonical`` writes ``ops.matmul``, slices, means and added constants as these layers, which all have an int8 rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from .fake_quant import LEVELS


@keras.saving.register_keras_serializable(package="wavemix_tf")
class MatMul(layers.Layer):
    """Matrix product of two activations, BATCH_MATMUL in the file.

    Args:
        transpose_b: Whether the matrices of the second input are transposed.

    Input shape:
        [(B, ..., M, K), (B, ..., K, N)], or (B, ..., N, K) with ``transpose_b``.

    Output shape:
        (B, ..., M, N).
    """

    def __init__(self, transpose_b: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.transpose_b = transpose_b

    def call(self, inputs: Any) -> Any:
        a, b = inputs
        return ops.matmul(a, ops.swapaxes(b, -1, -2) if self.transpose_b else b)

    def compute_output_shape(self, input_shape: Any) -> Any:
        a, b = input_shape
        return (*a[:-1], b[-2] if self.transpose_b else b[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "transpose_b": self.transpose_b}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class Cut(layers.Layer):
    """A piece of a tensor: from ``starts`` to ``stops`` on every axis except the first.

    Args:
        starts: First index of each axis after the batch.
        stops: Index after the last one, of each axis after the batch.

    Input shape:
        (B, ...) of as many axes.

    Output shape:
        (B, ...), ``stops - starts`` on each axis.
    """

    def __init__(self, starts: Sequence[int], stops: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.starts, self.stops = tuple(starts), tuple(stops)

    def call(self, x: Any) -> Any:
        return x[(slice(None), *map(slice, self.starts, self.stops))]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], *(stop - start for start, stop in zip(self.starts, self.stops, strict=True)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "starts": list(self.starts), "stops": list(self.stops)}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class Mean(layers.Layer):
    """The mean over some axes.

    Args:
        axes: Counted from the batch, which is 0 and cannot be reduced.
        keepdims: Whether they are kept, with one element each.

    Input shape:
        (B, ...).

    Output shape:
        The input's, without ``axes`` or with 1 in their place.
    """

    def __init__(self, axes: Sequence[int], keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axes, self.keepdims = tuple(axes), keepdims

    def call(self, x: Any) -> Any:
        return ops.mean(x, axis=self.axes, keepdims=self.keepdims)

    def compute_output_shape(self, input_shape: Any) -> Any:
        sides = [1 if axis in self.axes else side for axis, side in enumerate(input_shape)]
        return tuple(side for axis, side in enumerate(sides) if self.keepdims or axis not in self.axes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axes": list(self.axes), "keepdims": self.keepdims}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class Rsqrt(layers.Layer):
    """1 / sqrt(max(x, floor)).

    The file has no such floor: an integer zero becomes the largest value of the output's range, as it does here after
    the output is rounded.

    Args:
        floor: Smallest x; the epsilon of the norm.

    Input shape:
        Any.

    Output shape:
        As the input.
    """

    def __init__(self, floor: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.floor = floor

    def call(self, x: Any) -> Any:
        return ops.rsqrt(ops.maximum(x, self.floor) if self.floor else x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "floor": self.floor}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class AddConstant(layers.Layer):
    """x + constant: a position embedding, an epsilon.

    Args:
        shape: Shape of the constant, without the batch axis; it may have ones where the input has more.
        rounded: Whether the constant is rounded to 256 levels of its own range, as in an int8 file.

    Input shape:
        (B, ...).

    Output shape:
        As the input.
    """

    def __init__(self, shape: Sequence[int], rounded: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shape = tuple(shape)
        self.rounded = rounded

    def build(self, input_shape: Any) -> None:
        self.constant = self.add_weight(shape=self.shape, initializer="zeros", name="constant")

    def call(self, x: Any) -> Any:
        constant = ops.cast(self.constant, "float32")
        if self.rounded:
            constant = constant + ops.stop_gradient(_rounded(constant) - constant)
        return x + ops.cast(constant, x.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shape": list(self.shape), "rounded": self.rounded}


def _rounded(values: Any) -> Any:
    """``values`` rounded to 256 levels from their least to their largest, including zero."""
    low, high = (ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), 0.0))
    step = ops.maximum(high - low, 1e-6) / LEVELS[8]
    below = ops.floor(-low / step + 0.5)
    return ops.clip(ops.round(values / step), -below, LEVELS[8] - below) * step


@keras.saving.register_keras_serializable(package="wavemix_tf")
class ChannelAffine(layers.Layer):
    """x * scale + offset with one trained pair per channel: a layer norm without its division.

    Input shape:
        (B, ..., C).

    Output shape:
        As the input.
    """

    def build(self, input_shape: Any) -> None:
        shape = (int(input_shape[-1]),)
        self.scale = self.add_weight(shape=shape, initializer="ones", name="scale")
        self.offset = self.add_weight(shape=shape, initializer="zeros", name="offset")

    def call(self, x: Any) -> Any:
        return x * ops.cast(self.scale, x.dtype) + ops.cast(self.offset, x.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def with_constant(layer: AddConstant, value: Any) -> Any:
    """``layer`` with this constant."""
    layer.build(None)
    layer.constant.assign(np.asarray(value, np.float32).reshape(layer.shape))
    return layer
