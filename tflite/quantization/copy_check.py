"""Comparison of a copy of a model with the model: before rounding, both must compute the same.

``quantize`` and ``export`` work on a copy whose layers were cloned, rewritten and folded. If a clone lacks a state, or
a rewrite is not exact, the copy is another network, and no later check would detect it. Here the copy and the model run
on the same images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from wavemix_tf.keras_internals import count_calls, flatten_layers
from wavemix_tf.warning import warn_user

from ..errors import CopyError
from ..graph.graph import Graph
from ..graph.inputs import output_names, predict
from ..graph.passes.substitute_activations import substitute_activations
from ..graph.pipeline import canonicalize
from ..verification.judgement import WARN_SNR_DB, snr_db
from .float_network import float_network, remove_rounding

MAX_DIFFERENCE = 1e-3  # share of the output's spread
ROUNDINGS = 32  # roundings of the model's coarsest dtype, relative to its largest output; float32: 4e-6
MAX_TIES = 0.01
COPY_IMAGES = 32  # calibration images on which a copy is compared with the given model
LOCATING_IMAGES = 8


@dataclass(frozen=True)
class CopyReport:
    """Comparison of a copy of a model with the model, for each output.

    Args:
        names: Of the outputs; empty if no image has finite ones.
        differences: Largest difference of each output, as a share of its standard deviation about its mean over the
            images (0 where both are equal).
        allowed: Largest share allowed of each: ``MAX_DIFFERENCE``, or the rounding of the model's own dtype.
    """

    names: tuple[str, ...]
    differences: tuple[float, ...]
    allowed: tuple[float, ...]

    @property
    def fault(self) -> str | None:
        """Description of the output that exceeds its tolerance most; None if none does."""
        rows = list(zip(self.names, self.differences, self.allowed, strict=True))
        wrong = [row for row in rows if not row[1] <= row[2]]
        if not wrong:
            return None
        name, difference, allowed = max(wrong, key=lambda row: row[1] / row[2])
        return f"output {name!r} differs by {difference:.2g} of its spread (the tolerance is {allowed:.2g})"


def difference(
    names: Sequence[str], expected: Any, found: Any, dtype: str = "float32", integers: Sequence[bool] = ()
) -> CopyReport:
    """Compare given outputs.

    Args:
        names: Of the outputs.
        expected: The model's, (N, ...) or a list with one per output.
        found: The copy's, in the same form.
        dtype: The coarsest that the model computes in.
        integers: For each output whether it contains indices. Its difference is then the share of unequal ones, of
            which ``MAX_TIES`` are allowed for ties.
    """
    shares, bounds = [], []
    precision = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 2.0**-23)
    kinds = integers or [False] * len(names)
    for wanted, given, integer in zip(as_list(expected), as_list(found), kinds, strict=True):
        if integer:
            shares.append(float((given != wanted).mean()))
            bounds.append(MAX_TIES)
            continue
        spread = float(np.std(wanted - wanted.mean(0)))
        floor = ROUNDINGS * precision * float(np.abs(wanted).max())
        error = float(np.abs(given - wanted).max()) if given.shape == wanted.shape else np.inf
        reach = max(spread, floor, 1e-30)
        shares.append(error / reach)
        bounds.append(max(MAX_DIFFERENCE, floor / reach))
    return CopyReport(tuple(names), tuple(shares), tuple(bounds))


@dataclass(frozen=True)
class QuantizationReport:
    """Checks of ``quantize`` before rounding; ``quantization_report`` of the model that it returns.

    Args:
        copy: The copy without rounding against the given model, on the calibration images; if activations were
            replaced, against the given model with the replacements.
        substituted: Names of the layers whose activation was replaced for the target.
        substitution_snr_db: For each output the cost of the replacements only: power of the variation of the given
            model's output over the images, divided by that of the difference, in dB; None where it hardly depends on
            them. Empty if nothing was replaced.
    """

    copy: CopyReport
    substituted: tuple[str, ...] = ()
    substitution_snr_db: tuple[float | None, ...] = ()


def check_before_rounding(
    model: Any, graph: Graph, arrays: list[np.ndarray], substitutes: Mapping[str, str]
) -> QuantizationReport:
    """Compare the graph that ``quantize`` rounds, without its rounding, with the given model.

    Args:
        model: The given model.
        graph: Graph of it, with its quantizers; not changed.
        arrays: Calibration images, one array per input; up to ``COPY_IMAGES`` of them, spread over all, are used.
        substitutes: Activations that were replaced in ``graph``.

    Raises:
        CopyError: an output differs by more than ``MAX_DIFFERENCE`` of its spread.
    """
    chosen = np.unique(np.linspace(0, len(arrays[0]) - 1, COPY_IMAGES).astype(int))
    arrays = [array[chosen] for array in arrays]
    plain = graph.copy()
    remove_rounding(plain)
    unrounded = plain.to_model(f"{model.name}_unrounded")
    if _coarsest_dtype(model) != "float32" and _keeps_float32(model):
        unrounded = in_float32(unrounded)
        exact = in_float32(model)
        check_copy(model, exact, arrays)
        model = exact  # otherwise the rounding of the coarser dtype would hide a wrong copy
    expected = predict(model, arrays)
    names: list[str] = []
    if substitutes:
        written = Graph.from_model(model)
        canonicalize(written)
        before = written.to_model(f"{model.name}_canonical")
        names = substitute_activations(written, dict(substitutes))
    if not names:
        return QuantizationReport(check_copy(model, unrounded, arrays, expected))
    check_copy(model, before, arrays, expected)
    replaced = predict(written.to_model(f"{model.name}_substituted"), arrays)
    report = check_copy(model, unrounded, arrays, replaced)
    costs = tuple(snr_db(*pair) for pair in zip(as_list(expected), as_list(replaced), strict=True))
    least = min((cost for cost in costs if cost is not None), default=np.inf)
    if least < WARN_SNR_DB:
        warn_user(
            f"Replacing {len(names)} activations reduces the SNR against the float model to {least:.1f} dB (an error "
            f"of {10 ** (-least / 20):.0%} of an output's spread): fine-tune the quantized model, or quantize without "
            "target.",
        )
    return QuantizationReport(report, tuple(names), costs)


def check_copy(model: Any, copy: Any, arrays: list[np.ndarray], expected: Any = None) -> CopyReport:
    """Run both on the same images and compare their outputs.

    Args:
        model: The given Keras model.
        copy: Its copy, with the same inputs and outputs.
        arrays: For each input an array (N, ...). Images on which the model's outputs are not finite are skipped with a
            warning.
        expected: What the copy must compute on them; None: what the model computes.

    Raises:
        CopyError: an output differs by more than rounding; the message names the first layer that does.
    """
    wanted = as_list(predict(model, arrays) if expected is None else expected)
    finite = np.all([np.isfinite(part).reshape(len(part), -1).all(1) for part in wanted], axis=0)
    if not finite.all():
        warn_user(
            f"Model {model.name!r} has outputs that are not finite on {(~finite).sum()} of {len(finite)} images: its "
            "copy cannot be compared with it on these.",
        )
    if not finite.any():
        return CopyReport((), (), ())
    integers = ["float" not in str(tensor.dtype) for tensor in model.outputs]
    found = [part[finite] for part in as_list(predict(copy, arrays))]
    names = output_names(model)
    report = difference(names, [part[finite] for part in wanted], found, _coarsest_dtype(model), integers)
    if report.fault is not None:
        raise CopyError(
            f"The copy of model {model.name!r} differs from the model before anything is rounded: {report.fault}. "
            f"{_find_first_difference(model, [part[finite][:LOCATING_IMAGES] for part in arrays])}"
        )
    return report


def check_in_float32(model: Any, copy: Any, arrays: list[np.ndarray]) -> None:
    """``check_copy`` of a quantized model and its float32 copy, both without rounding.

    With rounding, values at half a step could round differently in another dtype.
    """
    plain = Graph.from_model(model)
    remove_rounding(plain)
    check_copy(plain.to_model(f"{model.name}_unrounded"), float_network(copy), arrays)


def in_float32(model: Any) -> Any:
    """The model itself, or a float32 copy if it computes in another dtype."""
    Graph.check(model)
    if all(layer.compute_dtype == "float32" for layer in flatten_layers(model)):
        return model
    return Graph.from_model(model, dtype="float32").to_model(model.name)


def as_list(outputs: Any) -> list[np.ndarray]:
    """Result of ``predict`` as a list with one array per output."""
    return outputs if isinstance(outputs, list) else [outputs]


def _coarsest_dtype(model: Any) -> str:
    found = {layer.compute_dtype for layer in (flatten_layers(model) if isinstance(model, keras.Model) else [])}
    return next((dtype for dtype in ("bfloat16", "float16") if dtype in found), "float32")


def _keeps_float32(model: Any) -> bool:
    """Whether the weights are float32, whatever the compute dtype; coarser weights would round in a fold, too."""
    return all(layer.variable_dtype == "float32" for layer in flatten_layers(model))


def _find_first_difference(model: Any, arrays: list[np.ndarray]) -> str:
    """A sentence that names the first layer whose copy differs from the model."""
    again = difference(output_names(model), predict(model, arrays), predict(model, arrays), _coarsest_dtype(model))
    if again.fault is not None:
        return "The model itself gives different outputs each time: a layer draws random numbers or keeps a state."
    graph = Graph.from_model(model)
    copied = {node.origin[0]: node for node in graph.nodes() if node.layer is not None and node.origin}
    layers = [layer for layer in model.layers if layer.name in copied and count_calls(layer) == 1]
    tensors, values = [], []
    for layer in layers:
        produced = keras.tree.flatten(layer.output)
        if len(produced) == len(copied[layer.name].outputs) == 1 and "float" in str(produced[0].dtype):
            tensors.append(produced[0])
            values.append(copied[layer.name].output)
    names = [value.node.origin[0] for value in values]
    wanted = predict(keras.Model(model.inputs, tensors), arrays)
    report = difference(
        names, wanted, predict(graph.to_model("located", outputs=values), arrays), _coarsest_dtype(model)
    )
    for name, share, allowed in zip(report.names, report.differences, report.allowed, strict=True):
        if not share <= allowed:
            kind = type(model.get_layer(name)).__name__
            return (
                f"Layer {name!r} of type {kind} is the first whose copy differs: get_config, build_config and its "
                "weights must define what it computes. Remove such a layer, or write it with public layers."
            )
    return "Each layer's copy is correct, so a rewrite of this library is wrong: please report the model."
