"""`FusedAdamW`: AdamW with one operation a weight on TensorFlow."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FusedAdamW(keras.optimizers.AdamW):
    """``keras.optimizers.AdamW`` with the same arguments, variables and values, up to rounding.

    Loshchilov & Hutter, arXiv 1711.05101. On TensorFlow, without a distribution strategy, TensorFlow's own Adam kernel
    updates a float32 weight: it reads the weight, its gradient and its two moments once. Keras's update is about twenty
    operations, each of which reads and writes the memory of a whole weight, and all are in the graph for every weight.
    Everywhere else Keras's update runs.
    """

    _scalars: dict[str, Any] | None = None  # of the step that is being applied

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        if not self._is_fused():
            return super().apply(grads, trainable_variables)
        ops = keras.ops
        step = ops.cast(self.iterations + 1, "float32")
        self._scalars = {
            "beta1_power": ops.power(ops.cast(self.beta_1, "float32"), step),
            "beta2_power": ops.power(ops.cast(self.beta_2, "float32"), step),
        }
        try:
            return super().apply(grads, trainable_variables)
        finally:
            self._scalars = None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        dtype = keras.backend.standardize_dtype(variable.dtype)
        if self._scalars is None or dtype != "float32" or hasattr(gradient, "indices"):
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, tf.float32),
            **self._scalars,
        )

    def _is_fused(self) -> bool:
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            return False
        import tensorflow as tf

        return not tf.distribute.has_strategy()


def _handle(variable: Any) -> Any:
    """The resource of a Keras variable, or of TensorFlow's variable in it, which Keras passes inside an update."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
