"""Layers for training with int8 arithmetic: weights and activations are rounded to the grid of the file.

The grids are those of the TensorFlow Lite int8 specification: weights symmetric, one step per output channel, integers
-127..127; activations asymmetric, one step per tensor, integers -128..127 with zero exactly representable; biases int32
in the accumulator's steps. With all three a network computes almost exactly what XNNPACK computes from its file.
Gradients pass straight through the rounding (Jacob et al., arXiv 1712.05877; Krishnamoorthi, arXiv 1806.08342). Written
with ``keras.ops``: the same on the TensorFlow, JAX and torch backends.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from wavemix_tf.keras_internals import keep_dtype
from wavemix_tf.layers.normalization import FusedBatchNormalization
from wavemix_tf.layers.recompute import is_recomputed

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
    """Step of each output channel: the largest magnitude over ``axes`` is the integer 127. Keeps dimensions."""
    largest = ops.max(ops.abs(kernel), axis=axes, keepdims=True)
    return ops.maximum(largest, 1e-12) / WEIGHT_LEVELS


def round_weights(kernel: Any, axes: tuple[int, ...]) -> Any:
    """``kernel`` rounded to its int8 grid, one step for each channel that is not reduced by ``axes``."""
    steps = weight_steps(kernel, axes)
    return ops.round(kernel / steps) * steps


def round_to_steps(values: Any, steps: Any) -> Any:
    """``values`` rounded to whole multiples of ``steps`` (> 0, broadcast), as in an int32 bias."""
    return ops.round(values / steps) * steps


# Narrowest range: a step of 2^-25. A runtime ends the whole process if the input of a softmax has a step below 2^-26.
LEAST_WIDTH = LEVELS[8] * 2.0**-25


def whole_steps(minimum: float, maximum: float, bits: int = 8) -> tuple[float, float]:
    """Range of the grid for values in [minimum, maximum]: it contains zero, a whole number of steps from each end."""
    low, high = min(float(minimum), 0.0), max(float(maximum), 0.0)
    high = max(high, low + LEAST_WIDTH)
    if bits == 16:
        high = max(-low, high)
        return -high, high
    # Without zero on a whole number of steps, programs resolve a tie differently: of [-1, 1] one makes the integers
    # -127..128 and another -128..127.
    step = (high - low) / LEVELS[8]
    below = np.floor(-low / step + 0.5)
    return float(-below * step) + 0.0, float((LEVELS[8] - below) * step)  # no -0.0


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FakeQuant(layers.Layer):
    """Rounds a tensor to the integers of the file, in a range that calibration found.

    8 bits: 256 levels between a minimum and a maximum that include zero. 16 bits: 65,535 levels, symmetric about zero.
    Gradients are zero outside the range. The range is kept in weights, so that the weights alone define what the
    network computes. Training with values outside the range widens it (see ``saturation``); otherwise it is constant.

    Args:
        fixed: Whether the range is given by the model's contract or the runtime (an image in [0, 1], a logistic) and
            calibration must not change it.
        bits: 8 or 16.
        limits: For an input of the model: (low, high), the range that the user gave. The quantizer's range differs by
            up to half a step, because zero lies on a step.
        watched: Whether training measures values outside the range, warns about them and, unless ``fixed``, widens the
            range. False in models of version 0.1, whose ranges are constant.
        round_in_training: False for a probability whose logarithm a loss uses: rounded to zero it would have no
            gradient. At inference it is rounded as in the file.
        fresh_weights: For a model's first quantizer: digest of the weights that ``quantize`` set, see ``freshness``.

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
        """Round ``x``; or return only the step, (), with which a layer that reads the values rounds its bias."""
        if step_only:
            return (self.maximum - self.minimum) / self.levels
        wide = ops.cast(x, "float32")
        if training and self.watched and self.trainable:
            low, high = saturation.widen_range(self, wide)
        else:
            low, high = ops.convert_to_tensor(self.minimum), ops.convert_to_tensor(self.maximum)
        if training and not self.round_in_training:
            return x
        if ties_up:
            # An average of integers often lies half-way between two. The runtime rounds those up, and float noise must
            # not change that.
            wide = wide + (high - low) * (1e-3 / self.levels)
        rounded = self._rounded(wide, low, high, bool(training))
        given = keras.backend.standardize_dtype(x.dtype)
        return ops.cast(rounded, given if "float" in given else self.compute_dtype)  # pixels may be integers

    def _rounded(self, wide: Any, low: Any, high: Any, training: bool) -> Any:
        """Round to the grid between two of its levels; training keeps one byte of each element, not its value."""

        def rounded(x: Any) -> Any:
            return keras.quantizers.fake_quant_with_min_max_vars(
                x, low, high, num_bits=self.bits, narrow_range=self.bits == 16
            )

        def apply(x: Any) -> Any:
            inside = ops.logical_and(x >= low, x <= high)

            def gradient(*args: Any, upstream: Any = None) -> Any:
                upstream = args[0] if upstream is None else upstream
                return ops.where(inside, upstream, ops.zeros((), upstream.dtype))

            return rounded(x), gradient

        if training and is_recomputed() and keras.backend.backend() == "jax":
            # JAX's checkpoint keeps nothing, and its custom gradients may not enclose `low` and `high`.
            passed = ops.where(ops.logical_and(wide >= low, wide <= high), wide, ops.stop_gradient(wide))
            return ops.stop_gradient(rounded(wide)) + (passed - ops.stop_gradient(passed))
        return ops.custom_gradient(apply)(wide) if training else rounded(wide)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def compute_output_spec(self, x: Any, ties_up: bool = False, step_only: bool = False, training: Any = None) -> Any:
        return keras.KerasTensor(() if step_only else x.shape, dtype="float32" if step_only else self.compute_dtype)

    @property
    def levels(self) -> int:
        """Steps between the ends of the range."""
        return LEVELS[self.bits]

    def set_range(self, minimum: float, maximum: float) -> None:
        """Set the range, widened to include zero and for ``bits``; a constant zero gets a tiny range."""
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
        """Distance of two neighboring levels."""
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
        """Load a range; a file of version 0.1 has nothing else."""
        stored = set(store.keys())
        for index, variable in enumerate(self.weights):
            if str(index) in stored:
                variable.assign(store[str(index)])
        if self.limits is not None:
            low, high = self.limits
            if not np.allclose(self.get_range(), whole_steps(low, high, self.bits)):
                self.limits = self.get_range()  # the weights were trained for this range of the input


@keras.saving.register_keras_serializable(package="wavemix_tf")
class KeepFloat(layers.Layer):
    """Marks where a quantized network continues in float: it returns its input.

    ``quantize(skip=...)`` puts one before every layer that stays float; ``export`` writes it so that the converter
    does not quantize the layer.

    Args:
        limits: As for ``FakeQuant``, after an input of the model.

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
    """Give ``call`` the same weights as ``export``: a mixed policy would round them to 16 bits before the grid.

    Steps are arguments, and float16 cannot represent numbers that small; so ``call`` casts only activations.
    """
    layer.autocast = False
    for variable in layer.weights:
        keep_dtype(variable)  # variables that the base class made


class _ReadsSteps(layers.Layer):
    """A layer whose call takes steps in addition to its input."""

    @property
    def input(self) -> Any:
        """Only the input, for models that inspect the layer."""
        found = super().input
        return found[0] if isinstance(found, (list, tuple)) else found


class _QuantLinear(_ReadsSteps):
    """Base class of the layers below: int8 weights, and a bias that is int32 in the file.

    The accumulator of channel c counts in steps of ``input_step * weight_step[c]``, and so does its bias. The step of
    the input's grid is an argument of the call, from the input's ``FakeQuant``; without it the bias is not rounded.

    Args:
        input_step: That step as a constant, as in models of version 0.1; 0: none.
        emit_steps: Return (outputs, accumulator steps (channels,)): a batch norm after it rounds its shift to them.
    """

    kernel_axes: tuple[int, ...] = ()

    def __init__(self, input_step: float = 0.0, emit_steps: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.activation is not keras.activations.linear:
            raise ValueError(
                f"{type(self).__name__} computes no activation; put a separate layer after it. "
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
    """``keras.layers.Conv2D`` with its kernel rounded to int8, one step per output channel, and an int32 bias."""

    kernel_axes = (0, 1, 2)

    def _multiply(self, inputs: Any, kernel: Any) -> Any:
        return self.convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantDepthwiseConv2D(_QuantLinear, layers.DepthwiseConv2D):
    """``keras.layers.DepthwiseConv2D`` with its kernel rounded to int8, one step per output channel, an int32 bias."""

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
    """``keras.layers.Conv2DTranspose`` with its kernel rounded to int8, one step per output channel, an int32 bias.

    The four phases of a stride-2 kernel share their channel's step, so the file contains the same integers whether it
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
    """``keras.layers.Dense`` with its kernel rounded to int8, one step per output, and an int32 bias."""

    kernel_axes = (0,)

    def _multiply(self, inputs: Any, kernel: Any) -> Any:
        return ops.matmul(inputs, kernel)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantBatchNormalization(_ReadsSteps, FusedBatchNormalization):
    """Batch norm whose shift is rounded at inference as in the file.

    In the file the shift is part of a bias. This is the bias of the weighted layer before it, whose accumulator steps
    are the argument ``steps``; or, without such a layer, of a depthwise convolution whose one weight per channel is 127
    steps of the grid of its input, whose step is ``input_step``. Training with batch statistics has no bias to round.

    Args:
        input_step: Step of its input's grid as a constant, as in models of version 0.1; 0: none.
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
# Options that the quantized version of a layer has in addition to the plain layer's.
QUANT_OPTIONS = ("input_step", "emit_steps")
