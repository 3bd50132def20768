"""Files that carry a state from one call to the next, read in one way: whole and of their kind, or named as damaged.

A disk fills up, a copy breaks off, an editor saves something else: whoever reads such a file must say which it is and
what to do, and never guess. Nothing here unpickles. Loads no Keras before a model is asked for.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

Fields = Mapping[str, type | tuple[type, ...]]
KERAS_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")


class DamagedFileError(ValueError):
    """A state file is cut off, empty or something else than its name says; the message names it and a remedy."""


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Turn whatever goes wrong inside the block into a ``DamagedFileError`` that names the file.

    Args:
        path: Of the file that the block reads.
        remedy: What to do, a sentence.

    Raises:
        DamagedFileError: as said.
        OSError: of the file system itself (no such file, no permission), which names the path already.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except OSError as error:
        if error.errno is not None and error.filename is not None:
            raise
        raise _damaged(path, error, remedy) from error
    except Exception as error:
        raise _damaged(path, error, remedy) from error


def read_json(path: Path, remedy: str, fields: Fields | None = None) -> Any:
    """The JSON document of a file.

    Args:
        path: Of the file.
        remedy: What to do if it is damaged.
        fields: Name -> type or types of the object's fields, see ``check_fields``; None: any JSON.

    Raises:
        DamagedFileError: no JSON, or of another form.
    """
    with reading(path, remedy):
        value = json.loads(path.read_bytes().decode("utf-8"))
        if fields is not None:
            check_fields(value, fields)
        return value


def check_fields(value: Any, fields: Fields) -> None:
    """ValueError unless ``value`` is a JSON object that has these fields, each of a type that is named.

    ``float`` takes whole numbers too; no number is a bool.
    """
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is expected, it holds {_kind(value)}")
    for name, expected in fields.items():
        kinds = expected if isinstance(expected, tuple) else (expected,)
        if name not in value:
            raise ValueError(f"the field {name!r} is missing")
        found = type(value[name])
        if found not in kinds and not (found is int and float in kinds):
            names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise ValueError(f"the field {name!r} must be {names}, it is {_kind(value[name])}")


def read_arrays(path: Path, remedy: str) -> dict[str, np.ndarray]:
    """Name -> array of an .npz file of plain arrays.

    Raises:
        DamagedFileError: no such archive, a wrong checksum, or pickled objects.
    """
    with reading(path, remedy):
        _check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def read_table(path: Path, remedy: str) -> list[dict[str, float]]:
    """The rows of a CSV file of numbers with a header, as they were written: at least one, each ended.

    Raises:
        DamagedFileError: anything else.
    """
    with reading(path, remedy):
        text = path.read_bytes().decode("utf-8")
        if not text.endswith("\n"):
            raise ValueError("its last line is cut off")
        rows = []
        for row in csv.DictReader(io.StringIO(text)):
            if None in row or None in row.values():
                raise ValueError("a row has another number of columns than the header")
            rows.append({name: float(value) for name, value in row.items()})
        if not rows:
            raise ValueError("it has no row")
        return rows


def check_keras_file(path: Path, remedy: str) -> None:
    """DamagedFileError unless a .keras file is a whole archive of a model; Keras is not loaded.

    The files themselves are not understood here: only Keras can.
    """
    with reading(path, remedy):
        _check_archive(path)
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in KERAS_MEMBERS if name not in archive.namelist()]
            if missing:
                raise ValueError(f"{', '.join(missing)} is missing in the archive")
            for name in KERAS_MEMBERS[:2]:
                if not isinstance(json.loads(archive.read(name)), dict):
                    raise ValueError(f"{name} in the archive is no JSON object")


def load_keras(path: Path, remedy: str) -> Any:
    """The model of a .keras file, not compiled: how it was may be another back end's.

    Raises:
        DamagedFileError: the archive is damaged, or Keras cannot read what is in it.
    """
    check_keras_file(path, remedy)
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise DamagedFileError(f"Keras cannot load {path}. Received: {_reason(path, error)}. {remedy}") from error


def _check_archive(path: Path) -> None:
    """ValueError unless the file is a zip archive whose every member has its checksum."""
    if path.stat().st_size == 0:
        raise EOFError("it is empty")
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except zipfile.BadZipFile:
        raise ValueError("it is no whole archive: cut off, or something else") from None
    if bad is not None:
        raise ValueError(f"the checksum of {bad} in it is wrong")


def _damaged(path: Path, error: BaseException, remedy: str) -> DamagedFileError:
    return DamagedFileError(f"{path} must be whole, as it was written. Received: {_reason(path, error)}. {remedy}")


def _reason(path: Path, error: BaseException) -> str:
    """What is wrong, in one line; advice of the libraries below, such as to allow pickles, is not passed on."""
    text = str(error).strip()
    if path.is_file() and path.stat().st_size == 0:
        return "it is empty"
    if "pickle" in text:
        return "it holds Python objects, which are never read"
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON ({text})"
    if isinstance(error, UnicodeDecodeError):
        return "it is no text in UTF-8"
    if isinstance(error, KeyError):
        return f"it lacks {text}"
    if isinstance(error, ValueError) and text:
        return text.splitlines()[0].rstrip(".")
    return f"it cannot be understood ({type(error).__name__}{': ' + text.splitlines()[0].rstrip('.') if text else ''})"


def _kind(value: Any) -> str:
    """What a JSON value is, for a message."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
