"""The kinds of projects: one literal table. It imports no writer, so that the command can list them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wavemix_tf.checks import check_option

if TYPE_CHECKING:
    from .subject import Subject

MICRO_TARGETS = ("mcu", "c")
ANDROID_TARGETS = ("android-cpu", "android-gpu", "android-npu")


@dataclass(frozen=True)
class Project:
    """A kind of project.

    Args:
        title: Name in texts.
        targets: Keys of ``TARGETS`` that it admits.
        write: Makes the files, path in the project -> content; an ExportError if the file does not suit the project.
    """

    title: str
    targets: tuple[str, ...]
    write: Callable[[Subject], Mapping[str, bytes]]


def _cmake(subject: Subject) -> Mapping[str, bytes]:
    from .firmware import cmake_files

    return cmake_files(subject)


def _android(subject: Subject) -> Mapping[str, bytes]:
    from .android import android_files

    return android_files(subject)


PROJECTS: dict[str, Project] = {
    "cmake": Project("CMake", MICRO_TARGETS, _cmake),
    "android": Project("Android", ANDROID_TARGETS, _android),
}


def check_project(name: str, target: str) -> Project:
    """The row of ``PROJECTS``; a ValueError if there is none, or if it does not admit the target."""
    check_option("project", name, tuple(PROJECTS))
    row = PROJECTS[name]
    if target not in row.targets:
        raise ValueError(
            f"Project {name} takes a file of target {' or '.join(row.targets)}. Received: target={target!r}"
        )
    return row
