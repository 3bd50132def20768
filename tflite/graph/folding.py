"""Graph rewrites that leave the function unchanged: every pass here is exact up to float rounding.

Each takes a ``Graph`` in canonical form and edits it. Usable before fine-tuning: ``fold_wavelets``,
``decompose_swish``. For inference alone: ``drop_inference_noops``, ``fold_batchnorm``, ``lower_affine``,
``lower_wavelets``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from wavemix_tf.layers.wavelets import fold_dwt

from ..errors import UnsupportedLayerError
from ..layers.copying import config_of
from ..layers.fake_quant import FakeQuant
from .graph import Graph, Node, Value

# Layers that multiply by weights; their outputs can be rescaled channel by channel for free.
LINEAR = ("Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense")
# Layers that do nothing at inference: those without weights that are found to do so ("TrainingOnly"), and these.
INFERENCE_NOOPS = (
    "TrainingOnly",
    "Identity",
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "ActivityRegularization",
)
# Layers that move values or leave some out: what they return lies on their input's grid.
MOVES_VALUES = (
    *INFERENCE_NOOPS,
    "Reshape",
    "Flatten",
    "Permute",
    "RandomThenCentreCrop",
    "Cut",
    "PixelShuffle",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ReplicatePadding2D",
    "Cropping1D",
    "Cropping2D",
    "MaxPooling2D",
    "GatherTokens",
)
# Layers that commute with an affine map of the channels: they move values or average them with weights of sum one.
AFFINE_COMMUTING = (*INFERENCE_NOOPS, "UpSampling2D", "Resizing", "Resize2D", "PixelShuffle", "Cropping2D")
# Fixed affine maps of the channels.
CONSTANT_AFFINES = ("Rescaling", "Normalization")
# Affine maps of the channels that train: a layer norm's scale and offset, a scale of a residual branch.
TRAINED_AFFINES = ("ChannelAffine", "LayerScale")
# Layers that commute with a factor common to all channels.
SCALE_COMMUTING = (
    *AFFINE_COMMUTING,
    "FakeQuant",
    "GlobalAveragePooling2D",
    "AveragePooling2D",
    "MaxPooling2D",
    "ZeroPadding2D",
    "Reshape",
    "Flatten",
)
SWISH_SLOPES = {"quick_gelu": 1.702, "silu": 1.0}  # b in x * sigmoid(b x)

ACTIVATION_LAYERS: dict[str, Callable[[Any], str | None]] = {
    "ReLU": lambda layer: _relu_name(layer),
    "LeakyReLU": lambda layer: "leaky_relu",
    "Softmax": lambda layer: "softmax" if layer.axis in (-1, None) else None,
}


def _relu_name(layer: Any) -> str | None:
    if layer.negative_slope or layer.threshold:
        return None
    return {None: "relu", 6.0: "relu6"}.get(layer.max_value)


def activation_name(node: Node) -> str | None:
    """The function's name if ``node`` is an activation ("gelu", "relu6", "hard_silu", ...); otherwise None."""
    if node.kind == "Activation":
        return getattr(node.layer.activation, "__name__", type(node.layer.activation).__name__)
    if node.kind in ACTIVATION_LAYERS:
        return ACTIVATION_LAYERS[node.kind](node.layer)
    return None


def kernel_of(layer: Any) -> np.ndarray:
    """float32 kernel: Conv2D (h, w, in, out), Conv2DTranspose (h, w, out, in), DepthwiseConv2D (h, w, in, m), Dense."""
    return np.asarray(keras.ops.convert_to_numpy(layer.kernel), np.float32)


def bias_of(layer: Any) -> np.ndarray | None:
    return np.asarray(keras.ops.convert_to_numpy(layer.bias), np.float32) if layer.use_bias else None


def per_output(kind: str, kernel: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Reshape ``factors`` (one an output channel) so that ``kernel * result`` scales a layer's outputs."""
    if kind.endswith("Conv2DTranspose"):
        return factors.reshape(1, 1, -1, 1)
    if kind.endswith("DepthwiseConv2D"):
        return factors.reshape(1, 1, *kernel.shape[2:])
    return factors.reshape((1,) * (kernel.ndim - 1) + (-1,))


def with_weights(layer: Any, kernel: np.ndarray, bias: np.ndarray | None, **changes: Any) -> Any:
    """A new layer configured as ``layer`` but for ``changes``, with these weights. The old one may be shared."""
    new = type(layer).from_config({**config_of(layer), **changes, "use_bias": bias is not None})
    channels = kernel.shape[-1] if isinstance(new, layers.Conv2DTranspose) else kernel.shape[-2]
    if isinstance(new, layers.Conv2D):
        channels *= new.groups
    new.build((None, channels) if isinstance(new, layers.Dense) else (None, None, None, channels))
    new.set_weights([kernel] if bias is None else [kernel, bias])
    return new


def conv2d(kernel: np.ndarray, bias: np.ndarray | None, name: str, cls: Any = layers.Conv2D, **options: Any) -> Any:
    """A float32 Conv2D (or DepthwiseConv2D, by ``cls``) with these weights."""
    sizes: dict[str, Any] = {"kernel_size": kernel.shape[:2], "use_bias": bias is not None, "name": name}
    if issubclass(cls, layers.DepthwiseConv2D):
        sizes["depth_multiplier"] = kernel.shape[3]
    else:
        sizes["filters"] = kernel.shape[3]
    layer = cls(**sizes, **{"dtype": "float32", **options})
    layer.build((None, None, None, kernel.shape[2]))
    layer.set_weights([kernel] if bias is None else [kernel, bias])
    return layer


def drop_inference_noops(graph: Graph) -> None:
    """Remove Dropout and its kin."""
    for node in graph.nodes():
        if node.kind in INFERENCE_NOOPS:
            graph.replace(node.output, node.inputs[0])


def is_plain_haar(node: Node) -> bool:
    """A one-level Haar transform whose border handling never shows: "zero", or even sides."""
    if node.kind not in ("DWT2D", "LowPass2D") or node.layer.wavelet not in ("haar", "db1"):
        return False
    even = all(side is not None and side % 2 == 0 for side in node.inputs[0].shape[1:3])
    return getattr(node.layer, "levels", 1) == 1 and (node.layer.mode == "zero" or even)


def fold_wavelets(graph: Graph) -> None:
    """Haar DWT2D behind which a 1x1 convolution stands -> one 2x2 convolution of stride 2 with as many weights.

    Also through a concatenation, conv(concat[a, b]) = conv_a(a) + conv_b(b). The transform stays where something else
    reads it. Odd sides: "same" padding of a 2x2 window adds the one zero at the end that the transform adds.
    """
    made: dict[tuple[Any, ...], Any] = {}  # calls that share a convolution go on sharing what it becomes
    for node in graph.nodes():
        if node.kind != "Conv2D" or not is_pointwise(node.layer):
            continue
        source = node.inputs[0].node
        parts = [node.inputs[0]]
        if source.kind == "Concatenate" and source.layer.axis in (-1, 3):
            parts = source.inputs
        if not any(_is_foldable(part.node) for part in parts):
            continue
        graph.replace(node.output, _split_conv(graph, node, parts, made))


def _is_foldable(node: Node) -> bool:
    return node.kind == "DWT2D" and is_plain_haar(node)


def is_pointwise(layer: Any) -> bool:
    """Whether a Conv2D is 1x1, of stride 1, and mixes all channels."""
    return tuple(layer.kernel_size) == (1, 1) and tuple(layer.strides) == (1, 1) and layer.groups == 1


def _split_conv(graph: Graph, node: Node, parts: list[Value], made: dict[tuple[Any, ...], Any]) -> Value:
    kernel, bias = kernel_of(node.layer), bias_of(node.layer)
    plain: list[tuple[Value, np.ndarray]] = []
    terms: list[Value] = []
    widths = [int(part.shape[-1] or 0) for part in parts]
    pattern = (id(node.layer), *widths, *(_is_foldable(part.node) for part in parts))

    def term(index: int, rows: np.ndarray, bias: np.ndarray | None, **changes: Any) -> Any:
        key = (index, *pattern)
        if key not in made:
            made[key] = with_weights(node.layer, rows, bias, **changes)
        return made[key]

    for part, rows in zip(parts, np.split(kernel, np.cumsum(widths)[:-1], axis=2), strict=True):
        if not _is_foldable(part.node):
            plain.append((part, rows))
            continue
        name = node.name if not terms else f"{node.name}_{len(terms)}"
        window: dict[str, Any] = {"kernel_size": (2, 2), "strides": (2, 2), "padding": "same"}
        folded = term(len(terms), np.asarray(fold_dwt(rows)), bias, name=name, **window)
        terms.append(graph.add(folded, part.node.inputs[0]))
        bias = None  # once is enough
    if plain:
        value = plain[0][0]
        if len(plain) > 1:
            join = layers.Concatenate(name=f"{node.name}_join_concat", dtype=node.layer.dtype_policy)
            value = graph.add(join, *[part for part, _ in plain])
        rows = np.concatenate([rows for _, rows in plain], axis=2)
        terms.append(graph.add(term(-1, rows, None, name=f"{node.name}_join"), value))
    total = terms[0]
    for index, value in enumerate(terms[1:]):
        suffix = f"_{index + 1}" if index else ""
        total = graph.add(layers.Add(name=f"{node.name}_sum{suffix}", dtype=node.layer.dtype_policy), total, value)
    return total


def check_wavelet(node: Node) -> None:
    """Raise an UnsupportedLayerError if a DWT2D or LowPass2D has no form as depthwise convolutions."""
    layer = node.layer
    if getattr(layer, "levels", 1) != 1 or not (layer.mode == "zero" or is_plain_haar(node)):
        raise UnsupportedLayerError(
            "DWT2D exports with levels=1 and mode='zero' (or Haar on even sides): chain one-level layers. "
            f"Received: layer={node.name!r} with levels={getattr(layer, 'levels', 1)}, mode={layer.mode!r}, "
            f"wavelet={layer.wavelet!r}"
        )


def lower_wavelets(graph: Graph) -> None:
    """DWT2D and LowPass2D that no convolution absorbed -> depthwise convolutions (and a concatenation).

    Four depthwise convolutions, because the GPU delegate refuses one with a depth multiplier, and strided slices are
    slower everywhere.
    """
    for node in graph.nodes():
        if node.kind not in ("DWT2D", "LowPass2D"):
            continue
        check_wavelet(node)
        layer, source = node.layer, node.inputs[0]
        filters = np.asarray(keras.ops.convert_to_numpy(layer.filters), np.float32)  # (bands, L, L)
        side = filters.shape[1] - 2
        if side:
            extra = [(side, side + size % 2) for size in source.shape[1:3]]  # type: ignore[operator]
            source = graph.add(layers.ZeroPadding2D(extra, name=f"{node.name}_pad", dtype="float32"), source)
        bands = []
        for band, taps in enumerate(filters):
            kernel = np.repeat(taps[:, :, None, None], source.shape[-1], axis=2)  # type: ignore[arg-type]
            band_layer = conv2d(
                kernel,
                np.zeros(kernel.shape[2], np.float32),  # XNNPACK and TF Lite Micro want a bias
                f"{node.name}_band{band}",
                layers.DepthwiseConv2D,
                strides=2,
                padding="valid" if side else "same",
            )
            bands.append(graph.add(band_layer, source))
        join = layers.Concatenate(name=f"{node.name}_bands", dtype="float32")
        graph.replace(node.output, bands[0] if len(bands) == 1 else graph.add(join, *bands))


def affine_of(node: Node) -> tuple[np.ndarray, np.ndarray] | None:
    """(scale, shift) per channel if ``node`` computes ``scale * x + shift`` at inference; otherwise None."""
    layer = node.layer
    channels = int(node.inputs[0].shape[-1] or 0) if node.inputs else 0
    if node.kind == "BatchNormalization" and layer.axis in (-1, len(node.output.shape) - 1):
        mean, variance = to_float64(layer.moving_mean), to_float64(layer.moving_variance)
        scale = 1.0 / np.sqrt(variance + layer.epsilon)
        if layer.scale:
            scale = scale * to_float64(layer.gamma)
        shift = -mean * scale
        if layer.center:
            shift = shift + to_float64(layer.beta)
        return scale, shift
    last = ((), (-1,), (len(node.output.shape) - 1,))
    if node.kind == "Normalization" and not layer.invert and tuple(np.ravel(layer.axis or ())) in last:
        mean, variance = (to_float64(v).ravel() for v in (layer.mean, layer.variance))
        scale = 1.0 / np.maximum(np.sqrt(variance), keras.backend.epsilon())  # as the layer computes it
        return np.broadcast_to(scale, (channels,)), np.broadcast_to(-mean * scale, (channels,))
    if node.kind == "ChannelAffine":
        return to_float64(layer.scale), to_float64(layer.offset)
    if node.kind == "LayerScale":
        return to_float64(layer.gamma).ravel(), np.zeros(channels)
    if node.kind == "Rescaling":
        return np.broadcast_to(to_float64(layer.scale), (channels,)), np.broadcast_to(
            to_float64(layer.offset), (channels,)
        )
    return None


def to_float64(values: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(values), np.float64)


def affine_source(graph: Graph, node: Node, consumers: dict[Value, list[Node]]) -> tuple[Node, list[Node]] | None:
    """The weighted layer that can absorb the affine ``node``, and the nodes between them; None if there is none.

    Between them may stand layers that commute with an affine map of the channels (upsampling by copies or by linear
    interpolation, pixel shuffle, crop); nothing else may read any value on the way.
    """
    between: list[Node] = []
    value = node.inputs[0]
    while graph.sole_consumer(value, consumers) is not None:
        source = value.node
        if source.kind.removeprefix("Quant") in LINEAR:
            return source, between
        if source.kind not in AFFINE_COMMUTING:
            return None
        between.append(source)
        value = source.inputs[0]
    return None


def is_restrained(layer: Any) -> bool:
    """Whether a penalty or a constraint on the layer's weights would mean another thing after they are rescaled."""
    parts = ("kernel_regularizer", "kernel_constraint", "depthwise_regularizer", "depthwise_constraint")
    return any(getattr(layer, part, None) is not None for part in parts)


def fold_batchnorm(graph: Graph) -> None:
    """BatchNormalization (and Rescaling, Normalization) into the weighted layer before it. Grids scale with it.

    Reaches through upsampling, pixel shuffle and crop, see ``affine_source``. A layer that is called more than
    once becomes one of its own for each call whose output is scaled.
    """
    fold_affine(graph, ("BatchNormalization", *CONSTANT_AFFINES, *TRAINED_AFFINES))


def fold_affine(graph: Graph, kinds: tuple[str, ...], unshare: bool = True) -> None:
    """Fold the affine layers of these kinds into the weights before them, where ``affine_source`` finds some.

    Args:
        graph: Edited.
        kinds: Of the layers to fold.
        unshare: Whether a layer that is called more than once may become several.
    """
    consumers, shared = graph.consumers(), graph.shared()
    for node in graph.nodes():
        affine = affine_of(node) if node.kind in kinds else None
        found = affine_source(graph, node, consumers) if affine is not None else None
        if affine is None or found is None:
            continue
        if not unshare and (id(found[0].layer) in shared or is_restrained(found[0].layer)):
            continue
        source, between = found
        scale, shift = affine
        for shuffle in (n for n in between if n.kind == "PixelShuffle"):
            scale, shift = (np.tile(part, shuffle.layer.factor**2) for part in (scale, shift))
        kernel, bias = kernel_of(source.layer).astype(np.float64), bias_of(source.layer)
        bias = shift if bias is None else bias * scale + shift
        kernel = kernel * per_output(source.kind, kernel, scale)
        source.layer = with_weights(source.layer, kernel.astype(np.float32), bias.astype(np.float32))
        if source.grid is not None:
            source.grid = (source.grid * np.abs(scale)).astype(np.float32)
        graph.replace(node.output, node.inputs[0])
        consumers = graph.consumers()


def lower_affine(
    graph: Graph, kinds: tuple[str, ...] = ("BatchNormalization", *CONSTANT_AFFINES, *TRAINED_AFFINES)
) -> None:
    """What ``fold_affine`` left (behind GELU, an add, the input) -> a 1x1 depthwise convolution.

    Never into the convolution behind: that one may pad with zeros, which the affine map would have moved. A fixed map
    does not train. A tensor that is no image is shaped as one of a single row, (B, ..., C) -> (B, 1, N, C).
    """
    for node in graph.nodes():
        affine = affine_of(node) if node.kind in kinds else None
        if affine is None:
            continue
        scale, shift = (part.astype(np.float32) for part in affine)
        value, shape, dtype = node.inputs[0], node.output.shape, node.layer.dtype_policy
        layer = conv2d(scale.reshape(1, 1, -1, 1), shift, node.name, layers.DepthwiseConv2D, dtype=dtype)
        layer.trainable = node.kind not in CONSTANT_AFFINES
        if len(shape) != 4:
            image = (1, int(np.prod([int(side or 0) for side in shape[1:-1]])), int(shape[-1] or 0))
            value = graph.add(layers.Reshape(image, name=f"{node.name}_image", dtype=dtype), value)
        value = graph.add(layer, value)
        if len(shape) != 4:
            value = graph.add(layers.Reshape(shape[1:], name=f"{node.name}_shape", dtype=dtype), value)
        graph.replace(node.output, value)


def decompose_swish(graph: Graph) -> None:
    """Write silu and quick_gelu, x * sigmoid(b x), as y * sigmoid(y) with y = b x, b moved into the weights around it.

    Where a neighbour cannot take the factor b, a multiplication by it stays. Quantized graphs keep their grids: ranges
    and weights scale together.
    """
    shared = graph.shared()
    for node in graph.nodes():
        slope = SWISH_SLOPES.get(activation_name(node) or "")
        if slope is None:
            continue
        dtype, name, value = node.layer.dtype_policy, node.name, node.inputs[0]
        sigmoid = layers.Activation("sigmoid", name=f"{name}_sigmoid", dtype=dtype)
        gate, quantized = value, value.node.kind == "FakeQuant"
        if slope != 1.0:
            consumers = graph.consumers()
            above = _scalable_above(graph, value, consumers)
            below = _scalable_below(graph, node.output, consumers)
            around = (*(above or ()), *(below or ()))
            fixed = any(id(n.layer) in shared or is_restrained(n.layer) for n in around)
            if above is None or below is None or fixed:
                gate = graph.add(layers.Rescaling(slope, name=f"{name}_slope", dtype=dtype), value)
                if quantized:
                    gate = graph.add(value.node.layer.scaled(slope, f"{name}_slope_quant"), gate)
            else:
                for scaled in above:
                    _scale_node(scaled, slope, scale_bias=True)
                for scaled in below:
                    linear = scaled.kind.removeprefix("Quant") in LINEAR
                    _scale_node(scaled, 1.0 / slope if linear else slope, scale_bias=False)
        gate = graph.add(sigmoid, gate)
        if quantized:
            gate = graph.add(FakeQuant.for_activation("sigmoid", f"{name}_sigmoid_quant", value.node.layer.bits), gate)
        product = layers.Multiply(name=f"{name}_product", dtype=dtype)
        graph.replace(node.output, graph.add(product, value, gate))


def _scalable_above(graph: Graph, value: Value, consumers: dict[Value, list[Node]]) -> list[Node] | None:
    """Nodes to rescale so that ``value`` is multiplied by a factor and nothing else changes; None if impossible."""
    nodes: list[Node] = []
    while graph.sole_consumer(value, consumers) is not None:
        nodes.append(value.node)
        if value.node.kind.removeprefix("Quant") in LINEAR:
            return nodes
        if value.node.kind == "Add":
            for part in value.node.inputs:
                branch = _scalable_above(graph, part, consumers)
                if branch is None:
                    return None
                nodes += branch
            return nodes
        if value.node.kind not in SCALE_COMMUTING:
            return None
        value = value.node.inputs[0]
    return None


def _scalable_below(graph: Graph, value: Value, consumers: dict[Value, list[Node]]) -> list[Node] | None:
    """Nodes to rescale so that a factor on ``value`` is undone behind them; None if some reader cannot undo it."""
    if value in graph.outputs:
        return None
    nodes: list[Node] = []
    for reader in consumers.get(value, []):
        nodes.append(reader)
        if reader.kind.removeprefix("Quant") in LINEAR:
            continue
        further = _scalable_below(graph, reader.output, consumers) if reader.kind in SCALE_COMMUTING else None
        if further is None:
            return None
        nodes += further
    return nodes


def _scale_node(node: Node, factor: float, scale_bias: bool) -> None:
    if node.kind == "FakeQuant":
        node.layer = node.layer.scaled(factor)
    elif node.kind.removeprefix("Quant") in LINEAR:
        bias = bias_of(node.layer)
        if scale_bias and bias is not None:
            bias = bias * np.float32(factor)
        step = getattr(node.layer, "input_step", 0.0)
        changes = {"input_step": step / factor} if step and not scale_bias else {}
        node.layer = with_weights(node.layer, kernel_of(node.layer) * np.float32(factor), bias, **changes)
        if node.grid is not None:
            node.grid = node.grid * np.float32(factor)
