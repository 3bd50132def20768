"""Run a file in the installed runtimes and compare it with the Keras model that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from wavemix_tf.checks import check_option
from wavemix_tf.gradient_registry import releasing_gradients
from wavemix_tf.warning import warn_user

from ..file.flatbuffer import FileInfo, TensorInfo, read_file
from ..graph.inputs import check_inputs, output_names, predict
from ..layers.whole_numbers import is_whole
from ..names import MICRO, REFERENCE, RUNTIMES, XNNPACK
from ..runtimes.running import run_in_runtimes, runtimes_of
from ..targets.table import get_target
from .judgement import OutputReport, measure

MARGIN_STEPS = 2.0  # rounding may change the top-1 class where its margin is smaller
# Largest mean error, in output steps, of a file against the Keras model it computes, and least agreement with it on
# images whose margin exceeds MARGIN_STEPS. A wrong fold or grid costs tens of steps; the error of a correct file is the
# runtimes' own rounding, which depth amplifies. XNNPACK rounds as the model does. The reference kernels and TensorFlow
# Lite Micro round products twice (as gemmlowp does), which no fake-quant model follows: two or three integers in a
# thousand differ by one, and ten blocks turn them into up to three output steps, in either direction.
# (tests/test_tflite_export.py has tighter tolerances for small networks.)
ERROR_BOUND_STEPS = {
    "float32": dict.fromkeys(RUNTIMES, 0.002),
    "float16": dict.fromkeys(RUNTIMES, 0.2),
    "int8": {XNNPACK: 2.0, REFERENCE: 4.0, MICRO: 4.0},
    "int16x8": dict.fromkeys(RUNTIMES, 0.5),
}
INTEGERS = ("int32", "int64", "bool")  # dtypes of indices and masks, which have no scale
INT8_STEPS = {"int16": 256}  # steps of an output of this dtype that count as one: 1/256 of its range
MIN_AGREEMENT = {XNNPACK: 0.98, REFERENCE: 0.95, MICRO: 0.95}
OUTPUT_SHARE = 3.0  # one wrong class must not hide among many right ones


@dataclass(frozen=True)
class RuntimeReport:
    """One runtime against the Keras model.

    Args:
        runtime: "litert-xnnpack", "litert-reference" or "tflite-micro".
        images: Images it ran.
        mean_error_steps: Mean absolute difference of the outputs, in steps.
        worst_output_steps: Mean absolute difference of the output that differs most.
        max_error_steps: Largest difference.
        agreement: Top-1 agreement: share of images (of pixels, where each has a class) with the same top-1 class, among
            those whose margin in the Keras model exceeds two steps; None if there are none or outputs are not classes.
        counted: Number of those images.
        accuracy: Share of images classified as labeled; None without labels.
        predictions: Top-1 class of every image it ran; empty where the outputs are not one class per image.
        outputs: Each output separately, in measures without a scale.
    """

    runtime: str
    images: int
    mean_error_steps: float
    worst_output_steps: float
    max_error_steps: float
    agreement: float | None
    counted: int
    accuracy: float | None
    predictions: tuple[int, ...]
    outputs: tuple[OutputReport, ...] = ()

    @property
    def snr_db(self) -> float | None:
        """Of the output with the least; None where no output depends on the image."""
        return min((output.snr_db for output in self.outputs if output.snr_db is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, without the predictions of each image."""
        values = {key: value for key, value in asdict(self).items() if key not in ("predictions", "outputs")}
        outputs = [{**asdict(one), "agreements": [asdict(part) for part in one.agreements]} for one in self.outputs]
        return {**values, "snr_db": self.snr_db, "outputs": outputs}


@dataclass(frozen=True)
class VerifyReport:
    """A file against the Keras model, runtime by runtime.

    Args:
        step: One output step: an int8 output's scale, 256 times an int16 output's; for a float file, 1/255 of the range
            of the model's outputs. With several outputs that of the first; each figure is that of the output where it
            is worst.
        runtimes: One report per runtime.
        model_accuracy: The Keras model's accuracy on the same images; None without labels.
        degenerate: The model's outputs hardly depend on the image (untrained, collapsed): agreement is meaningless.
        outputs: (model's outputs, first runtime's outputs) for plots, float32 (N, classes); not part of ``to_dict``.
    """

    step: float
    runtimes: tuple[RuntimeReport, ...]
    model_accuracy: float | None
    degenerate: bool
    outputs: tuple[np.ndarray, np.ndarray]

    @property
    def mean_error_steps(self) -> float:
        """Of the worst runtime."""
        return max(runtime.mean_error_steps for runtime in self.runtimes)

    @property
    def max_error_steps(self) -> float:
        """Of the worst runtime."""
        return max(runtime.max_error_steps for runtime in self.runtimes)

    @property
    def agreement(self) -> float | None:
        """Of the worst runtime; None where no image's margin is large enough to count."""
        return min((r.agreement for r in self.runtimes if r.agreement is not None), default=None)

    @property
    def snr_db(self) -> float | None:
        """Power of the outputs' variation over the images, divided by that of the error, in dB; see ``OutputReport``.

        Of the output and runtime with the least; None where no output depends on the image.
        """
        return min((r.snr_db for r in self.runtimes if r.snr_db is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values, without the predictions and outputs of each image."""
        return {
            "step": self.step,
            "mean_error_steps": self.mean_error_steps,
            "max_error_steps": self.max_error_steps,
            "snr_db": self.snr_db,
            "agreement": self.agreement,
            "model_accuracy": self.model_accuracy,
            "degenerate": self.degenerate,
            "runtimes": [row.to_dict() for row in self.runtimes],
        }


@releasing_gradients
def verify(
    artifact: Any,
    model: Any,
    images: Any,
    labels: Any = None,
    *,
    runtimes: Sequence[str] | None = None,
    limit_s: float | None = 60.0,
    expected: np.ndarray | None = None,
) -> VerifyReport:
    """Compare a file with a Keras model in every runtime of the file's target.

    Args:
        artifact: From ``export`` or ``Artifact.load``.
        model: The Keras model to compare with: the quantized one for an int8 file, or the float one.
        images: float array (N, H, W, C) in [0, 1], or an iterable of arrays.
        labels: Integer class of each image (N,); None: no accuracy.
        runtimes: Some of "litert-xnnpack", "litert-reference", "tflite-micro"; None: those of the target.
        limit_s: Stop a runtime after so many seconds and report the images it ran; None: run them all.
        expected: The model's outputs on these images, if already computed; None: it is run.

    Returns:
        A ``VerifyReport``. Nothing is refused here; ``export`` applies the bounds.

    Raises:
        ValueError: images or labels of the wrong shape or range, unknown runtime.
        RuntimeFailureError: a runtime cannot run the file.
    """
    info = read_file(artifact.content)
    chosen = tuple(runtimes) if runtimes is not None else runtimes_of(get_target(artifact.target), info)
    for runtime in chosen:
        check_option("runtime", runtime, tuple(RUNTIMES))
    arrays = check_inputs(images, model.inputs, list(artifact.input_ranges), name="images")
    truth = None if labels is None else np.asarray(labels).reshape(-1)
    if truth is not None and len(truth) != len(arrays[0]):
        raise ValueError(
            f"labels must name a class for each image. Received: {len(truth)} labels, {len(arrays[0])} images"
        )
    expected = predict(model, arrays) if expected is None else expected
    ran = run_in_runtimes(artifact.content, arrays, chosen, limit_s)
    return compare(info, expected, ran, truth, classes=bool(artifact.class_names), names=output_names(model))


def compare(
    info: FileInfo,
    expected: Any,
    ran: Mapping[str, Any],
    labels: np.ndarray | None = None,
    margin_steps: float = MARGIN_STEPS,
    classes: bool = True,
    names: Sequence[str] | None = None,
) -> VerifyReport:
    """Report on given outputs.

    Args:
        info: The file.
        expected: Array (N, ..., classes) of the Keras model, or a list with one per output.
        ran: Runtime -> its outputs in the same form; its first M <= N rows.
        labels: Integer classes (N,) for the first output.
        margin_steps: Images whose margin is smaller do not count for agreement.
        classes: Whether the last axis of an output is classes; False for a picture, for example.
        names: Of the outputs; None: their numbers.
    """
    wanted = _with_last_axis(expected)
    rows = {runtime: _with_last_axis(found) for runtime, found in ran.items()}
    steps = [_step(tensor, part) for tensor, part in zip(info.outputs, wanted, strict=True)]
    reports, degenerate = [], []
    for index, (part, step) in enumerate(zip(wanted, steps, strict=True)):
        indices = is_whole(info.outputs[index])  # they are either equal or different
        best, certain = (
            _first_class(part, step, margin_steps)
            if classes and not indices
            else (part[..., 0], np.zeros(part.shape[:-1], bool))
        )
        name = f"output_{index}" if names is None else names[index]
        seen = None if part.shape[-1] == 1 else certain
        measured = {
            r: measure(name, part, found[index], classes, seen, margin_steps * step, indices)
            for r, found in rows.items()
        }
        reports.append(
            [
                replace(
                    _runtime_report(runtime, part, found[index], 0.0 if indices else step, best, certain),
                    outputs=(measured[runtime],),
                )
                for runtime, found in rows.items()
            ]
        )
        # Over the images, some output must vary by more than the rounding and some margin must exceed it.
        moves = float(np.ptp(part, axis=0).max()) > MARGIN_STEPS * step
        leads = certain.any() or part.shape[-1] == 1 or not classes  # a single output has no margin
        if indices:
            moves = leads = bool((part != part[:1]).any())
        degenerate.append(not (moves and leads))
        if degenerate[-1] and len(wanted) > 1:  # agreement of this output is meaningless; the others are judged
            reports[-1] = [replace(row, agreement=None, counted=0) for row in reports[-1]]
    merged = [_worst(rows_of_runtime) for rows_of_runtime in zip(*reports, strict=True)]
    model_accuracy = None
    if labels is not None:
        model_accuracy = float((wanted[0].argmax(-1) == labels).mean())
        merged = [
            replace(row, accuracy=float((np.asarray(row.predictions) == labels[: row.images]).mean())) for row in merged
        ]
    return VerifyReport(
        step=steps[0],
        runtimes=tuple(merged),
        model_accuracy=model_accuracy,
        degenerate=all(degenerate),
        outputs=(wanted[0], next(iter(rows.values()))[0]),
    )


def _with_last_axis(outputs: Any) -> list[np.ndarray]:
    """Each output as (N, ..., C): one number per image becomes one channel."""
    parts = outputs if isinstance(outputs, list) else [outputs]
    return [part[:, None] if part.ndim == 1 else part for part in parts]


def _step(tensor: TensorInfo, expected: np.ndarray) -> float:
    """Step of an output; for a float output that of an int8 output, but not finer than rounding can resolve."""
    own = tensor.scale * INT8_STEPS.get(tensor.dtype, 1)
    return float(own or max(float(np.ptp(expected)) / 255, 1e-3 * float(np.abs(expected).max()), 1e-12))


def _first_class(expected: np.ndarray, step: float, margin_steps: float) -> tuple[np.ndarray, np.ndarray]:
    """(top-1 class, whether its margin exceeds ``margin_steps``), each (N, ...)."""
    if expected.shape[-1] == 1:
        return expected.argmax(-1), np.zeros(expected.shape[:-1], bool)
    first_two = np.sort(expected, axis=-1)[..., -2:]
    return expected.argmax(-1), (first_two[..., 1] - first_two[..., 0]) > margin_steps * step


def _runtime_report(
    runtime: str, expected: np.ndarray, outputs: np.ndarray, step: float, best: np.ndarray, certain: np.ndarray
) -> RuntimeReport:
    count = len(outputs)
    # Without a step these are indices: a different one counts as one step.
    error = np.abs(outputs - expected[:count]) / step if step else (outputs != expected[:count]).astype(np.float32)
    same, counted = outputs.argmax(-1) == best[:count], certain[:count]
    return RuntimeReport(
        runtime=runtime,
        images=count,
        mean_error_steps=float(error.mean()),
        worst_output_steps=float(error.reshape(-1, error.shape[-1]).mean(0).max()),
        max_error_steps=float(error.max()),
        agreement=float(same[counted].mean()) if counted.any() else None,
        counted=int(counted.sum()),
        accuracy=None,
        predictions=tuple(outputs.argmax(-1).tolist()) if outputs.ndim == 2 else (),
    )


def _worst(rows: Sequence[RuntimeReport]) -> RuntimeReport:
    """One row for all outputs of a file: each figure is that of the worst output."""
    least = max(rows, key=_excess)
    return replace(
        rows[0],
        mean_error_steps=max(row.mean_error_steps for row in rows),
        worst_output_steps=max(row.worst_output_steps for row in rows),
        max_error_steps=max(row.max_error_steps for row in rows),
        agreement=least.agreement,
        counted=least.counted,
        outputs=tuple(output for row in rows for output in row.outputs),
    )


def fault(
    row: Mapping[str, Any], bound: float, degenerate: bool = False, margin_steps: float = MARGIN_STEPS
) -> str | None:
    """Description of the bound that a runtime's outputs violate, or None.

    Args:
        row: A ``RuntimeReport`` as a dict.
        bound: Largest mean error allowed, in output steps.
        degenerate: Whether agreement is meaningless.
        margin_steps: As for ``compare``.
    """
    if not row["mean_error_steps"] <= bound:
        return (
            f"The file differs from the Keras model by {row['mean_error_steps']:.3f} output steps on average "
            f"(largest {row['max_error_steps']:.1f}; the tolerance is {bound:g})"
        )
    if not row["worst_output_steps"] <= OUTPUT_SHARE * bound:
        return (
            f"One output of the file differs from the Keras model by {row['worst_output_steps']:.3f} steps on average "
            f"(the tolerance is {OUTPUT_SHARE * bound:g})"
        )
    agreement, counted, least = row["agreement"], row["counted"], MIN_AGREEMENT[row["runtime"]]
    if agreement is None or degenerate:
        return None
    if _wrong_beyond(agreement, counted, row["runtime"]) > 0:
        return (
            f"The file and the Keras model agree on {agreement:.1%} of {counted} images whose margin exceeds "
            f"{margin_steps:g} steps (required is {least:.0%})"
        )
    return None


def _wrong_beyond(agreement: float, counted: int, runtime: str) -> float:
    """Images with another class beyond those that the bound allows; a single image is no share."""
    return round((1 - agreement) * counted) - max(1.0, (1 - MIN_AGREEMENT.get(runtime, 1.0)) * counted)


def _excess(row: RuntimeReport) -> tuple[bool, float, float]:
    if row.agreement is None:
        return (False, 0.0, 0.0)
    return (True, _wrong_beyond(row.agreement, row.counted, row.runtime), -row.agreement)


def warn_if_degenerate(report: VerifyReport, name: str) -> None:
    """Warn the caller of ``export`` if agreement could not be judged."""
    if report.degenerate:
        warn_user(
            f"The outputs of model {name!r} hardly depend on the image (no margin exceeds {MARGIN_STEPS:g} steps, or "
            "no output varies by as much): it looks untrained or degenerate, and top-1 agreement was not judged.",
        )
