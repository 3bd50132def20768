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
    _decay: Any = None  # share of a weight that it takes away

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        if not self._is_fused():
            return super().apply(grads, trainable_variables)
        import tensorflow as tf

        # Once for all weights: of several hundred weights these numbers would be a quarter of the graph.
        lr, beta1, beta2, epsilon = (
            tf.convert_to_tensor(tf.cast(value, tf.float32))
            for value in (self.learning_rate, self.beta_1, self.beta_2, self.epsilon)
        )
        step = keras.ops.cast(self.iterations + 1, "float32")
        self._scalars = {
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "epsilon": epsilon,
            "beta1_power": tf.pow(beta1, step),
            "beta2_power": tf.pow(beta2, step),
        }
        self._decay = lr * (self.weight_decay or 0.0)
        try:
            return super().apply(grads, trainable_variables)
        finally:
            self._scalars = self._decay = None

    def _apply_weight_decay(self, variables: Any) -> None:
        fused = [one for one in variables if self._scalars is not None and _is_float32(one)]
        known = {id(one) for one in fused}
        super()._apply_weight_decay([one for one in variables if id(one) not in known])
        if self.weight_decay is None or not fused:
            return
        import tensorflow as tf

        for variable in fused:
            if self._use_weight_decay(variable):
                handle = _handle(variable)
                value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)
                tf.raw_ops.AssignSubVariableOp(resource=handle, value=value * self._decay)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self._scalars is None or not _is_float32(variable) or hasattr(gradient, "indices"):
            super().update_step(gradient, variable, learning_rate)
            return
        import tensorflow as tf

        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            grad=tf.cast(gradient, tf.float32),
            **self._scalars,
        )

    def _is_fused(self) -> bool:
        if keras.backend.backend() != "tensorflow" or self.amsgrad:
            return False
        import tensorflow as tf

        return not tf.distribute.has_strategy()


def _is_float32(variable: Any) -> bool:
    return keras.backend.standardize_dtype(variable.dtype) == "float32"


def _handle(variable: Any) -> Any:
    """The resource of a Keras variable, or of TensorFlow's variable in it, which Keras passes inside an update."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle
