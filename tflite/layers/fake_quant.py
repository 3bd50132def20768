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

from wavemix_tf.keras_internals import keep_dtype
from wavemix_tf.layers.normalization import FusedBatchNormalization

from . import saturation

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


def whole_steps(minimum: float, maximum: float, bits: int = 8) -> tuple[float, float]:
    """The range that is rounded in for values in [minimum, maximum]: it holds zero, on a whole number of steps."""
    low, high = min(float(minimum), 0.0), max(float(maximum), 0.0)
    high = high if high - low > 1e-6 else low + 1e-6
    if bits == 16:
        high = max(-low, high)
        return -high, high
    # Zero on a whole number of steps, or the two ends of a tie are left to whoever reads the range: of [-1, 1] one
    # program makes the integers -127..128 and another -128..127.
    step = (high - low) / LEVELS[8]
    below = np.floor(-low / step + 0.5)
    return float(-below * step) + 0.0, float((LEVELS[8] - below) * step)  # no -0.0


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FakeQuant(layers.Layer):
    """Rounds a tensor to the integers of the file, in a range that calibration found.

    8 bits: 256 levels between a minimum and a maximum that hold zero. 16 bits: 65,535 levels, symmetric about zero.
    Gradients are zero outside the range. It is kept in weights, so that these alone say what the network computes; a
    training that leaves it widens it (see ``saturation``), and it stands still otherwise.

    Args:
        fixed: True where the range is given by the model's contract or the runtime (an image in [0, 1], a logistic) and
            calibration must leave it alone.
        bits: 8 or 16.
        limits: Of an input of the model: (low, high), the values that its user promised. The range differs from it by
            up to half a step, for zero lies on a step.
        watched: Whether training measures what lies outside the range, tells it and, unless ``fixed``, widens it. False
            in models of version 0.1, whose ranges stand still.
        round_in_training: False for a probability that a loss takes the logarithm of: rounded to zero it would have no
            gradient. At inference it is rounded as in the file.
        fresh_weights: Of a model's first quantizer: digest of the weights that ``quantize`` left, see ``freshness``.

    Input shape:
        Any, floating point.

    Output shape:
        As the input.
    """

    def __init__(
        self,
        fixed: bool = False,
        bits: int = 8,
        limits: Any = None,
        watched: bool = False,
        round_in_training: bool = True,
        fresh_weights: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.fixed = fixed
        self.bits = bits
        self.limits = limits
        self.watched = watched
        self.round_in_training = round_in_training
        self.fresh_weights = fresh_weights

    def build(self, input_shape: Any) -> None:
        self.minimum = self._add_scalar("minimum", "zeros")
        self.maximum = self._add_scalar("maximum", "ones")
        if self.watched:
            self.tolerance = self._add_scalar("tolerance", "zeros")
            self.excess = self._add_scalar("excess", "zeros")
            self.watch = saturation.RangeWatch(self)

    def _add_scalar(self, name: str, initializer: str) -> Any:
        # float32 whatever the policy: bfloat16 has too few bits for a range that must match the file's.
        options = {"trainable": False, "dtype": "float32", "autocast": False, "aggregation": "mean"}
        return self.add_weight(shape=(), initializer=initializer, name=name, **options)

    def call(self, x: Any, ties_up: bool = False, step_only: bool = False, training: bool | None = None) -> Any:
        """Round ``x``; or return the step alone, (), by which what reads the rounded values rounds its bias."""
        if step_only:
            return (self.maximum - self.minimum) / self.levels
        wide = ops.cast(x, "float32")
        if training and self.watched and self.trainable:
            low, high = saturation.follow(self, wide)
        else:
            low, high = ops.convert_to_tensor(self.minimum), ops.convert_to_tensor(self.maximum)
        if training and not self.round_in_training:
            return x
        if ties_up:
            # An average of integers often lies half-way between two; the runtime rounds those up, and float noise
            # must not decide otherwise.
            wide = wide + (high - low) * (1e-3 / self.levels)
        rounded = keras.quantizers.fake_quant_with_min_max_vars(
            wide, low, high, num_bits=self.bits, narrow_range=self.bits == 16
        )
        given = keras.backend.standardize_dtype(x.dtype)
        return ops.cast(rounded, given if "float" in given else self.compute_dtype)  # pixels may come as integers

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def compute_output_spec(self, x: Any, ties_up: bool = False, step_only: bool = False, training: Any = None) -> Any:
        return keras.KerasTensor(() if step_only else x.shape, dtype="float32" if step_only else self.compute_dtype)

    @property
    def levels(self) -> int:
        """Steps between the ends of the range."""
        return LEVELS[self.bits]

    def set_range(self, minimum: float, maximum: float) -> None:
        """Set the range, widened to hold zero and as ``bits`` asks; a constant zero gets a tiny range."""
        if not np.isfinite([minimum, maximum]).all():
            raise ValueError(f"A range must be finite. Received: minimum={minimum}, maximum={maximum}")
        low, high = whole_steps(minimum, maximum, self.bits)
        self.minimum.assign(low)
        self.maximum.assign(high)

    def get_range(self) -> tuple[float, float]:
        """(minimum, maximum)."""
        low, high = (float(ops.convert_to_numpy(v)) for v in (self.minimum, self.maximum))
        return low, high

    def get_step(self) -> float:
        """Distance of two levels."""
        low, high = self.get_range()
        return float(np.float32(high - low) / np.float32(self.levels))

    def scaled(self, factor: float, name: str | None = None) -> FakeQuant:
        """A copy whose range is ``factor`` (> 0) times this one's."""
        options = {**self.get_config(), "limits": None, "fresh_weights": None, "name": name or self.name}
        copy = FakeQuant.from_config(options)
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
        names = ("fixed", "bits", "limits", "watched", "round_in_training", "fresh_weights")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def load_own_variables(self, store: Any) -> None:
        """Load a range; version 0.1 has nothing else."""
        stored = set(store.keys())
        for index, variable in enumerate(self.weights):
            if str(index) in stored:
                variable.assign(store[str(index)])
        if self.limits is not None:
            low, high = self.limits
            if not np.allclose(self.get_range(), whole_steps(low, high, self.bits)):
                self.limits = self.get_range()  # what the weights were trained for is what the input may hold


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

    def compute_output_spec(self, x: Any) -> Any:
        return keras.KerasTensor(x.shape, x.dtype)  # integers stay integers

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "limits": self.limits}


def _keep_in_float32(layer: Any) -> None:
    """Let ``call`` see the weights that ``export`` will: a mixed policy would round them to 16 bits before the grid.

    Steps come in as arguments, and float16 has no numbers as small; so ``call`` casts what is an activation.
    """
    layer.autocast = False
    for variable in layer.weights:
        keep_dtype(variable)  # which the base class made


class _ReadsSteps(layers.Layer):
    """A layer that is called with steps beside its input."""

    @property
    def input(self) -> Any:
        """The input alone, for models that look inside."""
        found = super().input
        return found[0] if isinstance(found, (list, tuple)) else found


class _QuantLinear(_ReadsSteps):
    """What the layers below share: int8 weights, and a bias that the file will hold in int32.

    The accumulator of channel c counts in steps of ``input_step * weight_step[c]``, and so does its bias. The step of
    the grid that the input lies on comes in with it, from its ``FakeQuant``; without it the bias is not rounded.

    Args:
        input_step: That step as a constant, as models of version 0.1 hold it; 0: none.
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

    def call(self, inputs: Any, input_step: Any = None) -> Any:
        inputs = ops.cast(inputs, self.compute_dtype)
        input_step = self.input_step if input_step is None else ops.cast(input_step, "float32")
        kernel = ops.cast(self.kernel, "float32")
        rounded = kernel + ops.stop_gradient(round_weights(kernel, self.kernel_axes) - kernel)
        outputs = self._multiply(inputs, ops.cast(rounded, self.compute_dtype))
        steps = ops.reshape(ops.stop_gradient(weight_steps(kernel, self.kernel_axes)), (-1,)) * input_step
        if self.use_bias:
            bias = ops.cast(self.bias, "float32")
            if not isinstance(input_step, float) or input_step > 0:
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
class QuantBatchNormalization(_ReadsSteps, FusedBatchNormalization):
    """Batch norm whose shift is rounded at inference as it will be in the file.

    There it is part of a bias: of the weighted layer before it, whose accumulator steps come in as ``steps``, or, where
    it stands alone, of a depthwise convolution whose one weight a channel is 127 steps of the grid of its input, whose
    step comes in as ``input_step``. Training with batch statistics has no bias to round.

    Args:
        input_step: That of its input's grid as a constant, as models of version 0.1 hold it; 0: none.
    """

    def __init__(self, input_step: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.input_step = float(input_step)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        _keep_in_float32(self)

    def call(
        self, inputs: Any, training: bool | None = None, mask: Any = None, steps: Any = None, input_step: Any = None
    ) -> Any:
        outputs = super().call(ops.cast(inputs, self.compute_dtype), training=training, mask=mask)
        if steps is None:
            input_step = (self.input_step or None) if input_step is None else ops.cast(input_step, "float32")
            steps = None if input_step is None else input_step / WEIGHT_LEVELS
        if (training and self.trainable) or steps is None:
            return outputs
        steps = ops.cast(steps, "float32")
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
