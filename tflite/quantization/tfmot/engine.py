"""``quantize(engine="tfmot")``: fine-tuning through tensorflow-model-optimization, on a tf_keras twin of the model.

tfmot supports only Keras 2. The Keras 3 graph is folded as for export (so that no batch norm remains, and mostly no
transform), translated layer by layer into tf_keras and quantized there by tfmot's own default 8-bit quantizers: weights
per channel for Conv2D, per tensor for Conv2DTranspose, Dense and DepthwiseConv2D, activations by moving averages of
their extremes. This library decides which tensors are rounded (``insert_fake_quant``), because tfmot's own layout
rounds some twice, and does not round others that the file rounds. The first ranges come from this library's observers,
because a moving average that keeps 0.999 of its start needs thousands of batches to change.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np

from wavemix_tf.warning import warn_user

from ...errors import UnsupportedLayerError
from ...graph.activation_names import activation_name
from ...graph.fake_quant_placement import insert_fake_quant
from ...graph.graph import Graph, Node
from ...graph.inputs import check_inputs, value_ranges
from ...graph.layer_kinds import FIXED_AFFINES
from ...graph.pipeline import AFFINES_TO_CONVOLUTIONS, folding_passes, run
from ...layers.fake_quant import QUANT_LAYERS
from ...layers.subclasses import own_methods
from ...targets.table import get_target
from ..copy_check import check_copy, in_float32
from ..freshness import mark_fresh
from ..ranges import MIN_IMAGES, find_ranges
from .model import TfmotModel
from .toolkit import toolkit
from .translation import ACTIVATIONS, DEPTHWISE, TRANSLATED, Range, Translation


def quantize(model: Any, calibration: Any, *, observer: str, input_range: Any, target: str | None) -> TfmotModel:
    """``quantize`` with ``engine="tfmot"``; arguments as there.

    Raises:
        ImportError: tensorflow-model-optimization or tf_keras is not installed.
        UnsupportedLayerError: a layer that has no tf_keras translation or no int8 rule.
    """
    toolkit()
    graph = Graph.from_model(model, dtype="float32")
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise UnsupportedLayerError(
            "engine='tfmot' supports only models of one input and one output. "
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
    twin = Translation(graph, ranges, frozen).quantized()
    result = TfmotModel(float_model, twin, frozen, limits)
    own = own_methods(model)
    if own:
        warn_user(
            f"The quantized model trains with tf_keras's own {' and '.join(own)}, not with those of class "
            f"{type(model).__name__}: use engine='native', which keeps them.",
        )
    result.set_weight_ranges()
    for name, found in ranges.items():
        if found.source is None and not found.fixed:
            variables = result.variables(name)
            variables["output_min"].assign(found.low)
            variables["output_max"].assign(found.high)
    mark_fresh(result)
    return result


def _fold(graph: Graph, target: str | None, round_wavelets: bool = True) -> set[str]:
    """Bring the graph into the form that is translated; returns the names of the layers that contain constants.

    Two steps change the function and are omitted for the comparison with the given model: a target's replacement
    activations, and rounding the taps of wavelets to the file's grid.
    """
    substitutes = {} if target is None else get_target(target).substitutes
    run(graph, folding_passes(substitutes, round_wavelets))
    constants = {node.name for node in graph.nodes() if node.kind in FIXED_AFFINES}
    before = {node.name for node in graph.nodes()}
    run(graph, AFFINES_TO_CONVOLUTIONS)
    return constants | {node.name for node in graph.nodes() if node.kind == DEPTHWISE and node.name not in before}


def _check_training(nodes: list[Node]) -> None:
    """Refuse properties that the translation would lose, before folding hides them."""
    calls = Counter(id(node.layer) for node in nodes)
    for node in nodes:
        if not isinstance(node.layer, keras.Layer):
            continue
        if calls[id(node.layer)] > 1:
            raise UnsupportedLayerError(
                f"engine='tfmot' supports only layers that are called once. Received: layer={node.name!r} called "
                f"{calls[id(node.layer)]} times"
            )
        lost = {f"call argument {key}": value for key, value in node.kwargs.items() if key != "training"}
        config = node.layer.get_config()
        lost |= {key: value for key, value in config.items() if key.endswith(("_regularizer", "_constraint"))}
        for key, value in lost.items():
            if value is not None:
                raise UnsupportedLayerError(
                    "engine='tfmot' supports only layers without regularizers, constraints and call arguments. "
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
                f"engine='tfmot' supports {', '.join(TRANSLATED)}, the activations {', '.join(ACTIVATIONS)} and layers "
                "that fold into them; use engine='native' for others. "
                f"Received: layer={node.name!r} of type {f'Activation({name})' if name else node.kind}"
            )


def _ranges(graph: Graph, images: list[np.ndarray], observer: str, limits: list[Any]) -> dict[str, Range]:
    """Name of each layer whose output the file rounds -> the range, by the native engine's placement and observers."""
    insert_fake_quant(graph, limits)
    find_ranges(graph, images, observer)
    found: dict[str, Range] = {}
    owners: dict[int, str] = {}  # id of a quantizer -> name of the first layer whose output it rounds
    for node in graph.nodes():
        if node.kind == "FakeQuant":
            name = node.inputs[0].node.name
            owner = owners.setdefault(id(node.layer), name)
            low, high = node.layer.get_range()
            found[name] = Range(low, high, node.layer.fixed, None if owner == name else owner)
    return found
