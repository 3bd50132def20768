"""The files of a run folder: their names and their readers. Does not import Keras."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wavemix_tf.state_files import (
    Fields,
    check_fields,
    check_keras_file,
    read_arrays,
    read_json,
    read_table,
    reading,
)

from .recipe import Recipe
from .tasks import METRICS, TASKS

if TYPE_CHECKING:
    import numpy as np

CHECKPOINT_FORMAT = 1
NO_SETS = ("class_weight", "teacher")  # entries of a checkpoint's fingerprint beside the classes and the sets
BEGIN_ANEW = "To start again: overwrite=True (--overwrite)"
# The required fields of a finished stage. Fields that later versions add are optional: older folders stay readable.
RESULT: Fields = {
    "stage": str,
    "epochs": int,
    "best_epoch": int,
    "metric": str,
    "validation_score": (float, type(None)),
    "validation_loss": (float, type(None)),
    "seconds": float,
    "test": (float, type(None)),
}
HEADER: Fields = {
    **dict.fromkeys(("format", "epoch", "phase", "phase_epoch", "waited"), int),
    "best_epoch": (int, type(None)),
    **dict.fromkeys(("best", "phase_best"), (list, type(None))),
    "history": list,
    "fingerprint": dict,
}
# The fields of each set in a fingerprint of the data, see ``DataBundle.fingerprint``.
SET_FIELDS: Fields = {"size": int, "checksum": (int, str), "origin": (int, type(None))}
CHECKPOINT_REMEDY = "To train this stage again from its first epoch: delete it."


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """The files of one stage in a run folder: their paths and contents."""

    folder: Path
    stage: str

    def _named(self, name: str) -> Path:
        return self.folder / (name if self.stage == "float" else f"qat_{name}")

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.json"

    @property
    def model(self) -> Path:
        return self.folder / ("model.keras" if self.stage == "float" else "qat.keras")

    @property
    def history(self) -> Path:
        return self._named("history.csv")

    @property
    def result(self) -> Path:
        """Path of the result, which is written last: if it exists, the stage is finished."""
        return self._named("training.json")

    @property
    def checkpoint(self) -> Path:
        return self._named("checkpoint.npz")

    @property
    def tensorboard(self) -> Path:
        return self.folder / "tensorboard" / self.stage

    def checksums(self) -> list[int | None]:
        """CRC-32 of each file that decides how a run starts; None for a missing file."""
        paths = (self.recipe, self.result, self.checkpoint, self.model)
        return [zlib.crc32(path.read_bytes()) if path.is_file() else None for path in paths]

    # --- contents ---

    def read_recipe(self) -> Recipe:
        """Read the recipe of the run; DamagedFileError if the file is not a recipe."""
        command = shlex.join(["wavemix-tf", "run", "RECIPE", "--out", str(self.folder), "--overwrite"])
        again = f"or start again: `{command}`, or overwrite=True"
        with reading(self.recipe, f"Restore the recipe that the run was started with, {again}."):
            return Recipe.from_json(self.recipe.read_bytes().decode("utf-8"))

    def read_result(self) -> dict[str, Any]:
        """Read the result of a finished stage; DamagedFileError if the file is truncated or not a result."""
        with reading(self.result, self.remedy):
            result = read_json(self.result, self.remedy, RESULT)
            if result["stage"] != self.stage or result["metric"] not in METRICS:
                raise ValueError(f"it belongs to stage={result['stage']!r}, metric={result['metric']!r}")
            _check_numbers(result)
            if result.get("data") is not None:
                check_fingerprint(result["data"])
            return dict(result)

    def read_history(self) -> list[dict[str, float]]:
        """Read column -> value for each epoch; [] if there is no such file, as with given weights."""
        remedy = f"It holds only the learning curves: delete it, and the run continues without it. {BEGIN_ANEW}."
        return read_table(self.history, remedy) if self.history.is_file() else []

    def read_checkpoint(self) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
        """See ``read_checkpoint``."""
        return read_checkpoint(self.checkpoint)

    @property
    def remedy(self) -> str:
        """Remedy for a damaged file of a finished stage."""
        words = ["fit", str(self.recipe)] if self.stage == "float" else ["quantize"]
        command = shlex.join(["wavemix-tf", *words, "--out", str(self.folder), "--overwrite"])
        return f"To train this stage again: `{command}`, or overwrite=True."

    def check(self) -> None:
        """Raise DamagedFileError for the first existing file of the stage that is damaged; nothing is loaded."""
        if self.result.is_file():
            self.read_result()
        self.read_history()
        if self.checkpoint.is_file():
            self.read_checkpoint()
        if self.model.is_file():
            check_keras_file(self.model, self.remedy)


def check_fingerprint(data: Any) -> None:
    """Raise ValueError unless a JSON value is a data fingerprint: the classes, and size and checksum of each set."""
    check_fields(data, {"classes": list})
    if not all(isinstance(name, str) for name in data["classes"]):
        raise ValueError("the classes of its data must be strings")
    for name, found in data.items():
        if name == "classes" or found is None:
            continue
        try:
            check_fields(found, SET_FIELDS)
        except ValueError as error:
            raise ValueError(f"in the {name} set of its data, {error}") from None
        if found["size"] < 0:
            raise ValueError(f"the {name} set of its data has the size {found['size']}")


def _check_numbers(result: dict[str, Any]) -> None:
    """Raise ValueError for values that no training can produce."""
    epochs, best, loss = (result[name] for name in ("epochs", "best_epoch", "validation_loss"))
    if epochs < 0 or not min(epochs, 1) <= best <= epochs:
        raise ValueError(f"best_epoch must be one of the epochs. Found: epochs={epochs}, best_epoch={best}")
    if not math.isfinite(result["seconds"]) or result["seconds"] < 0:
        raise ValueError(f"seconds must be 0 or more. Found: {result['seconds']}")
    if epochs and None in (result["validation_score"], loss):
        raise ValueError("a trained stage must have a validation_score and a validation_loss")
    if loss is not None and not math.isfinite(loss):
        return  # it diverged: the scores may be anything
    for name in ("validation_score", "test"):
        score = result[name]
        share = result["metric"] in {task.metric for task in TASKS.values() if task.metric_unit == "%"}
        if score is not None and not (math.isfinite(score) and (not share or 0 <= score <= 1)):
            raise ValueError(f"{name} must be a value of {result['metric']}. Found: {score}")


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
    """Read (header, group -> arrays) of an unfinished stage.

    Raises:
        DamagedFileError: the file is truncated or not a checkpoint.
    """
    with reading(path, CHECKPOINT_REMEDY):
        arrays = read_arrays(path, CHECKPOINT_REMEDY)
        header = json.loads(str(arrays.pop("header")))
        check_fields(header, HEADER)
        if header["format"] != CHECKPOINT_FORMAT:
            raise ValueError(f"it was written by another version of wavemix-tf (format {header['format']})")
        if header["fingerprint"]:
            check_fingerprint({name: part for name, part in header["fingerprint"].items() if name not in NO_SETS})
        for row in header["history"]:
            check_fields(row, {"epoch": float})
            check_fields(row, dict.fromkeys(row, float))
        groups: dict[str, list[np.ndarray]] = {"model": [], "optimizer": []}
        for name in sorted(arrays):
            groups.setdefault(name.partition("/")[0], []).append(arrays[name])
        return header, groups
