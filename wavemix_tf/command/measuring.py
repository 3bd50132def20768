"""Measure the files of a run on its test images, for ``report.json`` and the verbs' tables."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics import confusion_matrix
from ..tflite.c_source.flash import c_flash_words
from ..tflite.exporting.artifact import Artifact
from ..tflite.exporting.fidelity import verify_images
from ..tflite.file.flatbuffer import read_file
from ..tflite.graph.inputs import predict
from ..tflite.kit.speed import speed_of
from ..tflite.measuring.latency import BenchmarkReport, benchmark
from ..tflite.measuring.layer_noise import layer_errors
from ..tflite.names import FAKE_QUANT, LATENCY_MS, RUNTIMES, XNNPACK
from ..tflite.per_op.layer_costs import op_report
from ..tflite.runtimes.running import runtimes_of
from ..tflite.targets.table import get_target
from ..tflite.verification.verifier import VerifyReport, compare, fault, verify
from ..training.data.bundle import DataBundle
from ..training.data.class_counts import split_sizes
from ..training.data.copies import copy_notes
from ..training.recipe import Recipe
from ..training.tasks import task_type
from . import findings, predictions, task_evaluation
from .file_checks import file_checks
from .pages.image_urls import jpeg_url
from .run_folder import PREDICTIONS_FILE, REPORT_FORMAT
from .steps import count_parameters, load_model, network_name, quantized_for, trained_model
from .terminal import console

LAYER_IMAGES, LAYER_PIXELS = 64, 1 << 19
VERIFY_LIMIT_S = 60.0
PROFILE_S = 0.25  # least time for the profile of a file in a report
OTHER_LIMIT_S = 3.0  # limit in `run` for each runtime other than the file's own
QUANTIZED = ("int8", "int16x8")  # dtypes of files that compute a quantized model, not the float model
MODEL_NAMES = {"float32": "float model", "int8": "QAT model"}


@dataclasses.dataclass(frozen=True)
class Measured:
    """Result of ``measure``.

    Attributes:
        report: The content of ``report.json``, except for times and the command.
        predictions: Rows of all test images, see ``predictions.rows_of``; empty if the network is no classifier.
    """

    report: dict[str, Any]
    predictions: list[tuple[str, str, str, str, float]]


def measure(
    recipe: Recipe, data: DataBundle, models: Mapping[str, Any], artifacts: Sequence[tuple[str, Artifact]], limit: int
) -> Measured:
    """Run the test images through every model and file, time the files, and return the content of the report.

    Args:
        recipe: Recipe of the run.
        data: Data of the run; the test set is read here for the first time.
        models: "float32" and, if there is one, "int8" -> trained Keras model; int8 files need the latter.
        artifacts: (name, exported file).
        limit: Largest number of test images.
    """
    if task_type(recipe).large_outputs:
        return Measured(_measure_pictures(recipe, data, models, artifacts, limit), [])
    images, labels = data.sample("test", limit)
    logits = {dtype: predict(model, images) for dtype, model in models.items()}
    results: list[dict[str, Any]] = [
        {
            "name": MODEL_NAMES[dtype],
            "runtime": "Keras",
            "dtype": dtype,
            "accuracy": float((z.argmax(-1) == labels).mean()),
            "images": len(images),
        }
        for dtype, z in logits.items()
    ]
    exports, shown, rows = [], None, []
    for name, artifact in artifacts:
        kind = "int8" if artifact.dtype == "int8" else "float32"
        with console.status(f"  {name}"):
            model = _model_of(artifact, models, data)
            matrix_row, compared = verify_file(name, artifact, model, logits, images, labels, OTHER_LIMIT_S)
            rows.append(matrix_row)
            timed = _timed(artifact)
        row = compared.runtimes[0]
        part = "" if row.images == len(images) else f", {row.images:,} of the images"
        results.append(
            {
                "name": name,
                "runtime": RUNTIMES[row.runtime].title + part,
                "dtype": artifact.dtype,
                "accuracy": row.accuracy,
                "images": row.images,
                "size_bytes": artifact.size_bytes,
                "latency_ms": timed.latency_ms,
                "arena_bytes": timed.arena_bytes,
                "file": f"exports/{name}.tflite",
            }
        )
        exports.append(_export_card(name, artifact, compared.to_dict(), timed))
        if kind == "int8" and (shown is None or row.images >= shown[1].runtimes[0].images):  # prefer the last: mcu
            shown = (name, compared)

    report = _about(recipe, data, models, len(images))
    report |= {
        "results": results,
        "wavelet": findings.wavelet(images[0], data.class_names[labels[0]]),
        "exports": exports,
    }
    report["verification"] = {"images": len(images), "rows": rows}
    names = data.test_source.sample_names(len(images))
    of, answers = MODEL_NAMES[max(logits)], logits[max(logits)]  # "int8" where there is one
    if shown is not None:
        with console.status("  layer by layer"):
            report["verification"]["layers"] = layer_rows(artifacts, models["int8"], images)
        name, compared = shown
        found = compared.outputs[1]
        count = len(found)
        sampled = findings.sample(found, logits["int8"][:count], logits["float32"][:count])
        report["scatter"] = {
            "of": name,
            "images": count,
            "step": compared.step,
            **dict(zip(("int8", "qat", "float"), sampled, strict=True)),
        }
        matrix = confusion_matrix(labels[:count], found.argmax(-1), len(data.class_names))
        report["confusion"] = {"of": name, "matrix": matrix.tolist()}
        report["mistakes"] = findings.mistakes(images[:count], labels[:count], found, data.class_names, names)
        if count == len(images):
            of, answers = name, found
    report["predictions"] = {"of": of, "images": len(images), "file": PREDICTIONS_FILE}
    return Measured(report, predictions.rows_of(names, labels, answers, data.class_names))


def merged(report: dict[str, Any], found: Measured) -> tuple[dict[str, Any], bool]:
    """Add measurements of files to a report: as further rows, or in place of rows of the same name.

    Args:
        report: As in ``report.json``.
        found: Measurements of the files on the same test images.

    Returns:
        (the report, whether its predictions are now ``found.predictions``).
    """
    new = found.report
    names = {row["name"] for row in new["exports"]}
    whole = {**report, "refused": {name: why for name, why in report["refused"].items() if name not in names}}
    for key in ("results", "exports"):
        whole[key] = _joined(report[key], new[key], "name", names)
    rows = _joined(report["verification"].get("rows", []), new["verification"]["rows"], "file", names)
    whole["verification"] = {**report["verification"], "rows": rows}

    def replaces(part: Any, other: Any) -> bool:
        return other is not None and (part is None or part.get("of") in names)

    if replaces(report["verification"].get("layers"), new["verification"].get("layers")):
        whole["verification"]["layers"] = new["verification"]["layers"]
    for key in ("confusion", "scatter", "predictions"):
        if replaces(report.get(key), new.get(key)):
            whole[key] = new[key]
            if key == "confusion":
                whole["mistakes"] = new["mistakes"]
    return whole, whole.get("predictions") is not None and whole["predictions"] is new.get("predictions")


def _joined(rows: list[Any], new: list[Any], key: str, names: set[str]) -> list[Any]:
    """Merge ``new`` into ``rows``: rows in ``names`` are replaced by those of the same name, others are appended."""
    found = {row[key]: row for row in new}
    there = {row[key] for row in rows}
    kept = [found[row[key]] if row[key] in names else row for row in rows]
    return [*kept, *(row for row in new if row[key] not in there)]


def _about(recipe: Recipe, data: DataBundle, models: Mapping[str, Any], tested: int) -> dict[str, Any]:
    """Return the report's fields about the run itself."""
    return {
        "format": REPORT_FORMAT,
        "name": recipe.name,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "recipe": json.loads(recipe.to_json()),
        "dataset": {
            "class_names": list(data.class_names),
            "image_shape": list(data.image_shape),
            "sizes": split_sizes(data),
            "counts": data.class_counts,
            "copies": copy_notes(data),
            "tested": tested,
        },
        "model": {"name": network_name(models["float32"]), "parameters": count_parameters(models["float32"])},
        "machine": findings.machine(),
        "versions": findings.versions(),
    }


def _measure_pictures(
    recipe: Recipe, data: DataBundle, models: Mapping[str, Any], artifacts: Sequence[tuple[str, Artifact]], limit: int
) -> dict[str, Any]:
    """``measure`` for a network whose outputs are masks or images, which are too large to keep for a whole test set."""
    metric = recipe.metric
    count = min(limit, verify_images(models["float32"]))
    images, _ = data.sample("test", count)
    logits = {dtype: predict(model, images) for dtype, model in models.items()}
    results: list[dict[str, Any]] = []

    def add(name: str, runtime: str, dtype: str, found: task_evaluation.Score, **more: Any) -> None:
        row = {"name": name, "runtime": runtime, "dtype": dtype, metric: found.value, "images": found.images}
        results.append({**row, **found.details, **more})

    judged = task_evaluation.evaluation_of(recipe)
    for name, runtime, found in judged.baselines(recipe, data, limit):
        add(name, runtime, "", found)
    runs = {}
    for dtype, model in models.items():
        with console.status(f"  {MODEL_NAMES[dtype]}"):
            runs[MODEL_NAMES[dtype]] = task_evaluation.keras_run(model)
            found = judged.score(recipe, data, runs[MODEL_NAMES[dtype]], limit)
        add(MODEL_NAMES[dtype], "Keras", dtype, found)
    tested = max(row["images"] for row in results)
    exports, rows = [], []
    for name, artifact in artifacts:
        with console.status(f"  {name}"):
            model = _model_of(artifact, models, data)
            matrix_row, compared = verify_file(name, artifact, model, logits, images, None, OTHER_LIMIT_S)
            rows.append(matrix_row)
            timed = _timed(artifact)
            runtime = compared.runtimes[0].runtime
            run = task_evaluation.file_run(artifact.content, runtime)
            found = judged.score(recipe, data, run, limit, VERIFY_LIMIT_S)
        part = "" if found.images == tested else f", {found.images:,} of the images"
        more = {"size_bytes": artifact.size_bytes, "latency_ms": timed.latency_ms, "arena_bytes": timed.arena_bytes}
        more["file"] = f"exports/{name}.tflite"
        add(name, RUNTIMES[runtime].title + part, artifact.dtype, found, **more)
        exports.append(_export_card(name, artifact, compared.to_dict(), timed))
        if artifact.dtype == "int8" and runtime == XNNPACK:
            runs[name] = run
    results = judged.comparable(results)
    tested = max(row["images"] for row in results)
    runs.pop(MODEL_NAMES["int8"], None)  # the pictures of its file are shown instead
    report = _about(recipe, data, models, tested)
    shown = judged.pictures(recipe, data, runs)
    side = task_evaluation.SHOWN_SIDE
    report |= {
        "metric": metric,
        "results": results,
        "exports": exports,
        "wavelet": findings.wavelet(images[0], judged.example),
        "pictures": [
            {"cells": [{**cell, "image": jpeg_url(cell["image"], side)} for cell in row["cells"]]} for row in shown
        ],
        "verification": {"images": len(images), "rows": rows},
    }
    report |= judged.report(recipe, data)
    if "int8" in models:
        with console.status("  layer by layer"):
            report["verification"]["layers"] = layer_rows(artifacts, models["int8"], images)
    return report


def _model_of(artifact: Artifact, models: Mapping[str, Any], data: DataBundle) -> Any:
    """Return the Keras model that a file computes, of ``measure``'s or quantized as for the file."""
    if artifact.dtype == "int16x8":
        return quantized_for(artifact, models["float32"], data)
    return models["int8" if artifact.dtype == "int8" else "float32"]


def verify_file(
    name: str,
    artifact: Artifact,
    model: Any,
    logits: Mapping[str, np.ndarray],
    images: np.ndarray,
    labels: np.ndarray | None,
    other_limit_s: float = VERIFY_LIMIT_S,
) -> tuple[dict[str, Any], VerifyReport]:
    """Run a file in every runtime of its target that supports its ops, for one row of the matrix.

    Args:
        name: Name of the file.
        artifact: The file.
        model: The Keras model that it was made from.
        logits: "int8" and "float32" (if there are such models) -> their logits, (N, classes). A file whose model is
            neither (int16x8) is compared with the logits of ``model``, which are computed here.
        images: (N, H, W, C).
        labels: (N,); None: no accuracy.
        other_limit_s: Seconds for each runtime other than the target's own, which gets ``VERIFY_LIMIT_S``.

    Returns:
        ({"file", "dtype", "cells": runtime -> figures}, comparison in the target's own runtime). A cell's "fault" is
        the reason of a failure, or None; "bound_steps" is None in Keras's column, which has no tolerance.
    """
    kind = artifact.dtype if artifact.dtype in QUANTIZED else "float32"
    expected = logits[kind] if kind in logits else predict(model, images)
    info = read_file(artifact.content)
    runtimes = runtimes_of(get_target(artifact.target), info)
    cells, reports_of = {}, []
    for runtime in runtimes:
        limit_s = VERIFY_LIMIT_S if runtime == runtimes[0] else other_limit_s
        found = verify(artifact, model, images, labels, runtimes=[runtime], limit_s=limit_s, expected=expected)
        bound = artifact.verification["error_bound_steps"][runtime]
        cells[runtime] = _cell(found, bound)
        reports_of.append(found)
    if kind in QUANTIZED and "float32" in logits:
        classes = bool(artifact.class_names)
        compared = compare(info, logits["float32"], {FAKE_QUANT: expected}, labels, classes=classes)
        cells[FAKE_QUANT] = _cell(compared, None)
    return {"file": name, "dtype": artifact.dtype, "cells": cells}, reports_of[0]


def verify_files(
    out: Path,
    artifacts: Sequence[tuple[str, Artifact]],
    data: DataBundle,
    images: np.ndarray,
    labels: np.ndarray | None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Verify every file of a run folder in every runtime of its target.

    Returns:
        (rows of the matrix, see ``verify_file``; name of a file -> the Keras model that it was made from).
    """
    logits: dict[str, np.ndarray] = {}
    if (out / "model.keras").is_file():
        logits["float32"] = predict(load_model(out / "model.keras"), images)
    rows: list[dict[str, Any]] = []
    models: dict[str, Any] = {}
    for name, artifact in artifacts:
        with console.status(f"  {name}"):
            # One fine-tuned model serves all targets; without it, each file has its own model.
            shared = artifact.dtype == "int8" and (out / "qat.keras").is_file()
            alike = next((n for n, a in artifacts if shared and n in models and a.dtype == "int8"), None)
            models[name] = models[alike] if alike else trained_model(out, artifact, data)
            if artifact.dtype == "int8" and not alike:
                logits["int8"] = predict(models[name], images)
            elif artifact.dtype not in QUANTIZED and "float32" not in logits:
                logits["float32"] = predict(models[name], images)
            rows.append(verify_file(name, artifact, models[name], logits, images, labels)[0])
    return rows, models


def _cell(found: VerifyReport, bound: float | None) -> dict[str, Any]:
    row = found.to_dict()["runtimes"][0]
    kept = ("images", "mean_error_steps", "max_error_steps", "snr_db", "agreement", "counted", "accuracy")
    wrong = None if bound is None else fault(row, bound, found.degenerate)
    return {**{key: row[key] for key in kept}, "bound_steps": bound, "fault": wrong}


def test_sample(recipe: Recipe, data: DataBundle, out: Path, limit: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return (test images, labels) to verify files on; fewer and without labels if the outputs are large."""
    if not task_type(recipe).large_outputs:
        return data.sample("test", limit)
    return data.sample("test", min(limit, verify_images(load_model(out / "model.keras"))))[0], None


def layer_rows(artifacts: Sequence[tuple[str, Artifact]], model: Any, images: np.ndarray) -> dict[str, Any] | None:
    """Measure the accuracy loss of the first int8 file among ``artifacts``, layer by layer; None if there is none.

    Args:
        artifacts: (name, file).
        model: The quantized Keras model.
        images: (N, H, W, C), of which the first ones are used.
    """
    name, artifact = next(((n, a) for n, a in artifacts if a.dtype == "int8"), (None, None))
    if artifact is None:
        return None
    part = images[: max(2, min(LAYER_IMAGES, LAYER_PIXELS // (images.shape[1] * images.shape[2])))]
    rows = [row.to_dict() for row in layer_errors(model, part, artifact)]
    return {"of": name, "images": len(part), "rows": rows}


def _timed(artifact: Artifact) -> BenchmarkReport:
    """Time a file; each of its ops as well if this machine's times mean something for its target."""
    profiled = LATENCY_MS in get_target(artifact.target).costs
    return benchmark(artifact, memory=False, peak=False, profile=profiled, profile_s=PROFILE_S)


def _export_card(name: str, artifact: Artifact, tested: dict[str, Any], timed: BenchmarkReport) -> dict[str, Any]:
    """Return the report's entry of one file: its model card, the checks before and after it was written, its ops."""
    card = artifact.to_dict()
    extra = {
        "an input is": card["input_meaning"],
        "upsampling": (card["upsample_form"] or "").replace("_", " "),
        "replaced": f"{len(card['substituted_activations'])} activations" if card["substituted_activations"] else "",
        "flash": c_flash_words(artifact.content) if get_target(artifact.target).writes_c else "",
        **dict(speed_of(artifact)),
        "sha256": hashlib.sha256(artifact.content).hexdigest(),
    }
    return {
        "name": name,
        "file": f"exports/{name}.tflite",
        "description": get_target(artifact.target).device,
        **{key: card[key] for key in ("target", "dtype", "size_bytes", "arena_bytes", "ops", "input", "output")},
        "checks": file_checks(artifact, tested),
        "float_model_bounds": artifact.verification.get("float_model_bounds"),
        "card": {key: value for key, value in extra.items() if value},
        "per_op": op_report(artifact, timed.op_times_us).to_dict(),
    }
