"""The folder of a search: whether it is free, which search it holds, and how a search starts safely against kills."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavemix_tf.files import is_temporary, remove_abandoned, write_text

from ..recipe import Recipe
from .search_result import SEARCH_FILE, read_settings

STATE_FOLDER, COSTS_FILE, TRIALS_FOLDER = "keras_tuner", "costs.json", "trials"
WORKERS_FOLDER = "workers"  # workers may write logs before the chief starts
IDENTITY = ("space_digest", "data")  # settings that identify the space and the data
RESULTS = ("trials.csv", "front.csv", "front.png", "best.json")


class SearchFolder:
    """The folder of one search.

    The settings are written first. So the same call recognizes its folder, whenever the search was stopped.

    Args:
        path: Path of the folder.
        recipe: The recipe that the search starts from.
        settings: Settings that distinguish searches, JSON-serializable; with the recipe under "recipe".
    """

    def __init__(self, path: Path, recipe: Recipe, settings: Mapping[str, Any]) -> None:
        self.path, self._recipe, self._settings = path, recipe, dict(settings)

    def is_this_search(self, overwrite: bool) -> bool:
        """Whether the folder holds this search, already started; ValueError if it holds something else.

        Args:
            overwrite: Any other search counts as this one.
        """
        if not (self.path / SEARCH_FILE).is_file():
            strange = self._foreign_names()
            if strange:
                raise ValueError(
                    "out must be a new or empty folder, or the folder of a search. "
                    f"Received: out={str(self.path)!r}{' with ' if strange[0] else ''}{', '.join(strange[:3])}"
                )
            return False
        if overwrite:
            return True
        stored = read_settings(self.path)
        # A search of an earlier version has not stored its space and data.
        compared = [name for name in self._settings if name != "recipe" and (name in stored or name not in IDENTITY)]
        different = [name for name in compared if self._settings[name] != stored.get(name)]
        differences = [_difference(name, self._settings[name], stored.get(name)) for name in different]
        differences += self._recipe.differences(Recipe.from_json(json.dumps(stored["recipe"])))
        if not differences:
            return True
        if not (self.path / TRIALS_FOLDER).exists():  # stopped before its first trial: nothing is lost
            return False
        raise ValueError(
            f"{self.path} holds another search: use another folder, or overwrite=True. "
            f"Received: {', '.join(differences)}"
        )

    def _foreign_names(self) -> list[str]:
        """Names in a folder without settings that do not belong to a search; [""] if the path is a file."""
        if self.path.is_file():
            return [""]
        own = (STATE_FOLDER, COSTS_FILE, WORKERS_FOLDER)
        there = self.path.iterdir() if self.path.is_dir() else ()
        return sorted(one.name for one in there if one.name not in own and not is_temporary(one))

    def remove_abandoned(self) -> None:
        """Remove incomplete files of killed processes."""
        if self.path.is_dir():
            remove_abandoned(self.path)

    def begin(self) -> None:
        """Claim a folder without a search, before anything else is written to it."""
        shutil.rmtree(self.path / STATE_FOLDER, ignore_errors=True)
        (self.path / COSTS_FILE).unlink(missing_ok=True)
        self._write_settings()

    def remove_begun(self) -> None:
        """Undo ``begin`` if no trial is possible, so that a search with another budget can use the folder."""
        shutil.rmtree(self.path / STATE_FOLDER, ignore_errors=True)
        for name in (COSTS_FILE, SEARCH_FILE):
            (self.path / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def clear(self) -> None:
        """Take over a folder with a search and remove the old results."""
        for name in (TRIALS_FOLDER, "recipes", STATE_FOLDER):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in (*RESULTS, COSTS_FILE):
            (self.path / name).unlink(missing_ok=True)
        self._write_settings()

    def _write_settings(self) -> None:
        write_text(self.path / SEARCH_FILE, json.dumps(self._settings, indent=1) + "\n")


def _words(value: Any) -> str:
    """A part of a fingerprint as text, without braces."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items() if part is not None)
    return repr(value)


def _difference(name: str, mine: Any, there: Any) -> str:
    """Describe one difference between this search and that of the folder."""
    if name == "space_digest":
        return "a space with other hyperparameters, ranges or recipes under the same name"
    if name == "data":
        parts = [key for key in mine if mine[key] != (there or {}).get(key)]
        return "other data: " + ", ".join(
            f"{key} {_words(mine[key])} (there {_words((there or {}).get(key))})" for key in parts
        )
    return f"{name}={mine!r} (there {there!r})"
