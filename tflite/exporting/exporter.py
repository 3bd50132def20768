"""``export``: Keras model -> a ``.tflite`` file that was audited and run before anyone gets it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from wavemix_tf.gradient_registry import releasing_gradients

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
    limits = check_arguments(target, row, max_arena_bytes, max_flash_bytes, accelerator, max_firmware_bytes)
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
