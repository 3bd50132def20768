"""Read files that carry state between calls, and report a damaged file with its path and a remedy.

A full disk, an interrupted copy or an editor may damage such a file. Its contents are never guessed. Nothing here
unpickles. Keras is loaded only to read a model, NumPy only to read arrays.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Fields = Mapping[str, type | tuple[type, ...]]
KERAS_MEMBERS = ("metadata.json", "config.json", "model.weights.h5")


class DamagedFileError(ValueError):
    """A state file is truncated, empty or of another type; the message names it and a remedy."""


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Turn any error inside the block into a ``DamagedFileError`` that names the file.

    Args:
        path: The file that the block reads.
        remedy: Advice, a sentence.

    Raises:
        DamagedFileError: Any error inside the block.
        OSError: An error of the file system (no such file, no permission), which already names the path.
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
    """Read a JSON file.

    Args:
        path: The file.
        remedy: Advice if it is damaged.
        fields: Name -> type or types of the object's fields, see ``check_fields``; None: any JSON.

    Raises:
        DamagedFileError: The file is not JSON or has other fields.
    """
    with reading(path, remedy):
        value = json.loads(path.read_bytes().decode("utf-8"))
        if fields is not None:
            check_fields(value, fields)
        return value


def check_fields(value: Any, fields: Fields) -> None:
    """Raise a ValueError unless ``value`` is a JSON object with these fields, each of one of the given types.

    ``float`` accepts integers too; a bool is not accepted as a number.
    """
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is expected, the file has {_kind(value)}")
    for name, expected in fields.items():
        kinds = expected if isinstance(expected, tuple) else (expected,)
        if name not in value:
            raise ValueError(f"the field {name!r} is missing")
        found = type(value[name])
        if found not in kinds and not (found is int and float in kinds):
            names = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise ValueError(f"the field {name!r} must be {names}, it is {_kind(value[name])}")


def read_arrays(path: Path, remedy: str) -> dict[str, np.ndarray]:
    """Read an .npz file of plain arrays: name -> array.

    Raises:
        DamagedFileError: The file is no such archive, has a wrong checksum, or has pickled objects.
    """
    import numpy as np

    with reading(path, remedy):
        _check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def read_table(path: Path, remedy: str) -> list[dict[str, float]]:
    """Read a CSV file of numbers with a header and at least one row; every line must end with a newline.

    Raises:
        DamagedFileError: The file has another form.
    """
    with reading(path, remedy):
        text = path.read_bytes().decode("utf-8")
        if not text.endswith("\n"):
            raise ValueError("its last line is incomplete")
        rows = []
        for row in csv.DictReader(io.StringIO(text)):
            if None in row or None in row.values():
                raise ValueError("a row has another number of columns than the header")
            rows.append({name: float(value) for name, value in row.items()})
        if not rows:
            raise ValueError("it has no row")
        return rows


def check_keras_file(path: Path, remedy: str) -> None:
    """Raise a DamagedFileError unless a .keras file is an intact archive of a model.

    Keras is not loaded, so the contents of the model are not checked.
    """
    with reading(path, remedy):
        _check_archive(path)
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in KERAS_MEMBERS if name not in archive.namelist()]
            if missing:
                raise ValueError(f"the archive lacks {', '.join(missing)}")
            for name in KERAS_MEMBERS[:2]:
                if not isinstance(json.loads(archive.read(name)), dict):
                    raise ValueError(f"{name} in the archive is not a JSON object")


def load_keras(path: Path, remedy: str) -> Any:
    """Load the model of a .keras file, not compiled, since the saved compilation may need another backend.

    Raises:
        DamagedFileError: The archive is damaged, or Keras cannot read its contents.
    """
    check_keras_file(path, remedy)
    import keras

    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:
        raise DamagedFileError(f"Keras cannot load {path}. Received: {_reason(path, error)}. {remedy}") from error


def _check_archive(path: Path) -> None:
    """Raise a ValueError unless the file is a zip archive whose members match their checksums."""
    if path.stat().st_size == 0:
        raise EOFError("it is empty")
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except zipfile.BadZipFile:
        raise ValueError("it is not an intact archive: truncated, or of another type") from None
    if bad is not None:
        raise ValueError(f"the checksum of {bad} in it is wrong")


def _damaged(path: Path, error: BaseException, remedy: str) -> DamagedFileError:
    return DamagedFileError(f"{path} must be intact. Received: {_reason(path, error)}. {remedy}")


def _reason(path: Path, error: BaseException) -> str:
    """Describe the error in one line, without advice of libraries such as allowing pickles."""
    text = str(error).strip()
    if path.is_file() and path.stat().st_size == 0:
        return "it is empty"
    if "pickle" in text:
        return "it has pickled Python objects, which are never read"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON ({text})"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(error, KeyError):
        return f"it lacks {text}"
    if isinstance(error, ValueError) and text:
        return text.splitlines()[0].rstrip(".")
    return f"it cannot be read ({type(error).__name__}{': ' + text.splitlines()[0].rstrip('.') if text else ''})"


def _kind(value: Any) -> str:
    """Describe the type of a JSON value."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
