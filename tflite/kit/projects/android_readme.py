"""The README of an Android project; see ``..templates``."""

from __future__ import annotations

from collections.abc import Mapping

from ...targets.table import get_target
from ..android import LITERT_VERSION
from ..templates import Template
from .android_build import COMPILE_SDK, GRADLE_VERSION
from .subject import Subject

# How LiteRT compiles a file for an NPU: module of the vendor, a chip of its table, package with its compiler.
AOT_TARGETS = {
    "Qualcomm": ("qualcomm", "SM8750", "ai-edge-litert-sdk-qualcomm"),
    "MediaTek": ("mediatek", "MT6991", "ai-edge-litert-sdk-mediatek"),
    "Google Tensor": ("google_tensor", "TENSOR_G5", "ai-edge-litert-sdk-google-tensor"),
}

README = Template("""\
# @{name} in an Android app

The app classifies what the camera sees, or a picture that you choose. It shows the five best classes with their
shares, where the network ran, the median time of an inference, and how far the phone's outputs are from the test
vectors.

| file | content |
|---|---|
| `app/src/main/assets/@{name}.tflite` | the model; `@{name}.labels.txt` has its classes |
| `app/src/main/assets/test_vectors/` | pictures, inputs and expected outputs, which the app runs at its start |
| `@{class_name}.kt` | the model for Kotlin: a `Bitmap` of any size and kind in, scores out |
| `@{class_name}Picture.kt` | makes the input, as in training: @{words} |
| `CameraFrame.kt` | a frame of CameraX, upright, without a copy |
| `Recognizer.kt` | chooses NPU, GPU or CPU and measures the time |
| `MainActivity.kt` | camera, picture picker, screen |
| `@{class_name}Test.kt`, `PlacesTest.kt` | instrumented tests |
| `MODEL_CARD.md` | all data about the model |

## Build

With Android Studio: open this folder. It downloads Gradle @{gradle} and the libraries of `gradle/libs.versions.toml`,
and offers to install the SDK platform @{sdk}. Connect a phone with Android 7.0 or later and press Run.

On a machine without Android Studio, install a JDK (17 or later), Gradle @{gradle}, and Android's command-line tools.
`ANDROID_HOME` names the folder of the SDK. Then, in this folder:

```
sdkmanager --licenses
sdkmanager "platform-tools" "platforms;android-@{sdk}"
gradle wrapper
./gradlew installDebug
```

`gradle wrapper` writes `gradlew`, which is not part of this project.

The tests run on the phone:

```
./gradlew connectedAndroidTest
adb logcat -d -s wavemix
```

`@{class_name}Test` compares the outputs with the test vectors, and the inputs made from the pictures with theirs.
`PlacesTest` opens the network on the NPU, the GPU and the CPU and logs which of them run it.

For an app of your own, change the package `com.example.wavemix` and the `applicationId`. Without the self-test, delete
`test_vectors` (@{vector_kib} KiB and the pictures) and the call of `checkVectors` in `Recognizer.kt`.

## Where the network runs

The menu starts with @{accelerator}. `Recognizer` never lets LiteRT add the CPU to another accelerator. LiteRT then
throws if the accelerator cannot run every op, and the next place is tried: NPU, GPU, CPU. So the place on the screen
is the one that ran every op. With `CompiledModel.Options(Accelerator.GPU, Accelerator.CPU)` LiteRT falls back to the
CPU without a word.

A GPU or NPU whose outputs differ from the test vectors by more than the tolerance of the tests is refused too, with the
difference. The CPU is the last place; if it differs, the screen shows `Self-test: FAILED`.

The time is that of writing the input, `CompiledModel.run` and reading the output: the median of the last 31 pictures.
The first inferences, those of the test vectors, are not in it.

To accept a file of which the NPU runs only a part, use
`@{class_name}(context, setOf(Accelerator.NPU, Accelerator.CPU))`. LiteRT's Kotlin API does not say which ops ran where.

## NPUs

| vendor | library in `app/build.gradle.kts` | also |
|---|---|---|
@{npu_rows}

Uncomment the line of the vendor. LiteRT compiles the model on the phone when it is opened. It can also be compiled
beforehand for a chip, under Linux:

```
pip install "ai-edge-litert==@{litert}" @{packages}
```

```python
from ai_edge_litert.aot import aot_compile
@{imports}

targets = [
@{targets}
]
result = aot_compile.aot_compile("app/src/main/assets/@{name}.tflite", output_dir="compiled", target=targets)
print(result.compilation_report())
```

The packages of the vendors do not contain the compilers. They download them when pip builds them: Qualcomm's AI
Runtime, MediaTek's NeuroPilot, Google's Tensor ML SDK. These, and the libraries that they bring to the phone, have
licenses of their own, not that of LiteRT (Apache 2.0): read them before you ship an app. A compiled file runs on its
chip only; Google Play delivers several as an AI pack (`ai_edge_litert.aot.ai_pack`).

## What was checked

@{checked}

In these tests pictures of any size, and turned frames, become the inputs that training makes of them.
The compilers of the NPUs were not run. The versions of the libraries are those that Google's LiteRT samples used in
August 2026.
""")


def readme(subject: Subject, class_name: str, words: str, checked: str, npu_libraries: Mapping[str, str]) -> str:
    also = {
        "Qualcomm": "the libraries of Qualcomm's AI Runtime (QNN) for the chip",
        "MediaTek": "Android 15 or later",
        "Google Tensor": "Android 16 or later",
    }
    modules = {vendor: row[0] for vendor, row in AOT_TARGETS.items()}
    return README.substitute(
        name=subject.name,
        class_name=class_name,
        words=words,
        checked=checked,
        gradle=GRADLE_VERSION,
        sdk=COMPILE_SDK,
        litert=LITERT_VERSION,
        accelerator=get_target(subject.artifact.target).litert_accelerator,
        vector_kib=-(-sum(array.nbytes for array in (*subject.vectors.inputs, *subject.vectors.outputs)) // 1024),
        npu_rows="\n".join(f"| {vendor} | `{npu_libraries[vendor]}` | {also[vendor]} |" for vendor in AOT_TARGETS),
        packages=" ".join(package for _, _, package in AOT_TARGETS.values()),
        imports="\n".join(
            f"from ai_edge_litert.aot.vendors.{module} import target as {module}" for module in modules.values()
        ),
        targets="\n".join(
            f"    {module}.Target({module}.SocModel.{chip})," for module, chip, _ in AOT_TARGETS.values()
        ),
    )
