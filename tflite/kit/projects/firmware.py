"""The firmware projects."""

from __future__ import annotations

from .subject import Subject


def cmake_files(subject: Subject) -> dict[str, bytes]:
    """A CMake project."""
    return {"README.md": f"# {subject.name}\n".encode()}
