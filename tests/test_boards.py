"""``check``: which boards a file fits, with which runtime, and by how much it does not."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from wavemix_tf.cli import main
from wavemix_tf.command.budgets import board_budget, parse_budget
from wavemix_tf.command.verdict import VERDICT
from wavemix_tf.tflite.file.flatbuffer import pack, read_file, schema
from wavemix_tf.tflite.file.metadata import min_runtime
from wavemix_tf.tflite.measuring.board_fit import check_boards, needs_by_runtime
from wavemix_tf.tflite.measuring.instructions import estimate_instructions, features
from wavemix_tf.tflite.names import BOARD_RUNTIMES, CMSIS_NN, KERNELS
from wavemix_tf.tflite.targets.boards import BOARDS, CORES
from wavemix_tf.tflite.targets.firmware import OWN_RAM_BYTES, firmware_bytes

FOLDER = Path(__file__).parent / "fixtures" / "arena"
NETWORK = FOLDER / "network_deconv.tflite"


def test_every_board_has_its_figures_and_their_source():
    for name, row in BOARDS.items():
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert row.core in CORES
        assert row.source.startswith("https://")
        assert 0 < row.block_bytes <= row.ram_bytes < row.flash_bytes * 16
        assert 10 <= row.clock_mhz <= 1000
    assert list(BOARDS) == sorted(BOARDS)
    assert {kernels for core in CORES.values() for kernels in core} == set(KERNELS)


def test_a_file_fits_or_lacks_so_many_bytes():
    content = NETWORK.read_bytes()
    found = {(one.board, one.runtime): one for one in check_boards(content, tuple(BOARDS))}
    assert {runtime for _, runtime in found} == set(BOARD_RUNTIMES)
    assert ("esp32-s3", CMSIS_NN) not in found
    for (board, runtime), one in found.items():
        row, need = BOARDS[board], one.need
        assert one.missing_flash_bytes == max(0, need.flash_bytes - row.flash_bytes)
        assert one.missing_ram_bytes == max(0, need.ram_bytes - row.ram_bytes, need.arena_bytes - row.block_bytes)
        if runtime in KERNELS:
            assert need.ram_bytes == need.arena_bytes + OWN_RAM_BYTES
            assert need.flash_bytes == firmware_bytes(len(content), runtime)[1]
    small = found["nucleo-g071rb", "reference"]
    assert not small.fits
    assert small.words == f"no: {small.missing_flash_bytes:,} bytes of flash missing"
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
    assert "bytes of flash missing" in shown
    assert "esp32-s3" not in shown
    assert main(["check", str(NETWORK), "--board", "nucleo-g071rb"]) == 0  # the program in C fits


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
        assert main(["check", str(path)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
    assert main(["check", str(tmp_path / "none.tflite")]) == 1
    assert "none.tflite" in capsys.readouterr().err


def test_a_board_is_a_budget(capsys):
    assert board_budget("nucleo-f446re") == (
        "mcu",
        {"arena_bytes": 128 * 1024.0 - OWN_RAM_BYTES, "firmware_bytes": 512 * 1024.0},
    )
    assert board_budget("esp32-s3") == ("mcu", {"arena_bytes": 416 * 1024.0, "firmware_reference_bytes": 8 * 1024.0**2})
    assert main(["tune", "digits", "--board", "esp32-s3", "--budget", "mcu:4KB-ram"]) == 1
    assert "exclude each other" in capsys.readouterr().err
    assert main(["tune", "digits", "--board", "esp32"]) == 1
    assert "'esp32-s3'" in capsys.readouterr().err


def test_instructions_are_near_what_the_emulator_counted():
    """Counts of the last of two inferences: tflite-micro 90b983c2, gcc 12.2 -O2, one tick an instruction."""
    info = read_file(NETWORK.read_bytes())
    for core, kernels, counted in (
        ("cortex-m4", "reference", 6_763_880),
        ("cortex-m4", "cmsis-nn", 2_700_200),
        ("cortex-m55", "cmsis-nn", 1_341_875),
    ):
        found = estimate_instructions(info, core, kernels)
        assert abs(found / counted - 1) < 0.2, (core, kernels, found)
    assert estimate_instructions(info, "cortex-m7", "cmsis-nn") == estimate_instructions(info, "cortex-m4", "cmsis-nn")


def test_what_was_not_measured_has_no_instructions():
    info = read_file(NETWORK.read_bytes())
    assert estimate_instructions(info, "xtensa-lx7", "reference") is None
    assert estimate_instructions(info, "cortex-m0+", "reference") is None
    assert estimate_instructions(info, "cortex-m4", "c") is None
    unknown = replace(info, ops=(*info.ops, replace(info.ops[-1], name="CUMSUM")))
    assert estimate_instructions(unknown, "cortex-m4", "cmsis-nn") is None


def test_instructions_are_a_budget():
    assert parse_budget("mcu:5M-instructions") == ("mcu", {"instructions": 5e6})


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
    taps, out = 16 * 19, 6 * 7 * 4
    assert features(conv) == (taps * 4 * 5, taps * 4, out, 6 * 7 * 9 * 5, out * 3, 1)  # 45 values are 3 vectors
    depthwise = read_file((FOLDER / "depthwise_of_one_channel.tflite").read_bytes()).ops[0]
    assert features(depthwise) == (taps * 6, 0, 6 * 7 * 6, 6 * 7 * 9, 6 * 7 * 9, 1)
    points = [
        op for op in read_file(NETWORK.read_bytes()).ops if op.name == "CONV_2D" and op.inputs[1].shape[1:3] == (1, 1)
    ]
    assert points
    assert all(features(op)[3] == 0 for op in points)  # nothing is copied into columns


@pytest.mark.skipif(not (Path(__file__).parents[1] / "docs").is_dir(), reason="runs in a checkout")
def test_the_page_has_every_board_with_its_figures():
    text = (Path(__file__).parents[1] / "docs" / "budgets.md").read_text(encoding="utf-8")
    for name, row in BOARDS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{name}`: ")]
        sizes = [f"{size // 1024:,} KB" for size in (row.ram_bytes, row.block_bytes, row.flash_bytes)]
        assert line.endswith(f" | {row.core} | {row.clock_mhz} MHz | {' | '.join(sizes)} |")
        assert row.source in line
