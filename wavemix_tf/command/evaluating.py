"""The verb `evaluate`: a network on a folder of labeled images, alone or against a shipped one."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..escaping import printable
from ..files import replacing_folder, write_text
from ..metrics import confusion_matrix, precision_recall_f1
from ..training.data.bundle import DataBundle
from ..training.data.folders import scan_labelled
from ..training.data.given import unwrapped_errors
from ..training.data.listing import Notes, first_names
from ..training.data.masks import CLASSES_FILE, scan_masks
from ..training.data.patches import PATCHES_OF_AN_IMAGE, PatchSource, file_pictures, scan_pictures
from ..training.data.sources import FileSource
from ..training.images import nearly_black_text
from . import findings, paired, predictions, task_evaluation
from .evaluated_files import EvaluatedFile, latencies, trained_on
from .evaluation_folder import CHANGED_FILE, KIND
from .networks import NoNumbersError, probabilities, with_sampling_grid
from .pages.evaluation_page import FORMAT, render_html
from .pages.formats import wilson_interval
from .pages.image_urls import jpeg_url
from .predicting import BATCH_PIXELS, progress
from .run_folder import PREDICTIONS_FILE
from .terminal import note

SHOWN_CHANGES = 12  # pictures on the page


class Evaluated:
    """The result of an evaluation: what `evaluate` writes and prints.

    Attributes:
        report: The content of ``report.json``.
        predictions: Rows of ``predictions.csv``; empty for a network that is no classifier.
        changes: Images whose class differs from that of the shipped network; None without one.
        failures: Why the network must not replace the shipped one.
    """

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report
        self.predictions: list[tuple[str, str, str, str, float]] = []
        self.changes: list[paired.Change] | None = None
        self.failures: list[str] = []

    def write(self, out: Path) -> None:
        """Write the folder as a whole: a reader sees the old one or the complete new one."""
        with replacing_folder(out) as folder:
            if self.predictions:
                predictions.write(folder, self.predictions)
            if self.changes is not None:
                rows = [change.cells for change in self.changes]
                predictions.write_table(folder / CHANGED_FILE, paired.COLUMNS, rows)
            text = json.dumps(self.report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
            write_text(folder / "report.json", text)
            write_text(folder / "report.html", render_html(self.report))

    def summary(self) -> dict[str, Any]:
        """Return the report without pictures, for ``--json``."""
        found = {key: value for key, value in self.report.items() if key not in ("mistakes", "pictures", "changes")}
        if "mistakes" in self.report:
            found["mistakes"] = [
                {key: value for key, value in row.items() if key != "image_png"} for row in self.report["mistakes"]
            ]
        return found


def evaluate(
    file: EvaluatedFile,
    shipped: EvaluatedFile | None,
    command: str,
    max_drop: float | None = None,
    max_changed: float | None = None,
) -> Evaluated:
    """Evaluate a network.

    Args:
        file: The network.
        shipped: A network to compare it with, on the same images.
        command: The command line, for the report.
        max_drop: See ``paired.failures``.
        max_changed: See ``paired.failures``.

    Raises:
        ValueError: The folder does not fit the network, an image cannot be read, or the outputs are not finite.
    """
    if file.network.kind.large_outputs:
        if shipped is not None:
            raise ValueError(
                f"--against compares classifiers. Received: {file.path}, a network for {file.network.task}"
            )
        return _evaluate_pictures(file, command)
    return _evaluate_classes(file, shipped, command, max_drop, max_changed)


def _evaluate_classes(
    file: EvaluatedFile,
    shipped: EvaluatedFile | None,
    command: str,
    max_drop: float | None,
    max_changed: float | None,
) -> Evaluated:
    if shipped is not None:
        _check_pair(file, shipped)
    names, notes = file.network.names, Notes()
    source = scan_labelled(file.recipe, notes, names)
    if not source.size:
        raise ValueError(f"The folder must have readable images. Received: none in {file.recipe.data_dir}")
    files, labels, scores = source.files, source.labels, _scores(file, source)
    paths = [] if files is None else list(files.names)
    used, run = trained_on(file.path, () if files is None else files.digests)
    if used:
        notes.append(
            f"{used:,} of the {source.size:,} images were used to train the network (list of {run}): its accuracy on "
            "them does not show how it classifies new images"
        )
    report = _about(file, command, notes, names, source.size)
    found = Evaluated(report)
    predicted = probabilities(scores).argmax(-1)
    matrix = confusion_matrix(labels, predicted, len(names))
    report["results"] = [_result(file, labels, predicted)]
    report["confusion"] = {"of": report["name"], "matrix": matrix.tolist()}
    report["classes"] = _class_rows(matrix, names)
    report["mistakes"] = _mistakes(source, scores, names, paths)
    report["predictions"] = {"of": report["name"], "images": source.size, "file": PREDICTIONS_FILE}
    found.predictions = predictions.rows_of(paths, labels, scores, names)
    if shipped is not None:
        _compare(found, file, shipped, source, scores, paths, max_drop, max_changed)
    return found


def _check_pair(file: EvaluatedFile, shipped: EvaluatedFile) -> None:
    """Raise ValueError unless both are classifiers of the same classes; their order may differ."""
    if shipped.network.kind is not file.network.kind:
        raise ValueError(
            f"--against must be a network for {file.network.task}. Received: {shipped.path}, a network for "
            f"{shipped.network.task}"
        )
    mine, theirs = set(file.network.names), set(shipped.network.names)
    if mine != theirs:
        parts = [f"lacks {first_names(mine - theirs)}"] if mine - theirs else []
        parts += [f"has {first_names(theirs - mine)}"] if theirs - mine else []
        raise ValueError(
            f"--against must be a classifier of the same classes. Received: {shipped.path} {' and '.join(parts)}"
        )


def _scores(file: EvaluatedFile, source: FileSource) -> np.ndarray:
    """Run the images of a source: logits or probabilities, (N, classes)."""
    network = file.network
    pixels = file.recipe.image_shape[0] * file.recipe.image_shape[1]
    size = max(1, min(network.most_images, BATCH_PIXELS // pixels))
    parts: list[np.ndarray] = []
    with progress(source.size, file.path.name) as advance, unwrapped_errors(source):
        for images, _ in source.batches(size):
            try:
                parts.append(network.run(np.asarray(images)))
            except NoNumbersError as error:
                raise ValueError(f"{file.path}: {error}") from None
            advance(len(images))
    found = np.concatenate(parts)
    return found if found.shape[-1] > 1 else probabilities(found)  # one logit: two classes


def _result(file: EvaluatedFile, labels: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """Return a row of ``results``."""
    correct = int((predicted == labels).sum())
    share = correct / len(labels)
    return {
        **_row(file),
        "accuracy": share,
        "interval": list(wilson_interval(share, len(labels))),
        "correct": correct,
        "images": len(labels),
    }


def _row(file: EvaluatedFile) -> dict[str, Any]:
    facts = file.facts()
    return {key: facts[key] for key in ("name", "runtime", "dtype", "size_bytes", "arena_bytes")}


def _class_rows(matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return name, precision, recall, F1, number of images and of predictions of each class; None where undefined."""
    values = [[None if np.isnan(value) else float(value) for value in part] for part in precision_recall_f1(matrix)]
    return [
        {"name": name, "precision": p, "recall": r, "f1": f, "images": int(images), "predicted": int(predicted)}
        for name, p, r, f, images, predicted in zip(names, *values, matrix.sum(1), matrix.sum(0), strict=True)
    ]


def _mistakes(
    source: FileSource, scores: np.ndarray, names: Sequence[str], paths: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the most confident errors as pictures."""
    rows = findings.surest_errors(source.labels, scores)[: findings.MISTAKES]
    if not len(rows):
        return []
    images = source.take(rows).arrays()[0] / np.float32(255)
    found = findings.mistakes(images, source.labels[rows], scores[rows], names, [paths[row] for row in rows])
    sure = probabilities(scores[rows]).max(-1)
    return [{**row, "confidence": float(share)} for row, share in zip(found, sure, strict=True)]


def _compare(
    found: Evaluated,
    file: EvaluatedFile,
    shipped: EvaluatedFile,
    source: FileSource,
    scores: np.ndarray,
    paths: Sequence[str],
    max_drop: float | None,
    max_changed: float | None,
) -> None:
    """Add the comparison with the shipped network to a result."""
    names, labels = file.network.names, source.labels
    theirs = scan_labelled(shipped.recipe, Notes(), names)  # the same files, at the other network's size
    order = [shipped.network.names.index(name) for name in names]
    before = _scores(shipped, theirs)[:, order]
    now, was = probabilities(scores).argmax(-1), probabilities(before).argmax(-1)
    counts = paired.paired(labels, now, was)
    found.changes = paired.changes(paths, labels, scores, before, names)
    found.failures = paired.failures(counts, len(found.changes), max_drop, max_changed)
    times = latencies([file, shipped])
    found.report["results"].append(_result(shipped, labels, was))
    for row, time in zip(found.report["results"], times, strict=True):
        row["latency_ms"] = time
    mine, other = (row.facts() for row in (file, shipped))
    arenas = mine["arena_bytes"], other["arena_bytes"]
    same_runtime = times[0]["runtime"] == times[1]["runtime"]
    found.report["against"] = {
        "shipped": other,
        "difference": counts.difference,
        "interval": list(counts.interval),
        "interval_method": paired.INTERVAL_METHOD,
        "p_value": counts.p_value,
        "counts": {"both_right": counts.both_right, "both_wrong": counts.both_wrong},
        "changed": len(found.changes),
        "changed_share": len(found.changes) / counts.images,
        "kinds": {kind: sum(change.kind == kind for change in found.changes) for kind in paired.KINDS},
        "file": CHANGED_FILE,
        "size_ratio": mine["size_bytes"] / other["size_bytes"],
        "arena_ratio": None if None in arenas else arenas[0] / arenas[1],
        "latency_ratio": times[0]["p50"] / times[1]["p50"] if same_runtime else None,
        "max_drop": max_drop,
        "max_changed": max_changed,
        "passed": not found.failures,
        "failures": found.failures,
    }
    shown = found.changes[:SHOWN_CHANGES]
    images: Iterable[np.ndarray] = source.take(np.array([change.row for change in shown])).arrays()[0] if shown else []
    found.report["changes"] = [
        {
            "image_png": findings.thumbnail(image / np.float32(255)),
            "file": printable(change.cells[0]),
            **dict(zip(paired.COLUMNS[1:], change.cells[1:], strict=True)),
        }
        for change, image in zip(shown, images, strict=True)
    ]


def _about(file: EvaluatedFile, command: str, notes: Notes, names: Sequence[str], images: int) -> dict[str, Any]:
    """Return the report's fields about the evaluation itself, and print the notes."""
    dark = nearly_black_text(notes.deep)
    texts = [*notes, *([dark] if dark else [])]
    for text in texts:
        note(text)
    name = printable(file.path.name)
    return {
        "format": FORMAT,
        "kind": KIND,
        "name": name,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": printable(command),
        "task": file.network.task,
        "model": file.facts(),
        "dataset": {
            "folder": printable(str(file.recipe.data_dir)),
            "class_names": list(names),
            "image_shape": list(file.recipe.image_shape),
            "images": images,
            "skipped": [list(map(printable, pair)) for pair in notes.left_out],
        },
        "notes": list(map(printable, texts)),
        "machine": findings.machine(),
        "versions": findings.versions(),
    }


# --- masks and enlarged images ----------------------------------------------------------------------------------------


def _evaluate_pictures(file: EvaluatedFile, command: str) -> Evaluated:
    """Evaluate a network that returns masks or images, by its task's metric."""
    notes, recipe = Notes(), file.recipe
    source, count = SOURCES[file.network.kind.targets](file, notes)
    names = file.network.names
    nothing = np.zeros((0, *recipe.image_shape), np.float32)
    data = DataBundle(names, recipe.image_shape, None, None, source, nothing)
    report = _about(file, command, notes, names, count)
    judged, metric = task_evaluation.evaluation_of(recipe), recipe.metric
    results = [
        {"name": name, "runtime": runtime, "dtype": "", metric: score.value, "images": score.images, **score.details}
        for name, runtime, score in judged.baselines(recipe, data, count)
    ]
    run = _as_classes(file.network.run) if file.network.gives_masks else file.network.run
    with progress(count, file.path.name) as advance, unwrapped_errors(source):
        try:
            score = judged.score(recipe, data, run, count, advance=advance)
        except NoNumbersError as error:
            raise ValueError(f"{file.path}: {error}") from None
    value = None if np.isnan(score.value) else score.value  # masks without a pixel of a class
    results.append({**_row(file), metric: value, "images": score.images, **score.details})
    shown, side = judged.pictures(recipe, data, {file.path.name: run}), task_evaluation.SHOWN_SIDE
    report |= {
        "metric": metric,
        "results": judged.comparable(results),
        "pictures": [
            {"cells": [{**cell, "image": jpeg_url(cell["image"], side)} for cell in row["cells"]]} for row in shown
        ],
        **judged.report(recipe, data),
    }
    return Evaluated(report)


def _as_classes(run: Any) -> Any:
    """Make a network of one logit a pixel return both of its classes."""

    def both(images: np.ndarray) -> np.ndarray:
        found = run(images)
        return found if found.shape[-1] > 1 else probabilities(found)

    return with_sampling_grid(both, run.sampling_grid)


def _mask_source(file: EvaluatedFile, notes: Notes) -> tuple[Any, int]:
    """Return the images with their masks, and their number."""
    root = Path(str(file.recipe.data_dir))
    names, sources = scan_masks(file.recipe, notes, training=False)
    if (root / CLASSES_FILE).is_file() and names != file.network.names:
        raise ValueError(
            f"{root / CLASSES_FILE} must have the classes of the network, in their order: "
            f"{', '.join(file.network.names[:12])}. Received: {', '.join(names[:12])}"
        )
    source: Any = _tested(sources, root, notes)
    return source, source.size


def _picture_source(file: EvaluatedFile, notes: Notes) -> tuple[Any, int]:
    """Return the images to enlarge, and their number."""
    recipe = file.recipe
    paths, files = _tested(scan_pictures(recipe, notes), Path(str(recipe.data_dir)), notes)
    pictures = file_pictures(paths, files, recipe)
    return PatchSource(pictures, recipe.image_shape, recipe.scale, PATCHES_OF_AN_IMAGE), len(paths)


def _tested(splits: Sequence[Any], root: Path, notes: Notes) -> Any:
    """Return the test images of a folder with splits (training, validation, test), otherwise all."""
    train, validation, test = splits
    if test is None and validation is None:
        return train
    if test is None:
        raise ValueError(f"A folder with splits must have test images. Received: {root} without test/")
    notes.append(f"{root} has splits: only the test images are used")
    return test


# `Task.targets` -> function (file, notes) -> (source, number of images).
SOURCES = {"masks": _mask_source, "images": _picture_source}
