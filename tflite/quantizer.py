"""``quantize``: a float Keras model becomes one that trains and predicts with the int8 arithmetic of its file."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from keras import layers, ops

from wavemix_tf.checks import check_option

from . import folding
from .errors import UnsupportedLayerError
from .fake_quant import (
    QUANT_LAYERS,
    WEIGHT_LEVELS,
    FakeQuant,
    QuantBatchNormalization,
    round_to_steps,
    round_weights,
)
from .folding import LINEAR, activation_name
from .graph import Graph, Node, Value
from .images import check_images, predict
from .lowering import is_quantized, substitute_activations
from .targets import get_target

ENGINES = ("native", "tfmot")
OBSERVERS = ("minmax", "percentile", "mse")
PERCENTILE = 99.99
INPUT_RANGE = (0.0, 1.0)  # an int8 input is exactly pixel - 128
SAMPLES_PER_IMAGE = 512  # values of each tensor that the percentile and MSE observers see of every calibration image

# What each layer's output needs, by the TensorFlow Lite int8 specification.
MOVES_VALUES = (
    *folding.INFERENCE_NOOPS,
    "Reshape",
    "Flatten",
    "PixelShuffle",
    "ZeroPadding2D",
    "Cropping2D",
    "MaxPooling2D",
)
AVERAGES_IN_PLACE = ("AveragePooling2D",)  # rounds again, on its input's grid
OWN_RANGE = (
    *LINEAR,
    "DWT2D",
    "LowPass2D",
    "BatchNormalization",
    "Normalization",
    "Rescaling",
    "Add",
    "Multiply",
    "Concatenate",
    "GlobalAveragePooling2D",
)
OWN_RANGE_ACTIVATIONS = ("gelu", "hard_silu", "relu", "relu6")
FIXED_RANGES = {"sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}
CLAMPS = ("relu", "relu6")  # fused into the op before them
FUSES_CLAMPS = ("Conv2D", "DepthwiseConv2D", "Dense", "Add", "Multiply")


def quantize(
    model: Any,
    calibration: Any,
    engine: str = "native",
    *,
    observer: str = "percentile",
    target: str | None = None,
) -> Any:
    """Turn a float model into one that computes as its int8 file will, and can be fine-tuned.

    Composite layers are opened, each Haar transform is contracted with the 1x1 convolution behind it (what is rounded
    is the 2x2 kernel that ships), weights are rounded per output channel, and every tensor that the file stores is
    rounded to 256 levels in a range measured on ``calibration``. BatchNormalization stays and trains on; ``export``
    folds it. The given model is not touched. Without fine-tuning the result is a post-training quantisation.

    Args:
        model: Functional Keras model whose input is an image in [0, 1] (pixel / 255).
        calibration: float array (N, H, W, C), or an iterable of such arrays or of single images, in [0, 1]:
            real images of the training distribution; a few hundred are enough.
        engine: "native", or "tfmot": the same through tensorflow-model-optimization (which knows Keras 2 alone), for
            comparison. That returns a ``TfmotModel``, which trains, predicts and exports alike.
        observer: How a range is found: "minmax", "percentile" (the central 99.98 % of sampled values) or "mse" (least
            squared rounding and clipping error on sampled values).
        target: A target's name: activations it lacks are replaced before calibration, so that fine-tuning makes good
            for it (``gelu`` by ``quick_gelu`` for "mcu"). None: nothing is replaced.

    Returns:
        An uncompiled ``keras.Model`` with the same inputs and outputs; trains with ``fit``, saves to ``.keras``.

    Raises:
        ValueError: unknown engine, observer or target; calibration images of the wrong shape, dtype or range.
        UnsupportedLayerError: the model is not functional, or holds a layer without an int8 rule.

    Example:
    >>> qat = wm.tflite.quantize(model, images)
    >>> qat.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)); qat.fit(...)
    >>> wm.tflite.export(qat, target="mcu").save("model.tflite")
    """
    check_option("engine", engine, ENGINES)
    check_option("observer", observer, OBSERVERS)
    if is_quantized(model):
        raise ValueError(f"model must be a float model; this one is quantized already. Received: model={model.name!r}")
    if engine == "tfmot":
        from . import tfmot_engine

        return tfmot_engine.quantize(model, calibration, observer=observer, target=target)
    graph = Graph.from_model(model)
    images = check_images(calibration, graph.inputs[0].shape)
    folding.split_activations(graph)
    if target is not None:
        substitute_activations(graph, get_target(target).substitutes)
    folding.fold_wavelets(graph)
    folding.decompose_quick_gelu(graph)
    _norm_before_bilinear(graph, images)
    _round_constants(graph)
    insert_fake_quant(graph)
    _calibrate(graph, images, observer)
    _set_input_steps(graph)
    # The layers were called in the probing models too; fresh copies know this model alone (`layer.output` is its).
    return Graph.from_model(graph.to_model("draft")).to_model(f"{model.name}_quantized")


def calibrate(model: Any, calibration: Any, observer: str = "percentile") -> None:
    """Measure the activation ranges of a quantized model again, in place (after training with another learning rate).

    Args:
        model: Made by ``quantize``.
        calibration: As for ``quantize``.
        observer: As for ``quantize``.
    """
    check_option("observer", observer, OBSERVERS)
    graph = Graph.from_model(model)
    ranges = _calibrate(graph, check_images(calibration, graph.inputs[0].shape), observer)
    _set_input_steps(graph)
    steps = {node.name: node.layer.input_step for node in graph.nodes() if hasattr(node.layer, "input_step")}
    for layer in model.layers:
        if layer.name in ranges:
            layer.set_range(*ranges[layer.name])
        elif layer.name in steps:
            layer.input_step = steps[layer.name]
    # Functions that Keras compiled hold the old steps as constants.
    model.train_function = model.test_function = model.predict_function = None


def insert_fake_quant(graph: Graph) -> None:
    """Round weights, and round every tensor that an int8 file stores, once, where the file rounds it."""
    deferred = _deferred_values(graph)
    norm_sources = _norm_sources(graph)
    quantizers: dict[Value, FakeQuant] = {}  # value -> the quantizer whose grid it lies on
    twins: dict[int, Any] = {}  # a layer called twice becomes one quantized layer called twice
    for node in graph.nodes():
        if node.kind in QUANT_LAYERS:
            if id(node.layer) not in twins:
                twins[id(node.layer)] = _quantized_twin(node.layer)
            node.layer = twins[id(node.layer)]
        elif node.kind == "BatchNormalization":
            node.layer = _quantized_norm(node.layer)
            if node in norm_sources:
                node.kwargs["steps"] = _emit_steps(norm_sources[node])
        value = node.output
        if value in deferred:
            continue
        known = quantizers.get(node.inputs[0]) if node.inputs else None
        if known is not None and (node.kind in MOVES_VALUES or _is_nearest(node)):
            quantizers[value] = known
            continue
        averages = known is not None and (node.kind in AVERAGES_IN_PLACE or node.kind == "UpSampling2D")
        # An averaging op keeps its input's scale: the same range, applied again.
        quantizer = known if known is not None and averages else _make_quantizer(node)
        rounded = graph.add(quantizer, value)
        if averages:
            rounded.node.kwargs["ties_up"] = True
        graph.replace(value, rounded, keep=[rounded.node])
        quantizers[rounded] = quantizer


def _is_nearest(node: Node) -> bool:
    return node.kind == "UpSampling2D" and node.layer.interpolation == "nearest"


def _make_quantizer(node: Node) -> FakeQuant:
    name = activation_name(node)
    fixed = INPUT_RANGE if node.layer is None else FIXED_RANGES.get(name or "")
    ranged = (*OWN_RANGE, *MOVES_VALUES, *AVERAGES_IN_PLACE, "UpSampling2D")
    if fixed is None and name not in OWN_RANGE_ACTIVATIONS and node.kind.removeprefix("Quant") not in ranged:
        what = f"Activation({name})" if name else node.kind
        raise UnsupportedLayerError(
            f"Layer {node.name!r} of type {what} has no int8 rule: express it by {', '.join(OWN_RANGE)} and the "
            f"activations {', '.join((*OWN_RANGE_ACTIVATIONS, *FIXED_RANGES, 'quick_gelu', 'silu'))}, "
            f"or export the model as float32. Received: layer={node.name!r}"
        )
    policy = None if node.layer is None else node.layer.dtype_policy
    quantizer = FakeQuant(fixed=fixed is not None, name=f"{node.name}_quant", dtype=policy)
    quantizer.build(None)
    if fixed is not None:
        quantizer.set_range(*fixed)
    return quantizer


def _deferred_values(graph: Graph) -> set[Value]:
    """Values that the file never stores at their own scale: folded, fused or concatenated away."""
    consumers = graph.consumers()
    deferred: set[Value] = set()
    for node in graph.nodes():
        if node.kind in ("BatchNormalization", "Rescaling", "Normalization"):
            found = folding.affine_source(graph, node, consumers)
            if found is not None:
                source, between = found
                deferred |= {source.output, *(n.output for n in between)}
        elif activation_name(node) in CLAMPS:
            before = node.inputs[0]
            producer = before.node
            if producer.kind == "BatchNormalization":
                found = folding.affine_source(graph, producer, consumers)
                producer = found[0] if found is not None and not found[1] else producer
            if producer.kind in FUSES_CLAMPS and graph.sole_consumer(before, consumers) is not None:
                deferred.add(before)
        elif node.kind == "Concatenate":
            for value in node.inputs:
                fixed = activation_name(value.node) in FIXED_RANGES or value.node.layer is None
                if graph.sole_consumer(value, consumers) is not None and not fixed:
                    deferred.add(value)
    return deferred


def _norm_sources(graph: Graph) -> dict[Node, Node]:
    """Batch norm -> the weighted layer that absorbs it, where one channel of that layer is one channel of the norm."""
    consumers = graph.consumers()
    calls = Counter(id(node.layer) for node in graph.nodes())
    sources = {}
    for node in graph.nodes():
        found = folding.affine_source(graph, node, consumers) if node.kind == "BatchNormalization" else None
        if found is None or any(n.kind == "PixelShuffle" for n in found[1]) or calls[id(found[0].layer)] > 1:
            continue
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


def _set_input_steps(graph: Graph) -> None:
    """Tell every layer that rounds a bias the step of the grid its input lies on, as far as all its calls agree."""
    found: dict[int, set[float]] = {}
    nodes = [node for node in graph.nodes() if hasattr(node.layer, "input_step") and "steps" not in node.kwargs]
    for node in nodes:
        source = node.inputs[0].node
        while source.kind in MOVES_VALUES or _is_nearest(source):
            source = source.inputs[0].node
        low, high = source.layer.get_range() if source.kind == "FakeQuant" else (0.0, 0.0)
        found.setdefault(id(node.layer), set()).add(float(np.float32(high - low) / np.float32(255)))
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


def _norm_before_bilinear(graph: Graph, images: np.ndarray) -> None:
    """Move a batch norm that stands behind bilinear upsampling in front of it, where the file will have it folded.

    The file rounds what it upsamples, so the quantizer must stand there too. Interpolation keeps a channel's mean but
    not its variance; the ratio, measured on ``images``, goes into the moving variance and gamma, so that the network
    computes the same as before at inference and, up to that ratio's spread, in training.
    """
    consumers = graph.consumers()
    moves = []
    for node in graph.nodes():
        found = folding.affine_source(graph, node, consumers) if node.kind == "BatchNormalization" else None
        if found is None or [n.kind for n in found[1]] != ["UpSampling2D"] or _is_nearest(found[1][0]):
            continue
        if node.layer.scale:  # gamma takes the ratio
            moves.append((node, found[1][0]))
    if not moves:
        return
    ends = [value for node, up in moves for value in (up.inputs[0], node.inputs[0])]
    taps = [graph.add(_Moments(name=f"moments_{index}"), value) for index, value in enumerate(ends)]
    tables = predict(graph.to_model("moments", outputs=taps), images)
    variances = []
    for table in tables:
        mean, square = np.split(np.asarray(table, np.float64).mean(0), 2)
        variances.append(np.maximum(square - mean**2, 1e-12))
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


def _round_constants(graph: Graph) -> None:
    """Put what never trains onto the grids of the file: taps of wavelets that stay, the input's normalisation.

    Standardising an image with int8 levels of step 1/255 takes one weight of 127 steps a channel; its bias, and so the
    mean, counts in multiples of 1 / (255 * 127).
    """
    for node in graph.nodes():
        if node.kind == "Normalization" and node.inputs[0].node.layer is None and not node.layer.invert:
            step = (INPUT_RANGE[1] - INPUT_RANGE[0]) / 255 / WEIGHT_LEVELS
            config = node.layer.get_config()
            moments = [np.ravel(ops.convert_to_numpy(part)) for part in (node.layer.mean, node.layer.variance)]
            mean = np.asarray(ops.convert_to_numpy(round_to_steps(moments[0], step)))
            config.update(mean=mean.tolist(), variance=moments[1].tolist())
            node.layer = layers.Normalization.from_config(config)
            node.layer.build(node.inputs[0].shape)
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


def _calibrate(graph: Graph, images: np.ndarray, observer: str) -> dict[str, tuple[float, float]]:
    """Set the range of every quantizer that is not fixed; returns name -> (minimum, maximum)."""
    quantizers = [node for node in graph.nodes() if node.kind == "FakeQuant"]
    first = {id(node.layer): node for node in reversed(quantizers) if not node.layer.fixed}
    observed = list(first.values())
    taps = [graph.add(Observe(name=f"observe_{index}"), node.inputs[0]) for index, node in enumerate(observed)]
    probe = graph.to_model("calibration", outputs=taps, skip=quantizers)
    statistics = predict(probe, images)
    ranges = {}
    for node, table in zip(observed, statistics, strict=True):
        node.layer.set_range(*_range(np.asarray(table, np.float32), observer))
        ranges[node.name] = node.layer.get_range()
    return ranges


def _range(table: np.ndarray, observer: str) -> tuple[float, float]:
    low, high = float(table[:, 0].min()), float(table[:, 1].max())
    values = table[:, 2:].ravel()
    if observer == "percentile":
        low_q, high_q = np.percentile(values, [100 - PERCENTILE, PERCENTILE])
        low, high = max(low, float(low_q)), min(high, float(high_q))
    elif observer == "mse":
        low, high = _least_squares(values, min(low, 0.0), max(high, 0.0))
    return low, high


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
