"""What the writer of a project reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...file.flatbuffer import FileInfo
from ..vectors import Vectors


@dataclass(frozen=True)
class Subject:
    """A verified file, and what a project about it needs.

    Args:
        artifact: From ``export`` or ``Artifact.load``.
        info: Its parsed content.
        name: Name of its files.
        vectors: Test vectors.
        report: Content of a run's ``report.json``; None: unknown.
        prefix: Of every name in the code that other files see, and of the code's files: "" or "<name>_".
    """

    artifact: Any
    info: FileInfo
    name: str
    vectors: Vectors
    report: Mapping[str, Any] | None
    prefix: str = ""
