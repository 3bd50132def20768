"""``quantize``: a float Keras model becomes one that trains and predicts with the integer arithmetic of its file."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers, ops

from wavemix_tf.checks import check_option

from . import folding, token_forms
from .canonical import canonicalize
from .errors import UnsupportedLayerError
from .fake_quant import (
    FIXED_RANGES,
    QUANT_LAYERS,
    FakeQuant,
    KeepFloat,
    QuantBatchNormalization,
    round_weights,
)
from .folding import LINEAR, activation_name
from .graph import Graph, Node, Value
from .images import check_inputs, predict, value_ranges
from .lowering import check_exportable, converts_itself, is_quantized, quantized_dtype, substitute_activations
from .rounding import round_with_feedback
from .targets import get_target

ENGINES = ("native", "tfmot")
OBSERVERS = ("minmax", "moving_average", "percentile", "mse")
ROUNDINGS = ("nearest", "gptq")
BITS = {"int8": 8, "int16x8": 16}
PERCENTILE = 99.99
AVERAGING_IMAGES = 16  # in each batch of the moving average, and its weight
AVERAGING_MOMENTUM = 0.9
SAMPLES_PER_IMAGE = 512  # values of each tensor that the percentile and MSE observers see of every calibration image
MIN_IMAGES = 32
UNSUPPORTED = "unsupported"  # for ``skip``
# What a mask adds to a score before a softmax, and what stands for it in int8: exp(-32) is no share of anything.
MASK_FROM, MASKED = -1000.0, -32.0

# What each layer's output needs, by the TensorFlow Lite int8 specification.
AVERAGES_IN_PLACE = ("AveragePooling2D",)  # rounds again, on its input's grid
RESIZES = ("UpSampling2D", "Resizing")
OWN_RANGE = (
    *LINEAR,
    "DWT2D",
    "LowPass2D",
    "BatchNormalization",
    "Normalization",
    "Rescaling",
    "Add",
    "Subtract",
    "Multiply",
    "Concatenate",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling1D",
    "MatMul",
    "Mean",
    "Rsqrt",
    "AddConstant",
)
OWN_RANGE_ACTIVATIONS = ("gelu", "hard_silu", "leaky_relu", "relu", "relu6")
REWRITTEN = (  # before
    *("SeparableConv2D", "Average", "GlobalMaxPooling2D", *token_forms.NORMS, *folding.TRAINED_AFFINES),
    *("quick_gelu", "silu", "hard_sigmoid"),
)
CLAMPS = ("relu", "relu6")  # fused into the op before them
FUSES_CLAMPS = ("Conv2D", "DepthwiseConv2D", "Dense", "Add", "Subtract", "Multiply")


def quantize(
    model: Any,
    calibration: Any,
    engine: str = "native",
    *,
    dtype: str = "int8",
    observer: str | None = None,
    rounding: str = "nearest",
    skip: Sequence[str] | str = (),
    input_range: Any = (0.0, 1.0),
    target: str | None = None,
) -> Any:
    """Turn a float model into one that computes as its int8 file will, and can be fine-tuned.

    Composite layers and nested models are opened, each Haar transform is contracted with the 1x1 convolution behind it
    (what is rounded is the 2x2 kernel that ships), weights are rounded per output channel, and every tensor that the
    file stores is rounded to 256 levels in a range measured on ``calibration``. BatchNormalization stays and trains on;
    ``export`` folds it. The given model is not touched. Without fine-tuning the result is a post-training quantisation.

    Args:
        model: Functional Keras model of images (H, W, C), or of several inputs of any rank.
        calibration: float array (N, H, W, C), or an iterable of such arrays or of single images: 32 or more real images
            of the training distribution; a few hundred are enough. Several inputs: a dict of input name -> array, or
            a tuple of arrays.
        engine: "native", or "tfmot": the same through tensorflow-model-optimization (which knows Keras 2 alone), for
            comparison. That returns a ``TfmotModel``, which trains, predicts and exports alike; of the options below it
            takes ``observer``, ``input_range`` and ``target``.
        dtype: "int8", or "int16x8" for activations of 16 bits and weights of 8.
        observer: How a range is found: "minmax", "moving_average" (of the batches' minima and maxima), "percentile"
            (the central 99.98 % of sampled values) or "mse" (least squared rounding and clipping error on these). None:
            "percentile"; for "int16x8" "minmax", the one that it takes: the converter measures its ranges again.
        rounding: Of the weights before any fine-tuning: "nearest", or "gptq", which makes the next weights of a channel
            compensate for the rounding of those before on the calibration images (Frantar et al., arXiv 2210.17323).
            For post-training use: training goes on from the rounded weights.
        skip: Names of layers that stay float; a composite's or nested model's name stands for all its parts.
            "unsupported": those without an int8 rule, whatever they are (``Artifact.float_layers`` lists them); the
            file then fits targets with float kernels alone, "android-cpu" and mostly "mcu".
        input_range: (low, high) that an input's values lie in: (0, 1) for pixel / 255, for which an int8 input is
            ``pixel - 128``. None: measured. Several inputs: one for all, or a list of one each.
        target: A target's name: activations it lacks are replaced before calibration, so that fine-tuning makes good
            for it (``gelu`` by ``quick_gelu`` for "mcu"). None: nothing is replaced.

    Returns:
        An uncompiled ``keras.Model`` with the same inputs and outputs; trains with ``fit``, saves to ``.keras``.

    Raises:
        ValueError: an unknown option or layer to skip; calibration images of the wrong shape, dtype, range or number.
        UnsupportedLayerError: the model is not functional, or holds a layer without an int8 rule.

    Example:
    >>> qat = wm.tflite.quantize(model, images)
    >>> qat.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)); qat.fit(...)
    >>> wm.tflite.export(qat, target="mcu").save("model.tflite")
    """
    check_option("engine", engine, ENGINES)
    check_option("dtype", dtype, tuple(BITS))
    observer = _check_observer(observer, dtype)
    check_option("rounding", rounding, ROUNDINGS)
    if dtype == "int16x8" and skip:
        raise ValueError(f'dtype="int16x8" has no float layers: its converter knows none. Received: skip={skip!r}')
    if is_quantized(model):
        raise ValueError(f"model must be a float model; this one is quantized already. Received: model={model.name!r}")
    substitutes = {} if target is None else get_target(target).substitutes
    if engine == "tfmot":
        from . import tfmot_engine

        for option, value, only in (
            ("dtype", dtype, "int8"),
            ("rounding", rounding, "nearest"),
            ("skip", list(skip), []),
        ):
            if value != only:
                raise ValueError(f"engine='tfmot' takes {option}={only!r}. Received: {option}={value!r}")
        return tfmot_engine.quantize(model, calibration, observer=observer, input_range=input_range, target=target)
    graph = Graph.from_model(model)
    skipped = _check_skip(skip, graph)
    arrays = check_inputs(calibration, graph.inputs, input_range, least=MIN_IMAGES)
    limits = value_ranges(input_range, len(arrays))
    round_graph(graph, limits, arrays, BITS[dtype], skipped, substitutes, keep_unsupported=skip == UNSUPPORTED)
    find_ranges(graph, arrays, observer)
    set_input_steps(graph)
    if rounding == "gptq":
        round_with_feedback(graph, arrays)
    # The layers were called in the probing models too; fresh copies know this model alone (`layer.output` is its).
    return Graph.from_model(graph.to_model("draft")).to_model(f"{model.name}_quantized")


def round_graph(
    graph: Graph,
    ranges: Sequence[tuple[float, float] | None],
    arrays: list[np.ndarray] | None,
    bits: int = 8,
    skipped: frozenset[str] = frozenset(),
    substitutes: dict[str, str] | None = None,
    keep_unsupported: bool = False,
) -> None:
    """Everything that ``quantize`` does to a graph before it measures ranges.

    Args:
        graph: Of a float model; edited.
        ranges: Of each input; None: to be calibrated.
        arrays: Calibration images, one array an input. None: what they would say of a batch norm that moves before a
            bilinear resize is left out, which changes weights and no op.
        bits: Of the activations.
        skipped: Names of layers that stay float.
        substitutes: Activations to replace.
        keep_unsupported: Whether what has no int8 rule stays float, too.
    """
    canonicalize(graph)
    token_forms.write_norms(graph, _nodes_of(graph, skipped), integer=True)
    check_exportable(graph)
    substitute_activations(graph, substitutes or {})
    folding.fold_wavelets(graph)
    folding.decompose_swish(graph)
    _norm_before_bilinear(graph, arrays)
    folding.lower_affine(graph, (*folding.CONSTANT_AFFINES, *folding.TRAINED_AFFINES))
    round_taps(graph)
    insert_fake_quant(graph, ranges, bits, skipped, keep_unsupported)


def check_options(model: Any, *, observer: str | None = None, skip: Sequence[str] | str = ()) -> None:
    """Raise what ``quantize`` will raise of these options, before the model is trained and calibrated.

    Args:
        model: Functional Keras model, float.
        observer: As for ``quantize`` with ``dtype="int8"``.
        skip: As for ``quantize``.
    """
    _check_observer(observer, "int8")
    if skip:
        _check_skip(skip, Graph.from_model(model))


def calibrate(model: Any, calibration: Any, observer: str | None = None) -> None:
    """Measure the activation ranges of a quantized model again, in place (after training with another learning rate).

    Args:
        model: Made by ``quantize``.
        calibration: As for ``quantize``.
        observer: As for ``quantize``.
    """
    dtype = quantized_dtype(model)
    if dtype is None or converts_itself(model):
        raise ValueError(f"model must be made by the native engine of quantize. Received: model={model.name!r}")
    observer = _check_observer(observer, dtype)
    graph = Graph.from_model(model)
    arrays = check_inputs(calibration, graph.inputs, input_ranges(model), least=MIN_IMAGES)
    ranges = find_ranges(graph, arrays, observer)
    set_input_steps(graph)
    steps = {node.name: node.layer.input_step for node in graph.nodes() if hasattr(node.layer, "input_step")}
    for layer in model.layers:
        if layer.name in ranges:
            layer.set_range(*ranges[layer.name])
        elif layer.name in steps:
            layer.input_step = steps[layer.name]
    # Functions that Keras compiled hold the old steps as constants.
    model.train_function = model.test_function = model.predict_function = None


def _check_observer(observer: str | None, dtype: str) -> str:
    observer = observer or ("percentile" if dtype == "int8" else "minmax")
    check_option("observer", observer, OBSERVERS)
    if dtype == "int16x8" and observer != "minmax":
        raise ValueError(f'dtype="int16x8" takes observer="minmax". Received: observer={observer!r}')
    return observer


def input_ranges(model: Any) -> list[tuple[float, float] | None]:
    """What the values of each input of a quantized model were promised to lie in; None where nothing was promised."""
    if converts_itself(model):
        return model.input_ranges
    graph = Graph.from_model(model)
    readers = graph.consumers()
    marks = ("FakeQuant", "KeepFloat")
    found = [[n.layer.limits for n in readers.get(value, []) if n.kind in marks] for value in graph.inputs]
    return [tuple(limits[0]) if limits and limits[0] else None for limits in found]


def _check_skip(skip: Sequence[str] | str, graph: Graph) -> frozenset[str]:
    if isinstance(skip, str):
        if skip == UNSUPPORTED:
            return frozenset()
        raise ValueError(f"skip must be a list of layer names, or {UNSUPPORTED!r}. Received: skip={skip!r}")
    known = {name for node in graph.nodes() for name in node.origin}
    for name in skip:
        if name not in known:
            near = difflib.get_close_matches(str(name), sorted(known), n=3)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise ValueError(f"skip must name layers of the model{hint}. Received: skip={name!r}")
    return frozenset(skip)


def insert_fake_quant(
    graph: Graph,
    ranges: Sequence[tuple[float, float] | None],
    bits: int = 8,
    skip: frozenset[str] = frozenset(),
    keep_unsupported: bool = False,
) -> None:
    """Round weights, and round every tensor that the file stores, once, where the file rounds it.

    Args:
        graph: Edited.
        ranges: Of each input; None: to be calibrated.
        bits: Of the activations.
        skip: Names of layers (see ``Node.origin``) that stay float.
        keep_unsupported: Whether what has no int8 rule stays float, too.
    """
    skipped = _nodes_of(graph, skip)
    if keep_unsupported:
        skipped |= {node for node in graph.nodes() if node.layer is not None and not _has_rule(node)}
    deferred = _deferred_values(graph, skipped)
    norm_sources = _norm_sources(graph, skipped)
    readers = graph.consumers()
    pinned = {value.node: part for value, part in zip(graph.inputs, ranges, strict=True)}
    quantizers: dict[Value, FakeQuant] = {}  # value -> the quantizer whose grid it lies on
    twins: dict[int, Any] = {}  # a layer called twice becomes one quantized layer called twice
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
        elif node.kind == "AddConstant":
            node.layer.rounded = bits == 8
        if node in pinned and readers.get(value) and len(floats) == len(readers[value]):
            marker = graph.add(KeepFloat(limits=pinned[node], name=f"{node.name}_float"), value)
            graph.replace(value, marker, keep=[marker.node])
            continue
        if value in deferred:
            continue
        known = quantizers.get(node.inputs[0]) if node.inputs else None
        if known is not None and (node.kind in folding.MOVES_VALUES or _is_nearest(node)):
            quantizers[value] = known
            continue
        averages = known is not None and node.kind in (*AVERAGES_IN_PLACE, *RESIZES)
        # An averaging op keeps its input's scale: the same range, applied again.
        quantizer = known if known is not None and averages else _make_quantizer(node, bits, pinned.get(node))
        rounded = graph.add(quantizer, value)
        if averages:
            rounded.node.kwargs["ties_up"] = True
        graph.replace(value, rounded, keep=[rounded.node])
        quantizers[rounded] = quantizer


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


def _is_nearest(node: Node) -> bool:
    return node.kind in RESIZES and node.layer.interpolation == "nearest"


def _nodes_of(graph: Graph, names: frozenset[str]) -> set[Node]:
    """The nodes that layers of these names became."""
    return {node for node in graph.nodes() if node.layer is not None and names.intersection(node.origin)}


def _has_rule(node: Node) -> bool:
    if not all(value.is_float for value in (*node.inputs, *node.outputs)) and node.kind not in folding.MOVES_VALUES:
        return False
    ranged = (*OWN_RANGE, *folding.MOVES_VALUES, *AVERAGES_IN_PLACE, *RESIZES)
    known = activation_name(node) in (*OWN_RANGE_ACTIVATIONS, *FIXED_RANGES)
    return known or node.kind.removeprefix("Quant") in ranged


def _make_quantizer(node: Node, bits: int, pinned: tuple[float, float] | None, check: bool = True) -> FakeQuant:
    name = activation_name(node)
    if check and node.layer is not None and not _has_rule(node):
        raise _no_rule(node, name)
    policy = None if node.layer is None else getattr(node.layer, "dtype_policy", None)
    if name in FIXED_RANGES:
        return FakeQuant.for_activation(str(name), f"{node.name}_quant", bits, policy)
    quantizer = FakeQuant(pinned is not None, bits, pinned, name=f"{node.name}_quant", dtype=policy)
    quantizer.build(None)
    if pinned is not None:
        quantizer.set_range(*pinned)
    return quantizer


def _no_rule(node: Node, activation: str | None) -> UnsupportedLayerError:
    what = f"Activation({activation})" if activation else node.kind
    kinds = sorted({*OWN_RANGE, *folding.MOVES_VALUES, *AVERAGES_IN_PLACE, *RESIZES, *REWRITTEN[:-3]})
    functions = sorted({*OWN_RANGE_ACTIVATIONS, *FIXED_RANGES, *REWRITTEN[-3:]})
    return UnsupportedLayerError(
        f"Layer {node.name!r} of type {what} has no int8 rule: name it in skip=[...] to keep it float (or "
        f"skip={UNSUPPORTED!r}, all that have none), or express it "
        f"by {', '.join(kinds)} and the activations {', '.join(functions)}. Received: layer={node.name!r}"
    )


def _deferred_values(graph: Graph, skipped: set[Node]) -> set[Value]:
    """Values that the file never stores at their own scale: folded, fused or concatenated away."""
    consumers = graph.consumers()
    deferred: set[Value] = set()
    for node in graph.nodes():
        if node in skipped:
            continue
        if node.kind in ("BatchNormalization", *folding.CONSTANT_AFFINES):
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
    """``folding.affine_source`` where it will still hold in the rounded graph: not through what rounds or stays float.

    A batch norm that ``_norm_before_bilinear`` could not move stays behind its resize.
    """
    found = folding.affine_source(graph, node, consumers)
    if found is None:
        return None
    source, between = found
    averages = any(n.kind in RESIZES and not _is_nearest(n) for n in between)
    return None if averages or (skipped.intersection(between) and source not in skipped) else found


def _norm_sources(graph: Graph, skipped: set[Node]) -> dict[Node, Node]:
    """Batch norm -> the weighted layer that absorbs it, where one channel of that layer is one channel of the norm."""
    consumers = graph.consumers()
    calls = Counter(id(node.layer) for node in graph.nodes())
    sources = {}
    for node in graph.nodes():
        found = _absorber(graph, node, consumers, skipped) if node.kind == "BatchNormalization" else None
        if found is None or any(n.kind == "PixelShuffle" for n in found[1]):
            continue
        # Calls that share a layer would have to agree on the steps.
        if found[0] not in skipped and calls[id(found[0].layer)] == calls[id(node.layer)] == 1:
            sources[node] = found[0]
    return sources


def _emit_steps(source: Node) -> Value:
    """Let a weighted layer return its accumulator's steps too."""
    source.layer.emit_steps = True
    source.outputs.append(Value(source, 1, (source.output.shape[-1],)))
    return source.outputs[1]


def _quantized_norm(layer: Any) -> Any:
    norm = QuantBatchNormalization.from_config(layer.get_config())
    norm.build_from_config(layer.get_build_config())
    norm.set_weights(layer.get_weights())
    return norm


def set_input_steps(graph: Graph) -> None:
    """Tell every layer that rounds a bias the step of the grid its input lies on, as far as all its calls agree."""
    found: dict[int, set[float]] = {}
    nodes = [node for node in graph.nodes() if hasattr(node.layer, "input_step") and "steps" not in node.kwargs]
    for node in nodes:
        source = node.inputs[0].node
        while source.kind in folding.MOVES_VALUES or _is_nearest(source):
            source = source.inputs[0].node
        step = source.layer.get_step() if source.kind == "FakeQuant" else 0.0
        found.setdefault(id(node.layer), set()).add(step)
    for node in nodes:
        steps = found[id(node.layer)]
        node.layer.input_step = steps.pop() if len(steps) == 1 else 0.0
        steps.add(node.layer.input_step)


def _quantized_twin(layer: Any) -> Any:
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise UnsupportedLayerError(f"Layers must be channels_last. Received: layer={layer.name!r}")
    twin = QUANT_LAYERS[type(layer).__name__].from_config(layer.get_config())
    twin.build_from_config(layer.get_build_config())
    twin.set_weights(layer.get_weights())
    return twin


class _Moments(layers.Layer):
    """(B, H, W, C) -> (B, 2C): each image's mean and mean square of every channel."""

    def call(self, x: Any) -> Any:
        wide = ops.cast(x, "float32")
        return ops.concatenate([ops.mean(wide, axis=(1, 2)), ops.mean(ops.square(wide), axis=(1, 2))], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 2 * input_shape[-1])


def _norm_before_bilinear(graph: Graph, arrays: list[np.ndarray] | None) -> None:
    """Move a batch norm that stands behind bilinear upsampling in front of it, where the file will have it folded.

    The file rounds what it upsamples, so the quantizer must stand there too. Interpolation keeps a channel's mean but
    not its variance; the ratio, measured on the calibration images, goes into the moving variance and gamma, so that
    the network computes the same as before at inference and, up to that ratio's spread, in training.
    """
    consumers = graph.consumers()
    moves = []
    for node in graph.nodes():
        found = folding.affine_source(graph, node, consumers) if node.kind == "BatchNormalization" else None
        between = [] if found is None else found[1]
        if len(between) != 1 or between[0].kind not in RESIZES or _is_nearest(between[0]):
            continue
        if node.layer.scale:  # gamma takes the ratio
            moves.append((node, between[0]))
    if not moves:
        return
    ends = [value for node, up in moves for value in (up.inputs[0], node.inputs[0])]
    taps = [graph.add(_Moments(name=f"moments_{index}"), value) for index, value in enumerate(ends)]
    variances = [np.ones(value.shape[-1] or 0) for value in ends]
    for index, table in enumerate([] if arrays is None else predict(graph.to_model("moments", outputs=taps), arrays)):
        mean, square = np.split(np.asarray(table, np.float64).mean(0), 2)
        variances[index] = np.maximum(square - mean**2, 1e-12)
    for (node, up), before, after in zip(moves, variances[::2], variances[1::2], strict=True):
        layer = node.layer
        old = np.asarray(ops.convert_to_numpy(layer.moving_variance), np.float64)
        new = old * np.clip(before / after, 1.0, 16.0)
        layer.moving_variance.assign(new)
        layer.gamma.assign(ops.convert_to_numpy(layer.gamma) * np.sqrt((new + layer.epsilon) / (old + layer.epsilon)))
        source = up.inputs[0]
        graph.replace(node.output, up.output)
        node.args, up.args = (source,), (node.output,)
        node.outputs[0].shape = source.shape


def round_taps(graph: Graph) -> None:
    """Put the taps of wavelets that stay, which never train, onto the grid of the file."""
    for node in graph.nodes():
        if node.kind in ("DWT2D", "LowPass2D"):
            filters = np.asarray(ops.convert_to_numpy(node.layer.filters), np.float32)
            node.layer.filters.assign(round_weights(filters, (1, 2)))


class Observe(layers.Layer):
    """(B, ...) -> (B, 2 + samples): each image's minimum, maximum and some of its values.

    The values are taken at random places, the same for every image: at regular ones, a stride that shares a factor
    with the number of channels would see a few channels and never the others.
    """

    def call(self, x: Any) -> Any:
        flat = ops.reshape(ops.cast(x, "float32"), (-1, int(np.prod(x.shape[1:]))))
        places = np.random.default_rng(0).permutation(flat.shape[1])[:SAMPLES_PER_IMAGE].astype("int32")
        extremes = [ops.min(flat, axis=1, keepdims=True), ops.max(flat, axis=1, keepdims=True)]
        return ops.concatenate([*extremes, ops.take(flat, places, axis=1)], axis=1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], 2 + min(int(np.prod(input_shape[1:])), SAMPLES_PER_IMAGE))


def find_ranges(graph: Graph, arrays: list[np.ndarray], observer: str) -> dict[str, tuple[float, float]]:
    """Set the range of every quantizer that is not fixed; returns name -> (minimum, maximum)."""
    quantizers = [node for node in graph.nodes() if node.kind == "FakeQuant"]
    if all(node.layer.fixed for node in quantizers):
        return {}
    first = {id(node.layer): node for node in reversed(quantizers) if not node.layer.fixed}
    observed = list(first.values())
    taps = [graph.add(Observe(name=f"observe_{index}"), node.inputs[0]) for index, node in enumerate(observed)]
    probe = graph.to_model("calibration", outputs=taps, skip=quantizers)
    statistics = predict(probe, arrays)
    statistics = statistics if len(observed) > 1 else [statistics]
    ranges, readers = {}, graph.consumers()
    for node, table in zip(observed, statistics, strict=True):
        # A clipped square would make the very tokens too large whose variance is the largest.
        own = "minmax" if observer == "percentile" and _is_of_norm(node, readers) else observer
        low, high = _range(np.asarray(table, np.float32), own)
        if low < MASK_FROM and _only_softmax_reads(node.output, readers):
            # Scores keep their levels: those that are not masked, and no lower than they are.
            seen = np.asarray(table, np.float32)[:, 2:]
            seen = seen[seen > MASK_FROM]
            low = min(MASKED, float(seen.min())) if seen.size else MASKED
        if not np.isfinite([low, high]).all():
            raise ValueError(
                "The model's activations must be finite on the calibration images. "
                f"Received: minimum={low}, maximum={high} at layer={node.inputs[0].node.name!r}"
            )
        node.layer.set_range(low, high)
        ranges[node.name] = node.layer.get_range()
    return ranges


def _is_of_norm(node: Node, readers: dict[Value, list[Node]]) -> bool:
    """Whether a quantizer rounds a step of a layer or group norm: difference, square, variance, its inverse root."""
    if node.inputs[0].node.kind == "Rsqrt":
        return True
    for reader in readers.get(node.output, []):
        squares = reader.kind == "Multiply" and reader.inputs == [node.output] * 2
        through = squares or reader.kind in ("Mean", "FakeQuant", "AddConstant")
        if reader.kind == "Rsqrt" or (through and _is_of_norm_read(reader.output, readers)):
            return True
    return False


def _is_of_norm_read(value: Value, readers: dict[Value, list[Node]]) -> bool:
    """Whether an inverse root is taken of ``value``, or of its mean."""
    return any(
        reader.kind == "Rsqrt"
        or (reader.kind in ("Mean", "FakeQuant", "AddConstant") and _is_of_norm_read(reader.output, readers))
        for reader in readers.get(value, [])
    )


def _only_softmax_reads(value: Value, readers: dict[Value, list[Node]]) -> bool:
    """Whether ``value`` is added to what a softmax reads, and nothing else."""
    follows = readers.get(value, [])
    return bool(follows) and all(
        activation_name(node) == "softmax"
        or (
            node.kind in ("FakeQuant", "Add", "AddConstant", *folding.MOVES_VALUES)
            and _only_softmax_reads(node.output, readers)
        )
        for node in follows
    )


def _range(table: np.ndarray, observer: str) -> tuple[float, float]:
    low, high = float(table[:, 0].min()), float(table[:, 1].max())
    values = table[:, 2:].ravel()
    if observer == "moving_average":
        low, high = (float(_moving_average(part)) for part in (table[:, 0], -table[:, 1]))
        high = -high
    elif observer == "percentile":
        low_q, high_q = np.percentile(values, [100 - PERCENTILE, PERCENTILE])
        low, high = max(low, float(low_q)), min(high, float(high_q))
    elif observer == "mse":
        low, high = _least_squares(values, min(low, 0.0), max(high, 0.0))
    return low, high


def _moving_average(minima: np.ndarray) -> float:
    """Of the batches' minima, as a training loop sees them."""
    batches = [minima[start : start + AVERAGING_IMAGES].min() for start in range(0, len(minima), AVERAGING_IMAGES)]
    average = batches[0]
    for value in batches[1:]:
        average = AVERAGING_MOMENTUM * average + (1 - AVERAGING_MOMENTUM) * value
    return float(average)


def _least_squares(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The range with the smallest squared error of rounding and clipping among shrunken [low, high]."""
    values = values[:: max(1, len(values) // 20_000)]
    best, best_range = np.inf, (low, high)
    for low_factor in np.linspace(0.3, 1.0, 15) if low < 0 else [1.0]:
        for high_factor in np.linspace(0.3, 1.0, 15) if high > 0 else [1.0]:
            ends = (low * low_factor, high * high_factor)
            step = max(ends[1] - ends[0], 1e-9) / 255
            error = np.square(np.clip(np.round(values / step) * step, *ends) - values).sum()
            if error < best:
                best, best_range = error, ends
    return best_range
