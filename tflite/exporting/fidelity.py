"""Run a written file and compare it with the given model, the model that it computes and the float model."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np

from wavemix_tf.progress import report as report_progress
from wavemix_tf.warning import warn_user

from ..errors import FidelityError
from ..file.flatbuffer import FileInfo
from ..graph.inputs import check_inputs, generated_values, output_names, predict
from ..graph.lowering import is_quantized
from ..graph.passes.substitute_activations import STAND_IN
from ..layers.whole_numbers import is_whole
from ..names import XNNPACK
from ..quantization.copy_check import as_list
from ..quantization.float_network import float_network
from ..quantization.ranges import MIN_IMAGES as MIN_CALIBRATION
from ..runtimes.running import run_in_runtimes
from ..verification.judgement import MIN_IMAGES, Bounds, check_judged, judge_outputs, snr_db
from ..verification.verifier import compare, fault, warn_if_degenerate

VERIFY_IMAGES = 256
VERIFY_BYTES = 64 << 20  # limit of a model's outputs: with outputs for each pixel, fewer images are enough
VERIFY_MOST_BYTES = 512 << 20  # the limit if ``MIN_IMAGES`` images exceed ``VERIFY_BYTES``
VERIFY_LIMIT_S = 10.0  # limit for each runtime; reference kernels are slow


def verify_images(model: Any) -> int:
    """Largest number of images on which ``export`` verifies a model's file."""
    size = 4 * sum(math.prod(side or 1 for side in value.shape[1:]) for value in model.outputs)
    return max(4, min(MIN_IMAGES, VERIFY_MOST_BYTES // size), min(VERIFY_IMAGES, VERIFY_BYTES // size))


def required_images(model: Any) -> int:
    """Least number of images on which a file that rounds is checked."""
    return min(MIN_IMAGES, verify_images(model))


def choose_images(
    model: Any, ranges: list[Any], calibration: Any, images: Any
) -> tuple[list[np.ndarray] | None, list[np.ndarray], str]:
    """(calibration, images to verify on, source of those images); the first two are lists of one array per input.

    Args:
        model: Given to ``export``.
        ranges: Range of the values of each input.
        calibration: As for ``export``.
        images: As for ``export``.
    """
    inputs, most = model.inputs, verify_images(model)
    if calibration is not None:
        calibration = check_inputs(calibration, inputs, ranges, least=MIN_CALIBRATION)
    if images is not None:
        held_out = check_inputs(images, inputs, ranges, name="images")
        return calibration, [part[:most] for part in held_out], "given"
    if calibration is not None and len(calibration[0]) >= MIN_CALIBRATION + MIN_IMAGES:
        count = len(calibration[0])
        kept = count - max(count // 4, MIN_IMAGES)
        held_out = [part[kept:][:most] for part in calibration]
        return [part[:kept] for part in calibration], held_out, "held out of calibration"
    if calibration is not None:  # real images are a better check than generated ones, though the ranges fit them
        return calibration, [part[:most] for part in calibration], "the calibration images"
    made = [
        generated_values(tuple(value.shape[1:]), limits, seed, whole=is_whole(value))
        for seed, (value, limits) in enumerate(zip(inputs, ranges, strict=True))
    ]
    return calibration, [part[:most] for part in made], "generated"


def check_file(
    file: tuple[bytes, FileInfo],
    given: Any,
    computed: Any,
    images: list[np.ndarray],
    steps: dict[str, float],
    margin_steps: float,
    bounds: Bounds | None,
    classes: bool,
    fresh: bool = True,
) -> dict[str, Any]:
    """Run a file in the runtimes of ``steps`` and compare it with three models; returns ``Artifact.verification``.

    The error against the model that the file computes must be within ``steps``. If the file rounds, it must satisfy
    ``bounds`` against the float model. Its difference from the given model is only reported.

    Args:
        file: Its content, and the result of ``read_file`` before names were stripped.
        given: Given to ``export``, in float32.
        computed: What the file computes: quantized from ``given``, or with replacement activations. None: ``given``.
        images: To verify on, one array per input.
        steps: Runtime -> largest mean error in output steps.
        margin_steps: As for ``compare``.
        bounds: Those against the float model; None: the file does not round.
        classes: Whether the last axis of an output is classes.
        fresh: Whether ``given`` was not trained since it was quantized; True for a float model.

    Raises:
        FidelityError: a bound is violated.
    """
    content, info = file
    required = required_images(given)
    # XNNPACK is fast: it runs the required images whatever the time limit.
    least = {runtime: required if runtime == XNNPACK else 1 for runtime in steps}
    exact = None
    with ThreadPoolExecutor(1) as pool:  # the runtimes need no lock of Python's: Keras computes meanwhile
        running = pool.submit(run_in_runtimes, content, images, steps, VERIFY_LIMIT_S, least)
        expected = predict(given, images, "run the model and the file")
        if is_quantized(given):
            exact = predict(float_network(given), images, "run the float model and the file")
        report_progress("run the file")
        ran = running.result()
    options: Any = {"margin_steps": margin_steps, "classes": classes, "names": output_names(given)}
    report = compare(info, expected, ran, **options)
    fidelity = report if computed is None else compare(info, predict(computed, images), ran, **options)
    for row in fidelity.runtimes:
        found = fault(row.to_dict(), steps[row.runtime], fidelity.degenerate, margin_steps)
        if found:
            raise FidelityError(f"{found}, under {row.runtime}.")
    against_float, what = report, "the given float model"
    if exact is None:
        exact = expected
    else:
        against_float = compare(info, exact, ran, **options)
        what = "the float model (the quantized one without its rounding)"
    held = {}
    if bounds is not None:
        rows = against_float.to_dict()["runtimes"]
        notes = judge_outputs(rows, what, bounds, fresh, required)
        held = {"float_model_bounds": {**asdict(bounds), "refuses": fresh}}
        # A fine-tuned model's own outputs decide which images count; its float network was never trained.
        own, whose = (rows, what) if fresh else (report.to_dict()["runtimes"], "the quantized model")
        check_judged(own, whose, bounds, required)
        for sentence in notes:
            warn_user(sentence)
    warn_if_degenerate(report, given.name)
    return {
        "error_bound_steps": steps,
        **held,
        "fidelity": fidelity.to_dict(),
        "against_given_model": report.to_dict(),
        "against_float_model": against_float.to_dict(),
        **_substitution(exact, computed, images),
    }


def stand_ins(model: Any) -> list[str]:
    """Names of the layers whose activation was replaced for a target."""
    return sorted({STAND_IN.split(layer.name)[0] for layer in model.layers if STAND_IN.search(layer.name)})


def _substitution(expected: Any, computed: Any, images: list[np.ndarray]) -> dict[str, Any]:
    """SNR in dB of each output after only the activations were replaced; empty if none were."""
    if computed is None or not stand_ins(computed):
        return {}
    replaced = predict(float_network(computed), images)
    return {"substitution_snr_db": [snr_db(*pair) for pair in zip(as_list(expected), as_list(replaced), strict=True)]}
