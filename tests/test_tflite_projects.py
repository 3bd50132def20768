"""Firmware projects: complete, compiled, run here, and from pixels to classes as training and the runtime."""

import configparser
import dataclasses
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from c_support import requires_cc
from PIL import Image
from tflite_support import FILES

from wavemix_tf.command.arguments import check_project_option
from wavemix_tf.tflite import ExportError
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.kit.picture import PictureInput, png
from wavemix_tf.tflite.kit.projects import firmware
from wavemix_tf.tflite.kit.projects.subject import Subject
from wavemix_tf.tflite.kit.projects.table import PROJECTS, check_project
from wavemix_tf.tflite.kit.vectors import compute_vectors
from wavemix_tf.tflite.runtimes.microcontroller import resolver_name, run_micro
from wavemix_tf.training import images as training

FIRMWARE = ("arduino", "platformio", "esp-idf", "zephyr", "cmake", "cmsis")
LABELS = ('ant "1"\n', "b\\ee?", "cät|tom", "dog", "%s*/")  # what C, Markdown and YAML could misread
requires_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
requires_cpp = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
CMSIS_NN = os.environ.get("WAVEMIX_TEST_CMSIS_NN", "")
STRICT = ("-Wall", "-Wextra", "-Werror")
# Height, width: reduced, enlarged, both at once, the network's size.
SIZES = [(16, 16), (1, 1), (5, 40), (61, 43), (90, 7)]
FORMATS = {"GRAY8": 1, "RGB565": 2, "RGB888": 3, "RGBA8888": 4, "RGB565_SWAPPED": 10}


@pytest.fixture(scope="module")
def subjects():
    """Target -> what the writers read: one int8 file, as a C program and for the interpreter."""
    program = dataclasses.replace(FILES["deconv", "c", None], class_names=LABELS)
    info = read_file(program.content)
    vectors = compute_vectors(program, info, None, None, 2)
    arenas = {"reference": 20480, "cmsis-nn": 16384}
    micro = dataclasses.replace(program, target="mcu", arena_bytes=20480, kernel_arena_bytes=arenas)
    artifacts = {"c": program, "mcu": micro}
    return {target: Subject(one, info, f"my-{target}", vectors, None) for target, one in artifacts.items()}


@pytest.fixture(scope="module")
def made(subjects):
    """(project, target) -> path -> content."""
    return {(name, target): PROJECTS[name].write(subjects[target]) for name in FIRMWARE for target in subjects}


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    """The CMake project of the C program."""
    return write(made["cmake", "c"], tmp_path_factory.mktemp("cmake"))


def write(files, root):
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def text(files, ending):
    (found,) = [content.decode() for path, content in files.items() if path.endswith(ending)]
    return found


# --- what is in a project ---------------------------------------------------------------------------------------------


def network_of(name, target):
    return "/network.c" if target == "c" else "/network.cpp" if name in ("arduino", "platformio") else "/network.cc"


def test_every_placeholder_is_filled_and_every_readme_says_what_was_run(made):
    for (name, _), files in made.items():
        for path, content in files.items():
            if not path.endswith(".tflite"):
                assert "@{" not in content.decode(), path
        readme = files["README.md"].decode()
        assert f"**What was run**: By the generator's tests, with other files: {PROJECTS[name].checked}." in readme
        assert "This project was not compiled when it was written." in readme
        assert PROJECTS[name].checked.startswith(("built and run", "compiled only", "not built"))


def test_what_the_build_files_and_the_readme_name_is_there(made):
    for (name, target), files in made.items():
        names = {path.rsplit("/", 1)[-1] for path in files}
        for path, content in files.items():
            if path.endswith(("CMakeLists.txt", ".cproject.yml", "README.md")):
                words = re.sub(r"https?://\S+", "", content.decode())
                said = re.findall(r"[\w/.-]+\.(?:cc|cpp|c|ino|ini|conf|csolution\.yml)\b", words)
                own = [one for one in said if not one.startswith((".", "https")) and "tflm" not in one]
                lost = [one for one in own if one.rsplit("/", 1)[-1] not in names]
                assert not lost, (name, target, path, lost)
        assert text(files, network_of(name, target))


def test_the_readme_says_whether_cmsis_nn_runs_the_file(made, subjects):
    assert text(made["cmake", "mcu"], "README.md").count("CMSIS-NN**: its kernels take") == 1
    subject = subjects["mcu"]
    last = subject.info.ops[-1]
    wide = dataclasses.replace(last.inputs[0], dtype="int16")
    op = dataclasses.replace(last, inputs=(wide, *last.inputs[1:]))
    info = dataclasses.replace(subject.info, ops=(*subject.info.ops[:-1], op))
    for project in FIRMWARE:
        files = PROJECTS[project].write(dataclasses.replace(subject, info=info))
        refused = f"does not run this file**: op {len(info.ops) - 1} FULLY_CONNECTED has 16-bit activations"
        assert text(files, "README.md").count(refused) == (2 if project == "cmake" else 1)  # and before its commands
        assert refused in text(files, "MODEL_CARD.md")
        assert "and with CMSIS-NN; kernels tuned" not in text(files, "MODEL_CARD.md")
        network = next(content.decode() for path, content in files.items() if "network.c" in path)
        assert "AllocateTensors failed: the arena is too small (raise EXTRA_ARENA_BYTES), or a kernel" in network


def test_the_card_of_a_program_in_c_names_no_release_of_tensorflow_lite(made):
    assert "oldest TensorFlow Lite that runs it" in text(made["cmake", "mcu"], "MODEL_CARD.md")
    assert "oldest TensorFlow Lite" not in text(made["cmake", "c"], "MODEL_CARD.md")


def test_no_file_reads_the_heap_or_prints(made):
    for files in made.values():
        for path in files:
            if path.rsplit("/", 1)[-1] in (
                "classifier.c",
                "write_result.c",
                "self_test.c",
                "network.c",
                "network.cc",
                "network.cpp",
            ):
                code = re.sub(r"/\*.*?\*/|//[^\n]*", "", files[path].decode(), flags=re.DOTALL)
                assert not re.search(r"\b(malloc|calloc|free|new (?!\()|printf|std::)", code), path


def test_the_interpreter_has_exactly_the_ops_of_the_file(made, subjects):
    artifact = subjects["mcu"].artifact
    for name in FIRMWARE:
        files = made[name, "mcu"]
        added = set(re.findall(r"resolver\.Add(\w+)\(", text(files, "/my_mcu.h")))
        assert added == {resolver_name(op) for op in artifact.ops}
        network = text(files, network_of(name, "mcu"))
        assert "my_mcu_ops(*resolver)" in network
        # The arena is that of a 32-bit device; pointers of a 64-bit computer take more.
        assert "#define EXTRA_ARENA_BYTES (sizeof(void*) > 4 ? my_mcu_arena_bytes : 0)" in network
        assert f"my_mcu_arena_bytes = {artifact.arena_bytes}," in text(files, "/my_mcu.h")
        assert ("#include <Chirale_TensorFlowLite.h>" in network) == (name in ("arduino", "platformio"))


def test_the_tools_can_read_their_files(made):
    yaml = pytest.importorskip("yaml")
    for (name, target), files in made.items():
        for path, content in files.items():
            if path.endswith(".yml"):
                assert isinstance(yaml.safe_load(content), dict), (name, path)
        if name == "platformio":
            ini = configparser.ConfigParser()
            ini.read_string(files["platformio.ini"].decode())
            assert ini["env:nano33ble"]["framework"] == "arduino"
            assert ("lib_deps" in ini["env"]) == (target == "mcu")
            assert all(value for part in ini.sections() for value in ini[part].values())  # PlatformIO refuses ""
    west = yaml.safe_load(made["zephyr", "mcu"]["app/west.yml"])["manifest"]
    assert "tflite-micro" in west["projects"][0]["import"]["name-allowlist"]
    assert west["group-filter"] == ["+optional"]
    component = yaml.safe_load(made["esp-idf", "mcu"]["main/idf_component.yml"])["dependencies"]
    assert "espressif/esp-tflite-micro" in component
    for target in ("c", "mcu"):
        files = made["cmsis", target]
        packs = yaml.safe_load(files[f"my_{target}.csolution.yml"])["solution"]["packs"]
        assert any("tensorflow" in pack["pack"] for pack in packs) == (target == "mcu")


# --- compiled ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@requires_cc
@requires_cpp
def test_every_c_file_compiles_without_a_warning_as_c_and_as_cpp(made, tmp_path):
    """Those of other projects are the same, or need their tools' headers."""
    root = write(made["cmake", "c"], tmp_path)
    host = [path for path in made["cmake", "c"] if path.endswith(".c") and "semihosting" not in path]
    for compiler in (["cc", "-std=c99", "-pedantic"], ["g++", "-std=c++11", "-x", "c++"]):
        command = [*compiler, *STRICT, "-fsyntax-only", "-Isrc", "-Iboard", *host]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for name in FIRMWARE:
        for path, content in made[name, "c"].items():
            same = f"src/{path.rsplit('/', 1)[-1]}"
            if path.endswith((".c", ".h")) and same in made["cmake", "c"] and not path.endswith("main.c"):
                assert content == made["cmake", "c"][same], (name, path)


@pytest.mark.slow
@requires_cmake
@requires_cc
def test_the_readme_of_the_cmake_project_is_true(folder):
    """Its lines for this machine, word by word, but for the packages."""
    readme = (folder / "README.md").read_text()
    block = re.search(r"from a clean machine.*?```\n(.*?)```", readme, re.DOTALL).group(1)
    lines = [line for line in block.splitlines() if not line.startswith("sudo")]
    assert lines[-1] == "./build/self_test"
    for line in lines:
        done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr
    said = done.stdout.splitlines()
    assert [line for line in said if line.endswith(": passed")] == [f"vector {i}: passed" for i in range(3)]
    assert said[-1] == "PASSED my_c: 4 of 4 checks passed"
    vectors = folder / "src" / "my_c_vectors.h"
    right = vectors.read_text()
    vectors.write_text(re.sub(r"(expected_0\[\d+\]\[\d+\] = \{\n *\{)-?\d+", r"\g<1>99", right))
    subprocess.run("cmake --build build", shell=True, cwd=folder, capture_output=True, check=True)
    done = subprocess.run("./build/self_test", cwd=folder, capture_output=True, text=True)
    vectors.write_text(right)
    assert done.returncode == 1
    assert re.search(r"vector 0: failed: value 0 is -?\d+, expected 99", done.stdout)
    assert done.stdout.splitlines()[-1] == "FAILED my_c: 3 of 4 checks passed"


@requires_cc
@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
def test_input_and_output_are_aligned_for_esp_nn(folder, tmp_path):
    """An array alone in its section gives the section its alignment."""
    command = ["cc", "-c", "-fdata-sections", "src/network.c", "-o", tmp_path / "network.o"]
    subprocess.run(command, cwd=folder, check=True)
    said = subprocess.run(["objdump", "-h", tmp_path / "network.o"], capture_output=True, text=True, check=True).stdout
    found = dict(re.findall(r"\.bss\.(input|output) .* 2\*\*(\d+)\n", said))
    assert set(found) == {"input", "output"}
    assert min(map(int, found.values())) >= 4


@requires_cmake
@requires_cc
def test_an_unknown_board_is_refused(folder, tmp_path):
    command = ["cmake", "-S", folder, "-B", tmp_path, "-DCMAKE_SYSTEM_NAME=Generic", "-DBOARD=stm32"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "BOARD must be mps2-an386 or mps3-an547" in " ".join(done.stderr.split())
    assert "Received: BOARD=stm32" in " ".join(done.stderr.split())


@pytest.mark.slow
@requires_cmake
@requires_cc
@pytest.mark.skipif(not CMSIS_NN, reason="WAVEMIX_TEST_CMSIS_NN names no folder of CMSIS-NN")
def test_the_cmake_project_calls_cmsis_nn(folder, tmp_path):
    """On this machine its plain C; the object of the program asks for a function of the library."""
    command = ["cmake", "-S", folder, "-B", tmp_path, f"-DCMSIS_NN_DIR={CMSIS_NN}", "-DCMAKE_C_FLAGS=-DMY_C_KERNELS=1"]
    subprocess.run(command, capture_output=True, check=True)
    subprocess.run(["cmake", "--build", tmp_path, "-j", "2"], capture_output=True, check=True)
    done = subprocess.run([tmp_path / "self_test"], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "PASSED my_c: 4 of 4 checks passed"
    assert "-DWAVEMIX_CMSIS_NN" in (tmp_path / "CMakeFiles/classifier.dir/flags.make").read_text()
    names = subprocess.run(["nm", tmp_path / "libclassifier.a"], capture_output=True, text=True, check=True).stdout
    assert "U arm_convolve_wrapper_s8" in names
    wrong = subprocess.run([*command[:5], "-DCMSIS_NN_DIR=/nowhere"], capture_output=True, text=True)
    assert "Received: CMSIS_NN_DIR=/nowhere" in " ".join(wrong.stderr.split())


# --- from pixels to classes -------------------------------------------------------------------------------------------

DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "classifier.h"
#include "network.h"
static unsigned char pixels[1 << 20];
int main(void) {
  int head[4], i;
  for (i = 0; i < CLASS_COUNT; ++i) fwrite(class_labels[i], 1, strlen(class_labels[i]) + 1, stderr);
  if (classify(pixels, 0, 4, PIXELS_RGB888) != NULL || classify(pixels, 4, 4, (PixelFormat)5) != NULL) return 2;
  if (classify(NULL, 4, 4, PIXELS_RGB888) != NULL || classify(pixels, 65536, 4, PIXELS_GRAY8) != NULL) return 3;
  while (fread(head, sizeof head, 1, stdin) == 1) {
    const Classification* found;
    if (fread(pixels, 1, (size_t)head[3], stdin) != (size_t)head[3]) return 4;
    if (prepare_input(pixels, head[1], head[0], (PixelFormat)head[2]) != 0) return 5;
    fwrite(network_input(), 1, INPUT, stdout);
    found = classify(pixels, head[1], head[0], (PixelFormat)head[2]);
    if (found == NULL) return 6;
    fwrite(found->scores, sizeof found->scores, 1, stdout);
    fwrite(found->shares, sizeof found->shares, 1, stdout);
    fwrite(&found->best, sizeof found->best, 1, stdout);
    fwrite(&found->accepted, sizeof found->accepted, 1, stdout);
  }
  return 0;
}
"""


def camera(kind, height, width, seed):
    """(bytes as a camera sends them, the same picture as an image file holds it)."""
    random = np.random.default_rng(seed)
    if "565" in kind:
        whole = random.integers(0, 1 << 16, (height, width), dtype=np.uint16)
        parts = (whole >> 11).astype(int), (whole >> 5 & 63).astype(int), (whole & 31).astype(int)
        # The highest bits, repeated: as 255 / 31 and 255 / 63, to within one.
        repeated = [parts[0] << 3 | parts[0] >> 2, parts[1] << 2 | parts[1] >> 4, parts[2] << 3 | parts[2] >> 2]
        for part, bits, most in zip(parts, repeated, (31, 63, 31), strict=True):
            assert np.abs(part * 255 // most - bits).max() <= 1
        picture = np.stack(repeated, -1).astype(np.uint8)
        return whole.astype(">u2" if kind.endswith("SWAPPED") else "<u2").tobytes(), picture
    picture = random.integers(0, 256, (height, width, {"GRAY8": 1, "RGB888": 3, "RGBA8888": 4}[kind]), dtype=np.uint8)
    return picture.tobytes(), picture


@pytest.mark.slow
@requires_cc
def test_classify_is_training_and_the_runtime(made, subjects, tmp_path):
    """Every format, several sizes: the input of training, the scores of TensorFlow Lite Micro, softmax, labels."""
    subject = subjects["c"]
    info, taken = subject.info, PictureInput.of(subject.artifact, subject.info)
    root = write(made["cmake", "c"], tmp_path)
    fed, levels, trained = b"", [], []
    for number, (kind, code) in enumerate(FORMATS.items()):
        for height, width in SIZES:
            raw, picture = camera(kind, height, width, number)
            fed += np.array([height, width, code, len(raw)], "<i4").tobytes() + raw
            levels.append(taken.levels(picture))
            (tmp_path / "picture.png").write_bytes(png(picture))
            whole = training.read_image(tmp_path / "picture.png", 3)
            trained.append(np.asarray(training.fit_image(whole, info.inputs[0].shape[1:], True)))
    given = np.stack([taken.values[one] for one in levels])
    (output,), _ = run_micro(subject.artifact.content, [given])
    tensor = info.outputs[0]
    scores = (output.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    between = np.unique(shares.max(-1))[-2:]
    threshold = between.mean()
    (root / "driver.c").write_text(DRIVER)
    size = int(np.prod(info.inputs[0].shape))
    sources = ["src/classifier.c", "src/network.c", "src/my_c.c", "driver.c"]
    defines = [f"-DINPUT={size}", f"-DCLASSIFY_MIN_SHARE={threshold:.9g}f"]
    command = ["cc", "-O1", *STRICT, *defines, "-Isrc", *sources, "-lm", "-o", "driver"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([root / "driver"], input=fed, capture_output=True)
    assert done.returncode == 0
    assert done.stderr.split(b"\0")[:-1] == [label.encode() for label in LABELS]
    count = len(LABELS)
    floats = [(name, "<f4", count) for name in ("scores", "shares")]
    row = np.dtype([("input", "i1", size), *floats, ("best", "<i4"), ("accepted", "<i4")])
    found = np.frombuffer(done.stdout, row)
    assert len(found) == len(levels)
    np.testing.assert_array_equal(found["input"], given.reshape(len(given), -1))
    difference = np.abs(np.stack(levels).astype(int) - np.stack(trained))
    assert difference.max() <= 1
    assert difference.sum() < 4e-3 * difference.size
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-6)
    np.testing.assert_allclose(found["shares"], shares, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found["best"], scores.argmax(-1))
    np.testing.assert_array_equal(found["accepted"], shares.max(-1) >= threshold)
    assert 0 < found["accepted"].sum() < len(found)  # the threshold decides something


@pytest.mark.parametrize(
    ("ending", "words", "code"),
    [
        ((), "softmax of the scores", "expf(found.scores[i] - top)"),
        (("SOFTMAX",), "the network ends with SOFTMAX", "found.shares[i] = found.scores[i]"),
        (("SOFTMAX", "DEQUANTIZE"), "the network ends with SOFTMAX", "found.shares[i] = found.scores[i]"),
        (("LOGISTIC",), "the network ends with LOGISTIC", "found.shares[i] = found.scores[i]"),
        (("LOG_SOFTMAX",), "the network ends with LOG_SOFTMAX", "found.shares[i] = expf(found.scores[i])"),
    ],
)
def test_softmax_is_computed_once(subjects, ending, words, code):
    subject = subjects["mcu"]
    ops = (*subject.info.ops, *(dataclasses.replace(subject.info.ops[-1], name=name) for name in ending))
    changed = dataclasses.replace(subject, info=dataclasses.replace(subject.info, ops=ops))
    files = firmware.sources("cmake", changed, "")
    assert words in files["classifier.h"].decode()
    assert code in files["classifier.c"].decode()
    assert ("expf(found.scores[i] - top)" in files["classifier.c"].decode()) == (not ending)


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", FIRMWARE)
def test_a_file_that_classifies_no_pictures_is_refused_in_one_line(subjects, project):
    subject = subjects["mcu"]
    for artifact, words in (
        (
            dataclasses.replace(subject.artifact, class_names=("a", "b")),
            "its output is 1 x 5, not one score for each of 2",
        ),
        (dataclasses.replace(subject.artifact, input_ranges=(None,)), "pixels have a known meaning"),
    ):
        with pytest.raises(
            ExportError, match=rf"Project {project} is for a file that classifies.*Received: my-mcu: .*{words}"
        ) as no:
            PROJECTS[project].write(dataclasses.replace(subject, artifact=artifact))
        assert "\n" not in str(no.value)


def test_unknown_projects_and_other_targets_are_refused(subjects, tmp_path):
    artifact = subjects["mcu"].artifact
    with pytest.raises(ValueError, match=r"project must be .*cmake.*Received: project='keil'"):
        artifact.save_project(tmp_path / "x", "keil")
    with pytest.raises(ValueError, match=r"Project cmake takes a file of target mcu or c. Received: target='web'"):
        check_project("cmake", "web")
    with pytest.raises(ValueError, match=r"--project must be arduino or .*Received: keil"):
        check_project_option("keil", [("mcu", "int8")])
    with pytest.raises(ValueError, match=r"--project zephyr takes --target mcu or c. Received: android-cpu"):
        check_project_option("zephyr", [("mcu", "int8"), ("android-cpu", "int8")])
    check_project_option("zephyr", [("mcu", "int8")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_project_replaces_only_a_project(tmp_path):
    artifact = FILES["deconv", "c", None]
    place = artifact.save_project(tmp_path / "project", "cmake", name="first")
    assert (place / "src" / "first.c").is_file()
    with pytest.raises(FileExistsError, match=r"overwrite=True to replace"):
        artifact.save_project(place, "cmake")
    (tmp_path / "other").mkdir()
    with pytest.raises(FileExistsError, match=r"A folder that is not a project .* is not replaced: move it"):
        artifact.save_project(tmp_path / "other", "cmake", overwrite=True)
    with pytest.raises(ValueError, match=r"vectors must be at least 1"):
        artifact.save_project(tmp_path / "new", "cmake", vectors=0)
    artifact.save_project(place, "arduino", overwrite=True)
    assert not (place / "src").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "project"]


@pytest.mark.slow
def test_a_project_in_which_somebody_works_keeps_his_files(tmp_path):
    artifact = FILES["deconv", "c", None]
    place = artifact.save_project(tmp_path / "project", "cmake")
    (place / "app").mkdir()
    (place / "app" / "mine.c").write_text("int mine;")
    artifact.save_project(place, "cmake", overwrite=True)
    assert (place / "app" / "mine.c").read_text() == "int mine;"
    main = (place / "main.c").read_text()
    (place / "main.c").write_text(main + "/* mine */")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match=r"files were edited is not replaced: move it, or these files: main\.c\."):
        artifact.save_project(place, "cmake", overwrite=True)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="no arm-none-eabi-gcc")
def test_the_readme_states_all_static_memory_of_a_program_in_c(folder, made, tmp_path):
    """Arena, input, output, the resize's sums and the result: .data and .bss of the objects, but for a few bytes."""
    words = text(made["cmake", "c"], "README.md")
    (stated,) = re.findall(r"RAM\*\*: ([0-9,]+) bytes \(working memory .*, resize .*, result .*\), all static", words)
    stated = int(stated.replace(",", ""))
    files = [*folder.glob("src/classifier.c"), *folder.glob("src/network.c"), folder / "src" / "my_c.c"]
    command = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-std=c99", "-O2", "-c", *files]
    subprocess.run(command, cwd=tmp_path, check=True)
    rows = subprocess.run(["arm-none-eabi-size", *tmp_path.glob("*.o")], capture_output=True, text=True, check=True)
    used = sum(int(row.split()[1]) + int(row.split()[2]) for row in rows.stdout.splitlines()[1:])
    assert stated <= used <= stated + 64
    assert "`classify()`, with resize, softmax and a core's routines for floating point, added up to 3,388" in words


@pytest.mark.slow
@requires_cc
@requires_cmake
def test_a_picture_file_is_classified_on_this_machine(folder, tmp_path):
    Image.fromarray(np.full((40, 30, 3), 200, np.uint8)).save(tmp_path / "a.ppm")
    subprocess.run("cmake -B build && cmake --build build", shell=True, cwd=folder, capture_output=True, check=True)
    tool = folder / "build" / "classify_file"
    done = subprocess.run([tool, tmp_path / "a.ppm"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\d\.\d{6} -?\d", done.stdout, re.MULTILINE)) == 5
    assert done.stdout.splitlines()[0].split() == ["share", "score", "class"]
    assert done.stdout.count(" <- ") == 1
    (tmp_path / "a.ppm").write_bytes((tmp_path / "a.ppm").read_bytes()[:-1])
    done = subprocess.run([tool, tmp_path / "a.ppm"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "The file ends too early.\n")
