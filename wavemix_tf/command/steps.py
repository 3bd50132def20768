"""The steps of a run, which the command's verbs share: each reads and writes one run folder.

With ``cli.py`` the only place where ``training`` and ``tflite`` meet. Imports Keras: the command imports this module
after it has checked its arguments.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..colours import palette
from ..dynamixer import DynaMixer  # noqa: F401 - registers the layers that a .keras file names
from ..metrics import confusion_matrix
from ..mixer_models import TokenMixerClassifier  # noqa: F401 - likewise
from ..models import WaveMixClassifier  # noqa: F401 - likewise
from ..tflite import fake_quant  # noqa: F401 - likewise
from ..tflite.artifact import Artifact
from ..tflite.errors import ExportError
from ..tflite.exporter import export, model_sha256
from ..tflite.fidelity import verify_images
from ..tflite.flatbuffer import read_file
from ..tflite.kit import kit_digest
from ..tflite.latency import benchmark
from ..tflite.layer_noise import layer_errors
from ..tflite.limits import check_arguments
from ..tflite.quantizer import check_options, quantize
from ..tflite.ranges import MIN_IMAGES
from ..tflite.targets import get_target
from ..tflite.verifier import VerifyReport, compare, fault, predict, verify
from ..training.datasets import DataBundle, load_data
from ..training.identity import check_run
from ..training.recipe import Recipe
from ..training.sources import whole_pictures
from ..training.trainer import build, claim, fit, save_model
from ..vit import ViT  # noqa: F401 - likewise
from . import evaluation, findings, plots
from . import report as reports
from .arguments import START_FILE, saved_recipe
from .class_counts import counts_table, majority_text
from .file_checks import RUNTIME_NAMES, file_checks, verification_images
from .terminal import console, note, step

FAKE_QUANT = "keras-fake-quant"
KIT_IMAGES = 4
LIMITS = ("max_arena_bytes", "max_flash_bytes", "accelerator", "max_firmware_bytes")
LAYER_IMAGES, LAYER_PIXELS = 64, 1 << 19
VERIFY_LIMIT_S = 60.0
OTHER_LIMIT_S = 3.0  # in `run`, for each runtime but a file's own
MODEL_NAMES = {"float32": "float model", "int8": "QAT model"}


def load_images(
    recipe: Recipe, out: Path, quantizes: bool = False, fresh: bool = False, known_only: bool = False
) -> DataBundle:
    """The data of a recipe, which must be that of the run folder's finished stage.

    Args:
        recipe: Says which.
        out: Run folder.
        quantizes: Whether a network will be calibrated: too few images for that are told before any training.
        fresh: Whether the folder's run is begun anew, so that its list of files does not count.
        known_only: Leave out images that the run's list does not know.
    """
    data = load_data(recipe, None if fresh else out, known_only)
    if not fresh:
        check_run(data, out)
    if quantizes and len(data.calibration) < MIN_IMAGES:
        advice = f"--set calibration_images={MIN_IMAGES}"
        if recipe.calibration_images >= MIN_IMAGES:
            advice = "add images, or use `wavemix-tf fit` and float32 files, which need none"
        raise ValueError(
            f"At least {MIN_IMAGES} images must calibrate a network to quantize it: {advice}. Received: "
            f"calibration_images={recipe.calibration_images}, {len(data.calibration)} of them there"
        )
    tell_data(recipe, data)
    return data


def tell_data(recipe: Recipe, data: DataBundle) -> None:
    """Print how many images every set has, of each class, and what was done to them."""
    sizes = ", ".join(f"{count:,} {name}" for name, count in split_sizes(data).items())
    if recipe.task == "super_resolution":
        console.print(f"  {sizes} patches")
    else:
        console.print(f"  {sizes} images of {len(data.class_names)} classes")
    if data.class_counts:
        console.print(counts_table(data.class_names, data.class_counts))
        console.print(f"  {majority_text(data.class_names, data.class_counts, recipe.task == 'segmentation')}")
    for text in data.notes:
        note(text)


def split_sizes(data: DataBundle) -> dict[str, int]:
    """Images in each of the four sets."""
    sources = {"train": data.train_source, "validation": data.validation_source, "test": data.test_source}
    calibration = "calibration (of the training images)" if data.calibration_shared else "calibration"
    return {**{name: source.size for name, source in sources.items()}, calibration: len(data.calibration)}


def load_model(path: Path) -> Any:
    """A .keras file of a run folder, with the layers of the package known."""
    if not path.is_file():
        made_by = "quantize" if path.name == "qat.keras" else "fit"
        raise FileNotFoundError(f"{path} is missing: `wavemix-tf {made_by} --out {path.parent}` makes it.")
    return keras.saving.load_model(path)


def load_start(out: Path, recipe: Recipe) -> Any:
    """The network that training begins with, where ``import-torch --new-head`` left one for this recipe; else None."""
    if not (out / START_FILE).is_file():
        return None
    if recipe.differences(saved_recipe(out)):
        (out / START_FILE).unlink()  # of a run that is being replaced
        return None
    return keras.saving.load_model(out / START_FILE)


def save_start(model: Any, recipe: Recipe, out: Path, overwrite: bool) -> None:
    """Leave a network in a run folder for ``fit`` to begin with; with ``overwrite`` what was trained there goes."""
    claim(out, recipe, overwrite)
    save_model(model, out / START_FILE, recipe)


def quantize_for_tuning(recipe: Recipe, model: Any, data: DataBundle) -> Any:
    """The quantization-aware model that is fine-tuned, by the recipe's ``qat_*`` fields, for every int8 target."""
    options = {"observer": recipe.qat_observer, "skip": recipe.qat_skip}
    return quantize(model, data.calibration, target="mcu", **options)


def fine_tune(
    recipe: Recipe, model: Any, data: DataBundle, out: Path, overwrite: bool, seconds: dict[str, float]
) -> Any:
    """Quantize and fine-tune; the result serves every int8 target, so activations are those of the most limited."""
    with step("Quantize", seconds):
        qat = quantize_for_tuning(recipe, model, data)
    with step("Fine-tune with int8 arithmetic", seconds):
        return fit(recipe, model=qat, data=data, out=out, stage="qat", overwrite=overwrite)


def check_network(recipe: Recipe) -> None:
    """Build the network and drop it: what is wrong with the recipe's arguments shows before the data is read."""
    check_options(build(recipe, recipe.num_classes or 2), observer=recipe.qat_observer, skip=recipe.qat_skip)


def trained_model(out: Path, artifact: Artifact, data: DataBundle) -> Any:
    """The Keras model that a file of a run folder was made from."""
    if artifact.dtype == "int16x8":
        return quantize(load_model(out / "model.keras"), data.calibration, dtype="int16x8", target=artifact.target)
    if artifact.dtype != "int8":
        return load_model(out / "model.keras")
    if (out / "qat.keras").is_file():
        return load_model(out / "qat.keras")
    return quantize(load_model(out / "model.keras"), data.calibration, target=artifact.target)  # as `export` did


def tell_resumption(out: Path, overwrite: bool) -> None:
    """Say that an interrupted training goes on."""
    if (out / "checkpoint.npz").is_file() and not overwrite:
        console.print("  going on after the last finished epoch")


def write_exports(
    out: Path,
    chosen: Sequence[tuple[str, str]],
    models: dict[str, Any],
    data: DataBundle,
    io_dtype: str | None = None,
    overwrite: bool = False,
    **limits: Any,
) -> tuple[list[tuple[str, Artifact]], dict[str, str]]:
    """Export, check and save the chosen files; those that the run folder holds already are read.

    Args:
        out: Run folder. A report that it holds goes when a file is written: it tells of the file before.
        chosen: (target, dtype) pairs.
        models: "float32" and "int8" -> trained Keras model; a float model under "int8" is quantized on the way.
        data: For verification, and for calibration of a float model.
        io_dtype: As for ``export``.
        overwrite: Write files anew that are there.
        **limits: ``max_arena_bytes``, ``max_flash_bytes``, ``max_firmware_bytes``, ``accelerator``, ``min_snr_db``,
            ``min_agreement`` and ``allow_unjudged``, as for ``export``; with any of them a file that is there is made
            again and held to them.

    Returns:
        (name, file) of those that passed, and name -> why of those that were refused.
    """
    for target, _ in chosen:
        check_arguments(target, get_target(target), *(limits.get(key) for key in LIMITS))
    if not overwrite:
        check_source(out, chosen, models)
    images = verification_images(data, verify_images(models[min(models)]))
    artifacts: list[tuple[str, Artifact]] = []
    refused: dict[str, str] = {}
    for target, dtype in chosen:
        name = f"{target}-{dtype}"
        path = out / "exports" / f"{name}.tflite"
        model = models["int8" if dtype == "int8" else "float32"]
        if path.is_file() and not overwrite and not any(limits.values()):
            artifacts.append((name, Artifact.load(path)))
            continue
        with console.status(f"  {name}: convert, audit, run"), _noting(name, refused):
            artifact = export(
                model,
                target=target,
                dtype=dtype,
                io_dtype=io_dtype,
                calibration=data.calibration if dtype in ("int8", "int16x8") else None,
                images=images,
                class_names=data.class_names,
                crop_to_aspect_ratio=saved_recipe(out).crop_to_aspect_ratio,
                **limits,
            )
            forget(out, exports=False)
            shutil.rmtree(_kit_folder(path), ignore_errors=True)  # of the file before
            artifact.save(path, overwrite=True)
            artifacts.append((name, artifact))
        state = "refused" if name in refused else f"{reports.kibibytes(artifact.size_bytes)}, passed every check"
        console.print(f"  {name}: {state}")
    return artifacts, refused


@contextmanager
def _noting(name: str, refused: dict[str, str]) -> Iterator[None]:
    """A file that fails its checks must not take the others with it, nor the training before it."""
    try:
        yield
    except ExportError as error:
        refused[name] = str(error)


def complain(refused: dict[str, str]) -> None:
    """End in an error if a file was refused."""
    if refused:
        raise ExportError("; ".join(f"{name} was not written. {reason}" for name, reason in refused.items()))


def all_exported(out: Path, chosen: Sequence[tuple[str, str]], io_dtype: str | None) -> bool:
    """Whether the run folder holds the chosen files; FileExistsError if one is there with another input."""
    paths = [out / "exports" / f"{target}-{dtype}.tflite" for target, dtype in chosen]
    for path in filter(Path.is_file, paths):
        there = Artifact.load(path).io_dtype
        if io_dtype not in (None, there):
            raise FileExistsError(
                f"{path} exists: --overwrite replaces it. Received: --io-dtype {io_dtype}, it has {there}"
            )
    return all(map(Path.is_file, paths))


def check_source(out: Path, chosen: Sequence[tuple[str, str]], models: dict[str, Any]) -> None:
    """FileExistsError if a chosen file is there and was made from another model than ``models``."""
    digests = {kind: model_sha256(model) for kind, model in models.items()}
    for target, dtype in chosen:
        path = out / "exports" / f"{target}-{dtype}.tflite"
        if not path.is_file():
            continue
        made_from = Artifact.load(path).model_sha256
        own = digests["int8" if dtype == "int8" else "float32"]
        if made_from != own:
            raise FileExistsError(
                f"{path} was made from another model: --overwrite replaces it. Received: model {own[:12]}, "
                f"it has {made_from[:12]}"
            )


def saved_exports(out: Path, chosen: Sequence[tuple[str, str]]) -> list[tuple[str, Artifact]]:
    """The chosen files of a run folder, as far as they are there; all of them if none was named."""
    found = {path.stem: path for path in sorted((out / "exports").glob("*.tflite"))}
    names = [f"{target}-{dtype}" for target, dtype in chosen]
    if not any(name in found for name in names):
        raise FileNotFoundError(
            f"{out}/exports has none of {', '.join(names)}: `wavemix-tf export --out {out}` makes them."
        )
    return [(name, Artifact.load(found[name])) for name in names if name in found]


def forget(out: Path, *, exports: bool) -> None:
    """Remove what was made from weights that are about to change: the report and, with ``exports``, the files."""
    stale = [out / "report.json", out / "report.html"]
    if exports and (out / "exports").is_dir():
        stale += [path for path in (out / "exports").iterdir() if path.is_file()]
        for kit in (out / "exports").glob("*_kit"):
            shutil.rmtree(kit)
    for path in stale:
        path.unlink(missing_ok=True)


def kits_missing(out: Path, chosen: Sequence[tuple[str, str]]) -> bool:
    """Whether a chosen file, all of which are there, has no kit or that of another file."""
    paths = [out / "exports" / f"{target}-{dtype}.tflite" for target, dtype in chosen]
    return any(kit_digest(_kit_folder(path)) != Artifact.load(path).sha256 for path in paths)


def _kit_folder(path: Path) -> Path:
    return path.with_name(f"{path.stem}_kit")


def write_kits(out: Path, artifacts: Sequence[tuple[str, Artifact]], data: DataBundle) -> None:
    """Write the deployment kit of each file, with test vectors from the test images; one that is its file's stays."""
    try:
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = None  # the model card says that data and accuracy are unknown
    images, labels = data.sample("test", KIT_IMAGES)
    pictures = whole_pictures(data.test_source, saved_recipe(out), len(images))
    for name, artifact in artifacts:
        folder = _kit_folder(out / "exports" / f"{name}.tflite")
        if kit_digest(folder) == artifact.sha256:
            continue
        with console.status(f"  {name}: kit"):
            artifact.save_kit(
                folder,
                overwrite=kit_digest(folder) is not None,
                name=name,
                images=images,
                pictures=pictures if artifact.preprocessing is not None else None,
                labels=labels if labels.ndim == 1 else None,
                report=report,
            )
        console.print(f"  {folder}/: written")


def measure(
    recipe: Recipe, data: DataBundle, models: dict[str, Any], artifacts: Sequence[tuple[str, Artifact]], limit: int
) -> dict[str, Any]:
    """Run the test images through every model and file, time the files, and gather what the report shows.

    Args:
        recipe: Of the run.
        data: Its data; the test set is read here for the first time.
        models: "float32" and "int8" -> trained Keras model.
        artifacts: (name, exported file).
        limit: Largest number of test images.

    Returns:
        The content of ``report.json``, except for times and the command.
    """
    if recipe.task != "classification":
        return _measure_pictures(recipe, data, models, artifacts, limit)
    images, labels = data.sample("test", limit)
    logits = {dtype: predict(model, images) for dtype, model in models.items()}
    results: list[dict[str, Any]] = [
        {
            "name": MODEL_NAMES[dtype],
            "runtime": "Keras",
            "dtype": dtype,
            "accuracy": float((z.argmax(-1) == labels).mean()),
        }
        for dtype, z in logits.items()
    ]
    exports, shown, rows = [], None, []
    for name, artifact in artifacts:
        kind = "int8" if artifact.dtype == "int8" else "float32"
        with console.status(f"  {name}"):
            matrix_row, compared = verify_file(name, artifact, models[kind], logits, images, labels, OTHER_LIMIT_S)
            rows.append(matrix_row)
            timed = benchmark(artifact, memory=False, peak=False)
        row = compared.runtimes[0]
        part = "" if row.images == len(images) else f", {row.images:,} of the images"
        results.append(
            {
                "name": name,
                "runtime": RUNTIME_NAMES[row.runtime] + part,
                "dtype": artifact.dtype,
                "accuracy": row.accuracy,
                "size_bytes": artifact.size_bytes,
                "latency_ms": timed.latency_ms,
                "arena_bytes": timed.arena_bytes,
                "file": f"exports/{name}.tflite",
            }
        )
        exports.append(_export_card(name, artifact, compared.to_dict()))
        if kind == "int8" and (shown is None or row.images >= shown[1].runtimes[0].images):  # rather the last: mcu
            shown = (name, compared)

    report = _about(recipe, data, models, len(images))
    report |= {
        "results": results,
        "wavelet": findings.wavelet(images[0], data.class_names[labels[0]]),
        "exports": exports,
    }
    report["verification"] = {"images": len(images), "rows": rows}
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
        report["mistakes"] = findings.mistakes(images[:count], labels[:count], found, data.class_names)
    return report


def _about(recipe: Recipe, data: DataBundle, models: dict[str, Any], tested: int) -> dict[str, Any]:
    """What a report says of the run itself."""
    return {
        "format": reports.FORMAT,
        "name": recipe.name,
        "created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "recipe": json.loads(recipe.to_json()),
        "dataset": {
            "class_names": list(data.class_names),
            "image_shape": list(data.image_shape),
            "sizes": split_sizes(data),
            "counts": data.class_counts,
            "tested": tested,
        },
        "model": {"name": network_name(models["float32"]), "parameters": count_parameters(models["float32"])},
        "machine": findings.machine(),
        "versions": findings.versions(),
    }


def _measure_pictures(
    recipe: Recipe, data: DataBundle, models: dict[str, Any], artifacts: Sequence[tuple[str, Artifact]], limit: int
) -> dict[str, Any]:
    """``measure`` of a network whose outputs are masks or images: too large to be kept for a whole test set."""
    metric = recipe.metric
    count = min(limit, verify_images(models["float32"]))
    images, _ = data.sample("test", count)
    logits = {dtype: predict(model, images) for dtype, model in models.items()}
    results: list[dict[str, Any]] = []

    def add(name: str, runtime: str, dtype: str, found: evaluation.Score, **more: Any) -> None:
        row = {"name": name, "runtime": runtime, "dtype": dtype, metric: found.value, "images": found.images}
        results.append({**row, **found.details, **more})

    if recipe.task == "super_resolution":
        add("bicubic", "Pillow", "", evaluation.bicubic(recipe, data, limit))
    runs = {}
    for dtype, model in models.items():
        with console.status(f"  {MODEL_NAMES[dtype]}"):
            runs[MODEL_NAMES[dtype]] = evaluation.keras_run(model)
            found = evaluation.score(recipe, data, runs[MODEL_NAMES[dtype]], limit)
        add(MODEL_NAMES[dtype], "Keras", dtype, found)
    tested = max(row["images"] for row in results)
    exports, rows = [], []
    for name, artifact in artifacts:
        kind = "int8" if artifact.dtype == "int8" else "float32"
        with console.status(f"  {name}"):
            matrix_row, compared = verify_file(name, artifact, models[kind], logits, images, None, OTHER_LIMIT_S)
            rows.append(matrix_row)
            timed = benchmark(artifact, memory=False, peak=False)
            runtime = get_target(artifact.target).runtimes[0]
            run = evaluation.file_run(artifact.content, runtime)
            found = evaluation.score(recipe, data, run, limit, VERIFY_LIMIT_S)
        part = "" if found.images == tested else f", {found.images:,} of the images"
        more = {"size_bytes": artifact.size_bytes, "latency_ms": timed.latency_ms, "arena_bytes": timed.arena_bytes}
        more["file"] = f"exports/{name}.tflite"
        add(name, RUNTIME_NAMES[runtime] + part, artifact.dtype, found, **more)
        exports.append(_export_card(name, artifact, compared.to_dict()))
        if artifact.dtype == "int8" and runtime == "litert-xnnpack":
            runs[name] = run
    if recipe.task == "super_resolution":
        results = evaluation.on_common_images(results)
        tested = results[0]["images"]
    del runs[MODEL_NAMES["int8"]]  # what its file makes of a picture is shown
    report = _about(recipe, data, models, tested)
    shown = evaluation.pictures(recipe, data, runs)
    side = evaluation.SHOWN_SIDE
    report |= {
        "metric": metric,
        "results": results,
        "exports": exports,
        "wavelet": findings.wavelet(images[0], "the first" if recipe.task == "segmentation" else "a patch"),
        "pictures": [
            {"cells": [{**cell, "image": plots.jpeg_url(cell["image"], side)} for cell in row["cells"]]}
            for row in shown
        ],
        "verification": {"images": len(images), "rows": rows},
    }
    if recipe.task == "segmentation":
        colours = ("#" + bytes(row).hex() for row in palette(len(data.class_names)))
        report["colours"] = dict(zip(data.class_names, colours, strict=True))
    else:
        report["scale"] = recipe.scale
    with console.status("  layer by layer"):
        report["verification"]["layers"] = layer_rows(artifacts, models["int8"], images)
    return report


def verify_file(
    name: str,
    artifact: Artifact,
    model: Any,
    logits: Mapping[str, np.ndarray],
    images: np.ndarray,
    labels: np.ndarray | None,
    other_limit_s: float = VERIFY_LIMIT_S,
) -> tuple[dict[str, Any], VerifyReport]:
    """Run a file in every runtime of its target: one row of the matrix.

    Args:
        name: Of the file.
        artifact: The file.
        model: The Keras model it was made from.
        logits: "int8" and "float32", as far as there are such models -> what each computes, (N, classes).
        images: (N, H, W, C).
        labels: (N,); None: no accuracy.
        other_limit_s: Time for each runtime but the target's own, which gets ``VERIFY_LIMIT_S``.

    Returns:
        ({"file", "dtype", "cells": runtime -> figures}, comparison in the target's own runtime). A cell's "fault" is
        what is wrong with it, or None; "bound_steps" is None for Keras's column, which nothing bounds.
    """
    kind = "int8" if artifact.dtype == "int8" else "float32"
    runtimes = get_target(artifact.target).runtimes
    cells, reports_of = {}, []
    for runtime in runtimes:
        limit_s = VERIFY_LIMIT_S if runtime == runtimes[0] else other_limit_s
        options: dict[str, Any] = {"runtimes": [runtime], "limit_s": limit_s, "expected": logits[kind]}
        found = verify(artifact, model, images, labels, **options)
        bound = artifact.verification["error_bound_steps"][runtime]
        cells[runtime] = _cell(found, bound)
        reports_of.append(found)
    if kind == "int8" and "float32" in logits:
        info = read_file(artifact.content)
        classes = bool(artifact.class_names)
        compared = compare(info, logits["float32"], {FAKE_QUANT: logits["int8"]}, labels, classes=classes)
        cells[FAKE_QUANT] = _cell(compared, None)
    return {"file": name, "dtype": artifact.dtype, "cells": cells}, reports_of[0]


def verify_files(
    out: Path,
    artifacts: Sequence[tuple[str, Artifact]],
    data: DataBundle,
    images: np.ndarray,
    labels: np.ndarray | None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every file of a run folder in every runtime of its target.

    Returns:
        (rows of the matrix, see ``verify_file``; name of a file -> the Keras model it was made from).
    """
    logits: dict[str, np.ndarray] = {}
    if (out / "model.keras").is_file():
        logits["float32"] = predict(load_model(out / "model.keras"), images)
    rows: list[dict[str, Any]] = []
    models: dict[str, Any] = {}
    for name, artifact in artifacts:
        with console.status(f"  {name}"):
            # The fine-tuned model is one for all targets; without it each file has its own.
            shared = artifact.dtype == "int8" and (out / "qat.keras").is_file()
            alike = next((n for n, a in artifacts if shared and n in models and a.dtype == "int8"), None)
            models[name] = models[alike] if alike else trained_model(out, artifact, data)
            if artifact.dtype == "int8" and not alike:
                logits["int8"] = predict(models[name], images)
            elif "float32" not in logits:
                logits["float32"] = predict(models[name], images)
            rows.append(verify_file(name, artifact, models[name], logits, images, labels)[0])
    return rows, models


def _cell(found: VerifyReport, bound: float | None) -> dict[str, Any]:
    row = found.to_dict()["runtimes"][0]
    kept = ("images", "mean_error_steps", "max_error_steps", "snr_db", "agreement", "counted", "accuracy")
    wrong = None if bound is None else fault(row, bound, found.degenerate)
    return {**{key: row[key] for key in kept}, "bound_steps": bound, "fault": wrong}


def test_sample(recipe: Recipe, data: DataBundle, out: Path, limit: int) -> tuple[np.ndarray, np.ndarray | None]:
    """(test images, labels) to verify files on: of networks whose outputs are large, fewer and without labels."""
    if recipe.task == "classification":
        return data.sample("test", limit)
    return data.sample("test", min(limit, verify_images(load_model(out / "model.keras"))))[0], None


def layer_rows(artifacts: Sequence[tuple[str, Artifact]], model: Any, images: np.ndarray) -> dict[str, Any] | None:
    """Where the first int8 file among ``artifacts`` loses accuracy, layer by layer; None where there is none.

    Args:
        artifacts: (name, file).
        model: The quantized Keras model.
        images: (N, H, W, C), of which the first ones are taken.
    """
    name, artifact = next(((n, a) for n, a in artifacts if a.dtype == "int8"), (None, None))
    if artifact is None:
        return None
    part = images[: max(2, min(LAYER_IMAGES, LAYER_PIXELS // (images.shape[1] * images.shape[2])))]
    rows = [row.to_dict() for row in layer_errors(model, part, artifact)]
    return {"of": name, "images": len(part), "rows": rows}


def count_parameters(model: Any) -> int:
    """Trainable ones, as the papers count."""
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def network_name(model: Any) -> str:
    """Width and depth, as the papers write them: WaveMix 16/4."""
    if hasattr(model, "width") and hasattr(model, "depth"):
        return f"WaveMix {model.width}/{model.depth}"
    return str(model.name)


def _export_card(name: str, artifact: Artifact, tested: dict[str, Any]) -> dict[str, Any]:
    """What the report says of one file: its model card, and what was checked before it was written and since."""
    card = artifact.to_dict()
    extra = {
        "an input is": card["input_meaning"],
        "upsampling": (card["upsample_form"] or "").replace("_", " "),
        "replaced": f"{len(card['substituted_activations'])} activations" if card["substituted_activations"] else "",
        "sha256": hashlib.sha256(artifact.content).hexdigest(),
    }
    return {
        "name": name,
        "file": f"exports/{name}.tflite",
        "description": get_target(artifact.target).device,
        **{key: card[key] for key in ("target", "dtype", "size_bytes", "arena_bytes", "ops", "input", "output")},
        "checks": file_checks(artifact, tested),
        "card": {key: value for key, value in extra.items() if value},
    }
