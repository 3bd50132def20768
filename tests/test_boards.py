"""``check``: which boards a file fits, with which runtime, and by how much it does not."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wavemix_tf.cli import main
from wavemix_tf.command import terminal
from wavemix_tf.command.budgets import board_budget, core_note, parse_budget
from wavemix_tf.command.pages.exported_files import section
from wavemix_tf.command.pages.terminal_tables import benchmark_notes
from wavemix_tf.command.verbs.check import _print_fits
from wavemix_tf.command.verdict import VERDICT
from wavemix_tf.tflite.c_source.flash import c_flash_bytes, constant_bytes
from wavemix_tf.tflite.c_source.generator import merged_program, write_c
from wavemix_tf.tflite.c_source.instruction_count import calls_of, estimate_instructions, instructions_by_op
from wavemix_tf.tflite.errors import MemoryLimitError
from wavemix_tf.tflite.exporting.limits import Limits, MemoryUse, check_limits
from wavemix_tf.tflite.file.flatbuffer import pack, read_file, schema
from wavemix_tf.tflite.file.metadata import min_runtime
from wavemix_tf.tflite.kit.speed import speed_rows
from wavemix_tf.tflite.measuring.board_fit import Need, check_boards, needs_by_runtime
from wavemix_tf.tflite.names import BOARD_RUNTIMES, CMSIS_NN, KERNELS
from wavemix_tf.tflite.runtimes.arena import arena_by_kernels
from wavemix_tf.tflite.targets.boards import BOARDS, CORES
from wavemix_tf.tflite.targets.firmware import OWN_RAM_BYTES, firmware_bytes, runtime_words, small_core_bytes
from wavemix_tf.tflite.targets.instructions import FEATURES, features, op_instructions, row_name, table_rows
from wavemix_tf.tflite.targets.published_times import (
    NETWORKS,
    PUBLISHED,
    Range,
    cycles_per_instruction,
    latency_range,
)
from wavemix_tf.tflite.targets.table import TARGETS

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import published_times

FOLDER = Path(__file__).parent / "fixtures" / "arena"
NETWORK = FOLDER / "network_deconv.tflite"


def test_every_board_has_its_figures_and_their_source():
    for name, row in BOARDS.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert row.core in CORES
        assert row.source.startswith("https://")
        assert not row.memory_source or row.memory_source.startswith("https://")
        assert 0 < row.block_bytes <= row.ram_bytes < row.flash_bytes * 16
        assert 10 <= row.clock_mhz <= 1000
    assert list(BOARDS) == sorted(BOARDS)
    assert {kernels for core in CORES.values() for kernels in core} == set(KERNELS)


def test_a_file_fits_or_lacks_so_many_bytes():
    content = NETWORK.read_bytes()
    ops = [op.name for op in read_file(content).ops]
    found = {(one.board, one.runtime): one for one in check_boards(content, tuple(BOARDS))}
    assert {runtime for _, runtime in found} == set(BOARD_RUNTIMES)
    assert ("esp32-s3", CMSIS_NN) not in found
    for (board, runtime), one in found.items():
        row, need = BOARDS[board], one.need
        assert one.missing_flash_bytes == max(0, need.flash_bytes - row.flash_bytes)
        assert one.missing_ram_bytes == max(0, need.ram_bytes - row.ram_bytes, need.arena_bytes - row.block_bytes)
        if runtime in KERNELS:
            assert need.ram_bytes == need.arena_bytes + OWN_RAM_BYTES
            assert need.flash_bytes == firmware_bytes(len(content), ops, runtime, row.core)[1]
    small = found["nucleo-g071rb", "reference"]
    assert not small.fits
    without = "; it fits if the library is built without messages"
    assert small.words == f"no: {small.missing_flash_bytes:,} bytes of flash missing{without}"
    assert found["nucleo-g071rb", "c"].fits
    assert found["nucleo-g071rb", "c"].words == "yes"


def test_the_arena_must_lie_in_one_piece(monkeypatch):
    """A board may have much RAM in parts too small for the arena."""
    whole = BOARDS["nucleo-h743zi2"]
    monkeypatch.setitem(BOARDS, "nucleo-h743zi2", replace(whole, block_bytes=4096))
    one = check_boards(NETWORK.read_bytes(), ["nucleo-h743zi2"])[0]
    assert one.missing_ram_bytes == one.need.arena_bytes - 4096 > 0


def test_a_runtime_that_does_not_run_the_file_says_why():
    needs = needs_by_runtime((FOLDER / "transposed_4x4.tflite").read_bytes())
    assert needs["reference"].refusal is None
    assert needs["c"].refusal is None
    assert re.match(r"op 0 TRANSPOSE_CONV .*CMSIS-NN", needs["cmsis-nn"].refusal)
    assert needs["cmsis-nn"].arena_bytes == 0
    one = next(
        one
        for one in check_boards((FOLDER / "transposed_4x4.tflite").read_bytes(), ["rp2040-pico"])
        if one.runtime == "cmsis-nn"
    )
    assert not one.fits
    assert one.words.startswith("not run: op 0 TRANSPOSE_CONV")


def in_16_bits(content):
    """A file of one dense layer, with activations of 16 bits as the converter writes them."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    graph = model.subgraphs[0]
    (op,) = graph.operators
    for index in (op.inputs[0], op.outputs[0]):
        tensor = graph.tensors[index]
        tensor.type, tensor.quantization.zeroPoint = schema.TensorType.INT16, np.zeros(1, np.int64)
    bias = graph.tensors[op.inputs[2]]
    values = np.frombuffer(bytes(model.buffers[bias.buffer].data), np.int32).astype(np.int64)
    bias.type, model.buffers[bias.buffer].data = schema.TensorType.INT64, np.frombuffer(values.tobytes(), np.uint8)
    return model, graph.tensors[op.inputs[1]].quantization


def test_cmsis_nn_refuses_a_dense_layer_of_16_bits_with_a_scale_for_each_output():
    """fully_connected.cc of cmsis_nn: AllocateTensors failed on an emulated Cortex-M4; the reference kernels ran."""
    content = (FOLDER / "dense.tflite").read_bytes()
    assert needs_by_runtime(content)["cmsis-nn"].refusal is None
    model, weights = in_16_bits(content)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = ""  # as export writes files for mcu
    needs = needs_by_runtime(pack(model))
    assert needs["c"].refusal == "op 0 FULLY_CONNECTED has a feature map of int16"
    assert needs["reference"].refusal is None
    assert needs["cmsis-nn"].refusal.startswith("op 0 FULLY_CONNECTED has 16-bit activations and a scale")
    assert set(arena_by_kernels(read_file(pack(model)))) == {"reference"}
    weights.scale, weights.zeroPoint = weights.scale[:1], weights.zeroPoint[:1]
    assert needs_by_runtime(pack(model))["cmsis-nn"].refusal is None


def test_the_verb_prints_json_and_its_exit_code_is_for_ci(capsys, tmp_path):
    assert main(["check", str(NETWORK), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file_bytes"] == NETWORK.stat().st_size
    assert found["boards_that_do_not_fit"] == []
    assert {row["board"] for row in found["checks"]} == set(BOARDS)
    row = found["checks"][0]
    assert set(row) >= {"board", "runtime", "ram_bytes", "flash_bytes", "missing_ram_bytes", "fits", "source"}

    assert main(["check", str(NETWORK), "--board", "nucleo-g071rb", "--runtime", "cmsis-nn"]) == VERDICT
    shown = capsys.readouterr().out
    assert re.search(r"lacks [\d.]+ KiB flash", shown)
    assert "esp32-s3" not in shown
    assert main(["check", str(NETWORK), "--board", "nucleo-g071rb"]) == 0  # the program in C fits


def test_several_boards_and_several_files(capsys, tmp_path):
    """--board repeated and as a list; files and folders; each file has its own table or entry."""
    folder = tmp_path / "a 'b' é"
    (folder / "deeper").mkdir(parents=True)
    for path in (folder / "one.tflite", folder / "deeper" / "two.tflite"):
        path.write_bytes(NETWORK.read_bytes())
    words = ["check", str(NETWORK), "--board", "rp2040-pico, nucleo-g071rb", "--board", "nrf52840-dk", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(dict.fromkeys(row["board"] for row in found["checks"])) == [
        "rp2040-pico",
        "nucleo-g071rb",
        "nrf52840-dk",
    ]
    assert main(["check", str(NETWORK), "--board", "nrf52840-dk,pico"]) == 1
    assert "board='pico'" in capsys.readouterr().err

    assert main(["check", str(folder), str(NETWORK), "--board", "nrf52840-dk", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["files"]
    assert [Path(row["file"]).name for row in rows] == ["two.tflite", "one.tflite", NETWORK.name]
    assert all(row["checks"] == rows[0]["checks"] for row in rows)
    assert main(["check", str(folder), "--board", "nucleo-g071rb", "--runtime", "cmsis-nn"]) == VERDICT
    shown = capsys.readouterr().out.replace("\n", "")
    assert "one.tflite" in shown
    assert "two.tflite" in shown
    (tmp_path / "empty").mkdir()
    assert main(["check", str(tmp_path / "empty")]) == 1
    assert "which has none" in capsys.readouterr().err


def test_a_folder_is_checked_without_copies_and_files_for_other_devices(capsys, tmp_path):
    """Kits, projects, compiled files and other targets are skipped in a line; named, each is checked."""
    exports = tmp_path / "run" / "exports"
    vectors = exports / "mcu-int8_kit" / "test_vectors" / "mcu-int8"
    project = exports / "mcu-int8_cmake" / "src"
    for folder in (vectors, project):
        folder.mkdir(parents=True)
    (vectors / "vectors.json").write_text("{}")
    (project.parent / "wavemix_project.json").write_text("{}")
    kept = ["mcu-int8", "no_card", "damaged_card"]
    names = [*kept, "web-int8", "ethos-u55-int8", "ethos-u55-int8_vela", "mcu-int8_kit/copy", "mcu-int8_cmake/src/copy"]
    for name in names:
        (exports / f"{name}.tflite").write_bytes(NETWORK.read_bytes())
    for name in ("mcu-int8", "web-int8", "ethos-u55-int8"):
        (exports / f"{name}.json").write_text(json.dumps({"target": name.removesuffix("-int8")}))
    (exports / "damaged_card.json").write_text('{"target":')
    words = ["--board", "nrf52840-dk"]
    assert main(["check", str(tmp_path / "run"), *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {Path(row["file"]).stem for row in found["files"]} == set(kept)
    assert {Path(path).relative_to(exports).with_suffix("").as_posix() for path in found["skipped"]} == set(names[3:])
    assert main(["check", str(tmp_path / "run"), *words]) == 0
    assert "Skipped in folders: 5 files of kits and projects" in capsys.readouterr().out
    assert main(["check", str(exports / "mcu-int8_kit"), str(exports / "web-int8.tflite"), *words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(row["file"]).stem for row in found["files"]] == ["copy", "web-int8"]
    assert found["skipped"] == []
    (tmp_path / "web").mkdir()
    for suffix in ("tflite", "json"):
        shutil.copy(exports / f"web-int8.{suffix}", tmp_path / "web")
    assert main(["check", str(tmp_path / "web"), *words]) == 1
    assert "must have .tflite files for microcontrollers" in capsys.readouterr().err


@pytest.mark.parametrize("width", [80, None])
def test_the_table_has_short_rows_and_each_reason_once(capsys, monkeypatch, width):
    """In a terminal of 80 columns no cell is broken over lines; in a pipe no row is longer."""
    if width is not None:
        monkeypatch.setattr(terminal.console, "width", width)
    assert main(["check", str(FOLDER / "transposed_4x4.tflite"), "--board", "arduino-nano-33-ble,nucleo-f446re"]) == 0
    shown = capsys.readouterr().out
    rows = shown.partition("\n[1] ")[0].splitlines()
    assert len(rows) == 3 + 2 * (1 + 3)
    assert max(map(len, rows)) <= 80
    assert shown.count("not run [1]") == 2
    assert shown.count("op 0 TRANSPOSE_CONV") == 1
    assert main(["check", str(NETWORK), "--board", "nucleo-g071rb,alif-e7,arduino-nano-33-ble"]) == 0
    rows = capsys.readouterr().out.partition("\nRAM: ")[0].splitlines()
    assert len(rows) == 3 + 3 * (1 + 3) + 1
    assert max(map(len, rows)) <= 80
    starred = [row for row in rows if row.rstrip().endswith(" *")]
    assert len(starred) == 1  # the reference kernels on the smallest board
    assert rows[-1].startswith("* fits if TensorFlow Lite Micro is built without messages")


def test_a_file_that_no_board_runs_says_why_once(capsys):
    needs = {"c": Need(0, 0, 0, "op 0 CONV_2D has a float32 feature map")}
    fits = check_boards(NETWORK.read_bytes(), tuple(BOARDS))
    _print_fits([replace(one, need=needs.get(one.runtime, Need(0, 0, 0, "op 4 GELU"))) for one in fits])
    assert capsys.readouterr().out.splitlines() == [
        "TFLM: not run on any board: op 4 GELU",
        "TFLM, CMSIS-NN: not run on any board: op 4 GELU",
        "C program: not run on any board: op 0 CONV_2D has a float32 feature map",
    ]


def test_milliseconds_are_a_range_or_missing(capsys):
    """Never one number: two ends, how many published figures they rest on, and null where there are none."""
    assert main(["check", str(NETWORK), "--json"]) == 0
    for row in json.loads(capsys.readouterr().out)["checks"]:
        found = row["latency_ms_estimate"]
        if row["core"] in ("cortex-m0+", "cortex-m55", "xtensa-lx7"):
            assert found is None
            assert row["latency_ms_source"].startswith("none: ")
            assert ("no published figure" in row["latency_ms_source"]) == (row["instructions"] is not None)
        elif row["runtime"] == "cmsis-nn":
            assert set(found) == {"least", "most", "figures"}
            assert 0 < found["least"] < found["most"]
            assert found["figures"] > 1
            assert row["latency_ms_source"].startswith(f"estimate: range of {found['figures']} published")
    assert main(["check", str(NETWORK), "--board", "nucleo-l4r5zi"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"CMSIS-NN .* [0-9.]+ M +[0-9.]+ to [0-9.]+ ", shown)
    assert "estimate" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--board", "pico"), r"board must be one of 'alif-e7', .*Received: board='pico'"),
        (("--runtime", "tvm"), r"runtime must be one of 'reference', 'cmsis-nn', 'c'. Received: runtime='tvm'"),
    ],
)
def test_wrong_names_list_the_valid_ones(words, said, capsys):
    assert main(["check", str(NETWORK), *words]) == 1
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert error.count("\n") == 1


def test_what_is_no_file_is_one_line(capsys, tmp_path):
    for content in (b"", b"TFL3 and more", NETWORK.read_bytes()[:3000]):
        path = tmp_path / "a\n'\"é.tflite"
        path.write_bytes(content)
        assert main(["check", str(NETWORK), str(path)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert "'\"é.tflite cannot be checked: " in error
        assert NETWORK.name not in error
    assert main(["check", str(tmp_path / "none.tflite")]) == 1
    assert "none.tflite" in capsys.readouterr().err


def test_a_board_is_a_budget(capsys):
    assert board_budget("nucleo-f446re") == (
        "mcu",
        {"arena_bytes": 128 * 1024.0 - OWN_RAM_BYTES, "firmware_bytes": 512 * 1024.0},
    )
    flash = 8 * 1024.0**2 - small_core_bytes("xtensa-lx7")  # a search counts the program of a Cortex-M4
    assert board_budget("esp32-s3") == ("mcu", {"arena_bytes": 416 * 1024.0, "firmware_reference_bytes": flash})
    whole = {"ram_bytes": 1024 * 1024.0, "flash_bytes": 2 * 1024.0**2}
    assert board_budget("nucleo-h743zi2", "c") == ("c", {"arena_bytes": 512 * 1024.0, **whole})
    assert board_budget("esp32-s3", "mcu") == board_budget("esp32-s3")
    assert main(["tune", "digits", "--board", "esp32-s3", "--target", "web"]) == 1
    assert "target must be one of 'mcu', 'c'. Received: target='web'" in capsys.readouterr().err
    assert main(["tune", "digits", "--target", "c"]) == 1
    assert "--target needs --board" in capsys.readouterr().err
    assert main(["tune", "digits", "--board", "esp32-s3", "--budget", "mcu:4KB-ram"]) == 1
    assert "exclude each other" in capsys.readouterr().err
    assert main(["tune", "digits", "--board", "esp32"]) == 1
    assert "'esp32-s3'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("core", "runtime", "counted"),
    [
        ("cortex-m4", "reference", 6_763_880),
        ("cortex-m4", "cmsis-nn", 2_700_200),
        ("cortex-m55", "cmsis-nn", 1_341_875),
        ("cortex-m4", "c", 1_405_120),
        ("cortex-m55", "c", 1_578_406),
        ("cortex-m0+", "c", 4_167_280),
    ],
)
def test_instructions_are_near_what_the_emulator_counted(core, runtime, counted):
    """Counts of the last of two inferences: tflite-micro 90b983c2, gcc 12.2 -O2, one tick an instruction.

    The estimate has the most that LOGISTIC takes, which is a quarter of this network on a Cortex-M55.
    """
    info = read_file(NETWORK.read_bytes())
    found = estimate_instructions(info, core, runtime)
    assert -0.07 < found / counted - 1 < 0.21, found
    by_op = instructions_by_op(info, core, runtime)
    assert len(by_op) == len(info.ops)
    assert sum(by_op) == found
    assert info.ops[by_op.index(max(by_op))].name in ("CONV_2D", "LOGISTIC")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="no arm-none-eabi-gcc")
@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m0plus"])
def test_the_flash_of_a_program_in_c_is_within_the_calculated_range(core, tmp_path):
    """Of the object file: beside it a firmware has start-up code and memcpy, 2.3 KB at most where it was measured."""
    content = NETWORK.read_bytes()
    made = write_c(content, "net")
    (tmp_path / "net.c").write_text(made.source)
    (tmp_path / "net.h").write_text(made.header)
    words = [f"-mcpu={core}", "-mthumb", "-std=c99", "-O2", "-c", "net.c", "-o", "net.o"]
    subprocess.run(["arm-none-eabi-gcc", *words], cwd=tmp_path, check=True)
    sizes = subprocess.run(["arm-none-eabi-size", "net.o"], cwd=tmp_path, check=True, capture_output=True, text=True)
    text, data = map(int, sizes.stdout.splitlines()[1].split()[:2])
    least, most = c_flash_bytes(content)
    constants = constant_bytes(merged_program(read_file(content)))
    assert constants < text + data < most - 1024
    assert least < text + data + 2300 < most
    assert needs_by_runtime(content)["c"].flash_bytes == most


def test_flash_is_stated_by_target():
    """Not TensorFlow Lite Micro's beside a program in C, and none beside a file for a phone."""
    files = {
        target: SimpleNamespace(target=target, content=NETWORK.read_bytes(), ops=["ADD"])
        for target in ("c", "mcu", "web")
    }
    least, most = c_flash_bytes(files["c"].content)
    notes = benchmark_notes([("c-int8", files["c"])])
    assert f"Flash of c-int8: about {least:,} to {most:,} bytes for the whole program" in notes
    assert "CMSIS-NN" not in notes
    assert (
        f"Size of mcu-int8: the file only; the program that runs it adds about {runtime_words(['ADD'])}"
        in benchmark_notes([("c-int8", files["c"]), ("mcu-int8", files["mcu"])])
    )
    assert "flash" not in benchmark_notes([("web-int8", files["web"])]).lower()
    facts = {
        "name": "c-int8",
        "dtype": "int8",
        "file": "exports/c-int8.tflite",
        "size_bytes": 9000,
        "arena_bytes": 4800,
    }
    for target, said in (("c", False), ("mcu", True), ("ethos-u55", False)):
        assert ("with CMSIS-NN" in section({"exports": [facts | {"target": target}]})) == said


def test_a_limit_of_flash_counts_the_program_of_target_c():
    content = NETWORK.read_bytes()
    info, row = read_file(content), TARGETS["c"]
    _, most = c_flash_bytes(content)
    use = MemoryUse.of(row, content, 4800, None)
    assert use.flash_bytes == most != len(content)
    check_limits(Limits(None, most), use, info, "c")
    with pytest.raises(MemoryLimitError, match=f"The program takes up to {most:,} bytes of flash on target 'c'"):
        check_limits(Limits(None, most - 1), use, info, "c")
    assert MemoryUse.of(TARGETS["mcu"], content, 4800, None).flash_bytes == len(content)


def test_cores_with_the_same_instructions():
    info = read_file(NETWORK.read_bytes())
    for core in ("cortex-m7", "cortex-m33"):
        assert estimate_instructions(info, core, "cmsis-nn") == estimate_instructions(info, "cortex-m4", "cmsis-nn")
    small = estimate_instructions(info, "cortex-m0+", "reference")
    assert small > estimate_instructions(info, "cortex-m4", "reference")  # 64-bit products take several


def test_a_program_in_c_merges_ops_whose_instructions_are_counted_once():
    """PAD, CONV_2D, DEPTH_TO_SPACE and STRIDED_SLICE are one call; its convolution has all of its instructions."""
    info = read_file(NETWORK.read_bytes())
    by_op = instructions_by_op(info, "cortex-m4", "c")
    merged = [call for call in calls_of(info) if len(call.ops) > 1]
    assert {info.ops[call.main].name for call in merged} >= {"CONV_2D"}
    for call in merged:
        assert [index for index in call.ops if by_op[index]] == [call.main]
    assert sorted(index for call in calls_of(info) for index in call.ops) == list(range(len(info.ops)))


@pytest.mark.parametrize(
    ("core", "runtime", "counted"),
    [
        ("cortex-m4", "reference", 93_640),
        ("cortex-m55", "cmsis-nn", 95_469),
        ("cortex-m0+", "reference", 346_600),
        ("cortex-m4", "c", 14_160),
        ("cortex-m55", "c", 14_343),
    ],
)
def test_log_softmax_is_near_what_the_emulator_counted(core, runtime, counted):
    """Six rows of 50 classes."""
    dense = read_file(NETWORK.read_bytes()).ops[-1]
    tensor = replace(dense.outputs[0], shape=(1, 6, 50))
    op = replace(dense, name="LOG_SOFTMAX", inputs=(tensor,), outputs=(tensor,))
    assert op_instructions(op, table_rows(core, runtime)) == pytest.approx(counted, rel=0.04)


@pytest.mark.parametrize(
    ("channels", "filters", "side", "counts"),
    [
        (14, 18, (7, 6, 16, 14), {"cortex-m4": 797_360, "cortex-m55": 362_594}),
        (28, 20, (6, 6, 12, 12), {"cortex-m4": 2_487_880, "cortex-m55": 315_781}),  # above 16 channels: a convolution
    ],
)
def test_transposed_convolutions_of_cmsis_nn_are_near_what_the_emulator_counted(channels, filters, side, counts):
    """Kernels of 4x4, stride 2, that were not in the fit."""
    op = read_file((FOLDER / "transposed_4x4.tflite").read_bytes()).ops[0]
    shape, kernel, source = op.inputs[:3]
    rows, columns, out_rows, out_columns = side
    kernel = replace(kernel, shape=(filters, 4, 4, channels))
    source = replace(source, shape=(1, rows, columns, channels))
    result = replace(op.outputs[0], shape=(1, out_rows, out_columns, filters))
    op = replace(op, inputs=(shape, kernel, source), outputs=(result,))
    for core, counted in counts.items():
        assert op_instructions(op, table_rows(core, CMSIS_NN)) == pytest.approx(counted, rel=0.11)


def test_what_was_not_measured_has_no_instructions():
    info = read_file(NETWORK.read_bytes())
    assert estimate_instructions(info, "xtensa-lx7", "reference") is None
    assert estimate_instructions(info, "cortex-m0+", "cmsis-nn") is None
    assert estimate_instructions(info, "xtensa-lx7", "c") is None
    unknown = replace(info, ops=(*info.ops, replace(info.ops[-1], name="CUMSUM")))
    assert estimate_instructions(unknown, "cortex-m4", "cmsis-nn") is None
    assert estimate_instructions(unknown, "cortex-m4", "c") is None


def test_instructions_are_a_budget():
    assert parse_budget("mcu:5M-instructions") == ("mcu", {"instructions": 5e6})
    assert parse_budget("c:5M-instructions") == ("c", {"instructions": 5e6})


def test_a_search_says_whose_instructions_it_estimates():
    assert "Cortex-M4, also with --board esp32-s3, whose core (xtensa-lx7) takes others" in core_note("esp32-s3")
    assert "cortex-m0+" in core_note("rp2040-pico")
    assert core_note("nrf52840-dk") is None
    assert core_note("nucleo-h743zi2") is None  # a Cortex-M7 has the instructions of the Cortex-M4


def test_a_program_in_c_has_its_own_ram_and_flash(capsys):
    assert parse_budget("c:8KB-ram,40KB-flash") == ("c", {"ram_bytes": 8192.0, "flash_bytes": 40960.0})
    with pytest.raises(ValueError, match=r"takes the kinds ram, flash, parameters, .*instructions; not 'firmware'"):
        parse_budget("c:40KB-firmware")


def test_a_file_states_the_oldest_release_that_runs_it():
    """As TensorFlow's converter wrote it: DEPTH_TO_SPACE of version 2 needs 2.5.0, the other file has none."""
    assert min_runtime(NETWORK.read_bytes()) == "2.5.0"
    assert min_runtime((FOLDER / "c_network_deconv.tflite").read_bytes()) == "2.3.0"
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(NETWORK.read_bytes(), 0))
    model.metadata = None
    assert min_runtime(pack(model)) is None


def test_what_instructions_depend_on_is_counted():
    """3x3 over 6x7 with "same" padding: of 18 x 21 taps, 16 x 19 lie in the map."""
    (conv,) = (op for op in read_file((FOLDER / "conv_with_relu.tflite").read_bytes()).ops if op.name == "CONV_2D")
    found = features(conv)
    assert set(found) <= set(FEATURES)
    taps, out, pixels, depth = 16 * 19, 6 * 7 * 4, 6 * 7, 9 * 5
    assert (found["mac"], found["product"], found["window"]) == (taps * 4 * 5, out * depth, taps * 4)
    assert (found["value"], found["pixel"], found["tap"]) == (out, pixels, pixels * 9)
    assert (found["column"], found["weight"]) == (pixels * depth, 4 * depth)
    assert found["rest"] == out * 1  # 45 values are 11 words and 1
    assert found["vector"] == out * 3
    depthwise = read_file((FOLDER / "depthwise_of_one_channel.tflite").read_bytes()).ops[0]
    found = features(depthwise)
    assert (found["mac"], found["product"], found["vector"]) == (taps * 6, pixels * 9 * 6, pixels * 9)
    assert row_name(depthwise) == "DEPTHWISE_CONV_2D"  # one channel: neither of the fast kernels
    points = [
        op for op in read_file(NETWORK.read_bytes()).ops if op.name == "CONV_2D" and op.inputs[1].shape[1:3] == (1, 1)
    ]
    assert points
    for op in points:
        assert row_name(op) == "CONV_2D 1x1"
        assert features(op)["column"] == 0  # nothing is copied into columns


def test_published_times_lie_inside_the_range_of_their_core():
    """The range that a published board gets, for the published network at its clock, has the published time."""
    assert {row.core for row in PUBLISHED} <= set(CORES)
    for row in PUBLISHED:
        assert row.source.startswith("https://")
        found = latency_range(round(1e6 * NETWORKS[row.network]), row.core, CMSIS_NN, row.clock_mhz)
        assert found.least <= row.latency_ms * 1.0001
        assert row.latency_ms * 0.9999 <= found.most
        assert found.figures == sum(other.core == row.core for other in PUBLISHED)
        assert found.least < found.most
    assert (
        latency_range(10**6, "cortex-m4", CMSIS_NN, 100).least
        == 2 * latency_range(10**6, "cortex-m4", CMSIS_NN, 200).least
    )


def test_no_milliseconds_where_none_were_published():
    assert latency_range(10**6, "cortex-m55", CMSIS_NN, 400) is None
    assert latency_range(10**6, "cortex-m0+", "c", 64) is None
    assert latency_range(None, "cortex-m4", CMSIS_NN, 64) is None
    # Figures of one board are no range of its core; those of a vendor's kernels do not say it of other programs.
    assert cycles_per_instruction("cortex-m7", "c") is None
    assert cycles_per_instruction("cortex-m33", "reference") is None
    assert cycles_per_instruction("cortex-m4", "c").figures < cycles_per_instruction("cortex-m4", CMSIS_NN).figures


def test_the_card_states_instructions_and_a_range_of_milliseconds():
    info = read_file(NETWORK.read_bytes())
    (_, counted), (title, times) = speed_rows(info, "c")
    assert "cortex-m4 1." in counted
    assert title == "time at 100 MHz, an estimate"
    assert re.match(r"cortex-m4 [0-9.]+ to [0-9.]+ ms \(12 published figures\); no published figure", times)
    assert times.endswith("no published figure for cortex-m0+, cortex-m7, cortex-m33, cortex-m55")
    unknown = replace(info, ops=(*info.ops, replace(info.ops[-1], name="CUMSUM")))
    assert speed_rows(unknown, "cmsis-nn") == []


def test_a_range_is_rounded_outward():
    assert Range(8.149, 23.01, 3).words == "8.1 to 24"
    assert Range(0.0412, 9.91, 3).words == "0.041 to 10"
    assert Range(120.0, 1234.0, 3).words == "120 to 1300"


@pytest.mark.slow
def test_the_networks_of_the_published_times_are_those_of_the_benchmark():
    """The smallest of them; benchmarks/published_times.py prints all."""
    for name in ("DS-CNN", "autoencoder 640-128-8"):
        counted = estimate_instructions(published_times.file_of(name), "cortex-m4", CMSIS_NN)
        assert abs(counted / (1e6 * NETWORKS[name]) - 1) < 0.005


@pytest.mark.skipif(not (Path(__file__).parents[1] / "docs").is_dir(), reason="runs in a checkout")
def test_the_page_has_every_board_with_its_figures():
    text = (Path(__file__).parents[1] / "docs" / "budgets.md").read_text(encoding="utf-8")
    for name, row in BOARDS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}`: ")]
        sizes = [f"{size // 1024:,} KB" for size in (row.ram_bytes, row.block_bytes, row.flash_bytes)]
        assert line.endswith(f" | {row.core} | {row.clock_mhz} MHz | {' | '.join(sizes)} |")
        assert f"]({row.source})" in line
        assert row.memory_source in line
        assert row.note in line
