"""Layers that train with int8 arithmetic in mind: weights and activations rounded to the grid the file will use.

The grids are those of the TensorFlow Lite int8 specification: weights symmetric, one step an output channel, integers
-127..127; activations asymmetric, one step a tensor, integers -128..127 with zero exactly representable. Gradients pass
the rounding straight through (Jacob et al., arXiv 1712.05877; Krishnamoorthi, arXiv 1806.08342). Written with
``keras.ops``: the same on the TensorFlow, JAX and torch backends.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

WEIGHT_LEVELS = 127  # int8 without -128: the specification's narrow range
ACTIVATION_LEVELS = 255


def weight_steps(kernel: Any, axes: tuple[int, ...]) -> Any:
    """Step of each output channel: the largest magnitude over ``axes`` falls on integer 127. Keeps dimensions."""
    largest = ops.max(ops.abs(kernel), axis=axes, keepdims=True)
    return ops.maximum(largest, 1e-12) / WEIGHT_LEVELS


def round_weights(kernel: Any, axes: tuple[int, ...]) -> Any:
    """``kernel`` rounded to its int8 grid, one step for each channel that is not reduced by ``axes``."""
    steps = weight_steps(kernel, axes)
    return ops.round(kernel / steps) * steps


def _straight_through(kernel: Any, axes: tuple[int, ...]) -> Any:
    wide = ops.cast(kernel, "float32")
    rounded = wide + ops.stop_gradient(round_weights(wide, axes) - wide)
    return ops.cast(rounded, keras.backend.standardize_dtype(kernel.dtype))


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FakeQuant(layers.Layer):
    """Rounds a tensor to 256 levels between a minimum and a maximum that calibration found.

    The range stays as calibrated while the network trains: the weights learn inside it, and what was trained is what
    the file computes. Gradients are zero outside it.

    Args:
        fixed: True where the range is given by the model's contract or the runtime (an image in [0, 1], a logistic) and
            calibration must leave it alone.

    Input shape:
        Any, floating point.

    Output shape:
        As the input.
    """

    def __init__(self, fixed: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fixed = fixed

    def build(self, input_shape: Any) -> None:
        # float32 whatever the policy: bfloat16 has too few bits for a range that must match the file's.
        self.minimum = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="float32", autocast=False, name="minimum"
        )
        self.maximum = self.add_weight(
            shape=(), initializer="ones", trainable=False, dtype="float32", autocast=False, name="maximum"
        )

    def call(self, x: Any) -> Any:
        wide = ops.cast(x, "float32")
        rounded = keras.quantizers.fake_quant_with_min_max_vars(wide, self.minimum, self.maximum, num_bits=8)
        return ops.cast(rounded, keras.backend.standardize_dtype(x.dtype))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def set_range(self, minimum: float, maximum: float) -> None:
        """Set the range, widened to hold zero; equal ends (a constant zero) become a tiny range."""
        low, high = min(float(minimum), 0.0), max(float(maximum), 0.0)
        if not np.isfinite([low, high]).all():
            raise ValueError(f"A range must be finite. Received: minimum={minimum}, maximum={maximum}")
        self.minimum.assign(low)
        self.maximum.assign(high if high - low > 1e-6 else low + 1e-6)

    def get_range(self) -> tuple[float, float]:
        """(minimum, maximum)."""
        low, high = (float(ops.convert_to_numpy(v)) for v in (self.minimum, self.maximum))
        return low, high

    def scaled(self, factor: float, name: str | None = None) -> FakeQuant:
        """A copy whose range is ``factor`` (> 0) times this one's."""
        copy = FakeQuant(fixed=self.fixed, name=name or self.name, dtype=self.dtype_policy)
        copy.build(None)
        low, high = self.get_range()
        copy.set_range(low * factor, high * factor)
        return copy

    @classmethod
    def for_logistic(cls, name: str) -> FakeQuant:
        """The grid that the runtime prescribes for a logistic's output: 1/256 a step, from 0."""
        quantizer = cls(fixed=True, name=name)
        quantizer.build(None)
        quantizer.set_range(0.0, 255 / 256)
        return quantizer

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fixed": self.fixed}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantConv2D(layers.Conv2D):
    """``keras.layers.Conv2D`` whose kernel is rounded to int8, one step an output channel."""

    kernel_axes = (0, 1, 2)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        return super().convolution_op(inputs, _straight_through(kernel, self.kernel_axes))


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantDepthwiseConv2D(layers.DepthwiseConv2D):
    """``keras.layers.DepthwiseConv2D`` whose kernel is rounded to int8, one step an output channel."""

    kernel_axes = (0, 1)

    def call(self, inputs: Any) -> Any:
        outputs = ops.depthwise_conv(
            inputs,
            _straight_through(self.kernel, self.kernel_axes),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return outputs + self.bias if self.use_bias else outputs


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantConv2DTranspose(layers.Conv2DTranspose):
    """``keras.layers.Conv2DTranspose`` whose kernel is rounded to int8, one step an output channel.

    The four phases of a stride-2 kernel share their channel's step, so the file holds the same integers whether it
    keeps the transposed convolution or writes it as a convolution and a depth-to-space.
    """

    kernel_axes = (0, 1, 3)

    def call(self, inputs: Any) -> Any:
        outputs = ops.conv_transpose(
            inputs,
            _straight_through(self.kernel, self.kernel_axes),
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return outputs + self.bias if self.use_bias else outputs


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantDense(layers.Dense):
    """``keras.layers.Dense`` whose kernel is rounded to int8, one step an output."""

    kernel_axes = (0,)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        outputs = ops.matmul(inputs, _straight_through(self.kernel, self.kernel_axes))
        return outputs + self.bias if self.use_bias else outputs


QUANT_LAYERS: dict[str, Any] = {
    "Conv2D": QuantConv2D,
    "DepthwiseConv2D": QuantDepthwiseConv2D,
    "Conv2DTranspose": QuantConv2DTranspose,
    "Dense": QuantDense,
}
