"""State of a run folder: its recipe, whether its files are undamaged, which stages are finished. Loads no Keras."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import check_writable, remove_abandoned, sha256_of, write_text
from ..state_files import DamagedFileError, Fields, check_fields, check_keras_file, read_json, reading
from ..tflite.file.model_cards import card_path, read_card, read_content
from ..training.data.identity import SplitList, folder_is_as_trained, read_labels
from ..training.recipe import Recipe
from ..training.run_files import RunFiles
from ..training.tasks import task_type
from .arguments import (
    START_FILE,
    START_RECORD,
    apply_settings,
    check_targets,
    choose_recipe,
    exports_to,
    start_from,
    start_weights,
)
from .command_line import shell
from .terminal import announce_loading, note

STAGES = ("float", "qat")
REPORT_FORMAT = 1  # version of report.json, raised when a field changes its meaning
REPORT: Fields = {
    "format": int,
    "name": str,
    **dict.fromkeys(("recipe", "dataset", "model", "refused", "seconds"), dict),
    **dict.fromkeys(("results", "exports"), list),
    "verification": dict,
}
PREDICTIONS_FILE = "predictions.csv"
TARGETS_FILE = "targets.json"  # the targets that `run --targets` was given
START_REMEDY = "To write it again: `wavemix-tf import-torch ... --new-head --overwrite`, or --from FILE --overwrite."


def saved_recipe(out: Path, settings: Sequence[str] | None = None, also: str = "") -> Recipe:
    """Read the recipe of a run folder.

    Args:
        out: Run folder.
        settings: KEY=VALUE texts. Only the place of the data can change: the weights are trained.
        also: Prefix of further fields that may change.
    """
    if not (out / "recipe.json").is_file():
        makers = f"`{shell('run', 'RECIPE', '--out', out)}` or `{shell('fit', 'RECIPE', '--out', out)}`"
        raise FileNotFoundError(f"{out} is not a run folder (it has no recipe.json): {makers} creates one.")
    recipe = RunFiles(out, "float").read_recipe()
    changed = apply_settings(recipe, settings)
    names = [field.name for field in dataclasses.fields(Recipe)]
    allowed = ["data_dir", "download", *(name for name in names if also and name.startswith(also))]
    for name in names:
        if name not in allowed and getattr(changed, name) != getattr(recipe, name):
            raise ValueError(
                f"The weights in {out} are trained; --set takes only {', '.join(allowed)} here. "
                f"Received: {name}={getattr(changed, name)!r}"
            )
    return changed


def check_out(out: Path, option: str = "--out") -> None:
    """Refuse a folder that cannot be created or written to, before anything is read."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{option} must be a folder. Received: {out}")
    try:
        check_writable(out)
    except OSError as error:
        raise ValueError(
            f"{option} must be a folder that can be created and written: use another. Received: {out} "
            f"({error.strerror})"
        ) from error


def check_folder(out: Path, recipe: Recipe, overwrite: bool, ignore: str | None = None) -> None:
    """Refuse a folder of another recipe (see ``Recipe.differences``), before the data is read."""
    check_out(out)
    if overwrite or not (out / "recipe.json").is_file():
        return
    there = ", ".join(recipe.differences(saved_recipe(out), ignore))
    if there:
        raise ValueError(
            f"{out} holds a run of another recipe (recipe.json): use another --out, or --overwrite. Received: {there}"
        )


def choose_run(
    name: str | None,
    data: Path | None,
    out: Path | None,
    settings: Sequence[str] | None,
    overwrite: bool,
    start: str | None = None,
) -> tuple[Recipe, Path]:
    """The recipe of a run, and its folder, which holds no run of another recipe.

    Args:
        name: As of ``choose_recipe``.
        data: As well.
        out: Run folder; None: ``runs/NAME``.
        settings: As of ``choose_recipe``.
        overwrite: Whether the run starts over.
        start: What training starts from, see ``start_weights``.
    """
    begun = out or (Path("runs") / data.resolve().name if data is not None else None)
    recipe = choose_recipe(name, data, settings, None if overwrite else begun)
    file = None if start is None else start_weights(start)
    if file is not None:
        recipe = start_from(recipe, file, settings)
    out = out or Path("runs") / recipe.name
    check_folder(out, recipe, overwrite)
    if file is not None:
        check_start(file, out, overwrite)
    return recipe, out


def check_start(start: Path, out: Path, overwrite: bool) -> None:
    """Refuse a --from that a begun run did not start from, or that --overwrite would delete."""
    if overwrite and start.resolve().parent == out.resolve():
        raise ValueError(f"--from must not be a file of the run folder that --overwrite empties. Received: {start}")
    begun = any((out / name).is_file() for name in ("checkpoint.npz", "model.keras"))
    if begun and not overwrite and started_from(out) != sha256_of(start):
        raise ValueError(
            f"{out} holds a run that did not start from this file: use another --out, or --overwrite. Received: "
            f"--from {start}"
        )


def started_from(out: Path) -> str | None:
    """Return the digest of the file that a run's start was made of; None if it is of another origin."""
    path = out / START_RECORD
    return str(read_json(path, START_REMEDY, {"sha256": str})["sha256"]) if path.is_file() else None


def choose_exports(recipe: Recipe, out: Path, targets: str | None, overwrite: bool = False) -> list[tuple[str, str]]:
    """Return the (target, dtype) pairs of a run: those of --targets, or of the folder, or of the task.

    Args:
        recipe: Recipe of the run.
        out: Run folder, which keeps the targets of its last `run --targets`.
        targets: --targets, a list of names separated by commas; None: not given.
        overwrite: Whether the run starts over, so that the folder's targets are ignored.
    """
    names = check_targets(targets) if targets is not None else None if overwrite else read_targets(out)
    return exports_to(names, task_type(recipe).exports)


def read_targets(out: Path) -> tuple[str, ...] | None:
    """Return the targets that `run --targets` saved in a run folder; None if there are none.

    Raises:
        DamagedFileError: The file is damaged, or names an unknown target.
    """
    path = out / TARGETS_FILE
    if not path.is_file():
        return None
    remedy = (
        "It names the targets of the run: `wavemix-tf run --targets` writes it again; without it they are the task's."
    )
    with reading(path, remedy):
        found = read_json(path, remedy, {"targets": list})["targets"]
        return check_targets(",".join(map(str, found)))


def save_targets(out: Path, targets: str | None, overwrite: bool) -> None:
    """Save --targets in a run folder, for later calls; with ``overwrite`` and without --targets, delete saved ones."""
    path = out / TARGETS_FILE
    if targets is not None:
        write_text(path, json.dumps({"targets": check_targets(targets)}) + "\n")
    elif overwrite:
        path.unlink(missing_ok=True)


def check_state(out: Path, stages: Sequence[str] = STAGES, exports: bool = False) -> None:
    """Check the files that a verb will use, finished stages included; remove temporary files of dead processes.

    Args:
        out: Run folder.
        stages: Stages whose files to check.
        exports: Whether to check the exported files too.

    Raises:
        DamagedFileError: A file is truncated, empty or of another type than its name states.
    """
    if not out.is_dir():
        return
    remove_abandoned(out)
    for stage in stages:
        RunFiles(out, stage).check()
    SplitList.load(out)
    read_labels(out)
    if (out / START_FILE).is_file():
        check_keras_file(out / START_FILE, START_REMEDY)
    if exports:
        for path in exported(out):
            if card_path(path).is_file():
                read_content(path, read_card(path))


def check_finished_data(recipe: Recipe, out: Path, known_only: bool) -> None:
    """Refuse a finished run whose folder of images has changed since the training."""
    if folder_is_as_trained(recipe, out, known_only):  # this needs no Keras
        return
    announce_loading()
    from ..training.data.datasets import check_finished

    check_finished(recipe, out, known_only)


def exported(out: Path) -> list[Path]:
    """List the .tflite files in ``exports/``, except compiled versions of another file for an NPU."""
    paths = sorted((out / "exports").glob("*.tflite"))
    names = {path.name for path in paths}
    compiled = {f"{path.stem}_vela.tflite" for path in paths} & names
    return [path for path in paths if path.name not in compiled and not path.name.startswith(".")]


def is_finished(out: Path, stage: str) -> bool:
    """Return whether a stage is finished."""
    files = RunFiles(out, stage)
    return files.result.is_file() and files.model.is_file()


def read_report(out: Path, remedy: str | None = None) -> dict[str, Any] | None:
    """Read ``report.json``; None if it is missing or of another version.

    Args:
        out: Run folder.
        remedy: Remedy for a damaged file; None: `run` writes it again.

    Raises:
        DamagedFileError: The file is damaged or not a report.
    """
    path = out / "report.json"
    if not path.is_file():
        return None
    remedy = remedy or f"`{shell('run', out / 'recipe.json', '--out', out)}` measures all files and writes it again."
    with reading(path, remedy):
        report = read_json(path, remedy, {"format": int})
        if report["format"] != REPORT_FORMAT:
            return None
        check_fields(report, REPORT)
        for row in report["results"]:
            check_fields(row, {"name": str, "runtime": str})
        for row in report["exports"]:
            check_fields(row, {"name": str, "card": dict})
        check_fields(report["dataset"], {"class_names": list, "sizes": dict, "image_shape": list})
        return dict(report)


def finished_report(out: Path, recipe: Recipe, pairs: Sequence[tuple[str, str]] = ()) -> dict[str, Any] | None:
    """Return the report of a finished run of this recipe, if any; a damaged one is reported and None returned.

    Args:
        out: Run folder.
        recipe: Recipe of the run.
        pairs: (target, dtype) of the files that the run must have.
    """
    try:
        report = read_report(out, "All files are measured and it is written again.")
    except DamagedFileError as error:
        note(str(error))
        return None
    if report is None and (out / "report.json").is_file():
        note(f"{out / 'report.json'} is of another wavemix-tf version: all files are measured and it is written again")
    if report is None or not (out / "recipe.json").is_file() or not (out / "report.html").is_file():
        return None
    if saved_recipe(out) != recipe or report["refused"]:  # refused files are tried again
        return None
    names = {row["name"] for row in report["exports"]}
    if any(f"{target}-{dtype}" not in names for target, dtype in pairs):
        return None
    return report if all(_is_current(out, row) for row in report["exports"]) else None


def _is_current(out: Path, row: dict[str, Any]) -> bool:
    """Return whether the report describes the existing file: a kill may come between writing the two."""
    path = out / "exports" / f"{row['name']}.tflite"
    return path.is_file() and sha256_of(path) == row["card"].get("sha256")


def check_model_file(out: Path | None, model: Path | None, option: str = "--model") -> Path:
    """Return the file that --out and --model name, checked without Keras.

    Args:
        out: Run folder.
        model: .keras or .tflite file; None: the run's model.keras.
        option: The option that names the file.
    """
    if model is None:
        path = (out or Path()) / "model.keras"
        if not path.is_file():
            recipe = path.with_name("recipe.json")
            made_by = shell("fit", recipe if recipe.is_file() else "RECIPE", "--out", path.parent)
            raise FileNotFoundError(f"{path} is missing: `{made_by}` creates it.")
        return path
    if model.suffix not in (".keras", ".tflite"):
        raise ValueError(f"{option} must be a .keras or .tflite file. Received: {model}")
    if not model.is_file():
        raise FileNotFoundError(f"There is no file {model}")
    with model.open("rb") as file:
        head = file.read(8)
    if model.suffix == ".tflite" and head[4:] != b"TFL3":
        raise ValueError(f"{option} must be a TensorFlow Lite file (identifier TFL3). Received: {model}")
    if model.suffix == ".keras" and not zipfile.is_zipfile(model):
        raise ValueError(f"{option} must be a .keras file saved by Keras. Received: {model}")
    return model
