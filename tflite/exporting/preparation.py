"""First step of ``export``: check the arguments and prepare the model that the file will compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from wavemix_tf.checks import check_option
from wavemix_tf.preprocessing import NONE, Preprocessing

from ..errors import ExportError
from ..graph.activation_names import activation_name
from ..graph.graph import Graph
from ..graph.inputs import value_ranges
from ..graph.lowering import converts_itself, float_layers, has_float_ends, quantized_dtype
from ..graph.passes.write_crops import crop_at_inference
from ..graph.passes.write_transposed import UPSAMPLE_FORMS
from ..names import BITS, DTYPES, IO_DTYPES, VELA
from ..quantization.copy_check import check_copy, check_in_float32, in_float32
from ..quantization.freshness import is_fresh
from ..quantization.quantizer import input_ranges, quantize
from ..runtimes.ethos import require_vela
from ..targets.table import Target
from ..verification.judgement import Bounds, check_count
from .fidelity import choose_images, required_images
from .limits import Limits


class ModelFacts:
    """Properties of a model that ``export`` needs. Its graph is copied once, on first use.

    Args:
        model: Functional Keras model, float or made by ``quantize`` with any engine.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.converts_itself = converts_itself(model)
        self.quantized_dtype = quantized_dtype(model)

    @property
    def is_quantized(self) -> bool:
        return self.quantized_dtype is not None

    @cached_property
    def graph(self) -> Graph:
        """In float32; passes must work on a ``copy`` of it."""
        return Graph.from_model(self.model, dtype="float32")

    @cached_property
    def has_float_ends(self) -> bool:
        """Whether a quantized model reads an input, or computes an output, in float."""
        return self.is_quantized and not self.converts_itself and has_float_ends(self.graph)

    @cached_property
    def float_layers(self) -> tuple[str, ...]:
        """Names of the layers of a quantized model that stay float."""
        return () if self.converts_itself or not self.is_quantized else tuple(float_layers(self.graph))

    @cached_property
    def input_ranges(self) -> list[tuple[float, float] | None]:
        """Ranges that were given for the inputs of a quantized model; None where they were measured."""
        return self.model.input_ranges if self.converts_itself else input_ranges(self.graph)

    @cached_property
    def has_transposed(self) -> bool:
        """Whether a convolution is transposed."""
        if self.converts_itself:
            return any(type(layer).__name__ == "Conv2DTranspose" for layer in self.model.layers)
        return any(node.kind.endswith("Conv2DTranspose") for node in self.graph.nodes())

    def may_have(self, activations: dict[str, str]) -> bool:
        """Whether some activation may be one of these; a float model shows it only in canonical form."""
        if self.converts_itself or not activations:
            return False
        return not self.is_quantized or any(activation_name(node) in activations for node in self.graph.nodes())


@dataclass(frozen=True)
class Prepared:
    """Input of the steps that write and check a file.

    Args:
        model: Given to ``export``.
        target: Key of ``TARGETS``.
        row: Row of the target.
        dtype: Arithmetic of the file.
        io_dtype: dtype of its inputs and outputs.
        limits: Memory limits.
        bounds: Those against the float model.
        given: ``model`` in float32, with crops as at inference: the file is compared with it.
        facts: Of the model that is written: ``model``, or the one that was quantized for this export.
        quantized_here: Whether it was quantized for this export.
        fresh: Whether ``model`` was not trained since it was quantized; True for a float model.
        input_ranges: Range of the values of each input; None where it was measured.
        calibration: Images, one array per input; None: none were given.
        images: To verify on, one array per input.
        source: Where these come from.
        class_names: Of the first output; empty if it is not classes.
        preprocessing: How pictures were resized to the input's size in training; None: unknown, or no pictures.
        forms: Forms of transposed convolutions to try.
    """

    model: Any
    target: str
    row: Target
    dtype: str
    io_dtype: str
    limits: Limits
    bounds: Bounds
    given: Any
    facts: ModelFacts
    quantized_here: bool
    fresh: bool
    input_ranges: list[tuple[float, float] | None]
    calibration: list[np.ndarray] | None
    images: list[np.ndarray]
    source: str
    class_names: tuple[str, ...]
    preprocessing: Preprocessing | None
    forms: Sequence[str]

    @property
    def rounds(self) -> bool:
        """Whether the file computes with less precision than float32."""
        return self.dtype != "float32"

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Layers that stay float in an integer file."""
        return self.facts.float_layers if self.dtype in BITS else ()


def prepare(
    model: Any,
    target: str,
    row: Target,
    dtype: str | None,
    io_dtype: str | None,
    limits: Limits,
    bounds: Bounds,
    *,
    calibration: Any,
    images: Any,
    class_names: Any,
    input_range: Any,
    crop_to_aspect_ratio: bool | None,
    upsample_form: str | None,
) -> Prepared:
    """Check the arguments, choose images, convert the model to float32 and quantize it if required.

    Args:
        model: As for ``export``, as are all arguments without another description, and the errors.
        target: As for ``export``.
        row: Row of the target.
        dtype: As for ``export``.
        io_dtype: As for ``export``.
        limits: From ``check_arguments``.
        bounds: Those against the float model.
        calibration: As for ``export``.
        images: As for ``export``.
        class_names: As for ``export``.
        input_range: As for ``export``.
        crop_to_aspect_ratio: As for ``export``.
        upsample_form: As for ``export``.
    """
    if upsample_form is not None:
        check_option("upsample_form", upsample_form, UPSAMPLE_FORMS)
    facts = ModelFacts(model)
    dtype, io_dtype = _check_dtypes(facts, target, row, dtype, io_dtype)
    _check_tools(row)
    if facts.converts_itself and upsample_form is not None:
        raise ValueError(
            f"A {type(model).__name__} is converted as it was trained, with unchanged transposed convolutions. "
            f"Received: upsample_form={upsample_form!r}"
        )
    reference = model if facts.is_quantized else crop_at_inference(model)
    given = model if facts.converts_itself else in_float32(reference)  # the file is made from float32 weights
    ranges = facts.input_ranges if facts.is_quantized else value_ranges(input_range, given.inputs)
    calibration, held_out, source = choose_images(given, ranges, calibration, images)
    if dtype != "float32":
        check_count(len(held_out[0]), source, bounds, required_images(given))
    if given is not reference:
        (check_in_float32 if facts.is_quantized else check_copy)(reference, given, held_out)
    _check_calibration(facts, dtype, calibration)
    names = check_class_names(given, class_names)
    fresh = not facts.is_quantized or is_fresh(model)
    quantizes = dtype in BITS and not facts.is_quantized
    if quantizes:
        facts = ModelFacts(quantize(given, calibration, dtype=dtype, input_range=ranges, target=target))
    preprocessing = None
    if _enlarges(given):
        preprocessing = Preprocessing(NONE)
    elif crop_to_aspect_ratio is not None:
        preprocessing = Preprocessing(crop_to_aspect_ratio=crop_to_aspect_ratio)
    return Prepared(
        model=model,
        target=target,
        row=row,
        dtype=dtype,
        io_dtype=io_dtype,
        limits=limits,
        bounds=bounds,
        given=given,
        facts=facts,
        quantized_here=quantizes,
        fresh=fresh,
        input_ranges=ranges,
        calibration=calibration,
        images=held_out,
        source=source,
        class_names=names,
        preprocessing=preprocessing,
        forms=_choose_forms(facts, row, dtype, upsample_form, limits),
    )


def _check_dtypes(
    facts: ModelFacts, target: str, row: Target, dtype: str | None, io_dtype: str | None
) -> tuple[str, str]:
    own = facts.quantized_dtype
    if dtype is None:
        dtype = own or row.dtypes[0]
    check_option("dtype", dtype, DTYPES)
    if dtype not in row.dtypes:
        raise ValueError(f"Target {target!r} supports dtype {' or '.join(row.dtypes)}. Received: dtype={dtype!r}")
    if own and dtype != own:
        raise ValueError(
            f"A model quantized as {own} exports as {own}; export the float model it came from instead. "
            f"Received: dtype={dtype!r}"
        )
    if io_dtype is None:
        io_dtype = "float32" if facts.has_float_ends else row.io_dtypes[dtype]
    check_option("io_dtype", io_dtype, IO_DTYPES)
    allowed = row.io_dtypes_of(dtype)
    if io_dtype not in allowed:
        of_target = f" for target {target!r}" if row.end_dtypes else ""
        raise ValueError(
            f"A {dtype} file{of_target} has {' or '.join(allowed)} inputs and outputs. Received: io_dtype={io_dtype!r}"
        )
    if io_dtype != "float32" and facts.has_float_ends:
        raise ValueError(
            "A model whose first or last layer stays float has float32 inputs and outputs. "
            f"Received: io_dtype={io_dtype!r}"
        )
    return dtype, io_dtype


def _check_tools(row: Target) -> None:
    """Raise an ExportError unless the tools that write a file for the target are installed."""
    if row.compiler == VELA:
        require_vela()
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "export runs on the TensorFlow backend: save the model and export it in a process with "
            f"KERAS_BACKEND=tensorflow. Received: KERAS_BACKEND={keras.backend.backend()}"
        )


def _check_calibration(facts: ModelFacts, dtype: str, calibration: Any) -> None:
    if calibration is not None:
        return
    if dtype == "int16x8":
        raise ValueError(
            "An int16x8 file needs calibration images to measure its ranges, also for a quantized model: "
            "pass calibration=images. Received: calibration=None"
        )
    if dtype in BITS and not facts.is_quantized:
        raise ValueError(
            f"The export of a float model as {dtype} needs calibration images (or quantize the model first). "
            "Received: calibration=None"
        )


def _choose_forms(facts: ModelFacts, row: Target, dtype: str, chosen: str | None, limits: Limits) -> Sequence[str]:
    """Forms of transposed convolutions to try: the caller's, or those that suit the target."""
    if chosen is not None:
        return (chosen,)
    if facts.converts_itself or dtype == "int16x8":  # depth to space has no 16-bit kernel
        return ("transposed_conv",)
    forms = row.upsample_forms if facts.has_transposed else row.upsample_forms[:1]
    if limits.max_arena_bytes is not None and len(forms) > 1:
        return (*forms, "subpixel_3x3")  # needs a smaller arena and more flash
    return forms


def _enlarges(model: Any) -> bool:
    """Whether a model returns its input image, enlarged by a whole number."""
    given, found = tuple(model.inputs[0].shape[1:]), tuple(model.outputs[0].shape[1:])
    if len(given) != 3 or len(found) != 3 or given[2] != found[2] or None in (*given, *found):
        return False
    return found[0] > given[0] and found[0] % given[0] == 0 == found[1] % given[1]


def _class_count(output: Any) -> int:
    """Length of an output's last axis; 0 if it has only the batch axis, or contains indices of classes."""
    return int(output.shape[-1] or 0) if len(output.shape) > 1 and "float" in output.dtype else 0


def check_class_names(model: Any, names: Any) -> tuple[str, ...]:
    """Names of the classes of a model's first output, one a class; None: their numbers, if it has classes."""
    if names is None and _enlarges(model):
        return ()
    count = _class_count(model.outputs[0])
    chosen = tuple(map(str, range(count))) if names is None else tuple(map(str, names))
    if chosen and len(chosen) != count:
        raise ValueError(f"class_names must name each of the {count} outputs. Received: {len(chosen)} names")
    broken = [name for name in chosen if len(name.splitlines()) != 1]
    if broken:
        raise ValueError(f"A class name must be one line of text. Received: {broken[0]!r}")
    return chosen
