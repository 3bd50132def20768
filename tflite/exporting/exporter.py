"""``export``: Keras model -> a ``.tflite`` file that was audited and run."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from wavemix_tf.gradient_registry import releasing_gradients
from wavemix_tf.progress import report

from ..file.identifiers import check_c_name
from ..graph.lowering import converts_itself
from ..targets.table import get_target
from ..verification.judgement import Bounds
from .artifact import Artifact
from .conversion import write
from .judging import judge
from .limits import check_arguments
from .preparation import prepare


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
    min_runtime: str | None = None,
    name: str | None = None,
) -> Artifact:
    """Write a Keras model as a file for a target, check it and run it.

    The graph is folded and rewritten for the target, converted, audited op by op against ``TARGETS[target]``, compiled
    if the target is an Ethos-U, and run in the installed runtimes. Only a file that passes every check is returned.

    The file is checked twice. Its error against the model that it computes (the given one, the quantized one, or the
    one with the target's replacement activations) must be within ``error_bound_steps``. Against the *float* model,
    every output of a file that rounds must reach ``min_snr_db`` and ``min_agreement``. The float model is the
    given one; for a quantized model it is ``float_network(model)``, the network of the same weights without rounding:
    without fine-tuning, that is the model that was quantized. A fine-tuned model (or one saved by a version that did
    not record it) was trained with rounding, and its float network was never trained: violations of these two bounds
    are then warnings, not errors.

    Args:
        model: Functional Keras model: float, or made by ``quantize`` (and optionally fine-tuned since), by any engine.
        target: Key of ``TARGETS``.
        dtype: "float32", "float16", "int8" or "int16x8" (16-bit activations, 8-bit weights); None: that of a quantized
            model, else the target's preferred one.
        io_dtype: "float32", "int8", "uint8" or "int16" for inputs and outputs; None: the target's preferred one
            (float32 where ``quantize`` left an end in float). For an input in [0, 1], an int8 value is ``pixel - 128``,
            a uint8 value the pixel itself, a float32 value pixel / 255.
        calibration: Images, as for ``quantize``; needed to export a float model as int8 (post-training quantization),
            and for every int16x8 file, whose ranges the converter measures. Without ``images`` the last quarter of
            them (at least 32) is held out for verification; of fewer than 64, all serve both purposes.
        images: Held-out images to verify on, as for ``quantize``: 32 or more for a file that rounds. None: from
            ``calibration``, else generated.
        class_names: Names of the classes of the (first) output, for the labels file; None: their numbers. Empty if the
            output has no classes: an image enlarged by a whole number, a number, a heat map.
        input_range: As for ``quantize``; a quantized model contains its own.
        crop_to_aspect_ratio: Whether training cropped pictures to the input's proportions before it resized them
            (``Recipe.crop_to_aspect_ratio``): stated in the file, its card and its kit. None: stated as unknown.
        error_bound_steps: Largest mean error allowed, in output steps, for deep networks whose roundings amplify one
            another. Each output may have ``OUTPUT_SHARE`` times as much, and the top-1 class must agree only where its
            margin is larger. None: ``ERROR_BOUND_STEPS[dtype]`` of each runtime.
        min_snr_db: Least signal-to-noise ratio, in dB, of an output of a file that rounds against the float model's:
            the power of the output's variation over the images, divided by that of the difference. None: 10 is
            required, and below 20 a warning is given. A number, also a negative one, is the bound, without warnings.
        min_agreement: Least share of images, pixels or peaks in which such a file and the float model agree: in the
            top-1 class, in the sign of a single logit, in the place of a map's peaks. Only those whose margin exceeds
            rounding count. None: 0.9, with a warning below 0.98.
        allow_unjudged: Whether to accept a file that rounds if the check is inconclusive: it was verified on fewer than
            32 images (or than the time or 512 MiB of outputs allow), fewer than half of them have a margin above
            rounding, or the model's outputs hardly depend on the image, as with an untrained model.
        upsample_form: How transposed convolutions are written ("transposed_conv", "subpixel_crop", "subpixel_3x3",
            "transposed_crop"); None: the form that suits the target; if it lists several, the one with the smallest
            arena among those that fit and that its kernels compute correctly.
        max_arena_bytes: RAM for tensors, in bytes: the arena under TensorFlow Lite Micro for "mcu", SRAM by Vela's
            estimate for an Ethos-U. None: the target's limit, mostly none.
        max_flash_bytes: Flash for the file only, in bytes, without the program that runs it; for an Ethos-U, for the
            compiled file; for "c", for the whole program, which counts with the largest measured size of its code.
            None: the target's limit, mostly none.
        max_firmware_bytes: For "mcu": flash for the file and the program that runs it with CMSIS-NN's kernels, built
            with messages: an estimate from the file's ops for a Cortex-M4 (``targets.firmware``).
        accelerator: Which Ethos-U to compile for, as "ethos-u55-128"; None: the first of the target's list.
        min_runtime: Oldest release of TensorFlow Lite that must run the file, as "2.8.0": a file whose ops need a newer
            one is refused. TensorFlow Lite Micro has no releases.
        name: C identifier that begins every symbol and file name of the file's C code, in ``save``, ``save_kit`` and
            ``save_project``; None: they derive it from the name of the file.

    Returns:
        An ``Artifact``.

    Raises:
        ValueError: unknown target, dtype or io_dtype, or one that the target does not support; invalid images.
        UnsupportedLayerError: the model is not functional, or a layer cannot be exported.
        UnsupportedOpError: the target, or ``min_runtime``, does not run an op of the converted file.
        MemoryLimitError: it needs more than ``max_arena_bytes``, ``max_flash_bytes`` or ``max_firmware_bytes``.
        CopyError: the copy that is written or rounded computes something other than the model, before rounding.
        FidelityError: the file's outputs are too far from the model's; too few images are conclusive; for a GPU, an
            activation exceeds float16.
        RuntimeFailureError: a runtime refused the file.

    Example:
    >>> wm.tflite.export(qat, target="mcu", images=held_out).save("model.tflite")
    """
    row = get_target(target)
    if name is not None:
        check_c_name(name)
    limits = check_arguments(
        target, row, max_arena_bytes, max_flash_bytes, accelerator, max_firmware_bytes, min_runtime
    )
    report("copy")
    job = prepare(
        model,
        target,
        row,
        dtype,
        io_dtype,
        limits,
        Bounds(min_snr_db, min_agreement, allow_unjudged),
        calibration=calibration,
        images=images,
        class_names=class_names,
        input_range=input_range,
        crop_to_aspect_ratio=crop_to_aspect_ratio,
        upsample_form=upsample_form,
    )
    report("convert and audit")
    file = write(job, accelerator)
    verification, substituted = judge(job, file, error_bound_steps)
    return Artifact(
        content=file.content,
        target=target,
        dtype=job.dtype,
        io_dtype=job.io_dtype,
        ops=tuple(op.name for op in file.info.ops),
        class_names=job.class_names,
        model_name=model.name,
        upsample_form=file.form if job.facts.has_transposed else None,
        substituted=substituted,
        arena_bytes=file.arena_bytes,
        kernel_arena_bytes=file.arenas,
        npu=file.npu,
        verification=verification,
        input_ranges=tuple(job.input_ranges),
        float_layers=job.float_layers,
        model_sha256=model_sha256(model),
        preprocessing=job.preprocessing,
        op_layers=file.op_layers,
        code_name=name,
    )


def model_sha256(model: Any) -> str:
    """Digest of a model's layer types, activations and weights; it identifies the model that a file was made from."""
    other = converts_itself(model)
    # The configuration is not part of it: saving and loading changes it.
    layers = [] if other else model.layers
    kinds = sorted(
        f"{type(one).__name__} {getattr(getattr(one, 'activation', None), '__name__', '')}" for one in layers
    )
    digest = hashlib.sha256("\n".join(kinds).encode())
    for part in (model.tf_keras_model if other else model).get_weights():
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
