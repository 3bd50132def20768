"""Layers that train with int8 arithmetic in mind: weights and activations rounded to the grid the file will use.

The grids are those of the TensorFlow Lite int8 specification: weights symmetric, one step an output channel, integers
-127..127; activations asymmetric, one step a tensor, integers -128..127 with zero exactly representable; biases int32
in the accumulator's steps. With all three a network computes what XNNPACK computes from its file, nearly to the bit.
Gradients pass the rounding straight through (Jacob et al., arXiv 1712.05877; Krishnamoorthi, arXiv 1806.08342). Written
with ``keras.ops``: the same on the TensorFlow, JAX and torch backends.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from wavemix_tf.normalization import FusedBatchNormalization

WEIGHT_LEVELS = 127  # int8 without -128: the specification's narrow range
LEVELS = {8: 255, 16: 65534}  # steps between the ends of an activation's range, by bits
# Output ranges that the runtimes prescribe, by bits (TensorFlow Lite 8-bit quantization specification; 16 bits:
# tensorflow/lite/kernels/activations.cc).
_UNIT_16 = (-32767 / 32768, 32767 / 32768)
FIXED_RANGES: dict[str, dict[int, tuple[float, float]]] = {
    "sigmoid": {8: (0.0, 255 / 256), 16: _UNIT_16},
    "softmax": {8: (0.0, 255 / 256), 16: _UNIT_16},
    "tanh": {8: (-1.0, 127 / 128), 16: _UNIT_16},
}


def weight_steps(kernel: Any, axes: tuple[int, ...]) -> Any:
    """Step of each output channel: the largest magnitude over ``axes`` falls on integer 127. Keeps dimensions."""
    largest = ops.max(ops.abs(kernel), axis=axes, keepdims=True)
    return ops.maximum(largest, 1e-12) / WEIGHT_LEVELS


def round_weights(kernel: Any, axes: tuple[int, ...]) -> Any:
    """``kernel`` rounded to its int8 grid, one step for each channel that is not reduced by ``axes``."""
    steps = weight_steps(kernel, axes)
    return ops.round(kernel / steps) * steps


def round_to_steps(values: Any, steps: Any) -> Any:
    """``values`` rounded to whole multiples of ``steps`` (> 0, broadcast), as an int32 bias holds them."""
    return ops.round(values / steps) * steps


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FakeQuant(layers.Layer):
    """Rounds a tensor to the integers of the file, in a range that calibration found.

    8 bits: 256 levels between a minimum and a maximum that hold zero. 16 bits: 65,535 levels, symmetric about zero. The
    range stays as calibrated while the network trains: the weights learn inside it, and what was trained is what the
    file computes. Gradients are zero outside it.

    Args:
        fixed: True where the range is given by the model's contract or the runtime (an image in [0, 1], a logistic) and
            calibration must leave it alone.
        bits: 8 or 16.
        limits: Of an input of the model: (low, high), the values that its user promised. The range differs from it by
            up to half a step, for zero lies on a step.

    Input shape:
        Any, floating point.

    Output shape:
        As the input.
    """

    def __init__(self, fixed: bool = False, bits: int = 8, limits: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fixed = fixed
        self.bits = bits
        self.limits = limits

    def build(self, input_shape: Any) -> None:
        # float32 whatever the policy: bfloat16 has too few bits for a range that must match the file's.
        self.minimum = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="float32", autocast=False, name="minimum"
        )
        self.maximum = self.add_weight(
            shape=(), initializer="ones", trainable=False, dtype="float32", autocast=False, name="maximum"
        )

    def call(self, x: Any, ties_up: bool = False) -> Any:
        wide = ops.cast(x, "float32")
        if ties_up:
            # An average of integers often lies half-way between two; the runtime rounds those up, and float noise
            # must not decide otherwise.
            wide = wide + (self.maximum - self.minimum) * (1e-3 / LEVELS[self.bits])
        rounded = keras.quantizers.fake_quant_with_min_max_vars(
            wide, self.minimum, self.maximum, num_bits=self.bits, narrow_range=self.bits == 16
        )
        return ops.cast(rounded, keras.backend.standardize_dtype(x.dtype))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def set_range(self, minimum: float, maximum: float) -> None:
        """Set the range, widened to hold zero and as ``bits`` asks; a constant zero gets a tiny range."""
        low, high = min(float(minimum), 0.0), max(float(maximum), 0.0)
        if not np.isfinite([low, high]).all():
            raise ValueError(f"A range must be finite. Received: minimum={minimum}, maximum={maximum}")
        high = high if high - low > 1e-6 else low + 1e-6
        if self.bits == 16:
            high = max(-low, high)
            low = -high
        else:
            # Zero on a whole number of steps, or the two ends of a tie are left to whoever reads the range: of [-1, 1]
            # one program makes the integers -127..128 and another -128..127.
            step = (high - low) / LEVELS[8]
            below = np.floor(-low / step + 0.5)
            low, high = -below * step, (LEVELS[8] - below) * step
        self.minimum.assign(low)
        self.maximum.assign(high)

    def get_range(self) -> tuple[float, float]:
        """(minimum, maximum)."""
        low, high = (float(ops.convert_to_numpy(v)) for v in (self.minimum, self.maximum))
        return low, high

    def get_step(self) -> float:
        """Distance of two levels."""
        low, high = self.get_range()
        return float(np.float32(high - low) / np.float32(LEVELS[self.bits]))

    def scaled(self, factor: float, name: str | None = None) -> FakeQuant:
        """A copy whose range is ``factor`` (> 0) times this one's."""
        copy = FakeQuant(fixed=self.fixed, bits=self.bits, name=name or self.name, dtype=self.dtype_policy)
        copy.build(None)
        low, high = self.get_range()
        copy.set_range(low * factor, high * factor)
        return copy

    @classmethod
    def for_activation(cls, function: str, name: str, bits: int = 8, dtype: Any = None) -> FakeQuant:
        """The grid that the runtime prescribes for the output of a function of ``FIXED_RANGES``."""
        quantizer = cls(fixed=True, bits=bits, name=name, dtype=dtype)
        quantizer.build(None)
        quantizer.set_range(*FIXED_RANGES[function][bits])
        return quantizer

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "fixed": self.fixed, "bits": self.bits, "limits": self.limits}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class KeepFloat(layers.Layer):
    """Marks where a quantized network goes on in float: it returns its input.

    ``quantize(skip=...)`` puts one before every layer that is to stay float; ``export`` writes it so that the converter
    does not quantize what reads it.

    Args:
        limits: As of ``FakeQuant``, behind an input of the model.

    Input shape:
        Any, floating point.

    Output shape:
        As the input.
    """

    def __init__(self, limits: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limits = limits

    def call(self, x: Any) -> Any:
        return x

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limits": self.limits}


def _keep_in_float32(layer: Any) -> None:
    """Let ``call`` see the weights that ``export`` will: a mixed policy would round them to 16 bits before the grid."""
    for variable in layer.weights:
        variable._autocast = False  # `add_weight(autocast=False)`, but the base class makes these


class _QuantLinear(layers.Layer):
    """What the layers below share: int8 weights, and a bias that the file will hold in int32.

    The accumulator of channel c counts in steps of ``input_step * weight_step[c]``, and so does its bias.

    Args:
        input_step: Step of the grid its input lies on; 0: unknown, the bias is not rounded.
        emit_steps: Return (outputs, accumulator steps (channels,)): a batch norm behind rounds its shift to them.
    """

    kernel_axes: tuple[int, ...] = ()

    def __init__(self, input_step: float = 0.0, emit_steps: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.activation is not keras.activations.linear:
            raise ValueError(
                f"{type(self).__name__} computes no activation; put a layer of its own behind it. "
                f"Received: activation={keras.activations.serialize(self.activation)!r}"
            )
        self.input_step = float(input_step)
        self.emit_steps = emit_steps

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        _keep_in_float32(self)

    def _multiply(self, inputs: Any, kernel: Any) -> Any:
        raise NotImplementedError

    def call(self, inputs: Any) -> Any:
        kernel = ops.cast(self.kernel, "float32")
        rounded = kernel + ops.stop_gradient(round_weights(kernel, self.kernel_axes) - kernel)
        outputs = self._multiply(inputs, ops.cast(rounded, self.compute_dtype))
        steps = ops.reshape(ops.stop_gradient(weight_steps(kernel, self.kernel_axes)), (-1,)) * self.input_step
        if self.use_bias:
            bias = ops.cast(self.bias, "float32")
            if self.input_step:
                bias = bias + ops.stop_gradient(round_to_steps(bias, steps) - bias)
            outputs = outputs + ops.cast(bias, self.compute_dtype)
        return (outputs, steps) if self.emit_steps else outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        shape = super().compute_output_shape(input_shape)
        return (shape, (shape[-1],)) if self.emit_steps else shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "input_step": self.input_step, "emit_steps": self.emit_steps}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantConv2D(_QuantLinear, layers.Conv2D):
    """``keras.layers.Conv2D`` with its kernel rounded to int8, one step an output channel, and an int32 bias."""

    kernel_axes = (0, 1, 2)

    def _multiply(self, inputs: Any, kernel: Any) -> Any:
        return self.convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantDepthwiseConv2D(_QuantLinear, layers.DepthwiseConv2D):
    """``keras.layers.DepthwiseConv2D`` with its kernel rounded to int8, one step an output channel, an int32 bias."""

    kernel_axes = (0, 1)

    def _multiply(self, inputs: Any, kernel: Any) -> Any:
        return ops.depthwise_conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantConv2DTranspose(_QuantLinear, layers.Conv2DTranspose):
    """``keras.layers.Conv2DTranspose`` with its kernel rounded to int8, one step an output channel, an int32 bias.

    The four phases of a stride-2 kernel share their channel's step, so the file holds the same integers whether it
    keeps the transposed convolution or writes it as a convolution and a depth-to-space.
    """

    kernel_axes = (0, 1, 3)

    def _multiply(self, inputs: Any, kernel: Any) -> Any:
        return ops.conv_transpose(
            inputs,
            kernel,
            strides=list(self.strides),
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantDense(_QuantLinear, layers.Dense):
    """``keras.layers.Dense`` with its kernel rounded to int8, one step an output, and an int32 bias."""

    kernel_axes = (0,)

    def _multiply(self, inputs: Any, kernel: Any) -> Any:
        return ops.matmul(inputs, kernel)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantBatchNormalization(FusedBatchNormalization):
    """Batch norm whose shift is rounded at inference as it will be in the file.

    There it is part of a bias: of the weighted layer before it, whose accumulator steps come in as ``steps``, or, where
    it stands alone, of a depthwise convolution whose one weight a channel is 127 steps. Training with batch statistics
    has no bias to round.

    Args:
        input_step: Step of the grid its input lies on, where it stands alone; 0: unknown.
    """

    def __init__(self, input_step: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.input_step = float(input_step)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        _keep_in_float32(self)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None, steps: Any = None) -> Any:
        outputs = super().call(inputs, training=training, mask=mask)
        if (training and self.trainable) or (steps is None and not self.input_step):
            return outputs
        steps = self.input_step / WEIGHT_LEVELS if steps is None else ops.cast(steps, "float32")
        scale = 1.0 / ops.sqrt(ops.cast(self.moving_variance, "float32") + self.epsilon)
        if self.scale:
            scale = scale * ops.cast(self.gamma, "float32")
        shift = -ops.cast(self.moving_mean, "float32") * scale
        if self.center:
            shift = shift + ops.cast(self.beta, "float32")
        grid = ops.abs(scale) * steps
        correction = ops.where(grid > 0, round_to_steps(shift, ops.maximum(grid, 1e-30)) - shift, 0.0)
        return outputs + ops.cast(ops.stop_gradient(correction), outputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "input_step": self.input_step}


QUANT_LAYERS: dict[str, Any] = {
    "Conv2D": QuantConv2D,
    "DepthwiseConv2D": QuantDepthwiseConv2D,
    "Conv2DTranspose": QuantConv2DTranspose,
    "Dense": QuantDense,
}
# Configuration that the quantized twin of a layer has and the plain layer has not.
QUANT_OPTIONS = ("input_step", "emit_steps")
