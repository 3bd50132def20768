"""A Gradle project for Android: an app that classifies what the camera sees, of the kit's own Kotlin."""

from __future__ import annotations

from xml.sax.saxutils import escape

import numpy as np

from ...errors import ExportError
from ...file.identifiers import kotlin_class
from ...targets.table import get_target
from ..android import KOTLIN_TYPES, LITERT_VERSION, has_kotlin, kotlin_files, output_unit, tolerance_kt
from ..model_card import model_card
from ..picture import PictureInput
from ..tensors import c_float, is_classes
from ..vectors import vector_files
from . import android_app as app
from . import android_build as build
from .android_readme import readme
from .subject import Subject

# Largest difference from the test vectors, as a share of their outputs' range: of an accelerator that is used, and of a
# float file on the CPU.
ACCELERATOR_SHARE, FLOAT_SHARE = 0.05, 1e-3
JAVA = "java/com/example/wavemix"
# Vendor of an NPU -> the artifact with LiteRT's libraries for it.
NPU_LIBRARIES = {
    "Qualcomm": "litert-npu-runtime-qualcomm",
    "MediaTek": "litert-npu-runtime-mediatek",
    "Google Tensor": "litert-npu-runtime-google-tensor",
}


def android_files(subject: Subject, checked: str) -> dict[str, bytes]:
    """Path in the project -> content.

    Args:
        subject: The file.
        checked: ``Project.what_was_run``.

    Raises:
        ExportError: the file does not classify pictures of any size, or Kotlin's TensorBuffer has not its dtypes.
    """
    artifact, info, name = subject.artifact, subject.info, subject.name
    taken = PictureInput.of(artifact, info)
    if taken is None or taken.same_size or not is_classes(artifact, info.outputs[0]):
        raise ExportError(
            "Project android takes a file that classifies pictures of any size: a picture in, its levels known, "
            f"and named classes out. For other files --kit writes a Kotlin class. Received: {name}"
        )
    if not has_kotlin(info):
        dtypes = ", ".join(tensor.dtype for tensor in (*info.inputs, *info.outputs))
        raise ExportError(f"Project android takes inputs and outputs of {', '.join(KOTLIN_TYPES)}. Received: {dtypes}")
    class_name = kotlin_class(name)
    kotlin = kotlin_files(artifact, info, name, class_name, subject.vectors, taken)
    kotlin |= _app_kotlin(subject, class_name)
    files: dict[str, bytes] = {"README.md": readme(subject, class_name, taken.words, checked, NPU_LIBRARIES).encode()}
    files["MODEL_CARD.md"] = model_card(artifact, info, name, subject.vectors, subject.report).encode()
    for path, text in {**_build_files(class_name, name), **_placed(kotlin)}.items():
        files[path] = text.encode()
    assets = {f"{name}.tflite": artifact.content, **vector_files(name, subject.vectors)}
    assets[f"{name}.labels.txt"] = "".join(f"{one}\n" for one in artifact.class_names).encode()
    return files | {f"app/src/main/assets/{path}": content for path, content in assets.items()}


def _app_kotlin(subject: Subject, class_name: str) -> dict[str, str]:
    row = get_target(subject.artifact.target)
    # Half-precision and integer arithmetic of accelerators differ from the CPU's; a broken driver is off by much more.
    spread = float(np.ptp(subject.vectors.outputs[0].astype(np.float64)))
    exact = float(tolerance_kt(subject.artifact, subject.info, subject.vectors).rstrip("f"))
    if not subject.info.outputs[0].scale:  # processors differ in the last digits
        exact = max(exact, FLOAT_SHARE * spread)
    fed, given = (KOTLIN_TYPES[ends[0].dtype] for ends in (subject.info.inputs, subject.info.outputs))
    words = {
        "class_name": class_name,
        "input_array": fed.array,
        "output_array": given.array,
        "accelerator": row.litert_accelerator,
        "unit": output_unit(subject.info),
        "tolerance": c_float(np.float32(exact)),
        "accelerator_tolerance": c_float(np.float32(max(exact, ACCELERATOR_SHARE * spread))),
    }
    return {
        "CameraFrame.kt": app.CAMERA_FRAME.substitute(words),
        "Recognizer.kt": app.RECOGNIZER.substitute(words),
        "MainActivity.kt": app.MAIN_ACTIVITY.substitute(words),
        "PlacesTest.kt": app.PLACES_TEST.substitute(words),
    }


def _placed(kotlin: dict[str, str]) -> dict[str, str]:
    """Kotlin files at their places in the app."""
    kinds = {file: "androidTest" if file.endswith("Test.kt") else "main" for file in kotlin}
    return {f"app/src/{kinds[file]}/{JAVA}/{file}": text for file, text in kotlin.items()}


def _build_files(class_name: str, name: str) -> dict[str, str]:
    libraries = [
        f'    // implementation("com.google.ai.edge.litert:{artifact}:{LITERT_VERSION}") // {vendor}'
        for vendor, artifact in NPU_LIBRARIES.items()
    ]
    return {
        ".gitignore": build.GIT_IGNORE,
        "settings.gradle.kts": build.SETTINGS.substitute(class_name=class_name),
        "build.gradle.kts": build.ROOT_BUILD,
        "gradle.properties": build.PROPERTIES,
        "gradle/libs.versions.toml": build.CATALOG,
        "gradle/wrapper/gradle-wrapper.properties": build.WRAPPER_PROPERTIES,
        "app/build.gradle.kts": build.APP_BUILD.substitute(
            compile_sdk=build.COMPILE_SDK,
            min_sdk=build.MIN_SDK,
            application=class_name.lower(),
            npu_libraries="\n".join(libraries),
        ),
        "app/src/main/AndroidManifest.xml": build.MANIFEST,
        "app/src/main/res/layout/activity_main.xml": build.LAYOUT,
        "app/src/main/res/values/strings.xml": build.STRINGS.substitute(title=escape(name)),
        "app/src/main/res/values/themes.xml": build.THEMES,
        "app/src/main/res/drawable/ic_launcher.xml": build.ICON,
    }
