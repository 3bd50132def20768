"""``TfmotModel``: a tf_keras model with tfmot's quantizers that trains, predicts and exports like a Keras 3 one."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np

from wavemix_tf.checks import check_option

from ...graph.graph import Graph
from ...layers.fake_quant import QUANT_LAYERS
from ...names import IO_DTYPES, MICRO, REFERENCE, XNNPACK
from ...runtimes.converter import run_converter
from .compile_options import translate_optimizer, translate_option
from .toolkit import converting, layer_variables, toolkit
from .translation import DEPTHWISE

# Largest mean error of the file against ``TfmotModel.predict``, in output steps. Wider than for the native engine,
# which rounds biases as the file does and averages of integers as the runtime does. tfmot does neither, and depth
# amplifies the difference. A wrong fold or grid costs tens of steps.
ERROR_BOUND_STEPS = {XNNPACK: 4.0, REFERENCE: 6.0, MICRO: 6.0}


class TfmotModel:
    """A model quantized by tensorflow-model-optimization, made by ``quantize(model, images, engine="tfmot")``.

    Trains and predicts like a Keras model, but is not one: it contains a tf_keras (Keras 2) model. Batch norms were
    folded into the convolutions before them, with their moving statistics, and so no longer normalize. ``export``
    takes it as any other model.

    Args:
        float_model: Keras 3 functional model: the folded float network, before training.
        tf_keras_model: Its tf_keras twin with tfmot's wrappers.
        frozen: Names of the weighted layers that never train (wavelet taps, the input's normalization).
        input_ranges: Range of the values of the input, see ``quantize``: a list of one.
    """

    # Attributes that `export` reads from a model that converts itself.
    quantized_dtype = "int8"
    error_bound_steps = ERROR_BOUND_STEPS

    def __init__(self, float_model: Any, tf_keras_model: Any, frozen: frozenset[str], input_ranges: list[Any]) -> None:
        self._float_model = float_model
        self.tf_keras_model = tf_keras_model
        self.frozen = frozen
        self.input_ranges = input_ranges
        self.fresh_weights: str | None = None  # their digest before any training, see `freshness`

    @property
    def name(self) -> str:
        return f"{self._float_model.name}_tfmot"

    @property
    def inputs(self) -> Any:
        """Symbolic Keras 3 inputs, for their shapes and dtypes."""
        return self._float_model.inputs

    @property
    def outputs(self) -> Any:
        """Symbolic Keras 3 outputs, for their shapes and dtypes."""
        return self._float_model.outputs

    @property
    def layers(self) -> list[Any]:
        """Layers of the float model, for their names and configurations; see ``to_keras`` for their weights."""
        return self._float_model.layers

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        return tuple(self._float_model.input_shape)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        return tuple(self._float_model.output_shape)

    def compile(self, optimizer: Any = "adam", loss: Any = None, metrics: Any = None) -> None:
        """Configure training.

        Args:
            optimizer: A name, or a Keras optimizer: its configuration, learning rate schedule included, is passed to
                the tf_keras optimizer of the same name; its state is not.
            loss: A name or a Keras loss.
            metrics: A list of names or Keras metrics.

        Raises:
            ValueError: an object or option that tf_keras has no counterpart for.
        """
        keras2 = toolkit().keras
        self.tf_keras_model.compile(
            optimizer=translate_optimizer(optimizer, keras2),
            loss=translate_option("loss", loss, keras2.losses),
            metrics=[translate_option("metrics", metric, keras2.metrics) for metric in metrics or []],
        )

    def fit(
        self,
        x: Any,
        y: Any = None,
        *,
        epochs: int = 1,
        batch_size: int | None = None,
        validation_data: Any = None,
        callbacks: Any = None,
        verbose: Any = "auto",
    ) -> Any:
        """Fine-tune; arguments as in ``keras.Model.fit``.

        Args:
            x: Images (N, H, W, C) in [0, 1], or a tf.data.Dataset of (images, labels).
            y: Labels; None with a dataset.
            epochs: Number of passes over the data.
            batch_size: Images per step; None: 32, or the dataset's own.
            validation_data: (images, labels) or a dataset.
            callbacks: Keras or tf_keras callbacks; ``callback.model`` is the tf_keras model.
            verbose: 0, 1, 2 or "auto".

        Returns:
            A History: ``.history`` maps each metric to its values, one per epoch.
        """
        wrap = toolkit().Callback
        given = keras.tree.flatten(callbacks) if callbacks is not None else []
        wrapped = [wrap(each) if isinstance(each, keras.callbacks.Callback) else each for each in given]
        history = self.tf_keras_model.fit(
            x,
            y,
            epochs=epochs,
            batch_size=batch_size,
            validation_data=validation_data,
            callbacks=wrapped,
            verbose=verbose,
        )
        self.set_weight_ranges()
        return history

    def set_weight_ranges(self) -> None:
        """Set the weights' ranges: tfmot's are those before the last step, and do not include averaged weights."""
        for layer in self._float_model.layers:
            variables = self.variables(layer.name) if type(layer).__name__ in QUANT_LAYERS else {}
            name = "depthwise_kernel" if type(layer).__name__ == DEPTHWISE else "kernel"
            if f"{name}_max" in variables:
                largest = np.abs(variables[name].numpy())
                largest = largest.max(tuple(range(largest.ndim - len(variables[f"{name}_max"].shape))))
                variables[f"{name}_max"].assign(largest)
                variables[f"{name}_min"].assign(-largest)

    def evaluate(
        self, x: Any, y: Any = None, *, batch_size: int | None = None, verbose: Any = 0, return_dict: bool = False
    ) -> Any:
        """Loss and metrics with int8 arithmetic; as ``keras.Model.evaluate``."""
        return self.tf_keras_model.evaluate(x, y, batch_size=batch_size, verbose=verbose, return_dict=return_dict)

    def predict(self, x: Any, batch_size: int | None = None, verbose: Any = 0) -> np.ndarray:
        """Outputs with int8 arithmetic: float32 (N, ...)."""
        return self.tf_keras_model.predict(x, batch_size=batch_size, verbose=verbose)

    def __call__(self, images: Any, training: bool = False) -> Any:
        """Outputs as a TensorFlow tensor."""
        return self.tf_keras_model(images, training=training)

    def to_keras(self) -> Any:
        """The float Keras 3 model, with the trained weights.

        Returns:
            A functional ``keras.Model`` with the inputs and outputs of the one that was quantized. It has no batch
            norm any more, each Haar transform is part of the convolution after it, and nothing in it is rounded.
        """
        model = Graph.from_model(self._float_model).to_model(self._float_model.name)
        for layer in model.layers:
            kind = type(layer).__name__
            if kind not in QUANT_LAYERS or layer.name in self.frozen:
                continue
            variables = self.variables(layer.name)
            layer.kernel.assign(variables["depthwise_kernel" if kind == DEPTHWISE else "kernel"].numpy())
            if layer.use_bias:
                layer.bias.assign(variables["bias"].numpy())
        return model

    def variables(self, layer_name: str) -> dict[str, Any]:
        """The tf_keras variables of a layer and its quantizers: "kernel", "bias", "kernel_min", "output_max", ...

        Args:
            layer_name: Name of the layer in ``to_keras()``.
        """
        return layer_variables(self.tf_keras_model, layer_name)

    def convert(self, io_dtype: str = "int8") -> bytes:
        """Run TensorFlow's converter: a full-int8 file, batch 1, built-in ops only. ``export`` also checks it.

        Args:
            io_dtype: "int8", "uint8" or "float32" for input and output.

        Raises:
            ExportError: the converter refused; its first line is quoted.
        """
        import tensorflow as tf

        check_option("io_dtype", io_dtype, IO_DTYPES)
        signature = [tf.TensorSpec((1, *self.input_shape[1:]), tf.float32, name="images")]
        serve = tf.function(functools.partial(self.tf_keras_model, training=False), input_signature=signature)
        token = converting.set(True)
        try:
            function = serve.get_concrete_function()
        finally:
            converting.reset(token)
        return run_converter(function, "int8", io_dtype, owner=self.tf_keras_model)
