"""The Android project: complete, well-formed, compiled with stubs, and its app run on a JVM."""

import dataclasses
import re
import shutil
import subprocess
import tomllib
from xml.etree import ElementTree

import android_app_stubs
import android_stubs
import numpy as np
import pytest
from PIL import Image
from tflite_support import FILES, HELD_OUT

from wavemix_tf.tflite import Artifact, ExportError
from wavemix_tf.tflite.kit.projects.table import PROJECTS

ANDROID = "{http://schemas.android.com/apk/res/android}"
NAME = "flowers.v2"
CLASS_NAMES = ['a "b" $HOME ${x}', "c\\d\\n", "<e> & 'f'", "Gänse 鴨", "@g|h %s"]
JAVA = "java/com/example/wavemix"
FRAMEWORK = "/usr/share/android-framework-res/framework-res.apk"


@pytest.fixture(scope="module")
def artifact():
    return dataclasses.replace(FILES["deconv", "android-cpu", "uint8"], class_names=tuple(CLASS_NAMES))


@pytest.fixture(scope="module")
def project(artifact, tmp_path_factory):
    folder = tmp_path_factory.mktemp("android") / "project"
    return artifact.save_project(folder, "android", name=NAME, images=HELD_OUT["deconv"][:4])


def texts(project):
    kinds = (".kt", ".kts", ".md", ".properties", ".toml", ".xml")
    return {path.relative_to(project).as_posix(): path.read_text() for path in project.rglob("*") if path.suffix in kinds}


def test_the_files_of_the_project(project, artifact):
    found = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assets = {f"app/src/main/assets/{NAME}.tflite", f"app/src/main/assets/{NAME}.labels.txt"}
    vectors = ["input_0.bin", "expected_0.bin", *(f"picture_{i}.png" for i in range(5))]
    assets |= {f"app/src/main/assets/test_vectors/{NAME}/{file}" for file in vectors}
    kotlin = [f"main/{JAVA}/{file}.kt" for file in ("FlowersV2", "FlowersV2Picture", "CameraFrame", "Recognizer", "MainActivity")]
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
            named |= {value[1:] for value in one.attrib.values() if re.match(r"@(string|style|drawable|layout)/", value)}
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


@pytest.mark.skipif(shutil.which("aapt2") is None, reason="needs aapt2 (Debian: aapt, android-framework-res)")
def test_aapt2_links_the_manifest_and_the_resources(project, tmp_path):
    """Android's own tool, against the framework of Android 10; CameraX's attribute is given."""
    main = project / "app/src/main"
    manifest = (main / "AndroidManifest.xml").read_text().replace("<manifest ", '<manifest package="com.example.wavemix" ')
    (tmp_path / "AndroidManifest.xml").write_text(re.sub(r"<uses-native-library.*?/>", "", manifest, flags=re.DOTALL))
    (tmp_path / "values").mkdir()
    scales = "".join(f'<enum name="{name}" value="{i}"/>' for i, name in enumerate(("fillCenter", "fitCenter")))
    (tmp_path / "values/attrs.xml").write_text(f'<resources><attr name="scaleType">{scales}</attr></resources>')
    for folder, archive in ((tmp_path / "values/..", "camera.zip"), (main / "res", "res.zip")):
        run = ["aapt2", "compile", "--dir", folder, "-o", tmp_path / archive]
        subprocess.run(run if folder == main / "res" else ["aapt2", "compile", tmp_path / "values/attrs.xml", "-o", tmp_path], check=True)
    link = ["aapt2", "link", "-I", FRAMEWORK, "--manifest", tmp_path / "AndroidManifest.xml", "-o", tmp_path / "app.apk"]
    link += ["--min-sdk-version", "24", "--target-sdk-version", "29", "-A", main / "assets"]
    subprocess.run([*link, tmp_path / "values_attrs.arsc.flat", tmp_path / "res.zip"], check=True, capture_output=True)
    assert (tmp_path / "app.apk").stat().st_size > (main / f"assets/{NAME}.tflite").stat().st_size
