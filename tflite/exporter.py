"""``export``: Keras model -> a ``.tflite`` file that was audited and run before anyone gets it."""

from __future__ import annotations

import functools
import tempfile
import warnings
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from wavemix_tf.checks import check_option

from . import folding
from .artifact import Artifact
from .audit import audit
from .errors import ExportError, FidelityError
from .ethos import check_all_on_npu, compile_file, require_vela
from .flatbuffer import FileInfo, read_file, strip_names
from .graph import Graph
from .images import check_images, generated_images, predict
from .limits import MemoryUse, check_arguments, check_limits
from .lowering import STAND_IN, UPSAMPLE_FORMS, deploy, is_quantized, substitute_activations
from .microcontroller import measure_arena
from .quantizer import quantize
from .targets import DTYPES, IO_DTYPES, Target, get_target
from .verifier import ERROR_BOUND_STEPS, VerifyReport, compare, fault, run_file, warn_if_degenerate

# Against the given model, where the file computes another: after post-training rounding, or an activation's stand-in.
MIN_AGREEMENT_CHANGED = 0.9
WARN_AGREEMENT = 0.98
VERIFY_IMAGES = 256
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
        model: Functional Keras model: float, or made by ``quantize`` (and perhaps fine-tuned since).
        target: Key of ``TARGETS``.
        dtype: "float32", "float16" or "int8"; None: int8 for a quantized model, else what the target prefers.
        io_dtype: "float32", "int8" or "uint8" for input and output; None: what the target prefers. An int8 input is
            ``pixel - 128``, a uint8 input the pixel itself, a float32 input pixel / 255.
        calibration: Images, as for ``quantize``; needed to export a float model as int8 (post-training quantisation).
            Without ``images`` the last quarter of them is held out for verification.
        images: Held-out images to verify on, as for ``quantize``. None: from ``calibration``, else generated ones.
        class_names: Names of the outputs, for the labels file; None: their numbers.
        error_bound_steps: Largest mean error allowed, in output steps; any one output may have ``OUTPUT_SHARE`` times
            as much; None: ``ERROR_BOUND_STEPS[dtype]``, runtime by runtime.
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
    given = _in_float32(model)
    if len(given.inputs) != 1 or len(given.outputs) != 1:
        raise ExportError(
            f"export takes one input and one output. Received: {len(given.inputs)} inputs, {len(given.outputs)} outputs"
        )
    calibration, held_out, source = _images(given, calibration, images)
    computed, ptq = model, False
    if dtype == "int8" and not is_quantized(model):
        if calibration is None:
            raise ValueError(
                "A float model exports as int8 with calibration images (or quantize it first). "
                "Received: calibration=None"
            )
        computed, ptq = quantize(given, calibration, target=target), True

    names = _class_names(class_names, given.outputs[0].shape[-1])
    written = _smallest(computed, row, target, dtype, io_dtype, held_out, upsample_form, limits.max_flash_bytes)
    content, info, form, arena_bytes = written
    npu = compile_file(content, row.npu, accelerator) if row.npu is not None else None
    if npu is not None:
        check_all_on_npu(npu, target)
    check_limits(limits, MemoryUse(arena_bytes, len(content), npu), info, target)
    substituted, stand_in = _substituted(given, row)
    expected = predict(given, held_out)
    ran = {runtime: run_file(content, held_out, runtime, VERIFY_LIMIT_S) for runtime in row.runtimes}
    report = compare(info, expected, ran)
    warn_if_degenerate(report, model.name)
    if ptq:
        fidelity = compare(info, predict(computed, held_out), ran)
    elif substituted:
        fidelity = compare(info, predict(stand_in, held_out), ran)
    else:
        fidelity = report
    bounds = {
        runtime: ERROR_BOUND_STEPS[dtype][runtime] if error_bound_steps is None else error_bound_steps
        for runtime in row.runtimes
    }
    _judge(fidelity, report, bounds, changed=ptq or bool(substituted))
    return Artifact(
        content=content,
        target=target,
        dtype=dtype,
        io_dtype=io_dtype,
        ops=tuple(op.name for op in info.ops),
        class_names=names,
        model_name=model.name,
        upsample_form=form,
        substituted=tuple(substituted or _stand_ins(given)),
        arena_bytes=arena_bytes,
        npu=npu,
        verification={
            "images": source,
            "error_bound_steps": bounds,
            "fidelity": fidelity.to_dict(),
            "against_given_model": report.to_dict(),
        },
    )


def _check_dtypes(model: Any, target: str, row: Target, dtype: str | None, io_dtype: str | None) -> tuple[str, str]:
    quantized = is_quantized(model)
    if dtype is None:
        dtype = "int8" if quantized else row.dtypes[0]
    check_option("dtype", dtype, DTYPES)
    if dtype not in row.dtypes:
        raise ValueError(f"Target {target!r} takes dtype {' or '.join(row.dtypes)}. Received: dtype={dtype!r}")
    if quantized and dtype != "int8":
        raise ValueError(
            f"A quantized model exports as int8; export the float model it came from instead. Received: dtype={dtype!r}"
        )
    io_dtype = row.io_dtypes[dtype] if io_dtype is None else check_option("io_dtype", io_dtype, IO_DTYPES)
    if dtype != "int8" and io_dtype != "float32":
        raise ValueError(f"A {dtype} file has float32 input and output. Received: io_dtype={io_dtype!r}")
    return dtype, io_dtype


def _in_float32(model: Any) -> Any:
    """The model itself, or a float32 copy if it computes in another dtype: the file is made from float32 weights."""
    Graph.check(model)
    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model
    return Graph.from_model(model, dtype="float32").to_model(model.name)


def _images(model: Any, calibration: Any, images: Any) -> tuple[np.ndarray | None, np.ndarray, str]:
    """(calibration, images to verify on, where those came from)."""
    shape = model.inputs[0].shape
    if calibration is not None:
        calibration = check_images(calibration, shape)
    if images is not None:
        return calibration, check_images(images, shape, name="images")[:VERIFY_IMAGES], "given"
    if calibration is not None and len(calibration) >= 4:
        kept = -(-len(calibration) * 3 // 4)
        return calibration[:kept], calibration[kept:][:VERIFY_IMAGES], "held out of calibration"
    return calibration, generated_images(tuple(shape[1:])), "generated"


def _smallest(
    model: Any,
    row: Target,
    target: str,
    dtype: str,
    io_dtype: str,
    images: np.ndarray,
    form: str | None,
    max_flash_bytes: int | None,
) -> tuple[bytes, FileInfo, str | None, int | None]:
    """Convert in every form the target lists; keep the one with the smallest arena among those that fit into flash.

    Each file is audited. The names of inner tensors are in the ``FileInfo`` even where they left the file.
    """
    from .flatbuffer import to_input

    transposed = any(node.kind.endswith("Conv2DTranspose") for node in Graph.from_model(model).nodes())
    forms = (form,) if form is not None else row.upsample_forms if transposed else row.upsample_forms[:1]
    tried: list[tuple[bytes, FileInfo, str | None, int | None]] = []
    for candidate in forms:
        content = convert(deploy(model, row.substitutes, candidate, row.max_stride), dtype, io_dtype)
        info = read_file(content)
        audit(info, target, row, dtype)
        if row.strips_names:
            content = strip_names(content)
        arena = None
        if "tflite-micro" in row.runtimes:
            _, arena = measure_arena(content, to_input(info.inputs[0], images[:1]))
        tried.append((content, info, candidate if transposed else None, arena))

    def preference(candidate: tuple[bytes, FileInfo, str | None, int | None]) -> tuple[bool, int, int]:
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
    folding.split_activations(graph)
    names = substitute_activations(graph, row.substitutes)
    if not names:
        return [], model
    if is_quantized(model):
        folding.decompose_quick_gelu(graph)  # with the rounding of its logistic
    return names, graph.to_model(model.name)


def _class_names(names: Any, count: int) -> tuple[str, ...]:
    chosen = tuple(map(str, range(count))) if names is None else tuple(map(str, names))
    if len(chosen) != count:
        raise ValueError(f"class_names must name each of the {count} outputs. Received: {len(chosen)} names")
    broken = [name for name in chosen if len(name.splitlines()) != 1]
    if broken:
        raise ValueError(f"A class name must be one line of text. Received: {broken[0]!r}")
    return chosen


def _judge(fidelity: VerifyReport, report: VerifyReport, bounds: dict[str, float], changed: bool) -> None:
    for runtime in fidelity.runtimes:
        found = fault(asdict(runtime), bounds[runtime.runtime], fidelity.degenerate)
        if found:
            raise FidelityError(f"{found}, under {runtime.runtime}.")
    if not changed or report.degenerate or report.agreement is None:
        return
    if report.agreement < MIN_AGREEMENT_CHANGED:
        raise FidelityError(
            "The file computes the quantized model well, but that one agrees with the given model on only "
            f"{report.agreement:.1%} of the images whose lead exceeds two steps; required are "
            f"{MIN_AGREEMENT_CHANGED:.0%}. Calibrate with more images, or quantize and fine-tune the model first."
        )
    if report.agreement < WARN_AGREEMENT:
        warnings.warn(
            f"Quantisation changed the first class of {1 - report.agreement:.1%} of the images whose lead exceeds two "
            "steps; fine-tuning the quantized model usually repairs it.",
            stacklevel=3,
        )


def convert(deployed: Any, dtype: str, io_dtype: str) -> bytes:
    """Run TensorFlow's converter on a graph from ``deploy``; batch 1, built-in ops only.

    Args:
        deployed: From ``deploy``, with fake-quant nodes if ``dtype`` is "int8".
        dtype: "float32", "float16" or "int8".
        io_dtype: dtype of input and output.

    Raises:
        ExportError: the converter refused; its first line is quoted.
    """
    import tensorflow as tf

    shape = (1, *deployed.inputs[0].shape[1:])  # a dynamic batch drags SHAPE and PACK ops into the file
    archive = keras.export.ExportArchive()
    archive.track(deployed)
    signature = [tf.TensorSpec(shape, tf.float32, name=deployed.inputs[0].name)]
    archive.add_endpoint("serve", functools.partial(deployed.__call__, training=False), input_signature=signature)
    with tempfile.TemporaryDirectory() as folder:
        # The archive freezes the variables; converting the model's concrete function would leave them out.
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if dtype != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if dtype == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if dtype == "int8":
            converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(io_dtype)
        try:
            return converter.convert()
        except Exception as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ExportError(f"TensorFlow's converter refused the model: {first}") from error
