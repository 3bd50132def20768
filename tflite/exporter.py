"""``export``: Keras model -> a ``.tflite`` file that was audited and run before anyone gets it."""

from __future__ import annotations

import hashlib
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from wavemix_tf.checks import check_option

from . import folding
from .artifact import Artifact
from .audit import audit
from .canonical import canonicalize
from .errors import ExportError, FidelityError
from .ethos import check_all_on_npu, compile_file, require_vela
from .flatbuffer import FileInfo, order_ends, read_file, strip_names, to_input
from .graph import Graph
from .images import check_inputs, generated_values, predict, value_ranges
from .limits import MemoryUse, check_arguments, check_limits
from .lowering import (
    STAND_IN,
    UPSAMPLE_FORMS,
    converts_itself,
    deploy,
    float_layers,
    has_float_ends,
    is_quantized,
    quantized_dtype,
    substitute_activations,
)
from .microcontroller import measure_arena
from .quantizer import BITS, input_ranges, quantize
from .ranges import MIN_IMAGES
from .targets import DTYPES, IO_DTYPES, Target, get_target
from .verifier import ERROR_BOUND_STEPS, MARGIN_STEPS, VerifyReport, compare, fault, run_file, warn_if_degenerate

# Against the given model, where the file computes another: after post-training rounding, or an activation's stand-in.
MIN_AGREEMENT_CHANGED = 0.9
WARN_AGREEMENT = 0.98
VERIFY_IMAGES = 256
VERIFY_BYTES = 64 << 20  # of a model's outputs: where each pixel has some, fewer images say as much
VERIFY_LIMIT_S = 10.0  # for each runtime; reference kernels are slow


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
    error_bound_steps: float | None = None,
    upsample_form: str | None = None,
    max_arena_bytes: int | None = None,
    max_flash_bytes: int | None = None,
    accelerator: str | None = None,
) -> Artifact:
    """Write a Keras model as a file for a target, check it and run it.

    The graph is folded and written as the target likes it, converted, audited op by op against ``TARGETS[target]``,
    compiled for an Ethos-U if that is the target, and run in the runtimes that exist here. Only a file that passed is
    returned.

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
            them is held out for verification.
        images: Held-out images to verify on, as for ``quantize``. None: from ``calibration``, else generated ones.
        class_names: Names of the classes of the (first) output, for the labels file; None: their numbers. Empty where
            the output has no classes, as an image enlarged by a whole number has none.
        input_range: As for ``quantize``; a quantized model knows its own.
        error_bound_steps: Largest mean error allowed, in output steps; any one output may have ``OUTPUT_SHARE`` times
            as much, and the first class is held to that of the model only where its lead is larger. For deep networks
            whose roundings amplify one another. None: ``ERROR_BOUND_STEPS[dtype]``, runtime by runtime.
        upsample_form: How transposed convolutions are written ("transposed_conv", "subpixel_crop", "subpixel_3x3");
            None: what suits the target; where it lists several, that with the smallest arena among those that fit.
        max_arena_bytes: RAM for tensors, in bytes: the arena under TensorFlow Lite Micro for "mcu", SRAM by Vela's
            estimate for an Ethos-U. None: what the target sets, mostly no limit.
        max_flash_bytes: Flash for the file, in bytes; for an Ethos-U, for the compiled file. None: likewise.
        accelerator: Which Ethos-U to compile for, as "ethos-u55-128"; None: the first of the target's list.

    Returns:
        An ``Artifact``.

    Raises:
        ValueError: unknown target, dtype or io_dtype, or one the target does not take; bad images.
        UnsupportedLayerError: the model is not functional, or a layer cannot be exported.
        UnsupportedOpError: the target does not run an op of the converted file.
        MemoryLimitError: the file needs more than ``max_arena_bytes`` or ``max_flash_bytes``.
        FidelityError: the file's outputs are too far from the model's.
        RuntimeFailureError: a runtime refused the file.

    Example:
    >>> wm.tflite.export(qat, target="mcu", images=held_out).save("model.tflite")
    """
    row = get_target(target)
    if upsample_form is not None:
        check_option("upsample_form", upsample_form, UPSAMPLE_FORMS)
    dtype, io_dtype = _check_dtypes(model, target, row, dtype, io_dtype)
    limits = check_arguments(target, row, max_arena_bytes, max_flash_bytes, accelerator)
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
    given = model if foreign else _in_float32(model)
    ranges = input_ranges(given) if is_quantized(given) else value_ranges(input_range, len(given.inputs))
    calibration, held_out, source = _images(given.inputs, ranges, calibration, images)
    held_out = [part[: verify_images(given)] for part in held_out]
    computed, ptq = model, False
    if calibration is None and dtype == "int16x8":
        raise ValueError(
            "An int16x8 file takes calibration images: its ranges are measured. Received: calibration=None"
        )
    if dtype in BITS and not is_quantized(model):
        if calibration is None:
            raise ValueError(
                f"A float model exports as {dtype} with calibration images (or quantize it first). "
                "Received: calibration=None"
            )
        computed, ptq = quantize(given, calibration, dtype=dtype, input_range=ranges, target=target), True

    names = _class_names(() if class_names is None and _enlarges(given) else class_names, given.outputs[0].shape[-1])
    kept_float = tuple(float_layers(computed)) if dtype in BITS and not foreign else ()
    forms, transposed = _forms(computed, row, dtype, upsample_form)
    if limits.max_arena_bytes is not None and len(forms) > 1:
        forms = UPSAMPLE_FORMS  # where memory is short, flash is paid for it

    def write(form: str) -> bytes:
        if foreign:
            return model.convert(io_dtype)
        written = deploy(computed, row.substitutes, form, row.max_stride, row.dense_as_convolution)
        return convert(written, dtype, io_dtype, calibration)

    written = _smallest(write, forms, row, target, dtype, held_out, bool(kept_float), limits.max_flash_bytes)
    content, info, form, arena_bytes = written
    npu = compile_file(content, row.npu, accelerator) if row.npu is not None else None
    if npu is not None:
        check_all_on_npu(npu, target)
    check_limits(limits, MemoryUse(arena_bytes, len(content), npu), info, target)
    substituted, stand_in = ([], given) if foreign else _substituted(given, row)
    expected = predict(given, held_out)
    ran = {runtime: run_file(content, held_out, runtime, VERIFY_LIMIT_S) for runtime in row.runtimes}
    # Who allows an error of so many steps cannot ask for the same class where the lead is smaller.
    margin = max(MARGIN_STEPS, error_bound_steps or 0.0)
    options: Any = {"margin_steps": margin, "classes": bool(names)}
    report = compare(info, expected, ran, **options)
    warn_if_degenerate(report, model.name)
    if ptq:
        fidelity = compare(info, predict(computed, held_out), ran, **options)
    elif substituted:
        fidelity = compare(info, predict(stand_in, held_out), ran, **options)
    else:
        fidelity = report
    own_bounds = model.error_bound_steps if foreign else ERROR_BOUND_STEPS[dtype]
    bounds = {
        runtime: own_bounds[runtime] if error_bound_steps is None else error_bound_steps for runtime in row.runtimes
    }
    _judge(fidelity, report, bounds, margin, changed=ptq or bool(substituted))
    return Artifact(
        content=content,
        target=target,
        dtype=dtype,
        io_dtype=io_dtype,
        ops=tuple(op.name for op in info.ops),
        class_names=names,
        model_name=model.name,
        upsample_form=form if transposed else None,
        substituted=tuple(substituted or _stand_ins(given)),
        arena_bytes=arena_bytes,
        npu=npu,
        verification={
            "images": source,
            "error_bound_steps": bounds,
            "fidelity": fidelity.to_dict(),
            "against_given_model": report.to_dict(),
        },
        input_ranges=tuple(ranges),
        float_layers=kept_float,
        model_sha256=model_sha256(model),
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


def _in_float32(model: Any) -> Any:
    """The model itself, or a float32 copy if it computes in another dtype: the file is made from float32 weights."""
    Graph.check(model)
    if all(layer.compute_dtype == "float32" for layer in model._flatten_layers()):
        return model
    return Graph.from_model(model, dtype="float32").to_model(model.name)


def _images(
    inputs: list[Any], ranges: list[Any], calibration: Any, images: Any
) -> tuple[list[np.ndarray] | None, list[np.ndarray], str]:
    """(calibration, images to verify on, where those came from), each a list of an array an input."""
    if calibration is not None:
        calibration = check_inputs(calibration, inputs, ranges, least=MIN_IMAGES)
    if images is not None:
        held_out = check_inputs(images, inputs, ranges, name="images")
        return calibration, [part[:VERIFY_IMAGES] for part in held_out], "given"
    if calibration is not None and len(calibration[0]) * 3 // 4 >= MIN_IMAGES:
        kept = -(-len(calibration[0]) * 3 // 4)
        held_out = [part[kept:][:VERIFY_IMAGES] for part in calibration]
        return [part[:kept] for part in calibration], held_out, "held out of calibration"
    made = [
        generated_values(tuple(value.shape[1:]), limits, seed)
        for seed, (value, limits) in enumerate(zip(inputs, ranges, strict=True))
    ]
    return calibration, made, "generated"


def _forms(model: Any, row: Target, dtype: str, chosen: str | None) -> tuple[Sequence[str], bool]:
    """(forms of transposed convolutions to try, whether the model has any)."""
    if converts_itself(model):
        return ("transposed_conv",), any(type(layer).__name__ == "Conv2DTranspose" for layer in model.layers)
    transposed = any(node.kind.endswith("Conv2DTranspose") for node in Graph.from_model(model).nodes())
    if chosen is not None:
        return (chosen,), transposed
    if dtype == "int16x8":
        return ("transposed_conv",), transposed  # depth to space has no 16-bit kernel
    return (row.upsample_forms if transposed else row.upsample_forms[:1]), transposed


def _smallest(
    write: Callable[[str], bytes],
    forms: Sequence[str],
    row: Target,
    target: str,
    dtype: str,
    images: list[np.ndarray],
    keeps_float: bool,
    max_flash_bytes: int | None,
) -> tuple[bytes, FileInfo, str, int | None]:
    """Write the file in every form; keep the one with the smallest arena among those that fit into flash.

    Each file is audited. The names of inner tensors are in the ``FileInfo`` even where they left the file.
    """
    tried: list[tuple[bytes, FileInfo, str, int | None]] = []
    for form in forms:
        content = write(form)
        info = read_file(content)
        audit(info, target, row, dtype, keeps_float)
        if row.strips_names:
            content = strip_names(content)
        arena = None
        if "tflite-micro" in row.runtimes:
            first = [to_input(tensor, part[:1]) for tensor, part in zip(info.inputs, images, strict=True)]
            _, arena = measure_arena(content, first)
        tried.append((content, info, form, arena))

    def preference(candidate: tuple[bytes, FileInfo, str, int | None]) -> tuple[bool, int, int]:
        size, arena = len(candidate[0]), candidate[3] or 0
        too_large = max_flash_bytes is not None and size > max_flash_bytes
        return (too_large, size, arena) if too_large else (too_large, arena, size)

    return min(tried, key=preference)


def _stand_ins(model: Any) -> list[str]:
    """Names of the layers whose activation ``quantize`` replaced for its target."""
    return sorted({layer.name.partition(STAND_IN)[0] for layer in model.layers if STAND_IN in layer.name})


def _substituted(model: Any, row: Target) -> tuple[list[str], Any]:
    """Names of the layers whose activation the target lacks, and the model with the stand-ins.

    Nothing else is changed: a mistake in folding or lowering must not hide in what the file is compared with.
    """
    graph = Graph.from_model(model)
    canonicalize(graph)
    names = substitute_activations(graph, row.substitutes)
    if not names:
        return [], model
    if is_quantized(model):
        folding.decompose_swish(graph)  # with the rounding of its logistic
    return names, graph.to_model(model.name)


def verify_images(model: Any) -> int:
    """Images that ``export`` verifies a model's file on, at most."""
    size = 4 * sum(math.prod(side or 1 for side in value.shape[1:]) for value in model.outputs)
    return max(4, min(VERIFY_IMAGES, VERIFY_BYTES // size))


def _enlarges(model: Any) -> bool:
    """Whether a model returns its input image, enlarged by a whole number."""
    given, found = tuple(model.inputs[0].shape[1:]), tuple(model.outputs[0].shape[1:])
    if len(given) != 3 or len(found) != 3 or given[2] != found[2] or None in (*given, *found):
        return False
    return found[0] > given[0] and found[0] % given[0] == 0 == found[1] % given[1]


def _class_names(names: Any, count: int) -> tuple[str, ...]:
    chosen = tuple(map(str, range(count))) if names is None else tuple(map(str, names))
    if chosen and len(chosen) != count:
        raise ValueError(f"class_names must name each of the {count} outputs. Received: {len(chosen)} names")
    broken = [name for name in chosen if len(name.splitlines()) != 1]
    if broken:
        raise ValueError(f"A class name must be one line of text. Received: {broken[0]!r}")
    return chosen


def _judge(
    fidelity: VerifyReport, report: VerifyReport, bounds: dict[str, float], margin: float, changed: bool
) -> None:
    for runtime in fidelity.runtimes:
        found = fault(asdict(runtime), bounds[runtime.runtime], fidelity.degenerate, margin)
        if found:
            raise FidelityError(f"{found}, under {runtime.runtime}.")
    if not changed or report.degenerate or report.agreement is None:
        return
    if report.agreement < MIN_AGREEMENT_CHANGED:
        raise FidelityError(
            "The file computes the quantized model well, but that one agrees with the given model on only "
            f"{report.agreement:.1%} of the images whose lead exceeds {margin:g} steps; required are "
            f"{MIN_AGREEMENT_CHANGED:.0%}. Calibrate with more images, or quantize and fine-tune the model first."
        )
    if report.agreement < WARN_AGREEMENT:
        warnings.warn(
            f"Quantisation changed the first class of {1 - report.agreement:.1%} of the images whose lead exceeds "
            f"{margin:g} steps; fine-tuning the quantized model usually repairs it.",
            stacklevel=3,
        )


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
        tf.TensorSpec((1, *tensor.shape[1:]), tf.float32, name=label)  # a dynamic batch drags SHAPE and PACK ops in
        for tensor, label in zip(deployed.inputs, labels, strict=True)
    ]

    def serve(*tensors: Any) -> Any:
        inputs = keras.tree.pack_sequence_as(deployed._inputs_struct, list(tensors))
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
        try:
            content = converter.convert()
        except Exception as error:
            raise converter_error(error) from error
    if len(deployed.inputs) == len(deployed.outputs) == 1:
        return content
    names = deployed.output_names
    names = names if len(set(names)) == len(names) else [f"output_{index}" for index in range(len(names))]
    return order_ends(content, labels, [f"output_{index}" for index in range(len(names))], names)


def converter_error(error: Exception) -> ExportError:
    """What to raise of a failure of TensorFlow's converter: its first line says what it was."""
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return ExportError(f"TensorFlow's converter refused the model: {first}")
