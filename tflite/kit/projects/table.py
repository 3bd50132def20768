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
        checked: What was built and run when this project was written, as a phrase: it begins with "built and run",
            "compiled only" or "not built".
        write: Makes the files, path in the project -> content; an ExportError if the file does not suit the project.
    """

    title: str
    targets: tuple[str, ...]
    write: Callable[[Subject], Mapping[str, bytes]]
    checked: str


def _cmake(subject: Subject) -> Mapping[str, bytes]:
    from .cmake import project_files

    return project_files(subject, PROJECTS["cmake"].checked)


def _android(subject: Subject) -> Mapping[str, bytes]:
    from .android import android_files

    return android_files(subject, PROJECTS["android"].checked)


PROJECTS: dict[str, Project] = {
    "cmake": Project(
        "CMake",
        MICRO_TARGETS,
        _cmake,
        "built and run: on a computer, and on an emulated Cortex-M4 and M55 (qemu-system-arm); no board",
    ),
    "android": Project(
        "Android",
        ANDROID_TARGETS,
        _android,
        "compiled only: the Kotlin with stubs of Android, and run so on a JVM; the resources linked by aapt2; not "
        "built with Gradle, no phone",
    ),
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
