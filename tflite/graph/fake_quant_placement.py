"""Placement of quantizers: one for every tensor that the file stores, where the file rounds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..errors import UnsupportedLayerError
from ..layers.copying import config_of, copy_variables
from ..layers.fake_quant import FIXED_RANGES, QUANT_LAYERS, FakeQuant, KeepFloat, QuantBatchNormalization
from .activation_names import activation_name
from .affines import affine_source
from .graph import Graph, Node, Value
from .layer_kinds import (
    AVERAGES_ON_INPUT_GRID,
    CLAMPS,
    COMBINES,
    FIXED_AFFINES,
    FUSES_CLAMPS,
    INDICES,
    MOVES_VALUES,
    RESIZES,
    ROUNDED,
)
from .rectifiers import quantized_prelu

UNSUPPORTED = "unsupported"  # a value of ``skip``
# Activations whose output has a calibrated range by TensorFlow Lite's int8 specification; that of others is fixed.
OWN_RANGE_ACTIVATIONS = ("gelu", "hard_silu", "leaky_relu", "relu", "relu6")
# Layers without a rule -> an equivalent that has one.
SAME = {
    "Lambda": "the layers or keras.ops that it is made of",
    "SpectralNormalization": "the layer that it wraps, with the trained weights",
}
# Layers without a rule -> the nearest public layer that has one. It computes something else: the model must be trained
# again with it.
NEAREST = {
    **dict.fromkeys(("elu", "selu", "celu", "ELU"), "keras.layers.LeakyReLU"),
    **dict.fromkeys(("mish", "softplus", "sparse_plus", "squareplus"), "keras.layers.Activation('hard_silu')"),
    **dict.fromkeys(("softsign", "hard_tanh", "soft_shrink", "tanh_shrink"), "keras.layers.Activation('tanh')"),
    **dict.fromkeys(("log_sigmoid", "sparse_sigmoid"), "keras.layers.Activation('sigmoid')"),
    **dict.fromkeys(("log_softmax", "sparsemax"), "keras.layers.Softmax"),
    **dict.fromkeys(("relu_squared", "threshold", "ReLU", "exponential"), "keras.layers.ReLU()"),
    **dict.fromkeys(("Conv1D", "SeparableConv1D", "DepthwiseConv1D", "Conv3D"), "keras.layers.Conv2D"),
    **dict.fromkeys(("Conv1DTranspose", "Conv3DTranspose"), "keras.layers.Conv2DTranspose"),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling3D", "AdaptiveMaxPooling2D"), "keras.layers.MaxPooling2D"),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling3D"), "keras.layers.AveragePooling2D"),
    "AdaptiveAveragePooling2D": "keras.layers.AveragePooling2D",
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling3D"), "keras.layers.GlobalMaxPooling2D"),
    "GlobalAveragePooling3D": "keras.layers.GlobalAveragePooling2D",
    **dict.fromkeys(("UpSampling1D", "UpSampling3D"), "keras.layers.UpSampling2D"),
    **dict.fromkeys(("Maximum", "Minimum"), "keras.layers.Add"),
    "Dot": "keras.ops.matmul",
    "RMSNormalization": "keras.layers.LayerNormalization",
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "ConvLSTM2D", "Bidirectional"), "keras.layers.Conv2D over the steps"),
    **dict.fromkeys(
        ("AdditiveAttention", "Attention", "GroupedQueryAttention", "MultiHeadAttention"), "wavemix_tf.SelfAttention"
    ),
    "ops.Clip": "keras.layers.ReLU(max_value=...)",
    **dict.fromkeys(("CenterCrop", "RandomCrop"), "keras.layers.Resizing"),
    **dict.fromkeys(("AutoContrast", "Equalization"), "keras.layers.Rescaling"),
}


def insert_fake_quant(
    graph: Graph,
    ranges: Sequence[tuple[float, float] | None],
    bits: int = 8,
    skip: frozenset[str] = frozenset(),
    keep_unsupported: bool = False,
    kept: set[Node] | frozenset[Node] = frozenset(),
) -> None:
    """Round weights, and round every tensor that the file stores, once, where the file rounds it.

    Args:
        graph: Changed in place.
        ranges: Range of each input; None: to be calibrated.
        bits: Bits of the activations.
        skip: Names of layers (see ``Node.origin``) that stay float.
        keep_unsupported: Whether layers without an int8 rule stay float, too.
        kept: Further nodes that stay float.
    """
    skipped = nodes_of(graph, skip) | kept
    if keep_unsupported:
        skipped |= {node for node in graph.nodes() if node.layer is not None and not _has_rule(node)}
    deferred = _deferred_values(graph, skipped)
    norm_sources = _norm_sources(graph, skipped)
    readers = graph.consumers()
    pinned = {value.node: part for value, part in zip(graph.inputs, ranges, strict=True)}
    quantizers: dict[Value, FakeQuant] = {}  # value -> the quantizer that defines its grid
    twins: dict[int, Any] = {}  # a layer that is called twice becomes one quantized layer that is called twice
    for node in graph.nodes():
        value = node.output
        floats = [reader for reader in readers.get(value, []) if reader in skipped]
        if node in skipped:
            _keep_float(graph, node, quantizers)
            for index, output in enumerate(node.outputs):
                floats = [reader for reader in readers.get(output, []) if reader in skipped]
                if not output.is_float or len(floats) == len(readers.get(output, [])):
                    continue
                quantizer = _make_quantizer(node, bits, None, check=False)
                quantizer.name += f"_{index}" if index else ""
                rounded = graph.add(quantizer, output)
                graph.replace(output, rounded, keep=[rounded.node, *floats])
                quantizers[rounded] = quantizer
            continue
        if node.kind in QUANT_LAYERS:
            if id(node.layer) not in twins:
                twins[id(node.layer)] = _quantized_twin(node.layer)
            node.layer = twins[id(node.layer)]
        elif node.kind == "BatchNormalization":
            if id(node.layer) not in twins:
                twins[id(node.layer)] = _quantized_norm(node.layer)
            node.layer = twins[id(node.layer)]
            if node in norm_sources:
                node.kwargs["steps"] = _emit_steps(norm_sources[node])
        elif node.kind == "PReLU":
            if id(node.layer) not in twins:
                twins[id(node.layer)] = quantized_prelu(node.layer)
            node.layer = twins[id(node.layer)]
        elif node.kind == "AddConstant":
            node.layer.rounded = bits == 8
        if not value.is_float and node.layer is not None:
            continue  # indices have no grid
        if node in pinned and readers.get(value) and len(floats) == len(readers[value]):
            marker = graph.add(KeepFloat(limits=pinned[node], name=f"{node.name}_float"), value)
            graph.replace(value, marker, keep=[marker.node])
            continue
        if value in deferred:
            continue
        known = quantizers.get(node.inputs[0]) if node.inputs else None
        if known is not None and (node.kind in MOVES_VALUES or is_nearest(node)):
            quantizers[value] = known
            continue
        averages = known is not None and node.kind in AVERAGES_ON_INPUT_GRID
        # An averaging op keeps its input's scale: the same range, applied again.
        quantizer = known if known is not None and averages else _make_quantizer(node, bits, pinned.get(node))
        rounded = graph.add(quantizer, value)
        if averages:
            rounded.node.kwargs["ties_up"] = True
        graph.replace(value, rounded, keep=[rounded.node])
        quantizers[rounded] = quantizer
    _leave_probabilities_unrounded(graph)


def _leave_probabilities_unrounded(graph: Graph) -> None:
    """Leave the probabilities that a network returns unrounded in training, from the sigmoid or softmax on.

    Below half a step they would become zero, whose logarithm a loss clips: rare classes would get no gradient.
    """
    found: dict[Value, bool] = {}

    def is_probability(value: Value) -> bool:
        if value not in found:
            node = value.node
            parts = [is_probability(part) for part in node.inputs] if node.kind in COMBINES else []
            found[value] = any(parts) or activation_name(node) in ("sigmoid", "softmax")
            if found[value] and node.kind == "FakeQuant":
                node.layer.round_in_training = False
        return found[value]

    for value in graph.outputs:
        is_probability(value)


def _keep_float(graph: Graph, node: Node, quantizers: dict[Value, FakeQuant]) -> None:
    """Mark the inputs of a layer that stays float, where they lie on a grid."""
    made: dict[Value, Value] = {}
    for value in node.inputs:
        if value in quantizers and value not in made:
            policy = getattr(node.layer, "dtype_policy", None)
            marker = KeepFloat(name=f"{node.name}_float{len(made) or ''}", dtype=policy)
            made[value] = graph.add(marker, value)
            made[value].node.origin = node.origin
    for value, marked in made.items():
        node.redirect(value, marked)


def is_nearest(node: Node) -> bool:
    return node.kind in RESIZES and node.layer.interpolation == "nearest"


def nodes_of(graph: Graph, names: frozenset[str]) -> set[Node]:
    """The nodes that the layers with these names became."""
    return {node for node in graph.nodes() if node.layer is not None and names.intersection(node.origin)}


def _has_rule(node: Node) -> bool:
    if node.kind in INDICES:
        return all(value.is_float for value in node.inputs) and isinstance(node.layer.axis, int)
    if not all(value.is_float for value in (*node.inputs, *node.outputs)) and node.kind not in MOVES_VALUES:
        return False
    known = activation_name(node) in (*OWN_RANGE_ACTIVATIONS, *FIXED_RANGES)
    return known or node.kind.removeprefix("Quant") in ROUNDED


def _make_quantizer(node: Node, bits: int, pinned: tuple[float, float] | None, check: bool = True) -> FakeQuant:
    name = activation_name(node)
    if check and node.layer is not None and not _has_rule(node):
        raise _no_rule(node, name)
    policy = None if node.layer is None else getattr(node.layer, "dtype_policy", None)
    if name in FIXED_RANGES:
        return FakeQuant.for_activation(str(name), f"{node.name}_quant", bits, policy)
    quantizer = FakeQuant(pinned is not None, bits, pinned, watched=True, name=f"{node.name}_quant", dtype=policy)
    quantizer.build(None)
    if pinned is not None:
        quantizer.set_range(*pinned)
    return quantizer


def _no_rule(node: Node, activation: str | None) -> UnsupportedLayerError:
    what = f"Activation({activation})" if activation else node.kind
    same, near = SAME.get(node.kind), NEAREST.get(activation or node.kind)
    advice = f", or use {same}" if same else f", or train the model again with {near}" if near else ""
    if node.kind.startswith("custom "):
        advice = ", or give its class a method inline(x) that calls its parts, so that each part is rounded"
    return UnsupportedLayerError(
        f"Layer {node.name!r} of type {what} has no int8 rule: pass skip=[{node.name!r}] to keep it float "
        f"(skip={UNSUPPORTED!r}: all layers without a rule){advice}. Received: layer={node.name!r}"
    )


def _deferred_values(graph: Graph, skipped: set[Node]) -> set[Value]:
    """Values that the file never stores at their own scale, because they are folded, fused or concatenated."""
    consumers = graph.consumers()
    deferred: set[Value] = set()
    for node in graph.nodes():
        if node in skipped:
            continue
        if node.kind in ("BatchNormalization", *FIXED_AFFINES):
            found = _absorber(graph, node, consumers, skipped)
            if found is not None:
                source, between = found
                deferred |= {source.output, *(n.output for n in between)}
        elif activation_name(node) in CLAMPS:
            before = node.inputs[0]
            producer = before.node
            fuses = producer.kind in FUSES_CLAMPS
            if producer.kind == "BatchNormalization":
                found = _absorber(graph, producer, consumers, skipped)
                if found is None:  # becomes a depthwise convolution
                    fuses = len(producer.output.shape) == 4
                else:
                    fuses = not found[1] and found[0].kind in FUSES_CLAMPS
            if fuses and graph.sole_consumer(before, consumers) is not None:
                deferred.add(before)
        elif node.kind == "Concatenate":
            for value in node.inputs:
                fixed = activation_name(value.node) in FIXED_RANGES or value.node.layer is None
                if graph.sole_consumer(value, consumers) is not None and not fixed:
                    deferred.add(value)
    return deferred


def _absorber(
    graph: Graph, node: Node, consumers: dict[Value, list[Node]], skipped: set[Node]
) -> tuple[Node, list[Node]] | None:
    """``affine_source`` if it still applies in the rounded graph: not through nodes that round or stay float.

    A batch norm that ``norm_before_bilinear`` could not move stays after its resize.
    """
    found = affine_source(graph, node, consumers)
    if found is None:
        return None
    source, between = found
    averages = any(n.kind in RESIZES and not is_nearest(n) for n in between)
    return None if averages or (skipped.intersection(between) and source not in skipped) else found


def _norm_sources(graph: Graph, skipped: set[Node]) -> dict[Node, Node]:
    """Batch norm -> the weighted layer that absorbs it, if the channels of both correspond one to one."""
    consumers = graph.consumers()
    calls = Counter(id(node.layer) for node in graph.nodes())
    sources = {}
    for node in graph.nodes():
        found = _absorber(graph, node, consumers, skipped) if node.kind == "BatchNormalization" else None
        if found is None or any(n.kind == "PixelShuffle" for n in found[1]):
            continue
        # Calls that share a layer would need the same steps.
        if found[0] not in skipped and calls[id(found[0].layer)] == calls[id(node.layer)] == 1:
            sources[node] = found[0]
    return sources


def _emit_steps(source: Node) -> Value:
    """Let a weighted layer also return its accumulator's steps."""
    source.layer.emit_steps = True
    source.outputs.append(Value(source, 1, (source.output.shape[-1],)))
    return source.outputs[1]


def _quantized_norm(layer: Any) -> Any:
    norm = QuantBatchNormalization.from_config(config_of(layer))
    norm.build_from_config(layer.get_build_config())
    return copy_variables(layer, norm)


def _quantized_twin(layer: Any) -> Any:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise UnsupportedLayerError(f"Layers must be channels_last. Received: layer={layer.name!r}")
    twin = QUANT_LAYERS[type(layer).__name__].from_config(config_of(layer))
    twin.build_from_config(layer.get_build_config())
    return copy_variables(layer, twin)
