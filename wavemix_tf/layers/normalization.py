"""Batch normalization that trains with TensorFlow's fused kernel.

This is the only file of the core that may use TensorFlow, and only if Keras runs on it: Keras 3 computes batch
normalization in a dozen elementwise passes, each of which reads and keeps a full activation.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ..keras_internals import is_replica
from .recompute import is_recomputed

TINY = 1e-6  # least size of a gamma by which the sum of ``add_to`` is divided


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """``keras.layers.BatchNormalization``, same arguments, weights and values, with the fused kernel if available.

    A training step on the TensorFlow backend calls ``FusedBatchNormV3`` (about a quarter of the time and one kept
    activation instead of four); inference and other backends use Keras's implementation.

    Under ``tf.distribute`` a training step uses the statistics of the whole batch over all replicas, so that a network
    trains as on one device; Keras's layer and the kernel would use those of each replica. On JAX they are always those
    of the whole batch.

    Input shape:
        (B, H, W, C) floating point for the fused kernel; other ranks use Keras's implementation.

    Output shape:
        As the input.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not (training and self.trainable and mask is None):
            return super().call(inputs, training=training, mask=mask)
        if is_replica() and not self.renorm:
            return self._train_across_replicas(inputs)
        if not self._has_fused_kernel(inputs):
            if is_recomputed() and not self.renorm:
                return self._train_on_batch(inputs)
            return super().call(inputs, training=training)
        outputs, mean, variance = self._fused(inputs, *self._parameters())
        self._keep(mean, variance)
        return outputs

    def add_to(self, x: Any, inputs: Any) -> Any:
        """Return ``x + self(inputs, training=True)``; the backward pass needs ``x`` and the sum, not ``inputs``.

        Both are kept anyway where ``x`` is a block's input and the sum its output. The normalized input is their
        difference, less beta and divided by gamma: in float32 its error is about 1e-7 times the size of ``x`` over that
        of gamma. Other dtypes, backends, modes of training and GPUs keep ``inputs``.

        Args:
            x: Tensor of the shape and dtype of ``inputs``.
            inputs: (B, H, W, C).
        """
        wide = keras.backend.standardize_dtype(inputs.dtype) == "float32"
        if not (self.trainable and wide and self._has_fused_kernel(inputs)) or is_replica() or _has_gpu():
            return x + self(inputs, training=True)
        import tensorflow as tf

        def apply(inputs: Any, x: Any, gamma: Any, beta: Any) -> Any:
            outputs, mean, variance = self._fused(inputs, gamma, beta)
            summed = x + outputs

            def gradient(upstream: Any, *_: Any) -> Any:
                with tf.control_dependencies([upstream]):  # otherwise it would run in the forward pass, and be kept
                    scaled = summed - x  # gamma * normalized + beta
                # The kernel divides by sqrt(variance + epsilon): here by |gamma|, so that its scale is also
                # gamma / sqrt(variance of the inputs + epsilon) times |gamma|, and the gradient of gamma has its sign.
                size = tf.maximum(tf.abs(gamma), TINY)
                d_inputs, d_gamma, d_beta, *_ = tf.raw_ops.FusedBatchNormGradV3(
                    y_backprop=upstream,
                    x=scaled,
                    scale=gamma * size * tf.math.rsqrt(variance + self.epsilon),
                    reserve_space_1=beta,
                    reserve_space_2=size * size,
                    reserve_space_3=[],
                    epsilon=TINY * TINY,
                    is_training=True,
                )
                return d_inputs, upstream, tf.where(gamma < 0, -d_gamma, d_gamma), d_beta

            return (summed, tf.stop_gradient(mean), tf.stop_gradient(variance)), gradient

        summed, mean, variance = tf.custom_gradient(apply)(inputs, x, *self._parameters())
        self._keep(mean, variance)
        return summed

    def _parameters(self) -> tuple[Any, Any]:
        """Return gamma and beta, (C,) float32."""
        shape = (self.moving_mean.shape[0],)
        gamma = ops.cast(self.gamma, "float32") if self.scale else ops.ones(shape, "float32")
        return gamma, ops.cast(self.beta, "float32") if self.center else ops.zeros(shape, "float32")

    def _fused(self, inputs: Any, gamma: Any, beta: Any) -> tuple[Any, Any, Any]:
        """Return (outputs, mean, biased variance)."""
        import tensorflow as tf

        outputs, mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=gamma, offset=beta, mean=[], variance=[], epsilon=self.epsilon, is_training=True
        )
        # The kernel divides by the biased variance, which Keras averages, and returns the unbiased one.
        count = tf.cast(tf.size(inputs, out_type=tf.int64) // inputs.shape[-1], "float32")
        return outputs, mean, unbiased * ((count - 1.0) / count)

    def _train_on_batch(self, inputs: Any) -> Any:
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance = ops.moments(x, [axis for axis in range(len(x.shape)) if axis != self.axis % len(x.shape)])
        self._keep(mean, variance)
        return self._normalized(x, mean, variance)

    def _train_across_replicas(self, inputs: Any) -> Any:
        import tensorflow as tf

        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        axes = [axis for axis in range(len(x.shape)) if axis != self.axis % len(x.shape)]
        context = tf.distribute.get_replica_context()
        # Counted, because replicas may have unequal shares of a batch in a custom training loop.
        count = tf.cast(tf.size(x, out_type=tf.int64) // x.shape[self.axis], x.dtype)
        count = context.all_reduce("SUM", count)
        # In two passes: the mean of squares minus the squared mean would be less accurate than on one device.
        mean = context.all_reduce("SUM", ops.sum(x, axes)) / count
        shape = [-1 if axis not in axes else 1 for axis in range(len(x.shape))]
        centered = x - ops.reshape(mean, shape)
        variance = context.all_reduce("SUM", ops.sum(ops.square(centered), axes)) / count
        self._keep(mean, variance)
        return self._normalized(x, mean, variance)

    def _normalized(self, x: Any, mean: Any, variance: Any) -> Any:
        gamma = ops.cast(self.gamma, x.dtype) if self.scale else None
        beta = ops.cast(self.beta, x.dtype) if self.center else None
        outputs = ops.batch_normalization(x, mean, variance, self.axis, beta, gamma, self.epsilon)
        return ops.cast(outputs, self.compute_dtype)

    def _keep(self, mean: Any, variance: Any) -> None:
        """Update the moving statistics with a batch's."""
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + ops.cast(batch, moving.dtype) * (1.0 - self.momentum))

    def _has_fused_kernel(self, inputs: Any) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and not self.synchronized
            and not self.renorm
            and keras.backend.standardize_dtype(inputs.dtype) in ("float32", "bfloat16", "float16")
        )


def _has_gpu() -> bool:
    """Return whether the kernel may be cuDNN's, whose gradient takes the inverse deviation in the variance's place."""
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))
