"""``export``: Keras model -> a ``.tflite`` file that was audited and run before anyone gets it."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from wavemix_tf.checks import check_option
from wavemix_tf.gradient_registry import releasing_gradients
from wavemix_tf.preprocessing import NONE, Preprocessing

from ..errors import ExportError
from ..file.flatbuffer import order_ends, read_integers
from ..file.metadata import add_metadata
from ..graph.graph import Graph, structures
from ..graph.inputs import output_names, value_ranges
from ..graph.lowering import (
    converts_itself,
    deploy,
    float_layers,
    has_float_ends,
    is_quantized,
    quantized_dtype,
)
from ..graph.passes.decompose_swish import decompose_swish
from ..graph.passes.substitute_activations import substitute_activations
from ..graph.passes.write_crops import crop_at_inference
from ..graph.passes.write_transposed import UPSAMPLE_FORMS
from ..graph.pipeline import canonicalize
from ..quantization.copy_check import check_copy, check_in_float32, in_float32
from ..quantization.freshness import is_fresh
from ..quantization.quantizer import BITS, input_ranges, quantize
from ..quantization.ranges import connect_steps
from ..runtimes.ethos import check_all_on_npu, compile_file, require_vela
from ..targets.table import DTYPES, IO_DTYPES, Target, get_target
from ..verification.half_range import check_half_range
from ..verification.judgement import Bounds, check_count
from ..verification.verifier import ERROR_BOUND_STEPS, MARGIN_STEPS, runtimes_of
from .artifact import Artifact
from .fidelity import check_file, choose_images, required_images, stand_ins
from .forms import choose_forms, write_smallest
from .limits import MemoryUse, check_arguments, check_limits


@releasing_gradients
def export(
    model: Any,
    target: str = "mcu",
    dtype: str | None = None,
    io_dtype: str | None = None,
    calibration: Any = None,
    *,
    images: Any = None,
    class_names: Any = None,
    input_range: Any = (0.0, 1.0),
    crop_to_aspect_ratio: bool | None = None,
    error_bound_steps: float | None = None,
    min_snr_db: float | None = None,
    min_agreement: float | None = None,
    allow_unjudged: bool = False,
    upsample_form: str | None = None,
    max_arena_bytes: int | None = None,
    max_flash_bytes: int | None = None,
    max_firmware_bytes: int | None = None,
    accelerator: str | None = None,
) -> Artifact:
    """Write a Keras model as a file for a target, check it and run it.

    The graph is folded and written as the target likes it, converted, audited op by op against ``TARGETS[target]``,
    compiled for an Ethos-U if that is the target, and run in the runtimes that exist here. Only a file that passed is
    returned.

    It is judged twice. Against the model that it computes (the given one, the quantized one, or that which a target's
    stand-ins make of it) it keeps ``error_bound_steps``. And against the *float* model every output of a file that
    rounds keeps ``min_snr_db`` and ``min_agreement``, whatever the output is. The float model is the given one; of a
    quantized model it is ``float_network(model)``, the network of the same weights without any rounding: where nothing
    was fine-tuned that is the model that was quantized. A fine-tuned one (also one that was saved by a version
    that did not note it) was trained with its rounding, and nobody trained it without: what would be refused is warned
    of.

    Args:
        model: Functional Keras model: float, or made by ``quantize`` (and perhaps fine-tuned since), by any engine.
        target: Key of ``TARGETS``.
        dtype: "float32", "float16", "int8" or "int16x8" (activations of 16 bits, weights of 8); None: its own for a
            quantized model, else what the target prefers.
        io_dtype: "float32", "int8", "uint8" or "int16" for inputs and outputs; None: what the target prefers (float32
            where ``quantize`` left an end in float). Of an input in [0, 1] an int8 one is ``pixel - 128``, a uint8 one
            the pixel itself, a float32 one pixel / 255.
        calibration: Images, as for ``quantize``; needed to export a float model as int8 (post-training quantisation),
            and for every int16x8 file, whose ranges the converter measures. Without ``images`` the last quarter of
            them (at least 32) is held out for verification; of fewer than 64 all of them serve both.
        images: Held-out images to verify on, as for ``quantize``: 32 or more for a file that rounds. None: from
            ``calibration``, else generated ones.
        class_names: Names of the classes of the (first) output, for the labels file; None: their numbers. Empty where
            the output has no classes, as an image enlarged by a whole number has none, and a number or a heat map.
        input_range: As for ``quantize``; a quantized model knows its own.
        crop_to_aspect_ratio: Whether training cropped pictures to the input's proportions before it resized them
            (``Recipe.crop_to_aspect_ratio``): told in the file, its card and its kit. None: said to be unknown.
        error_bound_steps: Largest mean error allowed, in output steps; any one output may have ``OUTPUT_SHARE`` times
            as much, and the first class is held to that of the model only where its lead is larger. For deep networks
            whose roundings amplify one another. None: ``ERROR_BOUND_STEPS[dtype]``, runtime by runtime.
        min_snr_db: Least signal-to-noise ratio of an output of a file that rounds against the float model's: power of
            what the output tells of the images over that of the difference, in dB. None: 10 are required, and below 20
            a warning is given. A number, also a negative one, is the bound, without warnings.
        min_agreement: Least share of images, pixels or peaks in which such a file and the float model agree: in the
            first class, in the sign of one logit, in the place of a map's peaks. Counted are those whose lead exceeds
            rounding. None: 0.9, with a warning below 0.98.
        allow_unjudged: Whether a file that rounds may pass of which nothing can be told: verified on fewer than 32
            images (or than the time or 512 MiB of outputs allow), with a lead of the first class on fewer than half of
            them, or of a model whose outputs hardly depend on the image, as an untrained one's.
        upsample_form: How transposed convolutions are written ("transposed_conv", "subpixel_crop", "subpixel_3x3",
            "transposed_crop"); None: what suits the target; where it lists several, that with the smallest arena among
            those that fit and that its kernels compute rightly.
        max_arena_bytes: RAM for tensors, in bytes: the arena under TensorFlow Lite Micro for "mcu", SRAM by Vela's
            estimate for an Ethos-U. None: what the target sets, mostly no limit.
        max_flash_bytes: Flash for the file alone, in bytes, without the program that runs it; for an Ethos-U, for the
            compiled file. None: likewise.
        max_firmware_bytes: For "mcu": flash for the file and the program that runs it with CMSIS-NN's kernels, which
            adds the most that was measured (``firmware.RUNTIME_BYTES``).
        accelerator: Which Ethos-U to compile for, as "ethos-u55-128"; None: the first of the target's list.

    Returns:
        An ``Artifact``.

    Raises:
        ValueError: unknown target, dtype or io_dtype, or one the target does not take; bad images.
        UnsupportedLayerError: the model is not functional, or a layer cannot be exported.
        UnsupportedOpError: the target does not run an op of the converted file.
        MemoryLimitError: it needs more than ``max_arena_bytes``, ``max_flash_bytes`` or ``max_firmware_bytes``.
        CopyError: what is written or rounded computes something else than the model before it rounds.
        FidelityError: the file's outputs are too far from the model's; too few images tell; for a GPU, an activation
            is beyond float16.
        RuntimeFailureError: a runtime refused the file.

    Example:
    >>> wm.tflite.export(qat, target="mcu", images=held_out).save("model.tflite")
    """
    row = get_target(target)
    if upsample_form is not None:
        check_option("upsample_form", upsample_form, UPSAMPLE_FORMS)
    dtype, io_dtype = _check_dtypes(model, target, row, dtype, io_dtype)
    limits = check_arguments(target, row, max_arena_bytes, max_flash_bytes, accelerator, max_firmware_bytes)
    bounds = Bounds(min_snr_db, min_agreement, allow_unjudged)
    if row.npu is not None:
        require_vela()
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "export runs on the TensorFlow backend: save the model and export it in a process with "
            f"KERAS_BACKEND=tensorflow. Received: KERAS_BACKEND={keras.backend.backend()}"
        )
    foreign = converts_itself(model)
    if foreign and upsample_form is not None:
        raise ValueError(
            f"A {type(model).__name__} is converted as it was trained, with transposed convolutions as they are. "
            f"Received: upsample_form={upsample_form!r}"
        )
    reference = model if is_quantized(model) else crop_at_inference(model)
    given = model if foreign else in_float32(reference)  # the file is made from float32 weights
    fresh = not is_quantized(model) or is_fresh(model)
    ranges = input_ranges(given) if is_quantized(given) else value_ranges(input_range, given.inputs)
    calibration, held_out, source = choose_images(given, ranges, calibration, images)
    rounds = dtype != "float32"
    if rounds:
        check_count(len(held_out[0]), source, bounds, required_images(given))
    if given is not reference:
        (check_in_float32 if is_quantized(model) else check_copy)(reference, given, held_out)
    computed, ptq = model, False
    if calibration is None and dtype == "int16x8":
        raise ValueError(
            "An int16x8 file needs calibration images, by which its ranges are measured, also of a quantized model: "
            "give calibration=images. Received: calibration=None"
        )
    if dtype in BITS and not is_quantized(model):
        if calibration is None:
            raise ValueError(
                f"A float model exports as {dtype} with calibration images (or quantize it first). "
                "Received: calibration=None"
            )
        computed, ptq = quantize(given, calibration, dtype=dtype, input_range=ranges, target=target), True

    no_classes = class_names is None and _enlarges(given)
    names = _class_names(() if no_classes else class_names, _class_count(given.outputs[0]))
    kept_float = tuple(float_layers(computed)) if dtype in BITS and not foreign else ()
    forms, transposed = choose_forms(computed, row, dtype, upsample_form)
    if limits.max_arena_bytes is not None and len(forms) > 1:
        forms = (*forms, "subpixel_3x3")  # where memory is short, flash is paid for it

    deployed: dict[str, Any] = {}
    preprocessing = Preprocessing(NONE) if _enlarges(given) else None
    if preprocessing is None and crop_to_aspect_ratio is not None:
        preprocessing = Preprocessing(crop_to_aspect_ratio=crop_to_aspect_ratio)

    def write(form: str) -> bytes:
        return add_metadata(converted(form), ranges, preprocessing)

    def converted(form: str) -> bytes:
        if foreign:
            return model.convert(io_dtype)
        deployed[form] = deploy(computed, row.substitutes, form, row.max_stride, row.dense_as_convolution)
        return convert(deployed[form], dtype, io_dtype, calibration)

    written = write_smallest(write, forms, row, target, dtype, held_out, bool(kept_float), limits.file_bytes)
    content, info, form, arenas = written
    arena_bytes = max(arenas.values(), default=None)
    npu = compile_file(content, row.npu, accelerator) if row.npu is not None else None
    if npu is not None:
        check_all_on_npu(npu, target)
    check_limits(limits, MemoryUse(arena_bytes, len(content), npu), info, target)
    substituted, stand_in = ([], None) if foreign else _substituted(given, row)
    if dtype not in BITS:
        check_copy(stand_in or given, deployed[form], held_out)
        if stand_in is not None:  # which was made of a copy, too
            exact = deploy(given, {}, form, row.max_stride, row.dense_as_convolution)
            check_copy(given, exact, held_out)
        if dtype == "float16":
            check_half_range(deployed[form], held_out, target)
    own_bounds = model.error_bound_steps if foreign else ERROR_BOUND_STEPS[dtype]
    steps = {
        name: own_bounds[name] if error_bound_steps is None else error_bound_steps for name in runtimes_of(row, info)
    }
    # Who allows an error of so many steps cannot ask for the same class where the lead is smaller.
    margin = max(MARGIN_STEPS, error_bound_steps or 0.0)
    computes, kept = computed if ptq else stand_in, bounds if rounds else None
    report = check_file((content, info), given, computes, held_out, steps, margin, kept, bool(names), fresh)
    return Artifact(
        content=content,
        target=target,
        dtype=dtype,
        io_dtype=io_dtype,
        ops=tuple(op.name for op in info.ops),
        class_names=names,
        model_name=model.name,
        upsample_form=form if transposed else None,
        substituted=tuple(substituted or stand_ins(given)),
        arena_bytes=arena_bytes,
        kernel_arena_bytes=arenas,
        npu=npu,
        verification={"images": source, **report},
        input_ranges=tuple(ranges),
        float_layers=kept_float,
        model_sha256=model_sha256(model),
        preprocessing=preprocessing,
    )


def model_sha256(model: Any) -> str:
    """Digest of a model's kinds of layers, activations and weights, by which a file is known to be made from it."""
    other = converts_itself(model)
    # Not of its configuration, which is another one once the model was saved and loaded.
    layers = [] if other else model.layers
    kinds = sorted(
        f"{type(one).__name__} {getattr(getattr(one, 'activation', None), '__name__', '')}" for one in layers
    )
    digest = hashlib.sha256("\n".join(kinds).encode())
    for part in (model.tf_keras_model if other else model).get_weights():
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def _check_dtypes(model: Any, target: str, row: Target, dtype: str | None, io_dtype: str | None) -> tuple[str, str]:
    own = quantized_dtype(model)
    if dtype is None:
        dtype = own or row.dtypes[0]
    check_option("dtype", dtype, DTYPES)
    if dtype not in row.dtypes:
        raise ValueError(f"Target {target!r} takes dtype {' or '.join(row.dtypes)}. Received: dtype={dtype!r}")
    if own and dtype != own:
        raise ValueError(
            f"A model quantized as {own} exports as {own}; export the float model it came from instead. "
            f"Received: dtype={dtype!r}"
        )
    float_ends = own is not None and not converts_itself(model) and has_float_ends(model)
    if io_dtype is None:
        io_dtype = "float32" if float_ends else row.io_dtypes[dtype]
    check_option("io_dtype", io_dtype, IO_DTYPES)
    allowed = {"int8": ("int8", "uint8", "float32"), "int16x8": ("int16", "float32")}.get(dtype, ("float32",))
    if io_dtype not in allowed:
        raise ValueError(
            f"A {dtype} file has {' or '.join(allowed)} inputs and outputs. Received: io_dtype={io_dtype!r}"
        )
    if float_ends and io_dtype != "float32":
        raise ValueError(
            "A model whose first or last layer stays float has float32 inputs and outputs. "
            f"Received: io_dtype={io_dtype!r}"
        )
    return dtype, io_dtype


def _substituted(model: Any, row: Target) -> tuple[list[str], Any]:
    """Names of the layers whose activation the target lacks, and the model with the stand-ins; None without any.

    Nothing else is changed: a mistake in folding or lowering must not hide in what the file is compared with.
    """
    graph = Graph.from_model(model)
    canonicalize(graph)
    names = substitute_activations(graph, row.substitutes)
    if not names:
        return [], None
    if is_quantized(model):
        decompose_swish(graph)  # with the rounding of its logistic
        connect_steps(graph)  # of ranges that were scaled
    return names, graph.to_model(model.name)


def _enlarges(model: Any) -> bool:
    """Whether a model returns its input image, enlarged by a whole number."""
    given, found = tuple(model.inputs[0].shape[1:]), tuple(model.outputs[0].shape[1:])
    if len(given) != 3 or len(found) != 3 or given[2] != found[2] or None in (*given, *found):
        return False
    return found[0] > given[0] and found[0] % given[0] == 0 == found[1] % given[1]


def _class_count(output: Any) -> int:
    """Length of an output's last axis; none where it has no axis but the batch, or holds indices of classes."""
    return int(output.shape[-1] or 0) if len(output.shape) > 1 and "float" in output.dtype else 0


def _class_names(names: Any, count: int) -> tuple[str, ...]:
    chosen = tuple(map(str, range(count))) if names is None else tuple(map(str, names))
    if chosen and len(chosen) != count:
        raise ValueError(f"class_names must name each of the {count} outputs. Received: {len(chosen)} names")
    broken = [name for name in chosen if len(name.splitlines()) != 1]
    if broken:
        raise ValueError(f"A class name must be one line of text. Received: {broken[0]!r}")
    return chosen


def convert(deployed: Any, dtype: str, io_dtype: str, calibration: list[np.ndarray] | None = None) -> bytes:
    """Run TensorFlow's converter on a graph from ``deploy``; batch 1, built-in ops only.

    Args:
        deployed: From ``deploy``, with fake-quant nodes if ``dtype`` is "int8".
        dtype: "float32", "float16", "int8" or "int16x8".
        io_dtype: dtype of input and output.
        calibration: Images from which an int16x8 file's ranges are taken, one array an input.

    Raises:
        ExportError: the converter refused; its first line is quoted.
    """
    import tensorflow as tf

    labels = [value.node.label for value in Graph.from_model(deployed).inputs]
    archive = keras.export.ExportArchive()
    archive.track(deployed)
    signature = [
        tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype, name=label)  # a dynamic batch drags SHAPE and PACK ops in
        for tensor, label in zip(deployed.inputs, labels, strict=True)
    ]

    def serve(*tensors: Any) -> Any:
        inputs = keras.tree.pack_sequence_as(structures(deployed)[0], list(tensors))
        outputs = keras.tree.flatten(deployed(inputs, training=False))
        return outputs[0] if len(outputs) == 1 else {f"output_{index}": part for index, part in enumerate(outputs)}

    archive.add_endpoint("serve", serve, input_signature=signature)
    with tempfile.TemporaryDirectory() as folder:
        # The archive freezes the variables; converting the model's concrete function would leave them out.
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if dtype != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if dtype == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if dtype == "int16x8" and calibration is not None:
            converter.representative_dataset = lambda: (
                [part[None] for part in row] for row in zip(*calibration, strict=True)
            )
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            ]
        if dtype in BITS:
            converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(io_dtype)
        # Beside an output of indices TensorFlow cannot make the others integers; `read_integers` does.
        mixed = io_dtype != "float32" and len({"float" in value.dtype for value in deployed.outputs}) > 1
        if mixed and io_dtype == "uint8":
            raise ValueError(
                "A model with outputs of indices beside others has int8 or float32 inputs and outputs. "
                f"Received: io_dtype={io_dtype!r}"
            )
        if mixed:
            converter.inference_output_type = tf.float32
        try:
            content = converter.convert()
        except Exception as error:
            raise converter_error(error, [layer.name for layer in deployed.layers]) from error
    if dtype == "int8" and any("float" not in value.dtype for value in deployed.outputs):
        content = read_integers(content, outputs=mixed)
    if len(deployed.inputs) == len(deployed.outputs) == 1:
        return content
    names = output_names(deployed)
    return order_ends(content, labels, [f"output_{index}" for index in range(len(names))], names)


def converter_error(error: Exception, names: Sequence[str] = ()) -> ExportError:
    """What to raise of a failure of TensorFlow's converter: the ops that it lacks, or its first line.

    Args:
        error: The converter's.
        names: Of the model's layers.
    """
    missing = re.search(r"(?:TF Select|Custom) ops: (.+)", str(error))
    if missing is not None:
        scopes = re.findall(r'fused\["\w+:", "[^"/]+/([^"/@]+)', str(error))
        near = [max((n for n in names if scope.startswith(n)), key=len, default=scope) for scope in scopes]
        where = f" (layer {', '.join(map(repr, dict.fromkeys(near)))})" if near else ""
        return ExportError(
            f"TensorFlow Lite has no op for {missing[1].strip()}{where}: write that part of the model with other "
            "layers, or leave it to the program that runs the file."
        )
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ExportError(f"TensorFlow's converter refused the model: {first}")
