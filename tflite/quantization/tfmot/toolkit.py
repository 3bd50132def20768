"""tf_keras, tensorflow-model-optimization and the classes derived from theirs, imported on first use."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

from ...layers.fake_quant import QUANT_LAYERS

INSTALL = "engine='tfmot' needs tensorflow-model-optimization and tf_keras: pip install 'wavemix-tf[tfmot]'"
TIE_SHIFT = 1e-3 / 255  # share of a range that raises an average that lies half-way between two integers, see FakeQuant
converting: ContextVar[bool] = ContextVar("converting", default=False)
CALLBACK_HOOKS = (
    *(f"on_{phase}_{edge}" for phase in ("train", "test", "predict", "epoch") for edge in ("begin", "end")),
    *(f"on_{phase}_batch_{edge}" for phase in ("train", "test", "predict") for edge in ("begin", "end")),
)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Restore TF_USE_LEGACY_KERAS, which importing tfmot sets and TensorFlow reads at the first use of ``tf.keras``."""
    import tensorflow as tf

    for loader in (tf.keras, tf.compat.v1.keras):
        getattr(loader, "__version__", None)  # selects the Keras version now, by the user's own setting
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before


@functools.cache
def toolkit() -> SimpleNamespace:
    """tf_keras, tfmot and the classes derived from them, imported on first use.

    Raises:
        ImportError: one of the two is not installed.
    """
    with _environment_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tfmot reads version numbers through distutils
        try:
            import tensorflow_model_optimization as tfmot
            import tf_keras as keras2
        except ImportError as error:
            raise ImportError(INSTALL) from error

    quantization: Any = tfmot.quantization.keras
    own_layers = _own_layers(keras2)
    Placement = _placement(quantization, _shared_range(quantization.quantizers))
    scope: dict[str, Any] = {cls.__name__: cls for cls in (*own_layers, Placement)}
    for kind in QUANT_LAYERS:
        scope[f"Frozen{kind}"] = _frozen(getattr(keras2.layers, kind))
    return SimpleNamespace(
        keras=keras2,
        quantization=quantization,
        scope=scope,
        Scheme=_scheme(quantization),
        Placement=Placement,
        PixelShuffle=own_layers[0],
        HardSilu=own_layers[1],
        Callback=_callback(keras2),
    )


def _own_layers(keras2: Any) -> tuple[Any, Any]:
    """Layers that tf_keras does not have."""
    import tensorflow as tf

    class PixelShuffle(keras2.layers.Layer):
        def __init__(self, factor: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, x: Any) -> Any:
            return tf.nn.depth_to_space(x, self.factor)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "factor": self.factor}

    class HardSilu(keras2.layers.Layer):
        def call(self, x: Any) -> Any:
            return x * (tf.nn.relu6(x + 3.0) * (1.0 / 6.0))  # a form that the converter recognizes as HARD_SWISH

    return PixelShuffle, HardSilu


def _shared_range(quantizers: Any) -> Any:
    import tensorflow as tf

    class SharedRange(quantizers.Quantizer):
        """Rounds an average to its input's grid as the runtime does, half-way values up.

        Not while the model is converted: there the op keeps its input's scale anyway.
        """

        ends: tuple[Any, Any] | None = None

        def build(self, tensor_shape: Any, name: str, layer: Any) -> Any:
            return {}

        def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
            if self.ends is None or converting.get():
                return inputs
            low, high = map(tf.convert_to_tensor, self.ends)
            raised = inputs + tf.stop_gradient(high - low) * TIE_SHIFT
            return tf.quantization.fake_quant_with_min_max_vars(raised, low, high, num_bits=8)

        def get_config(self) -> dict[str, Any]:
            return {}

    return SharedRange


def _placement(quantization: Any, SharedRange: Any) -> Any:
    quantizers: Any = quantization.quantizers
    registry = quantization.default_8bit.Default8BitQuantizeRegistry()

    class Placement(quantization.QuantizeConfig):
        """Whether a layer's weights are rounded, by tfmot's default quantizer, and the range of its output."""

        def __init__(self, weights: bool, output: dict[str, Any] | None) -> None:
            self.weights, self.output = weights, output
            self.shared = SharedRange()

        def get_weights_and_quantizers(self, layer: Any) -> Any:
            return registry.get_quantize_config(layer).get_weights_and_quantizers(layer) if self.weights else []

        def set_quantize_weights(self, layer: Any, quantize_weights: Any) -> None:
            if self.weights:
                registry.get_quantize_config(layer).set_quantize_weights(layer, quantize_weights)

        def get_activations_and_quantizers(self, layer: Any) -> Any:
            return []

        def set_quantize_activations(self, layer: Any, quantize_activations: Any) -> None:
            pass

        def get_output_quantizers(self, layer: Any) -> Any:
            if self.output is None:
                return []
            if self.output["source"] is not None:
                return [self.shared]
            if self.output["fixed"]:
                low, high = self.output["low"], self.output["high"]
                return [quantizers.FixedQuantizer(num_bits=8, init_min=low, init_max=high, narrow_range=False)]
            return [quantizers.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)]

        def get_config(self) -> dict[str, Any]:
            return {"weights": self.weights, "output": self.output}

    return Placement


def _scheme(quantization: Any) -> Any:
    class AsPlaced(quantization.QuantizeLayoutTransform):
        def apply(self, model: Any, layer_quantize_map: Any) -> Any:
            return model, layer_quantize_map

    class Scheme(quantization.default_8bit.Default8BitQuantizeScheme):
        """The default 8-bit scheme without its layout pass: every layer's config defines what is rounded."""

        def get_layout_transformer(self) -> Any:
            return AsPlaced()

    return Scheme


def _callback(keras2: Any) -> Any:
    class Callback(keras2.callbacks.Callback):
        """Forwards every call to a Keras 3 callback."""

        def __init__(self, callback: Any) -> None:
            super().__init__()
            for hook in CALLBACK_HOOKS:
                setattr(self, hook, getattr(callback, hook))
            self.callback = callback

        def set_params(self, params: Any) -> None:
            super().set_params(params)
            self.callback.set_params(params)

        def set_model(self, model: Any) -> None:
            super().set_model(model)
            self.callback.set_model(model)

    return Callback


def _frozen(base: Any) -> Any:
    class Frozen(base):
        def add_weight(self, *args: Any, **kwargs: Any) -> Any:
            # A flag of the weight: tfmot's wrapper ignores the layer's, and a user may set the model's flag.
            return super().add_weight(*args, **{**kwargs, "trainable": False})

    Frozen.__name__ = f"Frozen{base.__name__}"
    return Frozen


def layer_variables(twin: Any, layer_name: str) -> dict[str, Any]:
    layer = twin.get_layer(f"quant_{layer_name}")
    return {variable.name.split(":")[0].rsplit("/", 1)[-1]: variable for variable in layer.weights}
