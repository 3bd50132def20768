"""Kits for an Ethos-U and an Edge TPU: the compiled file as an array, Arm's driver, and a self-test in Python."""

import json
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from tflite_support import export_random as export
from tflite_support import randomise

import wavemix_tf as wm
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.graph.inputs import generated_images
from wavemix_tf.tflite.kit.ethos_files import FVP, ethos_arena_bytes
from wavemix_tf.tflite.runtimes.microcontroller import resolver_name
from wavemix_tf.tflite.targets.table import TARGETS

COMPILER = shutil.which("g++")
HEADERS = (
    *("tensorflow/lite/micro/micro_interpreter.h", "tensorflow/lite/micro/micro_log.h", "ethosu_driver.h"),
    *("tensorflow/lite/micro/micro_mutable_op_resolver.h", "tensorflow/lite/micro/system_setup.h"),
    *("tensorflow/lite/schema/schema_generated.h", "board.h"),
)
BOARD = ("-DNPU_BASE_ADDRESS=0x48102000", "-DNPU_IRQ=56", '-DNPU_DEVICE_HEADER="board.h"')


@pytest.fixture(scope="module")
def images():
    return generated_images((16, 16, 3), 64, seed=3)


@pytest.fixture(scope="module")
def quantized(images):
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(inputs)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Conv2D(8, 3, padding="same", name="conv")(x))
    model = randomise(keras.Model(inputs, layers.Dense(3, name="logits")(x), name="net"))
    return wm.tflite.quantize(model, images)


@pytest.fixture(scope="module")
def ethos(quantized, images):
    pytest.importorskip("ethosu.vela")
    return export(quantized, "ethos-u55", images=images, accelerator="ethos-u55-64")


@pytest.fixture(scope="module")
def kit(ethos, images, tmp_path_factory):
    return ethos.save_kit(tmp_path_factory.mktemp("ethos") / "kit", name="cats-1", images=images)


@pytest.fixture(scope="module")
def coral(quantized, images, tmp_path_factory):
    artifact = export(quantized, "edge-tpu", images=images, crop_to_aspect_ratio=False)
    return artifact.save_kit(tmp_path_factory.mktemp("coral") / "kit", name="cats", images=images)


@pytest.mark.slow
def test_the_array_is_the_compiled_file(ethos, kit):
    source, header = ((kit / "ethos_u" / f"cats_1{end}").read_text() for end in (".cc", ".h"))
    written = bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})\b", source))
    assert written == ethos.npu.content != ethos.content
    assert [op.name for op in read_file(written).ops] == ["CUSTOM ethos-u"]
    assert "if (resolver.AddEthosU() != kTfLiteOk)" in header
    assert header.count("resolver.Add") == 1
    assert "for ethos-u55-64 only, memory mode Shared_Sram" in header
    arena = int(re.search(r"cats_1_arena_bytes = (\d+)", header).group(1))
    assert arena == ethos_arena_bytes(ethos, read_file(ethos.content)) >= ethos.npu.sram_bytes + 2 * 452


@pytest.mark.slow
def test_the_self_test_starts_the_npu_it_was_compiled_for(ethos, kit):
    main = (kit / "ethos_u" / "main.cc").read_text()
    assert "if (!StartNpu()) return false;" in main
    assert "if (macs == 64) return true;" in main
    assert "const int limit = 12;" in main  # NPUs round twice
    assert "uint8_t arena[cats_1_arena_bytes + EXTRA_ARENA_BYTES] ARENA_PLACEMENT;" in main
    assert "LiteRT computed from the file that was compiled for the NPU" in main
    tolerance = json.loads(next(kit.glob("test_vectors/*/vectors.json")).read_text())["tolerance"]
    assert tolerance["largest_steps"] == 12


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="needs g++")
def test_a_board_must_be_named(kit, tmp_path):
    """Preprocessed with empty headers: which of the ways to start the NPU is compiled."""
    for header in HEADERS:
        (tmp_path / header).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / header).write_text("")

    def preprocess(*flags):
        words = [COMPILER, "-E", "-P", f"-I{tmp_path}", *flags, kit / "ethos_u" / "main.cc"]
        return subprocess.run(words, capture_output=True, text=True)

    found = preprocess()
    assert found.returncode != 0
    assert "Define NPU_BASE_ADDRESS, NPU_IRQ and NPU_DEVICE_HEADER, or NPU_STARTED_BY_TARGET" in found.stderr
    assert preprocess(*BOARD[:2]).returncode != 0
    own, target = preprocess(*BOARD), preprocess("-DNPU_STARTED_BY_TARGET")
    assert (own.returncode, target.returncode) == (0, 0), own.stderr + target.stderr
    assert "ethosu_init(&npu, reinterpret_cast<void*>(0x48102000), nullptr, 0, 1, 1)" in own.stdout
    assert "ethosu_init" not in target.stdout


@pytest.mark.slow
def test_the_readme_of_an_ethos_kit(ethos, kit):
    readme = (kit / "README.md").read_text()
    described = set(re.findall(r"^\| `([^`]+)` \|", readme, re.MULTILINE))
    present = {str(path.relative_to(kit)) for path in (kit / "ethos_u").iterdir()}
    assert {name for name in present if not name.endswith("cats_1.cc")} <= described
    assert f"An arena of {ethos_arena_bytes(ethos, read_file(ethos.content)):,} bytes" in readme
    assert "ETHOSU_ARCH=u55" in readme
    assert "FVP_Corstone_SSE-300_Ethos-U55 -C ethosu.num_macs=64 -a cats_1.elf" in readme
    assert "12 steps at most" in readme
    assert "No NPU and no model of one was run." in readme
    assert "![Memory plan" in readme


def test_every_family_has_its_model_and_its_op():
    families = {name.split("-")[1] for row in TARGETS.values() for name in row.accelerators}
    assert set(FVP) == families == {"u55", "u65", "u85"}
    assert resolver_name("CUSTOM ethos-u") == "EthosU"


def check(kit, *arguments):
    words = [sys.executable, kit / "edge_tpu" / "check.py", *arguments]
    return subprocess.run(words, capture_output=True, text=True)


@pytest.mark.slow
def test_the_check_of_an_edge_tpu_kit_runs_here_without_one(coral, tmp_path):
    found = check(coral, coral / "cats.tflite")
    assert (found.returncode, found.stdout.split()[-1]) == (0, "PASS"), found.stdout + found.stderr
    spoiled = shutil.copytree(coral, tmp_path / "spoiled")
    path = spoiled / "test_vectors" / "cats" / "expected_0.bin"
    values = np.fromfile(path, np.int8)
    sign = 1 if values[0] < 100 else -1
    (values + sign * 12 * (np.arange(len(values)) == 0)).astype(np.int8).tofile(path)  # as much as is allowed
    found = check(spoiled, spoiled / "cats.tflite")
    assert (found.returncode, found.stdout.split()[-1]) == (0, "PASS"), found.stdout + found.stderr
    assert "1 within the tolerance" in found.stdout
    (values + sign * 13 * (np.arange(len(values)) == 0)).astype(np.int8).tofile(path)
    found = check(spoiled, spoiled / "cats.tflite")
    assert (found.returncode, found.stdout.split()[-1]) == (1, "FAIL"), found.stdout + found.stderr
    assert "1 differ" in found.stdout


@pytest.mark.slow
def test_the_readme_of_an_edge_tpu_kit(coral):
    readme = (coral / "README.md").read_text()
    assert "edgetpu_compiler --show_operations cats.tflite" in readme
    assert "min_runtime_version" not in readme
    assert 'make_interpreter("cats_edgetpu.tflite")' in readme
    assert "coral::MakeEdgeTpuInterpreterOrDie" in readme
    assert "typed_input_tensor<int8_t>" in readme
    assert "12 steps at most" in readme
    assert "No Edge TPU and no compiler for it was run" in readme
    assert "| `edge_tpu/check.py` |" in readme
