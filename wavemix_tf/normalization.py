"""Batch normalisation that trains with TensorFlow's fused kernel.

The one file of the core that may touch TensorFlow, and only when Keras already runs on it: Keras 3 composes batch
normalisation of a dozen elementwise passes, each of which reads and keeps a full activation.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """``keras.layers.BatchNormalization``, same arguments, weights and values, by the fused kernel where there is one.

    A training step on the TensorFlow backend calls ``FusedBatchNormV3`` (about a quarter of the time and one kept
    activation instead of four); inference and every other backend take Keras's own path.

    Input shape:
        (B, H, W, C) floating point for the fused kernel; any other rank takes Keras's path.

    Output shape:
        As the input.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and self.trainable and mask is None and self._has_fused_kernel(inputs)):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        channels = inputs.shape[-1]
        gamma = ops.cast(self.gamma, "float32") if self.scale else tf.ones((channels,))
        beta = ops.cast(self.beta, "float32") if self.center else tf.zeros((channels,))
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=gamma, offset=beta, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        # The kernel returns the unbiased variance; Keras averages the biased one.
        count = tf.cast(tf.size(inputs, out_type=tf.int64) // channels, "float32")
        variance = variance * ((count - 1.0) / count)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.cast(batch, moving.dtype) * (1.0 - self.momentum))
        return outputs

    def _has_fused_kernel(self, inputs: Any) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and not self.synchronized
            and not self.renorm
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "bfloat16", "float16")
        )
