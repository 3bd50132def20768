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
        checked: What the generator's tests built and ran of such projects, as a phrase: it begins with "built and
            run", "compiled only" or "not built".
        write: Makes the files, path in the project -> content; an ExportError if the file does not suit the project.
    """

    title: str
    targets: tuple[str, ...]
    write: Callable[[Subject], Mapping[str, bytes]]
    checked: str

    @property
    def what_was_run(self) -> str:
        """Sentences for the README: the checks were made with other files than the user's."""
        return (
            f"By the generator's tests, with other files: {self.checked}. This project was not compiled when it was "
            "written."
        )


def _arduino(subject: Subject) -> Mapping[str, bytes]:
    from .worlds import arduino_files

    return arduino_files(subject, PROJECTS["arduino"].what_was_run)


def _platformio(subject: Subject) -> Mapping[str, bytes]:
    from .worlds import platformio_files

    return platformio_files(subject, PROJECTS["platformio"].what_was_run)


def _esp_idf(subject: Subject) -> Mapping[str, bytes]:
    from .worlds import esp_idf_files

    return esp_idf_files(subject, PROJECTS["esp-idf"].what_was_run)


def _zephyr(subject: Subject) -> Mapping[str, bytes]:
    from .worlds import zephyr_files

    return zephyr_files(subject, PROJECTS["zephyr"].what_was_run)


def _cmake(subject: Subject) -> Mapping[str, bytes]:
    from .cmake import project_files

    return project_files(subject, PROJECTS["cmake"].what_was_run)


def _android(subject: Subject) -> Mapping[str, bytes]:
    from .android import android_files

    return android_files(subject, PROJECTS["android"].what_was_run)


def _cmsis(subject: Subject) -> Mapping[str, bytes]:
    from .worlds import cmsis_files

    return cmsis_files(subject, PROJECTS["cmsis"].what_was_run)


COMPILED = "compiled only, every C and C++ file for a Cortex-M; "
PROJECTS: dict[str, Project] = {
    "arduino": Project(
        "Arduino",
        MICRO_TARGETS,
        _arduino,
        f"{COMPILED}the sketch was not built with the Arduino IDE, and no board was run",
    ),
    "platformio": Project(
        "PlatformIO", MICRO_TARGETS, _platformio, f"{COMPILED}PlatformIO read platformio.ini, but built nothing"
    ),
    "esp-idf": Project(
        "ESP-IDF",
        MICRO_TARGETS,
        _esp_idf,
        f"{COMPILED}its component manager read the manifest, ESP-IDF built nothing",
    ),
    "zephyr": Project("Zephyr", MICRO_TARGETS, _zephyr, f"{COMPILED}west read west.yml, but Zephyr was not built"),
    "cmake": Project(
        "CMake",
        MICRO_TARGETS,
        _cmake,
        "built and run on a computer and on an emulated Cortex-M4 and M55 (qemu-system-arm); for `mcu` on a computer "
        "and a Cortex-M4 by the lines of this README, with local copies of the sources that it downloads, and on a "
        "Cortex-M55 with a library of TensorFlow Lite Micro that was "
        "compiled separately (TFLM_LIBRARY); no board was run",
    ),
    "cmsis": Project("CMSIS", MICRO_TARGETS, _cmsis, f"{COMPILED}not built with the CMSIS-Toolbox"),
    "android": Project(
        "Android",
        ANDROID_TARGETS,
        _android,
        "compiled only: the Kotlin (1.3 and 2.4) with stubs of Android, and run so on a JVM; the resources linked by "
        "aapt2; not built with Gradle, and no phone was run",
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
