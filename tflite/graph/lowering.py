"""From a trained model (float or quantized) to the very graph that the converter gets, as one target likes it."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from wavemix_tf.checks import check_option
from wavemix_tf.layers.activations import ACTIVATIONS

from ..errors import UnsupportedLayerError
from ..layers.augmentation import write_crops
from ..layers.copying import config_of, unroll
from ..layers.fake_quant import (
    QUANT_LAYERS,
    QUANT_OPTIONS,
    WEIGHT_LEVELS,
    FakeQuant,
    QuantBatchNormalization,
    round_to_steps,
    round_weights,
    weight_steps,
)
from ..layers.token_layers import Rsqrt
from ..targets.table import get_target
from . import folding, token_forms
from .canonical import canonicalize
from .graph import Graph, Node
from .rectifiers import plain_prelu
from .upsampling import UPSAMPLE_FORMS, check_resize, keeps_aspect, lower_upsampling

INDICES = ("ops.Argmax", "ops.Argmin")  # of the largest or least on a grid: integers as they are
# Name of every model that is converted; it begins the names of a file's tensors, which must not depend on how many
# networks a process has built.
DEPLOYED = "deployed"
# In the name of a layer that took another's place, so that an export can tell.
STAND_IN = re.compile(f"_for_({'|'.join(ACTIVATIONS)})")


class FixedQuant(layers.Layer):
    """FakeQuant of 8 bits with its range as constants, which the converter makes the tensor's scale and zero point."""

    def __init__(self, minimum: float, maximum: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.minimum, self.maximum = minimum, maximum

    def call(self, x: Any) -> Any:
        return keras.quantizers.fake_quant_with_min_max_vars(x, self.minimum, self.maximum, num_bits=8)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class FixedConstant(layers.Layer):
    """x + constant, the constant rounded to 8 bits as the file is to hold it."""

    def __init__(self, values: np.ndarray, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.values = np.asarray(values, np.float32)
        grid = FakeQuant(dtype="float32")
        grid.build(None)
        grid.set_range(float(self.values.min()), float(self.values.max()))
        self.minimum, self.maximum = grid.get_range()

    def call(self, x: Any) -> Any:
        # A range of its own for the constant, which the converter makes its scale.
        constant = ops.convert_to_tensor(self.values)
        return x + keras.quantizers.fake_quant_with_min_max_vars(constant, self.minimum, self.maximum, num_bits=8)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "values": self.values}


class IndexOfExtreme(layers.Layer):
    """Index of the largest (or least) value along an axis, int32: one ARG_MAX or ARG_MIN.

    ``keras.ops.argmax`` looks for negative zeros first, with ops that the file format lacks.
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
    """Its input, by a route that the converter does not quantize: it knows no integer negation.

    What reads it stays float. A weighted layer takes the second sign into its kernel.
    """

    def call(self, x: Any) -> Any:
        return (-x) * -1.0

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def is_quantized(model: Any) -> bool:
    """Whether ``quantize`` made this model."""
    return quantized_dtype(model) is not None


def converts_itself(model: Any) -> bool:
    """Whether another engine made the model: one that has ``convert`` and ``error_bound_steps`` of its own."""
    return hasattr(model, "quantized_dtype")


def quantized_dtype(model: Any) -> str | None:
    """What ``quantize`` made of a model, int8 or int16x8; None for a float model."""
    if converts_itself(model):
        return model.quantized_dtype
    for layer in getattr(model, "layers", []):
        if isinstance(layer, FakeQuant):
            return "int8" if layer.bits == 8 else "int16x8"
    return None


def float_layers(model: Any) -> list[str]:
    """Names of the layers of a quantized model that ``quantize(skip=...)`` left in float."""
    graph = Graph.from_model(model)
    table = graph.consumers()
    reached: dict[str, None] = {}
    front = [node.output for node in graph.nodes() if node.kind == "KeepFloat"]
    while front:
        for reader in table.get(front.pop(), []):
            if reader.kind != "FakeQuant" and reader.name not in reached:
                reached[reader.name] = None
                front += reader.outputs
    return sorted(reached)


def has_float_ends(model: Any) -> bool:
    """Whether an input is read, or an output computed, in float by a quantized model."""
    graph = Graph.from_model(model)
    table = graph.consumers()
    readers = [reader.kind for value in graph.inputs for reader in table.get(value, [])]

    def lies_on_grid(node: Node) -> bool:
        while node.kind in folding.MOVES_VALUES or getattr(node.layer, "interpolation", None) == "nearest":
            node = node.inputs[0].node
        if node.kind in INDICES:
            node = node.inputs[0].node
        return node.kind == "FakeQuant"

    return any(kind != "FakeQuant" for kind in readers) or not all(lies_on_grid(v.node) for v in graph.outputs)


def fold(model: Any, target: str = "android-cpu", upsample_form: str | None = None) -> Any:
    """The float32 inference twin of any functional model, in the form that suits a target's runtime.

    Batch norms are part of the convolutions (transposed and depthwise too) and dense layers before them, or 1x1
    depthwise convolutions where nothing can absorb them; a Haar transform is part of the 1x1 convolution behind it, at
    every level; dropout is gone; transposed convolutions and resizes are written as suits the target
    best. The outputs are the model's to 1e-5 of their largest, except where the target lacks an activation
    (``Target.substitutes``). ``export`` converts this model.

    Args:
        model: Functional Keras model, float or made by ``quantize``.
        target: Key of ``TARGETS``.
        upsample_form: One of ``UPSAMPLE_FORMS``; None: the target's first.

    Returns:
        A functional ``keras.Model`` for inference alone; the given one is not touched.

    Raises:
        ValueError: unknown target or upsample form.
        UnsupportedLayerError: the model is not functional, or a layer has no exact form.

    Example:
    >>> [type(layer).__name__ for layer in wm.tflite.fold(model, "ethos-u55").layers]
    """
    row = get_target(target)
    chosen = row.upsample_forms[0] if upsample_form is None else upsample_form
    check_option("upsample_form", chosen, UPSAMPLE_FORMS)
    return deploy(model, row.substitutes, chosen, row.max_stride, row.dense_as_convolution)


def deploy(
    model: Any,
    substitutes: dict[str, str],
    upsample_form: str,
    max_stride: int | None = None,
    dense_as_convolution: bool = False,
) -> Any:
    """The float32 inference twin of ``model`` in the target's form: same function, nothing left to fold.

    For a quantized model the weights are baked onto their int8 grids and the activation ranges stay as fake-quant
    nodes, from which the converter derives exactly the grids that were trained. Ranges of 16 bits go: the converter
    takes them from images alone (its 16-bit kernels refuse the grids that it derives from such nodes).

    Args:
        model: Functional model, float or made by ``quantize``.
        substitutes: Activations the target has no op for -> what stands in for them.
        upsample_form: One of ``UPSAMPLE_FORMS``.
        max_stride: Largest stride of a convolution, in pixels, that the target runs in one piece; None: any.
        dense_as_convolution: As of ``Target``.

    Raises:
        UnsupportedLayerError: a layer that has no exact form here.
    """
    graph = Graph.from_model(model, dtype="float32")
    lower(graph, substitutes)
    finish(graph, upsample_form, max_stride, dense_as_convolution)
    return graph.to_model(DEPLOYED)


def lower(graph: Graph, substitutes: dict[str, str]) -> None:
    """The part of ``deploy`` that every upsample form has in common.

    Args:
        graph: In float32; edited.
        substitutes: As for ``deploy``.
    """
    bake(graph)
    write_crops(graph, inference=True)
    folding.drop_inference_noops(graph)
    canonicalize(graph)
    substitute_activations(graph, substitutes)
    token_forms.write_norms(graph)
    folding.fold_wavelets(graph)
    folding.fold_batchnorm(graph)
    folding.decompose_swish(graph)
    folding.lower_affine(graph)
    folding.lower_wavelets(graph)
    # Pixels are quantities, and the converter knows grids of real numbers alone.
    graph.dtypes = ["float32" if value.is_float else value.dtype for value in graph.inputs]


def finish(graph: Graph, upsample_form: str, max_stride: int | None, dense_as_convolution: bool = False) -> None:
    """The rest of ``deploy``, behind ``lower``; what it replaces it replaces by new layers, so nodes may be copies."""
    lower_upsampling(graph, upsample_form)
    if max_stride is not None:
        split_strides(graph, max_stride)
    if dense_as_convolution:
        write_dense_as_convolution(graph)
    _fix_ranges(graph)
    for node in graph.nodes():
        if isinstance(node.layer, keras.Layer) and id(node.layer) not in graph.kept:
            unroll(node.layer)
        if STAND_IN.search(node.name):  # names cost bytes in the file
            node.layer.name = STAND_IN.sub("", node.name)


def bake(graph: Graph) -> None:
    """Quantized layers -> plain ones whose kernels and biases lie on their grids.

    ``node.grid`` keeps each channel's weight step.
    """
    for node in graph.nodes():
        if node.kind.removeprefix("Quant") in QUANT_LAYERS and hasattr(node.layer, "input_step"):
            _bake_linear(node)
        elif node.kind == "QuantPReLU":
            node.layer = plain_prelu(node.layer, rounded=True)
    for node in graph.nodes():
        if isinstance(node.layer, QuantBatchNormalization):
            _bake_norm(node)


def plain_config(layer: Any) -> dict[str, Any]:
    """Configuration of a quantized layer without what quantization added."""
    return {key: value for key, value in config_of(layer).items() if key not in QUANT_OPTIONS}


def _input_step(node: Node) -> float:
    """Step of the grid that the input of a layer with a bias lies on; 0: none. The call reads it no more."""
    value = node.kwargs.pop("input_step", None)
    return node.layer.input_step if value is None else value.node.layer.get_step()


def _bake_linear(node: Node) -> None:
    layer, input_step = node.layer, _input_step(node)
    kernel, bias = folding.kernel_of(layer), folding.bias_of(layer)
    rounded = np.asarray(ops.convert_to_numpy(round_weights(kernel, layer.kernel_axes)), np.float32)
    node.grid = np.asarray(ops.convert_to_numpy(weight_steps(kernel, layer.kernel_axes)), np.float32).ravel()
    node.accumulator = node.grid * np.float32(input_step) if input_step else None
    if bias is not None and node.accumulator is not None:
        bias = np.asarray(ops.convert_to_numpy(round_to_steps(bias, node.accumulator)), np.float32)
    plain = getattr(layers, node.kind.removeprefix("Quant"))
    node.layer = folding.with_weights(plain.from_config(plain_config(layer)), rounded, bias)
    node.outputs = node.outputs[:1]


def _bake_norm(node: Node) -> None:
    """Move the rounding of the shift into beta."""
    layer = node.layer
    found = folding.affine_of(node)
    if found is None:
        raise UnsupportedLayerError(f"Batch norm must act on the last axis. Received: layer={node.name!r}")
    scale, shift = found
    steps: Any = _input_step(node) / WEIGHT_LEVELS
    if "steps" in node.kwargs:
        accumulator = node.kwargs.pop("steps").node.accumulator
        steps = 0.0 if accumulator is None else accumulator.astype(np.float64)
    plain = layers.BatchNormalization.from_config({**plain_config(layer), "center": True})
    plain.build(node.inputs[0].shape)
    grid = np.abs(scale) * steps
    rounded = np.where(grid > 0, np.round(shift / np.maximum(grid, 1e-30)) * grid, shift)
    plain.beta.assign(rounded - shift + (ops.convert_to_numpy(layer.beta) if layer.center else 0.0))
    if layer.scale:
        plain.gamma.assign(layer.gamma)
    plain.moving_mean.assign(layer.moving_mean)
    plain.moving_variance.assign(layer.moving_variance)
    node.layer = plain


def substitute_activations(graph: Graph, substitutes: dict[str, str]) -> list[str]:
    """Replace each activation named in ``substitutes``; returns the names of the layers that changed.

    Raises:
        ValueError: what is to replace one is none of ``ACTIVATIONS``.
    """
    changed = []
    for stand_in in substitutes.values():
        check_option("substitutes", stand_in, tuple(ACTIVATIONS))
    for node in graph.nodes():
        name = folding.activation_name(node)
        if name is None or name not in substitutes:
            continue
        changed.append(node.name)
        activation, policy = ACTIVATIONS[substitutes[name]], node.layer.dtype_policy
        node.layer = layers.Activation(activation, name=f"{node.name}_for_{name}", dtype=policy)
    return changed


def check_exportable(graph: Graph, kept: set[Node], keep_unsupported: bool = False) -> set[Node]:
    """Raise an UnsupportedLayerError for what ``export`` would refuse, in a graph that is about to be trained.

    Args:
        graph: In canonical form.
        kept: Nodes that stay float, and may be what the converter makes of Keras's own computation.
        keep_unsupported: Whether others of this kind stay float too, and are returned.

    Returns:
        The nodes that stay float for this alone.
    """
    found = set()
    for node in graph.nodes():
        if node.layer is not None and getattr(node.layer, "data_format", "channels_last") != "channels_last":
            raise UnsupportedLayerError(
                f"Layers must be channels_last. Received: layer={node.name!r} of type {node.kind}"
            )
        if node.kind in ("DWT2D", "LowPass2D"):
            folding.check_wavelet(node)
        reason = _no_form(node)
        if reason is not None and keep_unsupported:
            found.add(node)
        elif reason is not None and node not in kept:
            raise UnsupportedLayerError(
                f"{reason}, or skip={[node.name]!r} keeps it float. Received: layer={node.name!r}"
            )
        if node.kind in ("UpSampling2D", "Resizing"):
            check_resize(node)
    return found


def _no_form(node: Node) -> str | None:
    """Why a layer has no form of its own in a file, though Keras's computation may convert; None if it has one."""
    if node.kind in ("BatchNormalization", *folding.CONSTANT_AFFINES) and folding.affine_of(node) is None:
        if getattr(node.layer, "invert", False):
            return f"{node.kind} {node.name!r} must normalize, not the reverse: build it without invert=True"
        return f"{node.kind} {node.name!r} must act on one axis, the last: build it with axis=-1"
    if keeps_aspect(node):
        return f"Resizing {node.name!r} must not keep the aspect ratio: use CenterCrop or ZeroPadding2D"
    return None


def split_strides(graph: Graph, largest: int) -> None:
    """A convolution of a larger stride (a patchify stem's) -> one of a smaller stride, and pools that drop pixels.

    A pool of one pixel copies, so the function is the same, integers included. Vela cuts a stride above 3 into one
    convolution an output pixel, each of which fetches the weights anew.
    """
    quantized = any(node.kind == "FakeQuant" for node in graph.nodes())
    for node in graph.nodes():
        layer = node.layer
        if node.kind not in ("Conv2D", "GridConv2D") or layer.padding != "valid" or max(layer.strides) <= largest:
            continue
        factors = stride_factors(layer.strides[0], largest)
        chain = _to_quantizer(graph, node) if quantized else []
        if layer.strides[0] != layer.strides[1] or not factors or chain is None:
            continue  # the target's rules judge it
        changed = folding.with_weights(layer, folding.kernel_of(layer), folding.bias_of(layer), strides=factors[0])
        value = graph.add(changed, node.inputs[0], grid=node.grid)
        for follower in chain:
            value = graph.add(follower.layer, value)
        for index, factor in enumerate(factors[1:]):
            pool = layers.MaxPooling2D(1, strides=factor, name=f"{node.name}_keep{index}", dtype="float32")
            value = graph.add(pool, value)
        graph.replace(chain[-1].output if chain else node.output, value)


def write_dense_as_convolution(graph: Graph) -> None:
    """A dense layer on (B, ..., C) -> a 1x1 convolution over one row of pixels: the same integers.

    A quantizer behind it stays behind the reshape, which keeps the grid.
    """
    for node in graph.nodes():
        if node.kind != "Dense" or len(node.output.shape) < 3:
            continue
        sides: list[int] = [int(side or 0) for side in node.output.shape[1:]]
        row = (1, int(np.prod(sides[:-1])))
        kernel, bias = folding.kernel_of(node.layer), folding.bias_of(node.layer)
        image = layers.Reshape((*row, kernel.shape[0]), name=f"{node.name}_image", dtype="float32")
        conv = folding.conv2d(kernel[None, None], bias, node.name)
        value = graph.add(conv, graph.add(image, node.inputs[0]), grid=node.grid)
        chain = _to_quantizer(graph, node) or []
        for follower in chain:
            value = graph.add(follower.layer, value)
        shape = layers.Reshape(sides, name=f"{node.name}_shape", dtype="float32")
        graph.replace(chain[-1].output if chain else node.output, graph.add(shape, value))


def stride_factors(stride: int, largest: int) -> list[int]:
    """``stride`` as a product of numbers up to ``largest``, the largest first; empty if it is none."""
    factors = []
    for factor in range(largest, 1, -1):
        while stride % factor == 0:
            factors.append(factor)
            stride //= factor
    return factors if stride == 1 else []


def _to_quantizer(graph: Graph, node: Node) -> list[Node] | None:
    """The nodes behind ``node`` up to its quantizer, whose grid a pool keeps; None if something else reads it first."""
    consumers, chain, value = graph.consumers(), [], node.output
    while True:
        reader = graph.sole_consumer(value, consumers)
        if reader is None:
            return None
        chain.append(reader)
        if reader.kind == "FakeQuant":
            return chain
        if folding.activation_name(reader) not in ("relu", "relu6"):
            return None
        value = reader.output


def _fix_ranges(graph: Graph) -> None:
    for node in graph.nodes():
        if node.kind == "FakeQuant" and node.layer.bits == 16:
            graph.replace(node.output, node.inputs[0])
        elif node.kind == "FakeQuant":
            node.layer = FixedQuant(*node.layer.get_range(), name=node.name, dtype="float32")
            node.kwargs = {}  # the converter knows no ties
        elif node.kind == "AddConstant" and node.layer.rounded:
            values = np.asarray(ops.convert_to_numpy(node.layer.constant), np.float32)
            node.layer = FixedConstant(values, name=node.name, dtype="float32")
        elif node.kind in INDICES and isinstance(node.layer.axis, int):
            axis = node.layer.axis % len(node.inputs[0].shape)
            least = node.kind == "ops.Argmin"
            node.layer = IndexOfExtreme(axis, bool(node.layer.keepdims), least, name=node.name, dtype="float32")
            node.args, node.kwargs = (node.inputs[0],), {}
        elif node.kind == "Rsqrt":
            node.layer = Rsqrt(0.0, name=node.name, dtype="float32")  # an int8 op has no floor
        elif node.kind == "KeepFloat" and node.inputs[0].node.layer is None:
            graph.replace(node.output, node.inputs[0])  # an input of the model is float as it is
        elif node.kind == "KeepFloat":
            node.layer = NegatedTwice(name=node.name, dtype="float32")
