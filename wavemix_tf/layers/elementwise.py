"""The feed-forward's elementwise operations, with fewer passes over memory than Keras's.

On CPUs they take a fifth of a training step: dropout mostly because of its random numbers, GELU because of the products
it keeps until the backward pass, and both more in bfloat16, which CPUs convert to float32 and back in every pass.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from .recompute import is_recomputed


@keras.saving.register_keras_serializable(package="wavemix_tf")
class ByteDropout(keras.layers.Dropout):
    """``keras.layers.Dropout`` with the same arguments and distribution, from one random byte per element, not four.

    If a byte cannot represent the rate exactly (it can for multiples of 1/256, such as 0.5), two bytes are drawn; the
    rate is then accurate to 1/65536.

    Input shape:
        Any, floating point. Keras's own dropout runs if the last axis is unknown or odd, or with ``noise_shape``.

    Output shape:
        As the input.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not (training and self.rate > 0):
            return inputs
        keep = self.draw(inputs)
        if keep is None:
            return super().call(inputs, training=training)
        return ops.where(keep, inputs * self.scale, ops.zeros((), inputs.dtype))  # keeps `keep`: a byte an element

    @property
    def scale(self) -> float:
        """Factor of kept elements."""
        return 1.0 / (1.0 - self.rate)

    def draw(self, x: Any) -> Any:
        """Draw a boolean tensor of the shape of ``x``, false with probability ``rate``; None if bytes do not fit."""
        per_integer = 4 if (256 * self.rate).is_integer() else 2
        if self.noise_shape is not None or not x.shape or x.shape[-1] is None or x.shape[-1] % per_integer:
            return None
        *leading, last = ops.shape(x)
        shape = (*leading, last // per_integer)
        bits = keras.random.randint(shape, -(2**31), 2**31 - 1, dtype="int32", seed=self.seed_generator)
        # Signed, because PyTorch has no unsigned 16-bit integers.
        dtype, half = ("int8", 128) if per_integer == 4 else ("int16", 32768)
        threshold = min(round(self.rate * 2 * half), 2 * half - 1) - half
        return ops.view(bits, dtype=dtype) >= ops.cast(threshold, dtype)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FusedActivation(keras.layers.Activation):
    """``keras.layers.Activation`` with the same arguments and values, whose exact GELU trains with one kept tensor.

    Keras's own keeps every factor of its products for the backward pass.

    Input shape:
        Any, floating point.

    Output shape:
        As the input.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training and self.activation is keras.activations.gelu:
            return gelu_dropout(inputs)
        return super().call(inputs)


def gelu_dropout(x: Any, keep: Any = None, scale: float = 1.0) -> Any:
    """Exact GELU (Hendrycks & Gimpel, arXiv 1606.08415) followed by dropout, with a gradient that keeps one tensor.

    Args:
        x: Floating point tensor.
        keep: Boolean tensor of its shape from ``ByteDropout.draw``, or None for no dropout.
        scale: Factor of kept elements.

    Returns:
        ``scale * keep * gelu(x)`` in the dtype of ``x``, computed at least in float32.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    wide = dtype if dtype == "float64" else "float32"

    def masked(y: Any) -> Any:
        # Selected, not multiplied by a float mask: TensorFlow draws all masks at the start of a step and would keep
        # four bytes of each element until its block has run, instead of one.
        return ops.cast(y if keep is None else ops.where(keep, y, ops.zeros((), wide)), dtype)

    def apply(x: Any) -> Any:
        def gradient(*args: Any, upstream: Any = None) -> Any:
            upstream = args[0] if upstream is None else upstream
            w = ops.cast(x, wide)  # cast again, so that the forward pass's float32 copy is not kept
            slope = (ops.erf(w * math.sqrt(0.5)) + 1.0) * (0.5 * scale)
            # The derivative in the dtype of `x`, before `upstream` is known: TensorFlow computes it in the forward pass
            # and keeps it instead of `x` and the mask.
            slope = masked(slope + w * ops.exp(w * w * -0.5) * (scale / math.sqrt(2 * math.pi)))
            return upstream * slope

        w = ops.cast(x, wide)
        return masked((ops.erf(w * math.sqrt(0.5)) + 1.0) * w * (0.5 * scale)), gradient

    if is_recomputed() and keras.backend.backend() == "jax":
        return apply(x)[0]  # JAX's checkpoint keeps only the block's input, and its gradients may not enclose `keep`
    return ops.custom_gradient(apply)(x)  # as a decorator, which has no type, it would hide the type of `apply`
