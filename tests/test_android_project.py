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
    refused = "refused: ERROR: [litert_compiled_model.h:1] └ Some ops are not accelerated."
    test = "every op | Self-test: largest difference 0.0 (output steps)"
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
    assert lines[8:28] == [line for row in scores[:4] for line in answer(row)]
    assert lines[28] == "TIME true"
    assert lines[29:34] == answer(scores[0])
    assert lines[34:] == ["The picture cannot be read: content://null", "no camera", "OPEN 0 0"]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[__init__.py0]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[__init__.py1]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[dynamixer.py0]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[plans.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[timm.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[torch_files.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[torch_weights.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[wavemix.py0]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[checks.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[colours.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[escaping.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[files.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[gradient_registry.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[inspection.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[keras_internals.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[__init__.py2]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[activations.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[convmixer_block.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[elementwise.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[fourier_block.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[imaging.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[mixers.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[mlp_mixer_block.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[normalization.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[pixel_shuffle.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[poolformer_block.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[residual_block.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[two_step_block.py]", 0.24]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[wavelets.py]", 0.02]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[wavemix_blocks.py]", 0.02]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[mac_counts.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[metrics.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[__init__.py3]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[base.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[dynamixer.py1]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[token_mixers.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[token_sampling.py]", 0.02]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[vit.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[wavemix.py1]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[page_style.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[pareto.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[preprocessing.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[profiler.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[registration.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[sampling_grid.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[startup.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[state_files.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[tiling.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[tracing.py]", 0.0]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[variants.py]", 0.01]
["tests/test_boundaries.py::test_core_imports_neither_tensorflow_nor_the_packages_above[warning.py]", 0.01]
["tests/test_boundaries.py::test_training_and_tflite_never_import_each_other[training-tflite]", 0.26]
["tests/test_boundaries.py::test_training_and_tflite_never_import_each_other[tflite-training]", 0.49]
["tests/test_boundaries.py::test_rooms_import_from_the_rooms_before_them[core]", 0.19]
["tests/test_boundaries.py::test_rooms_import_from_the_rooms_before_them[training]", 0.54]
["tests/test_boundaries.py::test_rooms_import_from_the_rooms_before_them[tflite]", 0.59]
["tests/test_boundaries.py::test_mapped_packages_import_relatively_inside_themselves[training]", 0.21]
["tests/test_boundaries.py::test_mapped_packages_import_relatively_inside_themselves[tflite]", 0.61]
["tests/test_boundaries.py::test_warnings_name_the_callers_line", 1.03]
["tests/test_boundaries.py::test_one_file_calls_the_converter", 0.01]
["tests/test_boundaries.py::test_nothing_reads_pickles", 1.17]
["tests/test_boundaries.py::test_all_lists_the_public_names[wavemix_tf]", 0.0]
["tests/test_boundaries.py::test_all_lists_the_public_names[wavemix_tf.training]", 0.0]
["tests/test_boundaries.py::test_all_lists_the_public_names[wavemix_tf.tflite]", 0.0]
["tests/test_boundaries.py::test_a_prompt_completes_the_public_names_alone[wm]", 0.01]
["tests/test_boundaries.py::test_a_prompt_completes_the_public_names_alone[wm.training]", 0.0]
["tests/test_boundaries.py::test_a_prompt_completes_the_public_names_alone[wm.tflite]", 0.0]
["tests/test_boundaries.py::test_an_editor_completes_the_public_names[wavemix_tf]", 0.01]
["tests/test_boundaries.py::test_an_editor_completes_the_public_names[wavemix_tf.training]", 0.0]
["tests/test_boundaries.py::test_an_editor_completes_the_public_names[wavemix_tf.tflite]", 0.0]
["tests/test_boundaries.py::test_no_module_bears_the_name_of_a_public_function[wavemix_tf]", 0.0]
["tests/test_boundaries.py::test_no_module_bears_the_name_of_a_public_function[wavemix_tf.training]", 0.0]
["tests/test_boundaries.py::test_no_module_bears_the_name_of_a_public_function[wavemix_tf.tflite]", 0.0]
["tests/test_boundaries.py::test_bare_import_from_the_checkout_says_what_to_do[training]", 0.03]
["tests/test_boundaries.py::test_bare_import_from_the_checkout_says_what_to_do[tflite]", 0.04]
["tests/test_boundaries.py::test_import_stays_light", 5.54]
["tests/test_boundaries.py::test_unknown_attribute_is_an_attribute_error", 0.0]
["tests/test_project.py::test_the_version_stands_in_one_place", 0.01]
["tests/test_project.py::test_every_import_is_of_a_declared_dependency", 1.25]
["tests/test_project.py::test_dir_shows_the_public_names", 0.0]
["tests/test_project.py::test_links_lead_somewhere[ARCHITECTURE.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[CHANGELOG.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[CONTRIBUTING.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[README.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[SECURITY.md]", 0.01]
["tests/test_project.py::test_links_lead_somewhere[benchmarks/README.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/benchmarks.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/checkpoints.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/command.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/comparison.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/copies.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/design.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/faq.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/guides/android.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/guides/browser.md]", 0.01]
["tests/test_project.py::test_links_lead_somewhere[docs/guides/ethos_u.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/guides/ios.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/guides/microcontroller.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/guides/own_images.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/guides/pytorch.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/guides/qat_any_model.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/guides/transfer_learning.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/how_it_works.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/index.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/limits.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/published.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/quantization.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/quick_start.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/reference/layers.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/reference/networks.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/reference/tflite.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/reference/training.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/search.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/systems.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/targets.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/tasks.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/token_sampling.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[docs/training.md]", 0.0]
["tests/test_project.py::test_links_lead_somewhere[examples/README.md]", 0.0]
["tests/test_project.py::test_every_page_of_the_site_is_in_its_navigation", 0.0]
["tests/test_project.py::test_the_readme_is_short", 0.0]
["tests/test_project.py::test_the_reference_has_every_public_name", 0.0]
["tests/test_project.py::test_every_module_that_architecture_names_is_there", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[mcu-int8]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[_1]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[-x]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[a--b]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[__x]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[1st]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[class]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[if]", 0.01]
["tests/test_tflite_identifiers.py::test_identifiers[tflite]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[main]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[size_t]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[String]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[context]", 0.0]
["tests/test_tflite_identifiers.py::test_identifiers[a.b]", 0.0]
["tests/test_tflite_identifiers.py::test_every_class_that_the_kotlin_imports_is_kept", 0.0]
["tests/test_tflite_identifiers.py::test_usual_names_are_what_they_were", 0.0]
["tests/test_tflite_identifiers.py::test_names_that_no_identifier_can_have[_]", 0.0]
["tests/test_tflite_identifiers.py::test_names_that_no_identifier_can_have[-]", 0.01]
["tests/test_tflite_identifiers.py::test_names_that_no_identifier_can_have[__-]", 0.0]
["tests/test_tflite_identifiers.py::test_names_that_no_identifier_can_have[]", 0.0]
["tests/test_tflite_identifiers.py::test_names_that_no_identifier_can_have[.a]", 0.0]
["tests/test_tflite_identifiers.py::test_names_that_no_identifier_can_have[a/b]", 0.0]
["tests/test_tflite_identifiers.py::test_names_that_no_identifier_can_have[a b]", 0.0]
["tests/test_tflite_identifiers.py::test_names_that_no_identifier_can_have[\\xe9]", 0.0]
["tests/test_tflite_identifiers.py::test_names_that_no_identifier_can_have[a\\n]", 0.0]
["tests/test_tflite_identifiers.py::test_names_that_no_identifier_can_have[../x]", 0.0]
["tests/test_tflite_identifiers.py::test_a_compiler_takes_them", 0.02]
["tests/test_tflite_kit.py::test_files", 15.01]
["tests/test_tflite_kit.py::test_the_file_in_it_is_the_artifact", 0.0]
["tests/test_tflite_kit.py::test_the_c_array_is_the_file", 0.01]
["tests/test_tflite_kit.py::test_the_resolver_has_the_ops_of_the_file", 0.0]
["tests/test_tflite_kit.py::test_vectors_are_what_tensorflow_lite_micro_computes", 0.23]
["tests/test_tflite_kit.py::test_vectors_are_what_litert_computes[android-cpu-int8]", 0.01]
["tests/test_tflite_kit.py::test_vectors_are_what_litert_computes[android-cpu-uint8]", 0.02]
["tests/test_tflite_kit.py::test_vectors_are_what_litert_computes[android-gpu-float16]", 0.01]
["tests/test_tflite_kit.py::test_the_header_holds_the_same_vectors[mcu-int8]", 0.01]
["tests/test_tflite_kit.py::test_the_header_holds_the_same_vectors[android-cpu-uint8]", 0.0]
["tests/test_tflite_kit.py::test_the_header_holds_the_same_vectors[android-gpu-float16]", 0.01]
["tests/test_tflite_kit.py::test_code_is_for_the_input_and_the_accelerator", 0.0]
["tests/test_tflite_kit.py::test_every_vector_starts_from_a_picture", 0.18]
["tests/test_tflite_kit.py::test_pictures_of_any_size", 0.2]
["tests/test_tflite_kit.py::test_what_is_unknown_of_training_is_said", 0.67]
["tests/test_tflite_kit.py::test_the_firmware_makes_the_input_of_a_picture", 0.15]
["tests/test_tflite_kit.py::test_a_compiler_reads_the_arrays_as_they_are[mcu-int8]", 0.06]
["tests/test_tflite_kit.py::test_a_compiler_reads_the_arrays_as_they_are[android-gpu-float16]", 0.07]
["tests/test_tflite_kit.py::test_an_existing_folder_stays_as_it_is", 1.17]
["tests/test_tflite_kit.py::test_a_folder_comes_back_when_the_new_one_cannot_take_its_place", 0.0]
["tests/test_tflite_kit.py::test_model_card_invents_nothing", 0.39]
["tests/test_tflite_kit.py::test_large_inputs_make_fewer_vectors", 0.06]
["tests/test_tflite_kit.py::test_wrong_options", 0.02]
["tests/test_preprocessing_metadata.py::test_predict_on_a_moved_tflite_file[False-blue]", 0.56]
["tests/test_preprocessing_metadata.py::test_predict_on_a_moved_tflite_file[None-blue]", 0.05]
["tests/test_preprocessing_metadata.py::test_predict_on_a_moved_keras_file[True-red]", 0.17]
["tests/test_preprocessing_metadata.py::test_predict_on_a_moved_keras_file[False-blue]", 0.14]
["tests/test_preprocessing_metadata.py::test_a_recipe_beside_the_file_counts_where_the_file_tells_nothing", 0.24]
["tests/test_preprocessing_metadata.py::test_a_range_that_no_file_tells", 0.07]
["tests/test_preprocessing_metadata.py::test_the_card_tells_it", 0.02]
["tests/test_preprocessing_metadata.py::test_an_enlarging_network_takes_tiles", 0.29]
["tests/test_preprocessing_metadata.py::test_the_standard_entry[limits0]", 0.01]
["tests/test_preprocessing_metadata.py::test_the_standard_entry[limits1]", 0.01]
["tests/test_preprocessing_metadata.py::test_the_standard_entry[limits2]", 0.01]
["tests/test_preprocessing_metadata.py::test_a_file_for_a_phone_holds_its_class_names", 0.16]
["tests/test_preprocessing_metadata.py::test_somebody_elses_file", 0.01]
["tests/test_preprocessing_metadata.py::test_the_files_behind_a_sample[True]", 0.65]
["tests/test_preprocessing_metadata.py::test_the_files_behind_a_sample[False]", 0.37]
