"""The Android project: complete, well-formed, compiled with stubs, and its app run on a JVM."""

import dataclasses
import importlib.metadata
import inspect
import re
import shutil
import subprocess
import tomllib
from xml.etree import ElementTree

import android_app_stubs
import android_stubs
import gradle_stubs
import keras
import numpy as np
import pytest
from keras import layers as L
from PIL import Image
from tflite_support import FILES, HELD_OUT

from wavemix_tf.preprocessing import Preprocessing
from wavemix_tf.tflite import ExportError, export
from wavemix_tf.tflite.file.flatbuffer import read_file

ANDROID = "{http://schemas.android.com/apk/res/android}"
NAME = "flowers.v2"
CLASS_NAMES = ['a "b" $HOME ${x}', "c\\d\\n", "<e> & 'f'", "Gänse 鴨", "@g|h %s"]
JAVA = "java/com/example/wavemix"
FRAMEWORK = "/usr/share/android-framework-res/framework-res.apk"


@pytest.fixture(scope="module")
def artifact():
    """A small float network: five classes by the mean color."""
    inputs = keras.Input((8, 6, 3))
    model = keras.Model(inputs, L.Dense(5, name="scores")(L.GlobalAveragePooling2D()(inputs)))
    model.set_weights([np.random.default_rng(0).normal(0, 9, (3, 5)), np.zeros(5)])
    return export(model, "android-cpu", "float32", class_names=CLASS_NAMES, crop_to_aspect_ratio=False)


@pytest.fixture(scope="module")
def project(artifact, tmp_path_factory):
    return artifact.save_project(tmp_path_factory.mktemp("android") / "project", "android", name=NAME)


def texts(project):
    kinds = (".kt", ".kts", ".md", ".properties", ".toml", ".xml")
    return {
        path.relative_to(project).as_posix(): path.read_text() for path in project.rglob("*") if path.suffix in kinds
    }


def test_the_files_of_the_project(project, artifact):
    found = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assets = {f"app/src/main/assets/{NAME}.tflite", f"app/src/main/assets/{NAME}.labels.txt"}
    vectors = ["input_0.bin", "expected_0.bin", *(f"picture_{i}.png" for i in range(5))]
    assets |= {f"app/src/main/assets/test_vectors/{NAME}/{file}" for file in vectors}
    kotlin = [
        f"main/{JAVA}/{file}.kt"
        for file in ("FlowersV2", "FlowersV2Picture", "CameraFrame", "Recognizer", "MainActivity")
    ]
    kotlin += [f"androidTest/{JAVA}/{file}.kt" for file in ("FlowersV2Test", "PlacesTest")]
    resources = ["drawable/ic_launcher.xml", "layout/activity_main.xml", "values/strings.xml", "values/themes.xml"]
    build = {".gitignore", "settings.gradle.kts", "build.gradle.kts", "gradle.properties", "app/build.gradle.kts"}
    build |= {"gradle/libs.versions.toml", "gradle/wrapper/gradle-wrapper.properties"}
    assert found == (
        {"README.md", "MODEL_CARD.md", "wavemix_project.json", "app/src/main/AndroidManifest.xml"}
        | build
        | assets
        | {f"app/src/{file}" for file in kotlin}
        | {f"app/src/main/res/{file}" for file in resources}
    )
    assert (project / f"app/src/main/assets/{NAME}.tflite").read_bytes() == artifact.content
    assert (project / f"app/src/main/assets/{NAME}.labels.txt").read_text().split("\n") == [*CLASS_NAMES, ""]


def test_nothing_is_left_to_fill_in_and_no_class_name_is_in_code(project):
    for path, text in texts(project).items():
        assert "@{" not in text, path
        assert not re.search(r"\bNone\b|\bnan\b", text), path
        if path != "MODEL_CARD.md":
            assert not [name for name in CLASS_NAMES if name in text], path


def test_xml_and_gradle_name_what_exists(project):
    """Every resource, alias of the catalog and class that a file names is in another file."""
    resources = project / "app/src/main/res"
    there = {f"layout/{path.stem}" for path in (resources / "layout").iterdir()}
    there |= {f"drawable/{path.stem}" for path in (resources / "drawable").iterdir()}
    for path in (resources / "values").iterdir():
        there |= {f"{one.tag}/{one.get('name')}" for one in ElementTree.parse(path).getroot()}
    layout = ElementTree.parse(resources / "layout/activity_main.xml")
    ids = {one.get(f"{ANDROID}id", "").removeprefix("@+id/") for one in layout.iter()} - {""}
    named = set()
    for path in [*resources.rglob("*.xml"), project / "app/src/main/AndroidManifest.xml"]:
        for one in ElementTree.parse(path).iter():
            named |= {
                value[1:] for value in one.attrib.values() if re.match(r"@(string|style|drawable|layout)/", value)
            }
    kotlin = texts(project)[f"app/src/main/{JAVA}/MainActivity.kt"]
    found = re.findall(r"(?<![\w.])R\.(\w+)\.(\w+)", kotlin)
    assert {name for kind, name in found if kind == "id"} == ids
    named |= {f"{kind}/{name}" for kind, name in found if kind != "id"}
    assert named == there  # and nothing is there in vain
    assert {"layout/activity_main", "string/app_name", "style/AppTheme"} <= named
    catalog = tomllib.loads(texts(project)["gradle/libs.versions.toml"])
    aliases = {f"libs.{name}".replace("-", ".") for name in catalog["libraries"]}
    aliases |= {f"libs.plugins.{name}".replace("-", ".") for name in catalog["plugins"]}
    build = texts(project)["app/build.gradle.kts"] + texts(project)["build.gradle.kts"]
    assert set(re.findall(r"\((libs\.[\w.]+)\)", build)) == aliases
    versions = {row["version"]["ref"] for row in [*catalog["libraries"].values(), *catalog["plugins"].values()]}
    assert versions == set(catalog["versions"])
    manifest = ElementTree.parse(project / "app/src/main/AndroidManifest.xml")
    (activity,) = manifest.iter("activity")
    assert (project / f"app/src/main/{JAVA}{activity.get(f'{ANDROID}name').replace('.', '/')}.kt").is_file()
    assert f'namespace = "{JAVA.removeprefix("java/").replace("/", ".")}"' in build
    assert 'applicationId = "com.example.wavemix.flowersv2"' in build


def test_what_is_refused(artifact, tmp_path):
    segmentation = dataclasses.replace(artifact, class_names=())
    tile = dataclasses.replace(artifact, preprocessing=Preprocessing("none"))
    unknown = dataclasses.replace(artifact, input_ranges=(None,))
    for file in (segmentation, tile, unknown):
        with pytest.raises(ExportError, match=r"classifies pictures of any size.*Received: android-cpu-float32"):
            file.save_project(tmp_path / "project", "android")
    with pytest.raises(ValueError, match=r"Project android takes a file of target android-cpu or .*target='mcu'"):
        dataclasses.replace(artifact, target="mcu").save_project(tmp_path / "project", "android")
    assert list(tmp_path.iterdir()) == []


def test_the_readme_starts_litert_s_compilers(project):
    """Its Python, up to the call that needs a vendor's compiler, with the LiteRT that is installed."""
    text = (project / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(code[: code.index("result =")], names)
    assert [str(target) for target in names["targets"]] == ["Qualcomm_SM8750", "MediaTek_MT6991", "Google_Tensor_G5"]
    assert set(inspect.signature(names["aot_compile"].aot_compile).parameters) >= {
        "input_model",
        "output_dir",
        "target",
    }
    assert f'"ai-edge-litert=={importlib.metadata.version("ai-edge-litert")}"' in text
    assert names["aot_compile"].aot_compile.__module__ == "ai_edge_litert.aot.aot_compile"


def test_litert_refuses_what_an_accelerator_does_not_run_whole(artifact):
    """What the app's place rests on: without the CPU LiteRT throws; with it, it says nothing."""
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator

    with pytest.raises(RuntimeError, match=r"Some ops are not accelerated"):
        CompiledModel.from_buffer(artifact.content, hardware_accel=HardwareAccelerator.NPU)
    both = HardwareAccelerator.NPU | HardwareAccelerator.CPU
    CompiledModel.from_buffer(artifact.content, hardware_accel=both)


@pytest.mark.skipif(shutil.which("aapt2") is None, reason="needs aapt2 (Debian: aapt, android-framework-res)")
def test_aapt2_links_the_manifest_and_the_resources(project, tmp_path):
    """Android's own tool, against the framework of Android 10; CameraX's attribute is given."""
    main = project / "app/src/main"
    manifest = (
        (main / "AndroidManifest.xml").read_text().replace("<manifest ", '<manifest package="com.example.wavemix" ')
    )
    (tmp_path / "AndroidManifest.xml").write_text(re.sub(r"<uses-native-library.*?/>", "", manifest, flags=re.DOTALL))
    (tmp_path / "values").mkdir()
    scales = "".join(f'<enum name="{name}" value="{i}"/>' for i, name in enumerate(("fillCenter", "fitCenter")))
    (tmp_path / "values/attrs.xml").write_text(f'<resources><attr name="scaleType">{scales}</attr></resources>')
    camera, flat = tmp_path / "values/attrs.xml", tmp_path / "values_attrs.arsc.flat"
    subprocess.run(["aapt2", "compile", camera, "-o", tmp_path], check=True)
    subprocess.run(["aapt2", "compile", "--dir", main / "res", "-o", tmp_path / "res.zip"], check=True)
    link = [
        "aapt2",
        "link",
        "-I",
        FRAMEWORK,
        "--manifest",
        tmp_path / "AndroidManifest.xml",
        "-o",
        tmp_path / "app.apk",
    ]
    link += ["--min-sdk-version", "24", "--target-sdk-version", "29", "-A", main / "assets"]
    subprocess.run([*link, flat, tmp_path / "res.zip"], check=True)
    assert (tmp_path / "app.apk").stat().st_size > (main / f"assets/{NAME}.tflite").stat().st_size


def generated_sources(project):
    """R and the views of the layout, as Android's build makes them of the resources."""
    resources = project / "app/src/main/res"
    views = []
    for one in ElementTree.parse(resources / "layout/activity_main.xml").iter():
        if f"{ANDROID}id" in one.attrib:
            kind = one.tag if "." in one.tag else f"android.widget.{one.tag}"
            views.append((one.get(f"{ANDROID}id").removeprefix("@+id/"), kind))
    strings = {one.get("name"): one.text for one in ElementTree.parse(resources / "values/strings.xml").getroot()}
    ids = "".join(f"const val {name} = {i}\n" for i, (name, _) in enumerate(views))
    names = "".join(f"const val {name} = {i}\n" for i, name in enumerate(strings))
    inflated = ", ".join(f"R.id.{name} to {kind}()" for name, kind in views)
    texts = ", ".join(f'R.string.{name} to "{text}"' for name, text in strings.items())
    return f"""
    package com.example.wavemix
    class R {{
        object layout {{ const val activity_main = 1 }}
        object id {{ {ids} }}
        object string {{ {names} }}
    }}
    fun inflate(layout: Int) = mapOf<Int, android.view.View>({inflated})
    val strings = mapOf({texts})
    """


def build_sources(project, folder):
    """The build files as Kotlin, with Gradle's stubs and the catalog's aliases."""
    found = texts(project)
    made = {"gradle": gradle_stubs.SOURCE, "dsl": gradle_stubs.JVM_TARGET}
    made["libs"] = gradle_stubs.catalog_source(tomllib.loads(found["gradle/libs.versions.toml"]))
    for name in ("settings.gradle.kts", "build.gradle.kts", "app/build.gradle.kts"):
        made[name.replace("/", "_")] = gradle_stubs.script_source(name, found[name])
    for name, text in made.items():
        (folder / f"{name}.kt").write_text(text)
    return [folder / f"{name}.kt" for name in made]


def answer(scores):
    """What the screen shows for an output."""
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    return [f"{100 * shares[i]:5.1f} %  {CLASS_NAMES[i]}" for i in np.argsort(-shares, kind="stable")]


@pytest.mark.skipif(shutil.which("kotlinc") is None, reason="needs kotlinc")
def test_the_app_on_a_jvm(tmp_path):
    """Turned frames of a camera, pictures, refused accelerators; LiteRT's stub takes only the vectors' inputs."""
    file = dataclasses.replace(FILES["deconv", "android-cpu", "uint8"], class_names=tuple(CLASS_NAMES))
    project = file.save_project(tmp_path / "project", "android", name=NAME, images=HELD_OUT["deconv"][:4])
    assets = project / "app/src/main/assets"
    vectors = assets / f"test_vectors/{NAME}"
    sources = sorted((project / "app/src").rglob("*.kt"))
    for package in {**android_stubs.SOURCES, **android_app_stubs.SOURCES}:
        text = android_stubs.SOURCES.get(package, "") + android_app_stubs.SOURCES.get(package, "")
        sources.append(tmp_path / f"{package}.kt")
        sources[-1].write_text(f"package {package}\n{text}")
    sources += build_sources(project, tmp_path)
    for stem, text in (("generated", generated_sources(project)), ("main", android_app_stubs.DRIVER)):
        sources.append(tmp_path / f"{stem}.kt")
        sources[-1].write_text(text)
    jar = tmp_path / "app.jar"
    compiled = subprocess.run(
        ["kotlinc", *sources, "-include-runtime", "-nowarn", "-d", jar], capture_output=True, text=True
    )
    assert compiled.returncode == 0, compiled.stderr
    frames = [vectors / "picture_0.png"]
    for number, degrees in enumerate((0, 90, 180, 270)):
        frames.append(tmp_path / f"{degrees}.png")
        # Turned back: the picture is upright when the frame is turned clockwise.
        Image.fromarray(np.rot90(np.asarray(Image.open(vectors / f"picture_{number}.png")), degrees // 90)).save(
            frames[-1]
        )
    run = ["java", f"-Dassets={assets}", "-cp", jar, "com.example.wavemix.MainKt", *frames]
    lines = subprocess.run(run, check=True, stdout=subprocess.PIPE, timeout=60).stdout.decode().splitlines()
    (sink,) = read_file(file.content).outputs
    raw = np.frombuffer((vectors / "expected_0.bin").read_bytes(), np.uint8).reshape(-1, 5)
    scores = (raw.astype(float) - sink.zero_point) * sink.scale
    allowed = f"{0.05 * np.ptp(raw):.7g}"
    refused = "refused: ERROR: [litert_compiled_model.h:1] └ Some ops are not accelerated."
    test = "every op | Self-test: passed, largest difference 0.0 (output steps)"
    assert lines[0] == "The app may not use the camera. Choose a picture."
    assert lines[1] == "NPU, GPU, CPU; 2"
    assert lines[2:7] == [
        f"STATUS CPU, {test} | NPU {refused} | GPU {refused}",
        f"STATUS GPU, {test} | NPU {refused}",
        f"STATUS NPU, {test}",
        f"STATUS CPU, {test}",
        "STATUS The network runs nowhere on this device: {GPU=ERROR: [litert_compiled_model.h:1] └ Some ops are not "
        "accelerated., CPU=ERROR: [litert_compiled_model.h:1] └ Some ops are not accelerated.}",
    ]
    assert lines[7] == f"STATUS CPU, {test} | GPU refused: Failed to run"
    assert lines[8:12] == [
        f"STATUS CPU, {test} | GPU refused: dlopen failed: x.so",
        f"STATUS CPU, {test} | GPU refused: An output is off by 64.0 (output steps); allowed: {allowed}",
        f"STATUS GPU, {test.replace('0.0', '1.0')}",
        f"STATUS CPU, {test.replace('passed', 'FAILED').replace('0.0', '64.0')}; allowed: 1.0 | GPU refused: "
        f"An output is off by 48.0 (output steps); allowed: {allowed}",
    ]
    lines[8:12] = []
    assert lines[8:28] == [line for row in scores[:4] for line in answer(row)]
    assert lines[28] == "TIME true"
    assert lines[29:34] == answer(scores[0])
    assert lines[34:] == ["The picture cannot be read: content://null", "no camera", "OPEN 0 0", "LATE 0"]
