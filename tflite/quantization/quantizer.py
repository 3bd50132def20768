"""``quantize``: convert a float Keras model to one that trains and predicts with the integer arithmetic of its file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import keras

from wavemix_tf import progress
from wavemix_tf.checks import check_option
from wavemix_tf.gradient_registry import releasing_gradients
from wavemix_tf.keras_internals import flatten_layers
from wavemix_tf.networks.recomputed_model import RecomputedModel
from wavemix_tf.warning import warn_user

from ..graph.fake_quant_placement import UNSUPPORTED
from ..graph.graph import Graph
from ..graph.inputs import check_inputs, value_ranges
from ..graph.lowering import converts_itself, is_quantized, quantized_dtype
from ..graph.passes.write_crops import crop_at_inference
from ..graph.pipeline import quantizing_passes, run
from ..layers.subclasses import with_training_of
from ..names import BITS
from ..targets.table import get_target
from .copy_check import check_before_rounding
from .freshness import mark_fresh
from .range_choice import LayerRange
from .ranges import DEFAULT_OBSERVER, MIN_IMAGES, OBSERVERS, connect_steps, find_ranges, input_grids
from .rounding import round_with_feedback
from .tfmot import engine as tfmot_engine

ENGINES = ("native", "tfmot")
ROUNDINGS = ("nearest", "gptq")


@releasing_gradients
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
    """Convert a float model to one that computes as its int8 file will, and that can be fine-tuned.

    Composite layers and nested models are expanded. Each Haar transform is merged with the 1x1 convolution after it (a
    2x2 kernel, which is then rounded). Weights are rounded per output channel, and every tensor that the file
    stores is rounded to 256 levels in a range measured on ``calibration``. BatchNormalization stays and continues to
    train; ``export`` folds it. The given model is not changed. Without fine-tuning the result is a post-training
    quantization. Before anything is rounded, the copy and the given model are run on 32 of the calibration images; if
    they differ, CopyError is raised.

    Args:
        model: Keras model of images (H, W, C), or of several inputs of any rank: functional, ``Sequential`` or a
            subclass of either. Integer inputs that are quantities (uint8 pixels) are rounded like others.
        calibration: float array (N, H, W, C), or an iterable of such arrays or of single images: 32 or more real images
            of the training distribution; a few hundred are enough, and more than 256 MiB go through a temporary
            file. Several inputs: a dict of input name -> array, or a tuple of arrays.
        engine: "native", or "tfmot": the same through tensorflow-model-optimization (which supports only Keras 2), for
            comparison. That returns a ``TfmotModel``, which trains, predicts and exports in the same way; of the
            options below it supports ``observer``, ``input_range`` and ``target``.
        dtype: "int8", or "int16x8" for activations of 16 bits and weights of 8.
        observer: Method for a range: "image_error" (least error of clipping and rounding, measured image by image, so
            that rare values survive), "minmax", "moving_average" (of the batches' minima and maxima), "percentile"
            (the central 99.98 % of sampled values) or "mse" (least squared rounding and clipping error on these). None:
            "image_error"; for "int16x8" "minmax", the only one supported: the converter measures its ranges again.
        rounding: Of the weights before any fine-tuning: "nearest", or "gptq", which makes the next weights of a channel
            compensate for the rounding of those before on the calibration images (Frantar et al., arXiv 2210.17323).
            For post-training use: training continues from the rounded weights.
        skip: Names of layers that stay float; the name of a composite layer or nested model includes all its parts.
            "unsupported": those without an int8 rule, whatever they are (``Artifact.float_layers`` lists them); the
            file then fits only targets with float kernels, "android-cpu" and mostly "mcu".
        input_range: (low, high) of an input's values: (0, 1) for pixel / 255, for which an int8 input is
            ``pixel - 128``; for an input of uint8 or int8, (0, 1) means the whole range of the dtype.
            None: measured. Several inputs: one for all, or a list with one each. If ``calibration`` fills
            half of a range or less, a warning is given.
        target: A target's name: activations that it does not support are replaced before calibration, so that
            fine-tuning compensates for it (``gelu`` by ``quick_gelu`` for "mcu"). None: nothing is replaced.

    Returns:
        An uncompiled ``keras.Model`` with the same inputs and outputs, by name and order, of the given model's class
        if that class has a custom training step; trains with ``fit``, saves to ``.keras``. Its
        ``quantization_report`` states the difference of the copy from the given model without rounding, and the cost of
        the target's replacement activations; its ``calibration_report`` states the basis of every range
        (``LayerRange``). Neither is saved.

    Raises:
        CopyError: an output of the copy differs from the given model's by more than 1e-3 of its spread, unrounded.
        ValueError: an unknown option or layer to skip; calibration images of the wrong shape, dtype, range or number.
        UnsupportedLayerError: the model is not functional, or contains a layer without an int8 rule, one that Keras
            has already quantized, or a Keras layer that cannot be copied.

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
        raise ValueError(f'dtype="int16x8" does not support float layers. Received: skip={skip!r}')
    if is_quantized(model):
        raise ValueError(f"model must be a float model, not a quantized one. Received: model={model.name!r}")
    substitutes = {} if target is None else get_target(target).substitutes
    if engine == "tfmot":
        for option, value, only in (
            ("dtype", dtype, "int8"),
            ("rounding", rounding, "nearest"),
            ("skip", list(skip), []),
        ):
            if value != only:
                raise ValueError(f"engine='tfmot' supports only {option}={only!r}. Received: {option}={value!r}")
        return tfmot_engine.quantize(model, calibration, observer=observer, input_range=input_range, target=target)
    given = crop_at_inference(model)
    graph = Graph.from_model(given)
    skipped = _check_skip(skip, graph)
    _warn_of_shared_layers(graph)
    arrays = check_inputs(calibration, graph.inputs, input_range, least=MIN_IMAGES)
    limits = value_ranges(input_range, graph.inputs)
    passes = quantizing_passes(limits, arrays, BITS[dtype], skipped, substitutes, keep_unsupported=skip == UNSUPPORTED)
    run(graph, passes)
    progress.report("compare the copy with the model")
    report = check_before_rounding(given, graph, arrays, substitutes)
    rows = find_ranges(graph, arrays, observer)
    connect_steps(graph)
    if rounding == "gptq":
        progress.report("round the weights")
        round_with_feedback(graph, arrays)
    # The layers were also called in the probing models; fresh copies belong only to this model (`layer.output` is its).
    kind = RecomputedModel if _recomputes(model) else keras.Model
    quantized = Graph.from_model(graph.to_model("draft")).to_model(f"{model.name}_quantized", kind=kind)
    quantized = with_training_of(model, quantized)
    quantized.dtype_policy = model.dtype_policy  # `compile` scales the loss of float16 by it
    quantized.quantization_report = report
    mark_fresh(quantized)
    _attach_report(quantized, rows)
    return quantized


def _recomputes(model: Any) -> bool:
    """Return whether training computes activations of the model again: fine-tuning then does so, too."""
    return any(
        isinstance(one, RecomputedModel) or getattr(one, "recompute", "") == "block" for one in flatten_layers(model)
    )


def _warn_of_shared_layers(graph: Graph) -> None:
    """Warn about layers with weights that could not be copied, so that the copy shares them with the given model."""
    for layer in graph.kept.values():
        if layer.trainable_variables:
            warn_user(
                f"Layer {layer.name!r} of type {type(layer).__name__} cannot be copied, so the quantized model shares "
                "it, and training that model also trains the given model's layer: give its class a get_config() that "
                "its constructor accepts.",
            )


def check_options(model: Any, *, observer: str | None = None, skip: Sequence[str] | str = ()) -> None:
    """Raise the errors of ``quantize`` for these options, before the model is trained and calibrated.

    Args:
        model: Functional Keras model, float.
        observer: As for ``quantize`` with ``dtype="int8"``.
        skip: As for ``quantize``.
    """
    _check_observer(observer, "int8")
    if skip:
        _check_skip(skip, Graph.from_model(model))


@releasing_gradients
def calibrate(model: Any, calibration: Any, observer: str | None = None) -> tuple[LayerRange, ...]:
    """Measure the activation ranges of a quantized model again, in place, for example after training widened them.

    Args:
        model: Made by ``quantize``.
        calibration: As for ``quantize``.
        observer: As for ``quantize``.

    Returns:
        One row per tensor that the file stores: its range, the values of the images, the clipped share, and the image
        that alone determines the range, if there is one. Also ``model.calibration_report``.

    Raises:
        ValueError: the model was not made by the native engine; otherwise as ``quantize``.

    Example:
    >>> qat.fit(...)  # with a large learning rate
    >>> wm.tflite.calibrate(qat, images)
    """
    dtype = quantized_dtype(model)
    if dtype is None or converts_itself(model):
        raise ValueError(f"model must be made by the native engine of quantize. Received: model={model.name!r}")
    observer = _check_observer(observer, dtype)
    graph = Graph.from_model(model)
    arrays = check_inputs(calibration, graph.inputs, input_ranges(graph), least=MIN_IMAGES)
    rows = find_ranges(graph, arrays, observer)
    found = {node.name: node.layer for node in graph.nodes() if node.kind == "FakeQuant" and not node.layer.fixed}
    steps = {node.name: source.layer.get_step() for node, source in input_grids(graph).items()}
    constants = False
    for layer in model.layers:
        if layer.name in found:
            layer.set_weights(found[layer.name].get_weights())
        elif getattr(layer, "input_step", 0.0):  # saved by version 0.1
            layer.input_step, constants = steps.get(layer.name, 0.0), True
    if constants:  # functions that Keras compiled contain the old ones
        model.train_function = model.test_function = model.predict_function = None
    return _attach_report(model, rows)


def _attach_report(model: Any, rows: Sequence[LayerRange]) -> tuple[LayerRange, ...]:
    """Attach the rows to the model, and warn if a single calibration image determines ranges."""
    report = tuple(rows)
    object.__setattr__(model, "calibration_report", report)  # Keras would track it as part of the model
    layers: dict[int, list[str]] = {}
    for row in rows:
        if row.sole_image is not None:
            layers.setdefault(row.sole_image, []).append(row.name)
    for image, names in sorted(layers.items()):
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        warn_user(
            f"Calibration image {image} by itself makes the ranges of {listed} more than twice as wide as all other "
            "images need. Remove it if it does not belong to the data; if it is rare but valid, add more of its kind.",
        )
    return report


def _check_observer(observer: str | None, dtype: str) -> str:
    observer = observer or (DEFAULT_OBSERVER if dtype == "int8" else "minmax")
    check_option("observer", observer, OBSERVERS)
    if dtype == "int16x8" and observer != "minmax":
        raise ValueError(f'dtype="int16x8" supports only observer="minmax". Received: observer={observer!r}')
    return observer


def input_ranges(graph: Graph) -> list[tuple[float, float] | None]:
    """Range that was given for each input of a quantized model; None where none was given."""
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
            hint = f"; similar: {', '.join(near)}" if near else ""
            raise ValueError(f"skip must name layers of the model{hint}. Received: skip={name!r}")
    return frozenset(skip)
