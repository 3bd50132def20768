"""``quantize(engine="tfmot")``: fine-tuning through tensorflow-model-optimization, on a tf_keras twin of the model.

tfmot knows Keras 2 alone. The Keras 3 graph is folded as for export (so that no batch norm is left, and mostly no
transform), translated layer by layer into tf_keras and quantized there by tfmot's own default 8-bit quantizers: weights
per channel for Conv2D, per tensor for Conv2DTranspose, Dense and DepthwiseConv2D, activations by moving averages of
their extremes. Which tensors are rounded is our decision (``insert_fake_quant``), because tfmot's own layout rounds
some twice and others, that the file does round, not at all; the first ranges come from our observers, because a moving
average that keeps 0.999 of its start needs thousands of batches to leave it.
"""

from __future__ import annotations

import functools
import inspect
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from wavemix_tf.checks import check_option
from wavemix_tf.keras_internals import excludes_from_weight_decay, learning_rate_or_schedule
from wavemix_tf.warning import warn_user

from ..errors import ExportError, UnsupportedLayerError
from ..graph.activations import activation_name
from ..graph.graph import Graph, Node, Value
from ..graph.inputs import check_inputs, value_ranges
from ..graph.kinds import FIXED_AFFINES
from ..graph.passes.decompose_swish import decompose_swish
from ..graph.passes.fold_affines import fold_affines
from ..graph.passes.fold_wavelets import fold_wavelets
from ..graph.passes.lower_affines import lower_affines
from ..graph.passes.lower_wavelets import lower_wavelets
from ..graph.passes.round_taps import round_taps
from ..graph.passes.substitute_activations import substitute_activations
from ..graph.pipeline import canonicalize
from ..graph.placement import insert_fake_quant
from ..graph.weights import bias_of, kernel_of
from ..layers.fake_quant import QUANT_LAYERS, round_weights
from ..layers.subclasses import own_methods
from ..targets.table import IO_DTYPES, get_target
from .copy_check import check_copy, in_float32
from .freshness import mark_fresh
from .ranges import MIN_IMAGES, find_ranges

INSTALL = "engine='tfmot' needs tensorflow-model-optimization and tf_keras: pip install 'wavemix-tf[tfmot]'"
# What each kind of layer hands to the tf_keras layer of the same name. Activations go by their function, see below.
TRANSLATED: dict[str, tuple[str, ...]] = {
    "Conv2D": ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "use_bias"),
    "DepthwiseConv2D": ("kernel_size", "strides", "padding", "depth_multiplier", "dilation_rate", "use_bias"),
    "Conv2DTranspose": (
        "filters",
        "kernel_size",
        "strides",
        "padding",
        "output_padding",
        "dilation_rate",
        "use_bias",
    ),
    "Dense": ("units", "use_bias"),
    "Add": (),
    "Multiply": (),
    "Concatenate": ("axis",),
    "UpSampling2D": ("size", "interpolation"),
    "PixelShuffle": ("factor",),
    "ZeroPadding2D": ("padding",),
    "Cropping2D": ("cropping",),
    "MaxPooling2D": ("pool_size", "strides", "padding"),
    "AveragePooling2D": ("pool_size", "strides", "padding"),
    "GlobalAveragePooling2D": ("keepdims",),
    "Reshape": ("target_shape",),
    "Flatten": (),
    "Dropout": ("rate",),
    "SpatialDropout2D": ("rate",),
    "GaussianDropout": ("rate",),
    "GaussianNoise": ("stddev",),
    "AlphaDropout": ("rate",),
}
ACTIVATIONS = ("gelu", "hard_silu", "relu", "relu6", "sigmoid", "softmax", "tanh")
DEPTHWISE = "DepthwiseConv2D"
TIE_SHIFT = 1e-3 / 255  # of a range: lifts an average that lies half-way between two integers, see FakeQuant
_converting: ContextVar[bool] = ContextVar("converting", default=False)
CALLBACK_HOOKS = (
    *(f"on_{phase}_{edge}" for phase in ("train", "test", "predict", "epoch") for edge in ("begin", "end")),
    *(f"on_{phase}_batch_{edge}" for phase in ("train", "test", "predict") for edge in ("begin", "end")),
)
# Largest mean error of the file against ``TfmotModel.predict``, in output steps. Wider than for the native engine,
# which rounds biases as the file does and averages of integers as the runtime does; tfmot does neither, and depth
# amplifies what is missing. A wrong fold or grid costs tens of steps.
ERROR_BOUND_STEPS = {"litert-xnnpack": 4.0, "litert-reference": 6.0, "tflite-micro": 6.0}


class TfmotModel:
    """A model quantized by tensorflow-model-optimization, made by ``quantize(model, images, engine="tfmot")``.

    Trains and predicts as a Keras model does, though it is none: inside is a tf_keras (Keras 2) model. Batch norms were
    folded into the convolutions before them, with their moving statistics, and so no longer normalise. ``export`` takes
    it as any other model.

    Args:
        float_model: Keras 3 functional model: the float network behind it, folded, before training.
        tf_keras_model: Its tf_keras twin with tfmot's wrappers.
        frozen: Names of the weighted layers that never train (wavelet taps, the input's normalisation).
        input_ranges: What the values of the input lie in, see ``quantize``: a list of one.
    """

    # What `export` asks of a model that it does not convert itself.
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
            optimizer: A name, or a Keras optimizer: its configuration, learning rate schedule included, is handed to
                the tf_keras optimizer of the same name; its state is not.
            loss: A name or a Keras loss.
            metrics: A list of names or Keras metrics.

        Raises:
            ValueError: an object or option that tf_keras has no counterpart for.
        """
        keras2 = _toolkit().keras
        self.tf_keras_model.compile(
            optimizer=_translate_optimizer(optimizer, keras2),
            loss=_translate("loss", loss, keras2.losses),
            metrics=[_translate("metrics", metric, keras2.metrics) for metric in metrics or []],
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
            batch_size: Images a step; None: 32, or the dataset's own.
            validation_data: (images, labels) or a dataset.
            callbacks: Keras or tf_keras callbacks; ``callback.model`` is the tf_keras model.
            verbose: 0, 1, 2 or "auto".

        Returns:
            A History: ``.history`` maps each metric to its values, one an epoch.
        """
        wrap = _toolkit().Callback
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
        self._measure_weights()
        return history

    def _measure_weights(self) -> None:
        """Set the weights' ranges: tfmot's are those before the last step, and know nothing of averaged weights."""
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
        """The float Keras 3 model behind it, with the weights as trained.

        Returns:
            A functional ``keras.Model`` with the inputs and outputs of the one that was quantized. It has no batch
            norm any more, each Haar transform is part of the convolution behind it, and nothing in it is rounded.
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
        """The tf_keras variables of a layer and of its quantizers: "kernel", "bias", "kernel_min", "output_max", ...

        Args:
            layer_name: Name of the layer in ``to_keras()``.
        """
        return _variables(self.tf_keras_model, layer_name)

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
        token = _converting.set(True)
        try:
            function = serve.get_concrete_function()
        finally:
            _converting.reset(token)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function], self.tf_keras_model)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(io_dtype)
        try:
            with warnings.catch_warnings():
                # The ranges are in the graph.
                warnings.filterwarnings("ignore", message="Statistics for quantized inputs were expected")
                return converter.convert()
        except Exception as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ExportError(f"TensorFlow's converter refused the model: {first}") from error


def _variables(twin: Any, layer_name: str) -> dict[str, Any]:
    layer = twin.get_layer(f"quant_{layer_name}")
    return {variable.name.split(":")[0].rsplit("/", 1)[-1]: variable for variable in layer.weights}


def quantize(model: Any, calibration: Any, *, observer: str, input_range: Any, target: str | None) -> TfmotModel:
    """``quantize`` with ``engine="tfmot"``; arguments as there.

    Raises:
        ImportError: tensorflow-model-optimization or tf_keras is not installed.
        UnsupportedLayerError: a layer that has no tf_keras translation or no int8 rule.
    """
    _toolkit()
    graph = Graph.from_model(model, dtype="float32")
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise UnsupportedLayerError(
            "engine='tfmot' takes a model of one input and one output. "
            f"Received: {len(graph.inputs)} inputs, {len(graph.outputs)} outputs"
        )
    images = check_inputs(calibration, graph.inputs, input_range, least=MIN_IMAGES)
    limits = value_ranges(input_range, graph.inputs)
    _check_training(graph.nodes())
    exact = Graph.from_model(model, dtype="float32")
    _fold(exact, None, round_wavelets=False)
    plain = in_float32(model)
    if plain is not model:
        check_copy(model, plain, images)
    check_copy(plain, exact.to_model(f"{model.name}_folded"), images)
    constants = _fold(graph, target)
    float_model = graph.to_model(model.name)
    graph = Graph.from_model(float_model)  # every name is unique now
    nodes = graph.nodes()
    _check_kinds(nodes)
    frozen = frozenset(
        node.name
        for node in nodes
        if node.kind in QUANT_LAYERS and (node.name in constants or not node.layer.trainable)
    )
    ranges = _ranges(Graph.from_model(float_model), images, observer, limits)
    twin = _Translation(graph, ranges, frozen).quantized()
    result = TfmotModel(float_model, twin, frozen, limits)
    own = own_methods(model)
    if own:
        warn_user(
            f"The quantized model trains with tf_keras's own {' and '.join(own)}, not with those of class "
            f"{type(model).__name__}: quantize with engine='native', which keeps them.",
        )
    result._measure_weights()
    for name, found in ranges.items():
        if found.source is None and not found.fixed:
            variables = result.variables(name)
            variables["output_min"].assign(found.low)
            variables["output_max"].assign(found.high)
    mark_fresh(result)
    return result


def _fold(graph: Graph, target: str | None, round_wavelets: bool = True) -> set[str]:
    """Bring the graph into the form that is translated; returns the names of the layers that hold constants.

    What is left out to compare it with the given model changes the function: a target's stand-ins, and taps of wavelets
    on the file's grid.
    """
    canonicalize(graph)
    if target is not None:
        substitute_activations(graph, get_target(target).substitutes)
    fold_wavelets(graph)
    if round_wavelets:
        round_taps(graph)
    fold_affines(graph)
    decompose_swish(graph)
    constants = {node.name for node in graph.nodes() if node.kind in FIXED_AFFINES}
    lower_affines(graph)
    before = {node.name for node in graph.nodes()}
    lower_wavelets(graph)
    return constants | {node.name for node in graph.nodes() if node.kind == DEPTHWISE and node.name not in before}


def _check_training(nodes: list[Node]) -> None:
    """Refuse what would be lost on the way, before folding hides it."""
    calls = Counter(id(node.layer) for node in nodes)
    for node in nodes:
        if not isinstance(node.layer, keras.Layer):
            continue
        if calls[id(node.layer)] > 1:
            raise UnsupportedLayerError(
                f"engine='tfmot' takes a layer that is called once. Received: layer={node.name!r} called "
                f"{calls[id(node.layer)]} times"
            )
        lost = {f"call argument {key}": value for key, value in node.kwargs.items() if key != "training"}
        config = node.layer.get_config()
        lost |= {key: value for key, value in config.items() if key.endswith(("_regularizer", "_constraint"))}
        for key, value in lost.items():
            if value is not None:
                raise UnsupportedLayerError(
                    "engine='tfmot' takes layers without regularizers, constraints and call arguments. "
                    f"Received: layer={node.name!r} with {key}={value!r}"
                )
        if getattr(node.layer, "data_format", "channels_last") != "channels_last":
            raise UnsupportedLayerError(f"Layers must be channels_last. Received: layer={node.name!r}")


def _check_kinds(nodes: list[Node]) -> None:
    """Refuse a layer that has no translation."""
    for node in nodes:
        name = activation_name(node)
        known = isinstance(node.layer, keras.Layer) and (node.kind in TRANSLATED or name in ACTIVATIONS)
        if node.layer is not None and not known:
            raise UnsupportedLayerError(
                f"engine='tfmot' translates {', '.join(TRANSLATED)}, the activations {', '.join(ACTIVATIONS)} and what "
                "folds into them; use engine='native' for others. "
                f"Received: layer={node.name!r} of type {f'Activation({name})' if name else node.kind}"
            )


@dataclass(frozen=True)
class Range:
    """In which range a layer's output is rounded.

    Args:
        low: Minimum.
        high: Maximum.
        fixed: The runtime prescribes it; otherwise a moving average starts from it.
        source: Layer whose range it is: that of an average's input. None: its own.
    """

    low: float
    high: float
    fixed: bool
    source: str | None = None


def _ranges(graph: Graph, images: list[np.ndarray], observer: str, limits: list[Any]) -> dict[str, Range]:
    """Name of each layer whose output the file rounds -> the range: the native engine's places and observers."""
    insert_fake_quant(graph, limits)
    find_ranges(graph, images, observer)
    found: dict[str, Range] = {}
    owners: dict[int, str] = {}  # of a quantizer: the layer whose output it rounded first
    for node in graph.nodes():
        if node.kind == "FakeQuant":
            name = node.inputs[0].node.name
            owner = owners.setdefault(id(node.layer), name)
            low, high = node.layer.get_range()
            found[name] = Range(low, high, node.layer.fixed, None if owner == name else owner)
    return found


class _Translation:
    """Keras 3 graph -> tf_keras functional model, and that with tfmot's wrappers."""

    def __init__(self, graph: Graph, ranges: dict[str, Range], frozen: frozenset[str]) -> None:
        self.graph, self.ranges, self.frozen = graph, ranges, frozen
        self.kit = _toolkit()
        self.wrappers: dict[Node, Any] = {}

    def quantized(self) -> Any:
        kit = self.kit
        with kit.quantization.quantize_scope(kit.scope):
            annotated = self._model()
            for node, wrapper in self.wrappers.items():
                if node.kind in QUANT_LAYERS:
                    wrapper.set_weights(self._weights(node))
            twin = kit.quantization.quantize_apply(annotated, scheme=kit.Scheme())
        for name, found in self.ranges.items():
            if found.source is not None:
                ends = _variables(twin, found.source)
                shared = twin.get_layer(f"quant_{name}").quantize_config.shared
                shared.ends = ends.get("output_min", found.low), ends.get("output_max", found.high)
        return twin

    def _model(self) -> Any:
        kit = self.kit
        tensors: dict[Value, Any] = {}
        for node in self.graph.nodes():
            if node.layer is None:
                # A layer of its own carries the input's range: tfmot's would be measured, not the pixel's contract.
                first = kit.keras.Input(node.output.shape[1:], name=f"{node.name}_images")
                layer = kit.keras.layers.Activation("linear", name=node.name)
                tensors[node.output] = self._annotate(layer, node)(first)
                continue
            sources = keras.tree.map_structure(
                lambda leaf: tensors[leaf] if isinstance(leaf, Value) else leaf, node.args
            )
            tensors[node.output] = self._annotate(self._layer(node), node)(*sources)
        return kit.keras.Model(first, tensors[self.graph.outputs[0]])

    def _annotate(self, layer: Any, node: Node) -> Any:
        # One weight a channel is a step of 127 exactly, which the converter finds; tfmot's would be one for all.
        exact = node.kind == DEPTHWISE and node.layer.kernel.shape[:2] == (1, 1) and node.layer.depth_multiplier == 1
        rounds_weights = node.kind in QUANT_LAYERS and node.name not in self.frozen and not exact
        found = self.ranges.get(node.name)
        config = self.kit.Placement(rounds_weights, None if found is None else asdict(found))
        self.wrappers[node] = self.kit.quantization.quantize_annotate_layer(layer, config)
        return self.wrappers[node]

    def _layer(self, node: Node) -> Any:
        kit = self.kit
        function = activation_name(node)
        if function == "hard_silu":
            return kit.HardSilu(name=node.name)
        if function in ("relu", "relu6"):
            return kit.keras.layers.ReLU(max_value=6.0 if function == "relu6" else None, name=node.name)
        if function is not None:
            return kit.keras.layers.Activation(function, name=node.name)
        if node.name in self.frozen:
            cls = kit.scope[f"Frozen{node.kind}"]
        else:
            cls = kit.PixelShuffle if node.kind == "PixelShuffle" else getattr(kit.keras.layers, node.kind)
        config = node.layer.get_config()
        return cls(**{key: config[key] for key in TRANSLATED[node.kind]}, name=node.name)

    def _weights(self, node: Node) -> list[np.ndarray]:
        kernel, bias = kernel_of(node.layer), bias_of(node.layer)
        if node.name in self.frozen:  # no quantizer: the converter takes the grid from the values
            axes = QUANT_LAYERS[node.kind].kernel_axes
            kernel = np.asarray(keras.ops.convert_to_numpy(round_weights(kernel, axes)), np.float32)
        return [kernel] if bias is None else [kernel, bias]


def _translate(what: str, given: Any, module: Any, **changes: Any) -> Any:
    """A name as it is, a Keras 3 object as that of ``module`` with the same class name, configured alike."""
    if given is None or isinstance(given, str) or type(given).__module__.startswith("tf_keras."):
        return given
    cls = getattr(module, type(given).__name__, None)
    if cls is None or not type(given).__module__.startswith("keras."):
        raise ValueError(
            f"engine='tfmot' takes {what} by name, or a Keras object whose class tf_keras has too. "
            f"Received: {what}={given!r}"
        )
    return cls(**_shared_options(what, type(given), cls, {**given.get_config(), **changes}))


def _shared_options(what: str, source: Any, cls: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The options that both versions of a class take; one that is lost must be at its default."""
    taken, defaults = inspect.signature(cls.__init__).parameters, inspect.signature(source.__init__).parameters
    options = {}
    for key, value in config.items():
        if key in taken:
            options[key] = value
        elif key != "dtype" and value is not None and not (key in defaults and defaults[key].default == value):
            raise ValueError(f"tf_keras's {cls.__name__} has no option {key!r}. Received: {what} with {key}={value!r}")
    return options


def _translate_optimizer(given: Any, keras2: Any) -> Any:
    if isinstance(given, keras.optimizers.Optimizer):
        if excludes_from_weight_decay(given):
            raise ValueError(
                "engine='tfmot' takes an optimizer that decays every weight alike. "
                f"Received: optimizer={given.name!r} after exclude_from_weight_decay()"
            )
        schedule = learning_rate_or_schedule(given)
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            schedule = _translate("learning_rate", schedule, keras2.optimizers.schedules)
            return _translate("optimizer", given, keras2.optimizers, learning_rate=schedule)
    return _translate("optimizer", given, keras2.optimizers)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Importing tfmot sets TF_USE_LEGACY_KERAS for good, which TensorFlow reads when ``tf.keras`` is first used."""
    import tensorflow as tf

    for loader in (tf.keras, tf.compat.v1.keras):
        getattr(loader, "__version__", None)  # decides now, by the user's own setting, which Keras it is
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before


@functools.cache
def _toolkit() -> SimpleNamespace:
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
    import tensorflow as tf

    quantization: Any = tfmot.quantization.keras
    quantizers: Any = quantization.quantizers
    registry = quantization.default_8bit.Default8BitQuantizeRegistry()

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
            return x * (tf.nn.relu6(x + 3.0) * (1.0 / 6.0))  # a form that the converter knows as HARD_SWISH

    class SharedRange(quantizers.Quantizer):
        """Rounds an average to its input's grid as the runtime does, half-way values up.

        Not while the model is converted: there the op keeps its input's scale by itself.
        """

        ends: tuple[Any, Any] | None = None

        def build(self, tensor_shape: Any, name: str, layer: Any) -> Any:
            return {}

        def __call__(self, inputs: Any, training: Any, weights: Any, **kwargs: Any) -> Any:
            if self.ends is None or _converting.get():
                return inputs
            low, high = map(tf.convert_to_tensor, self.ends)
            raised = inputs + tf.stop_gradient(high - low) * TIE_SHIFT
            return tf.quantization.fake_quant_with_min_max_vars(raised, low, high, num_bits=8)

        def get_config(self) -> dict[str, Any]:
            return {}

    class Placement(quantization.QuantizeConfig):
        """Whether a layer's weights are rounded, by tfmot's default quantizer, and in which range its output is."""

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

    class AsPlaced(quantization.QuantizeLayoutTransform):
        def apply(self, model: Any, layer_quantize_map: Any) -> Any:
            return model, layer_quantize_map

    class Scheme(quantization.default_8bit.Default8BitQuantizeScheme):
        """The default 8-bit scheme without its layout pass: every layer says itself what is rounded."""

        def get_layout_transformer(self) -> Any:
            return AsPlaced()

    class Callback(keras2.callbacks.Callback):
        """Hands every call on to a Keras 3 callback."""

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

    def frozen(base: Any) -> Any:
        class Frozen(base):
            def add_weight(self, *args: Any, **kwargs: Any) -> Any:
                # A flag of the weight: tfmot's wrapper ignores the layer's, and a user may set the model's.
                return super().add_weight(*args, **{**kwargs, "trainable": False})

        Frozen.__name__ = f"Frozen{base.__name__}"
        return Frozen

    scope: dict[str, Any] = {cls.__name__: cls for cls in (PixelShuffle, HardSilu, Placement)}
    for kind in QUANT_LAYERS:
        scope[f"Frozen{kind}"] = frozen(getattr(keras2.layers, kind))
    return SimpleNamespace(
        keras=keras2,
        quantization=quantization,
        scope=scope,
        Scheme=Scheme,
        Placement=Placement,
        PixelShuffle=PixelShuffle,
        HardSilu=HardSilu,
        Callback=Callback,
    )
