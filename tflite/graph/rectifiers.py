"""PReLU with the weights of its int8 op: the slopes share one symmetric step."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ..layers.copying import config_of, own_value
from ..layers.fake_quant import round_weights


@keras.saving.register_keras_serializable(package="wavemix_tf")
class QuantPReLU(layers.PReLU):
    """``keras.layers.PReLU`` with its slopes rounded to int8, with one step for all; the largest slope is 127 steps.

    TensorFlow's converter writes the op's second operand in this way, however many slopes there are.

    Input shape:
        (B, ...).

    Output shape:
        As the input.
    """

    def call(self, inputs: Any) -> Any:
        alpha = ops.cast(self.alpha, "float32")
        axes = tuple(range(len(alpha.shape)))
        alpha = alpha + ops.stop_gradient(round_weights(alpha, axes) - alpha)
        alpha = ops.cast(alpha, self.compute_dtype)
        return ops.relu(inputs) - alpha * ops.relu(-inputs)


def quantized_prelu(layer: Any) -> QuantPReLU:
    """The layer that trains with rounded slopes, with the slopes of ``layer``."""
    twin = QuantPReLU.from_config(config_of(layer))
    twin.build_from_config(layer.get_build_config())
    twin.alpha.assign(own_value(layer.alpha))
    return twin


def plain_prelu(layer: QuantPReLU, rounded: bool) -> Any:
    """Keras's PReLU with the slopes of ``layer``, or with its rounded slopes."""
    alpha = np.asarray(ops.convert_to_numpy(layer.alpha), np.float32)
    plain = layers.PReLU.from_config(config_of(layer))
    plain.build_from_config(layer.get_build_config())
    plain.alpha.assign(round_weights(alpha, tuple(range(alpha.ndim))) if rounded else alpha)
    return plain
