"""The code of a kit compiles for any name of the kit."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from wavemix_tf.tflite.file.identifiers import CPP_KEPT, KOTLIN_KEPT, c_identifier, check_name, kotlin_class
from wavemix_tf.tflite.kit import android as kit_android
from wavemix_tf.tflite.kit.projects import android_app as app

NAMES = [
    "mcu-int8",
    "_1",
    "-x",
    "a--b",
    "__x",
    "1st",
    "class",
    "if",
    "tflite",
    "main",
    "size_t",
    "String",
    "context",
    "a.b",
]


@pytest.mark.parametrize("name", NAMES)
def test_identifiers(name):
    assert check_name(name) == name
    for identifier in (c_identifier(name), kotlin_class(name)):
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", identifier)
        assert "__" not in identifier
    assert c_identifier(name) not in CPP_KEPT
    assert kotlin_class(name) not in KOTLIN_KEPT


def test_every_class_that_the_kotlin_imports_is_kept():
    """A class of that name would stand in its place: the file would not compile."""
    source = Path(kit_android.__file__).read_text()
    imported = set(re.findall(r'"(?:android|androidx|java|com|kotlin)\.[\w.]*\.([A-Z]\w*)"', source))
    imported |= set(re.findall(r'"(\w*Environment|\w*Provider)"', source))
    assert {"Build", "ExifInterface", "Context"} <= imported
    for text in (app.CAMERA_FRAME, app.RECOGNIZER, app.MAIN_ACTIVITY, app.PLACES_TEST):
        imported |= set(re.findall(r"^import [\w.]+\.([A-Z]\w*)$", text.template, re.MULTILINE))
        imported |= set(re.findall(r"^(?:enum )?class ([A-Z]\w*)", text.template, re.MULTILINE))
    assert {"ImageAnalysis", "Recognizer", "MainActivity", "PlacesTest"} <= imported
    assert imported <= KOTLIN_KEPT
    assert kotlin_class("mainactivity") == "ModelMainactivity"  # MainActivity.kt, where file names ignore case
    assert kotlin_class("places") == "ModelPlaces"  # its test would be PlacesTest
    assert kotlin_class("build") == "ModelBuild"


def test_usual_names_are_what_they_were():
    assert (c_identifier("mcu-int8"), kotlin_class("android-cpu-int8")) == ("mcu_int8", "AndroidCpuInt8")


@pytest.mark.parametrize("name", ["_", "-", "__-", "", ".a", "a/b", "a b", "é", "a\n", "../x"])
def test_names_that_no_identifier_can_have(name):
    with pytest.raises(ValueError, match=r"name must consist of letters.*Received: name="):
        check_name(name)


@pytest.mark.skipif(shutil.which("c++") is None, reason="no compiler")
def test_a_compiler_takes_them(tmp_path):
    source = "#include <cstddef>\n#include <cstdint>\n#include <cstdio>\n#include <cstring>\nnamespace tflite {}\n"
    found = {c_identifier(name) for name in (*NAMES, *CPP_KEPT)}
    (tmp_path / "names.cc").write_text(source + "".join(f"const unsigned char {name}[] = {{1}};\n" for name in found))
    done = subprocess.run(
        ["c++", "-std=c++20", "-fsyntax-only", "names.cc"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
