"""``Artifact.save_project``: a folder that a device's own tools build, with ``project.json``, which says of what."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavemix_tf.files import replacing_folder

from ...file.flatbuffer import read_file
from ...file.identifiers import check_c_name, check_name
from ..vectors import compute_vectors
from .subject import Subject
from .table import MICRO_TARGETS, check_project

PROJECT_JSON = "wavemix_project.json"


def write_project(
    artifact: Any,
    folder: str | os.PathLike[str],
    project: str,
    overwrite: bool = False,
    *,
    name: str | None = None,
    images: Any = None,
    labels: Any = None,
    vectors: int = 4,
    report: Mapping[str, Any] | None = None,
    pictures: Any = None,
) -> Path:
    """Write a project of an artifact; see ``Artifact.save_project``."""
    row = check_project(project, artifact.target)
    folder = Path(folder)
    if folder.exists() and not overwrite:
        raise FileExistsError(f"Pass overwrite=True to replace {folder}. Received: overwrite=False")
    if folder.exists() and not (folder / PROJECT_JSON).is_file():
        # A wrong path must not delete another folder.
        raise FileExistsError(
            f"A folder that is not a project (without {PROJECT_JSON}) is not replaced: move it. Received: {folder}"
        )
    kept = _files_to_keep(folder)
    chosen = artifact.code_name if name is None else name
    name = f"{artifact.target}-{artifact.dtype}" if chosen is None else chosen
    prefix = f"{check_c_name(chosen)}_" if chosen is not None and row.targets == MICRO_TARGETS else ""
    check_name(name)
    if vectors < 1:
        raise ValueError(f"vectors must be at least 1. Received: vectors={vectors}")
    info = read_file(artifact.content)
    computed = compute_vectors(artifact, info, images, labels, vectors, pictures)
    files = row.write(Subject(dataclasses.replace(artifact, code_name=None), info, name, computed, report, prefix))
    digests = {path: _digest(content) for path, content in files.items()}
    card = {"project": project, "target": artifact.target, "name": name, "sha256": artifact.sha256, "files": digests}
    with replacing_folder(folder) as temporary:
        for path, content in {**files, PROJECT_JSON: (json.dumps(card, indent=2) + "\n").encode()}.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_bytes(content)
        for own in kept:
            if not (temporary / own).exists():
                (temporary / own).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(folder / own, temporary / own)
    return folder


def _files_to_keep(folder: Path) -> list[Path]:
    """Files in a project that ``write_project`` did not write.

    Raises:
        FileExistsError: a file that it wrote was edited since.
    """
    try:
        written = dict(json.loads((folder / PROJECT_JSON).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    edited = [
        path
        for path, digest in written.items()
        if (folder / path).is_file() and _digest((folder / path).read_bytes()) != digest
    ]
    if edited:
        raise FileExistsError(
            f"A project whose files were edited is not replaced: move it, or these files: {', '.join(edited)}. "
            f"Received: {folder}"
        )
    own = {Path(path) for path in (*written, PROJECT_JSON)}
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [path for path in found if path not in own]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def project_name(folder: Path) -> str | None:
    """Name of the network of a project in ``folder``; None if there is no project."""
    try:
        return str(json.loads((folder / PROJECT_JSON).read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def project_digest(folder: Path) -> str | None:
    """sha256 of the file that a project in ``folder`` was made for; None if there is no project."""
    try:
        return str(json.loads((folder / PROJECT_JSON).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
