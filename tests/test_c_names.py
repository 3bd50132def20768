"""Several networks in one firmware: the names that a user gives their C code."""

import dataclasses
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from c_support import requires_cc
from tflite_support import FILES

from wavemix_tf.command.arguments import check_name_option
from wavemix_tf.tflite import Artifact, export
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.file.identifiers import C_KEPT, check_c_name
from wavemix_tf.tflite.kit.vectors import compute_vectors

requires_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
NETWORKS = {"ant": "deconv", "bee_2": "bilinear", "Cow": "deconv"}  # one file twice
DRIVER = """
#include <stdio.h>
{includes}
static void show(const char* text) {{
  fputs(text, stdout);
}}
int main(void) {{
  int failures = 0;
{runs}
  return failures;
}}
"""
RUN = """\
  failures += {name}_self_test(show);
  fread({name}_network_input(), 1, {upper}_INPUT_BYTES, stdin);
  if ({name}_network_run() != 0) return 99;
  fwrite({name}_network_output(), 1, {upper}_OUTPUT_BYTES, stderr);
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The code of three C projects in one folder."""
    root = tmp_path_factory.mktemp("firmware")
    for name, network in NETWORKS.items():
        place = FILES[network, "c", None].save_project(root / name, "cmake", name=name)
        for path in (place / "src").iterdir():
            assert not (root / path.name).exists()
            shutil.copy(path, root)
    return root


def compiled(folder, sources, *options, link=()):
    command = ["cc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", *options, *sources, *link]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@requires_cc
def test_three_networks_in_one_program_give_their_own_outputs(project):
    includes = [f'#include "{name}{part}.h"' for name in NETWORKS for part in ("", "_network", "_self_test")]
    runs = [RUN.format(name=name, upper=name.upper()) for name in NETWORKS]
    (project / "driver.c").write_text(DRIVER.format(includes="\n".join(includes), runs="".join(runs)))
    compiled(
        project, sorted(path.name for path in project.glob("*.c")), "-Wno-unused-result", "-o", "program", link=("-lm",)
    )
    given, wanted = b"", b""
    for name, network in NETWORKS.items():
        artifact = FILES[network, "c", None]
        vectors = compute_vectors(artifact, read_file(artifact.content), None, None, 3)
        given += vectors.inputs[0][len(name) % 3].tobytes()
        wanted += vectors.outputs[0][len(name) % 3].tobytes()
    done = subprocess.run([project / "program"], input=given, capture_output=True)
    assert done.returncode == 0
    assert done.stderr == wanted
    assert len(set(np.frombuffer(wanted, np.int8).reshape(3, -1)[:, 0].tolist())) > 1  # they differ
    for name in NETWORKS:
        assert f"PASSED {name}: " in done.stdout.decode()


@requires_cc
@requires_nm
def test_every_symbol_begins_with_the_name(project, tmp_path):
    for name in ("ant", "Cow"):
        sources = sorted(path.name for path in project.glob(f"{name}*.c"))
        assert len(sources) == 5
        for source in sources:
            compiled(project, [source], "-c", "-o", tmp_path / "one.o")
            said = subprocess.run(["nm", "-g", "--defined-only", tmp_path / "one.o"], capture_output=True, text=True)
            symbols = {line.split()[2] for line in said.stdout.splitlines()}
            assert symbols
            assert all(symbol.startswith(f"{name}_") for symbol in symbols), symbols
        text = "".join(path.read_text() for path in project.glob(f"{name}*.h"))
        guards = re.findall(r"^#ifndef (\w+)\n#define \1$", text, re.MULTILINE)
        assert len(guards) >= 5
        assert all(guard.startswith(name.upper()) for guard in guards), guards


@pytest.mark.slow
@pytest.mark.parametrize("target", ["c", "mcu"])
def test_every_project_has_the_name_in_its_files_and_readme(tmp_path, target):
    """No name without the prefix is left: it would be that of another network."""
    artifact = dataclasses.replace(
        FILES["deconv", "c", None], target=target, arena_bytes=20480, kernel_arena_bytes={"reference": 20480}
    )
    plain = (
        r"(?<![\w/])(classify(_input)?\(|prepare_input|class_labels|network_(input|run|output|error)|"
        r"write_(number|classification)|self_test\b(?!`))"
    )
    for kind in ("arduino", "platformio", "esp-idf", "zephyr", "cmake", "cmsis"):
        place = dataclasses.replace(artifact, code_name="ant").save_project(tmp_path / kind, kind)
        for path in (path for path in place.rglob("*") if path.is_file() and path.suffix != ".tflite"):
            assert not re.match(r"(classifier|network|write_result|self_test)\.", path.name)
            if path.suffix != ".json":
                assert not re.search(plain, path.read_text()), path
        assert (place / "ant.tflite").is_file()


def test_a_kit_of_the_interpreter_is_named_too(tmp_path):
    artifact = FILES["deconv", "c", None]
    micro = dataclasses.replace(artifact, target="mcu", arena_bytes=20480, code_name="ant")
    kit = micro.save_kit(tmp_path / "kit")
    header, source = ((kit / "micro" / f"ant.{part}").read_text() for part in ("h", "cc"))
    assert re.findall(r"^extern const unsigned char (\w+)\[\];$", header, re.MULTILINE) == ["ant"]
    assert re.findall(r"^alignas\(\d+\) const unsigned char (\w+)\[\]", source, re.MULTILINE) == ["ant"]
    assert "inline TfLiteStatus ant_ops(" in header


def test_save_names_the_code_and_keeps_the_name(tmp_path):
    artifact, path = FILES["deconv", "c", None], tmp_path / "model.tflite"
    artifact.save(path, name="ant")
    assert {"ant.c", "ant.h", "ant_plan.svg"} < {file.name for file in tmp_path.iterdir()}
    assert "ant_run(" in (tmp_path / "ant.h").read_text()
    assert Artifact.load(path).code_name == "ant"
    Artifact.load(path).save(path, overwrite=True)
    assert (tmp_path / "ant.c").is_file()
    artifact.save(path, overwrite=True, name="bee")
    assert not list(tmp_path.glob("ant*"))  # the code of the file that was replaced
    assert (tmp_path / "bee.c").is_file()
    artifact.save(path, overwrite=True)
    assert not list(tmp_path.glob("bee*"))
    assert (tmp_path / "model.c").is_file()
    assert json.loads((tmp_path / "model.json").read_text())["code_name"] is None


def test_two_files_of_a_folder_do_not_share_a_name(tmp_path):
    artifact = FILES["deconv", "c", None]
    artifact.save(tmp_path / "one.tflite", name="ant")
    before = sorted(file.name for file in tmp_path.iterdir())
    for name in ("ant", "ANT"):  # macros are in upper case
        with pytest.raises(FileExistsError, match=rf"one.tflite has this one.*Received: name='{name}'"):
            artifact.save(tmp_path / "two.tflite", overwrite=True, name=name)
    with pytest.raises(FileExistsError, match=r"one.tflite has this one"):
        artifact.save(tmp_path / "ant.tflite", overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "name",
    [
        "",
        "my-net",
        "1st",
        "_net",
        "net_",
        "a__b",
        "int",
        "restrict",
        "class",
        "exp",
        "café",
        "a b",
        "a\n",
        "main",
        "a" * 64,
    ],
)
def test_names_that_are_no_identifiers_are_refused(tmp_path, name):
    artifact = FILES["deconv", "c", None]
    for call in (
        lambda: check_c_name(name),
        lambda: artifact.save(tmp_path / "a.tflite", name=name),
        lambda: artifact.save_project(tmp_path / "a", "cmake", name=name),
        lambda: export(None, "c", name=name),
    ):
        with pytest.raises(ValueError, match=r"^name must be an identifier of C: [^\n]*Received: name=") as no:
            call()
        assert str(no.value).endswith(f"Received: name={name!r}")
    with pytest.raises(ValueError, match=r"^--name must be an identifier of C: .*Received: "):
        check_name_option(name, [("c", "int8")])
    assert not list(tmp_path.iterdir())


def test_the_option_names_one_file():
    check_name_option("ant", [("c", "int8")])
    check_name_option(None, [("c", "int8"), ("mcu", "int8")])
    with pytest.raises(ValueError, match=r"--name names the code of one file.*Received: c-int8, mcu-int8"):
        check_name_option("ant", [("c", "int8"), ("mcu", "int8")])


def test_the_option_has_an_effect_or_is_refused():
    for target in ("c", "mcu", "ethos-u65"):
        check_name_option("ant", [(target, "int8")])
    for target in ("android-cpu", "web", "edge-tpu"):
        check_name_option("ant", [(target, "int8")], names_folder=True)
        with pytest.raises(ValueError, match=rf"here it has no effect\. Received: --name ant with --target {target}$"):
            check_name_option("ant", [(target, "int8")])


@pytest.mark.parametrize("name", ["a", "cat_1", "Digits", "x9"])
def test_names_that_are_identifiers(name):
    assert check_c_name(name) == name
    assert name not in C_KEPT
