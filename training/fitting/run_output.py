"""The files that `fit` writes into its run folder, and the checks before it writes."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavemix_tf.files import remove_abandoned, write_text

from ..data import identity
from ..recipe import Recipe
from ..run_files import RunFiles
from ..tasks import Task
from . import checkpoint

STAGES = ("float", "qat")


def check_same_recipe(files: RunFiles, recipe: Recipe, overwrite: bool) -> None:
    """Raise ValueError if the folder holds a run of another recipe and ``overwrite`` is False."""
    if not files.recipe.is_file() or overwrite:
        return
    qat = RunFiles(files.folder, "qat")
    free = files.stage == "qat" and not any(path.exists() for path in (qat.result, qat.checkpoint))
    different = recipe.differences(files.read_recipe(), ignore="qat_" if free else None)
    if different:
        raise ValueError(
            f"{files.folder} holds a run of another recipe (recipe.json): use another folder, or overwrite=True. "
            f"Received: {', '.join(different)}"
        )


def prepare_run_folder(files: RunFiles, recipe: Recipe, overwrite: bool) -> None:
    """Prepare the folder for this recipe, and remove incomplete files of killed processes.

    Raises:
        ValueError: the recipe's teacher is in the folder, whose model the training replaces.
    """
    if recipe.teacher is not None and files.folder.resolve() in (
        (teacher := Path(recipe.teacher).expanduser().resolve()),
        teacher.parent,
    ):
        raise ValueError(
            f"teacher must not be in the run folder, whose files are replaced: use another folder. Received: "
            f"teacher={recipe.teacher}, run folder {files.folder}"
        )
    remove_abandoned(files.folder)
    if overwrite:
        for stage in STAGES if files.stage == "float" else ("qat",):
            old = RunFiles(files.folder, stage)
            for path in (old.result, old.checkpoint, old.history, old.model):
                path.unlink(missing_ok=True)
    if files.recipe.is_file() and files.recipe.read_bytes() == recipe.to_json().encode():
        return
    files.folder.mkdir(parents=True, exist_ok=True)
    write_text(files.recipe, recipe.to_json())


def remove_failed_start(files: RunFiles, keep_folder: bool) -> None:
    """Remove the files of a training that failed in its first epoch, for example because of an invalid batch."""
    folder = files.folder
    for path in (files.recipe, *(folder / name for name in identity.BEGUN_WITH)):
        path.unlink(missing_ok=True)
    shutil.rmtree(files.tensorboard.parent, ignore_errors=True)
    if not keep_folder and not any(folder.iterdir()):
        folder.rmdir()


def write_result(
    files: RunFiles | None,
    stage: str,
    state: checkpoint.TrainingState,
    task: Task,
    data: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the result of a stage and its data's fingerprint; this file marks the stage as finished."""
    summary = {
        "stage": stage,
        "epochs": state.epoch,
        "best_epoch": state.best_epoch or 0,
        "metric": task.metric,
        "validation_score": state.best[0] if state.best else None,
        "validation_loss": -state.best[1] if state.best else None,
        "seconds": round(sum(row["seconds"] for row in state.history), 3),
        "test": None,
        "data": data,
        **(more or {}),
    }
    if files is not None:
        write_text(files.result, json.dumps(summary, indent=1) + "\n")
    return summary


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """Write one row per epoch; the first row names the columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "epoch": int(row["epoch"])} for row in history)
    write_text(path, text.getvalue())
