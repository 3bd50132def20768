"""The folder of a preset: its files, and the checks that they are whole. Loads no Keras.

    metadata.json         format, versions, and size and SHA-256 of every other file; written last
    config.json           the network, as Keras serializes it
    model.weights.h5      its weights; float32 is stored as float16
    preprocessor.json     input size, range, and the rule of resizing
    card.json, card.md    the model card
    labels.txt            one class a line; absent if the outputs are no classes
    quantized/            config.json and model.weights.h5 of the quantized model; optional
    tflite/               verified .tflite files with their cards and labels; optional
    sample.npz            test images, targets and what the weights reach on them; optional

No file is a pickle, and none is read before its size and digest were checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import sha256_of
from ..state_files import DamagedFileError, Fields, check_fields, read_json, reading
from .card import ModelCard
from .preprocessor import ImagePreprocessor

FORMAT = 1
METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
PREPROCESSOR, CARD, CARD_PAGE, LABELS = "preprocessor.json", "card.json", "card.md", "labels.txt"
QUANTIZED, TFLITE, SAMPLE = "quantized", "tflite", "sample.npz"
REQUIRED = (CONFIG, WEIGHTS, PREPROCESSOR, CARD)
MOST_METADATA_BYTES = 1 << 20
MOST_BYTES = 2 << 30  # of a preset; more than any network here
FIELDS: Fields = {
    "format": int,
    **dict.fromkeys(("name", "task", "wavemix_tf_version", "keras_version"), str),
    "parameters": int,
    "files": dict,
}
# Relative, of plain names: a file of another's preset must not be written or read elsewhere.
FILE_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*/)?[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class PresetFolder:
    """A folder whose metadata was read.

    Attributes:
        path: The folder.
        metadata: Content of ``metadata.json``.
        remedy: What to do if a file is damaged, a sentence.
    """

    path: Path
    metadata: Mapping[str, Any]
    remedy: str

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """Name -> {"bytes", "sha256"}."""
        return dict(self.metadata["files"])

    @property
    def size_bytes(self) -> int:
        """Size of all files, without ``metadata.json``."""
        return sum(entry["bytes"] for entry in self.files.values())

    def tflite(self) -> dict[str, Path]:
        """Return the ``.tflite`` files: "<target>-<dtype>" -> path."""
        names = [name for name in self.files if name.startswith(f"{TFLITE}/") and name.endswith(".tflite")]
        return {Path(name).stem: self.path / name for name in sorted(names)}

    def checked(self, name: str) -> Path:
        """Return the path of a file after a check of its size and digest.

        Raises:
            DamagedFileError: it is missing, or has another size or content than the metadata states.
        """
        entry, path = self.files[name], self.path / name
        if not path.is_file():
            raise DamagedFileError(f"{path} must exist: {METADATA} names it. Received: no such file. {self.remedy}")
        with reading(path, self.remedy):
            size = path.stat().st_size
            if size != entry["bytes"]:
                raise ValueError(f"it has {size:,} bytes of {entry['bytes']:,}")
            if sha256_of(path) != entry["sha256"]:
                raise ValueError(f"its SHA-256 is not that of {METADATA}")
        return path

    def check(self) -> None:
        """Check every file; DamagedFileError for the first that is not whole."""
        for name in self.files:
            self.checked(name)

    def read_json(self, name: str) -> Any:
        """Read a checked JSON file."""
        return read_json(self.checked(name), self.remedy)

    def read_card(self) -> ModelCard:
        """Read the model card."""
        with reading(self.path / CARD, self.remedy):
            return ModelCard.from_dict(self.read_json(CARD))

    def read_preprocessor(self) -> ImagePreprocessor:
        """Read the rules by which pictures become inputs."""
        with reading(self.path / PREPROCESSOR, self.remedy):
            return ImagePreprocessor.from_dict(self.read_json(PREPROCESSOR))

    def read_labels(self) -> tuple[str, ...]:
        """Read the names of the classes; () if the outputs are no classes."""
        if LABELS not in self.files:
            return ()
        with reading(self.path / LABELS, self.remedy):
            return tuple(self.checked(LABELS).read_bytes().decode("utf-8").split("\n")[:-1])


def open_folder(path: Path, remedy: str) -> PresetFolder:
    """Read the metadata of a preset; no other file is read.

    Args:
        path: The folder.
        remedy: What to do if a file is damaged, a sentence.

    Raises:
        DamagedFileError: ``metadata.json`` is damaged, of a later version, or names files outside the folder.
        FileNotFoundError: there is none.
    """
    place = path / METADATA
    if not place.is_file():
        raise FileNotFoundError(
            f"A preset is a folder with {METADATA}, as `wm.save_to_preset` writes it. Received: {path}, which has none"
        )
    with reading(place, remedy):
        if place.stat().st_size > MOST_METADATA_BYTES:
            raise ValueError(f"it has {place.stat().st_size:,} bytes of at most {MOST_METADATA_BYTES:,}")
        found = read_json(place, remedy, {"format": int})
        check_metadata(found)
    return PresetFolder(path, found, remedy)


def check_metadata(found: Mapping[str, Any]) -> None:
    """Raise a ValueError unless the metadata is of this format and names plain files with sizes and digests."""
    if found["format"] > FORMAT:
        raise ValueError(
            f"it is of format {found['format']}, this wavemix-tf reads up to {FORMAT}: install a newer one"
        )
    check_fields(found, FIELDS)
    for name, entry in found["files"].items():
        if not FILE_NAME.fullmatch(name) or name == METADATA:
            raise ValueError(f"it names the file {name!r}: a plain name, in at most one folder, is expected")
        check_fields(entry, {"bytes": int, "sha256": str})
        if entry["bytes"] < 0 or not re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]):
            raise ValueError(f"size and SHA-256 of {name} are not of the form that is written")
    missing = [name for name in REQUIRED if name not in found["files"]]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    total = sum(entry["bytes"] for entry in found["files"].values())
    if total > MOST_BYTES:
        raise ValueError(f"its files have {total:,} bytes of at most {MOST_BYTES:,}")


def check_replaceable(folder: Path, overwrite: bool) -> None:
    """Raise a FileExistsError unless ``folder`` is free, or is a preset and ``overwrite`` is True."""
    if not folder.exists():
        return
    if not overwrite:
        raise FileExistsError(
            f"path must not exist without overwrite=True. Received: path={str(folder)!r}, which exists"
        )
    if not (folder / METADATA).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"overwrite=True replaces only a preset. Received: path={str(folder)!r}, which is none")


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write a JSON file of a preset; ``indent=None``: on one line, a third of the size of a large configuration."""
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def write_metadata(folder: Path, fields: Mapping[str, Any]) -> None:
    """Write ``metadata.json`` for all files that the folder holds."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    found = {"format": FORMAT, **fields, "files": files}
    check_metadata(found)
    write_json(folder / METADATA, found)
