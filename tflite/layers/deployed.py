"""Layers that occur only in a deployed graph; each gives the converter information that Keras's own layers do not.

None is saved: a deployed graph exists only during its conversion.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from .fake_quant import FakeQuant


class FixedQuant(layers.Layer):
    """FakeQuant of 8 bits with its range as constants, from which the converter takes scale and zero point."""

    def __init__(self, minimum: float, maximum: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum = minimum, maximum

    def call(self, x: Any) -> Any:
        return keras.quantizers.fake_quant_with_min_max_vars(x, self.minimum, self.maximum, num_bits=8)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class FixedConstant(layers.Layer):
    """x + constant, with the constant rounded to 8 bits as in the file."""

    def __init__(self, values: np.ndarray, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.values = np.asarray(values, np.float32)
        grid = FakeQuant(dtype="float32")
        grid.build(None)
        grid.set_range(float(self.values.min()), float(self.values.max()))
        self.minimum, self.maximum = grid.get_range()

    def call(self, x: Any) -> Any:
        # A separate range for the constant, from which the converter takes its scale.
        constant = ops.convert_to_tensor(self.values)
        return x + keras.quantizers.fake_quant_with_min_max_vars(constant, self.minimum, self.maximum, num_bits=8)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "values": self.values}


class IndexOfExtreme(layers.Layer):
    """Index of the largest (or least) value along an axis, int32: one ARG_MAX or ARG_MIN.

    ``keras.ops.argmax`` first looks for negative zeros, with ops that the file format lacks.
    """

    def __init__(self, axis: int, keepdims: bool, least: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis, self.keepdims, self.least = axis, keepdims, least

    def call(self, x: Any) -> Any:
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            found = (tf.argmin if self.least else tf.argmax)(x, self.axis, output_type=tf.int32)
            return ops.expand_dims(found, self.axis) if self.keepdims else found
        return (ops.argmin if self.least else ops.argmax)(x, self.axis, keepdims=self.keepdims)

    def compute_output_spec(self, x: Any) -> Any:
        sides = list(x.shape)
        sides[self.axis : self.axis + 1] = [1] if self.keepdims else []
        return keras.KerasTensor(sides, "int32")


class NegatedTwice(layers.Layer):
    """Its input, by a route that the converter does not quantize: there is no integer negation.

    Layers that read it stay float. A weighted layer merges the second sign into its kernel.
    """

    def call(self, x: Any) -> Any:
        return (-x) * -1.0

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class Resize2D(layers.Layer):
    """Resize to sides ``size`` (H, W) with the backend's image resize: one RESIZE op, where repeating becomes TILE."""

    def __init__(self, size: tuple[int, int], interpolation: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size, self.interpolation = tuple(size), interpolation

    def call(self, x: Any) -> Any:
        return ops.image.resize(x, self.size, interpolation=self.interpolation, data_format="channels_last")

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], *self.size, input_shape[-1])


class GridConv2D(layers.Conv2D):
    """Conv2D that gives the converter its kernel's steps, if the largest weight does not reach 127 of them."""

    def set_grid(self, steps: np.ndarray) -> None:
        # A channel that a norm multiplies by zero has no step; its bias needs one as fine as the others'.
        positive = steps[steps > 0]
        spare = np.median(positive) if len(positive) else 1.0
        self.steps = np.where(steps > 0, steps, spare).astype(np.float32)

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        reach = self.steps * 127
        kernel = keras.quantizers.fake_quant_with_min_max_vars(
            kernel, -reach, reach, num_bits=8, narrow_range=True, axis=-1
        )
        return super().convolution_op(inputs, kernel)
