"""Flash of the program that runs a file, by the file's ops: against linked programs, and what it cannot be below."""

from dataclasses import replace
from pathlib import Path

import pytest

from wavemix_tf.tflite.exporting.limits import Limits
from wavemix_tf.tflite.measuring.board_fit import check_boards
from wavemix_tf.tflite.names import CMSIS_NN, KERNELS, REFERENCE_KERNELS
from wavemix_tf.tflite.targets.boards import BOARDS, CORES
from wavemix_tf.tflite.targets.firmware import (
    LARGE_CORES,
    firmware_bytes,
    flash_words,
    runtime_bytes,
    runtime_words,
    small_core_bytes,
    unmeasured,
)
from wavemix_tf.tflite.targets.kernel_flash import CODE_BYTES
from wavemix_tf.tflite.targets.op_tables import MCU_OPS

NETWORK = Path(__file__).parent / "fixtures" / "arena" / "network_deconv.tflite"
# (kernels, core, which of the builds) of each figure below, and the largest error that docs/budgets.md states.
COLUMNS = (
    (REFERENCE_KERNELS, "cortex-m4", 0, 0.05),
    (CMSIS_NN, "cortex-m4", 0, 0.10),
    (REFERENCE_KERNELS, "cortex-m0+", 0, 0.05),
    (CMSIS_NN, "cortex-m55", 0, 0.31),
    (REFERENCE_KERNELS, "cortex-m4", 1, 0.10),
    (CMSIS_NN, "cortex-m4", 1, 0.10),
)
# Networks of benchmarks/instruction_holdout.py: ops, and flash without the file as linked (tflite-micro 90b983c2,
# CMSIS-NN 99f736a6, arm-none-eabi-gcc 12.2). The table was not made from them.
HELD_OUT = {
    "ConvMixer 24/2": (
        "ADD CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED LOGISTIC MEAN MUL",
        (55968, 100896, 69568, 86896, 86944, 133464),
    ),
    "MLP-Mixer 40/2": (
        "ADD CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED LOGISTIC MEAN MUL RESHAPE RSQRT SUB TRANSPOSE",
        (68016, 113256, 82744, 99432, 103360, 150336),
    ),
    "MobileNet 0.25": (
        "CONV_2D DEPTHWISE_CONV_2D PAD RESHAPE SOFTMAX",
        (39408, 72184, 50760, 63416, 66464, 99104),
    ),
    "MobileNetV2 0.5": (
        "ADD CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED MEAN SOFTMAX",
        (51464, 95688, 64440, 82040, 80552, 126488),
    ),
    "MobileNetV3 minimal": (
        "ADD CONV_2D DEPTHWISE_CONV_2D RESHAPE SOFTMAX",
        (44152, 79032, 56152, 68392, 71832, 106544),
    ),
    "MobileNetV3 small": (
        "ADD CONV_2D DEPTHWISE_CONV_2D HARD_SWISH MEAN MUL RESHAPE SOFTMAX",
        (55696, 92360, 69176, 81784, 87456, 124288),
    ),
    "ViT 32/2": (
        "ADD BATCH_MATMUL CONV_2D FULLY_CONNECTED LOGISTIC MEAN MUL PAD RESHAPE RSQRT SOFTMAX STRIDED_SLICE SUB "
        "TRANSPOSE",
        (89344, 124872, 105896, 114408, 129976, 167928),
    ),
    "WaveMix 12/3, deconv": (
        "ADD CONV_2D DEPTH_TO_SPACE FULLY_CONNECTED LOGISTIC MEAN MUL PAD STRIDED_SLICE",
        (67856, 101064, 82472, 88760, 101448, 136320),
    ),
    "WaveMix 12/6, nearest": (
        "ADD CONV_2D FULLY_CONNECTED MEAN RESIZE_NEAREST_NEIGHBOR",
        (43064, 74736, 54216, 61072, 70128, 103088),
    ),
    "WaveMix 20/2, 2 levels": (
        "ADD CONV_2D DEPTHWISE_CONV_2D FULLY_CONNECTED HARD_SWISH MEAN RESIZE_BILINEAR",
        (48784, 91920, 61296, 77536, 78608, 123400),
    ),
}


@pytest.mark.parametrize("name", HELD_OUT)
def test_the_estimate_is_never_below_a_linked_program(name):
    ops, sizes = HELD_OUT[name]
    for (kernels, core, build, most), size in zip(COLUMNS, sizes, strict=True):
        error = runtime_bytes(ops.split(), kernels, core)[build] / size - 1
        assert 0 < error < most, (kernels, core, build, error)


def test_every_op_of_the_target_was_measured():
    assert not unmeasured(MCU_OPS)
    for ops, part in CODE_BYTES.items():
        assert set(ops) <= set(MCU_OPS)
        assert min(part) >= 0
    assert set(CORES) - set(LARGE_CORES) == {"cortex-m0+", "xtensa-lx7"}  # they count as the smallest core


def test_an_op_adds_its_code_once():
    few, more = ["ADD", "CONV_2D"], ["ADD", "CONV_2D", "SOFTMAX", "SOFTMAX"]
    for kernels in KERNELS:
        for core in CORES:
            least, most = runtime_bytes(few, kernels, core)
            assert 0 < least < most
            assert runtime_bytes(few * 3, kernels, core) == (least, most)
            assert all(a > b for a, b in zip(runtime_bytes(more, kernels, core), (least, most), strict=True))
            assert firmware_bytes(1000, few, kernels, core) == (least + 1000, most + 1000)
    for core in CORES:  # whatever the ops, the surplus of a core is within its bound
        more_bytes = runtime_bytes(MCU_OPS, CMSIS_NN, core)[1] - runtime_bytes(MCU_OPS, CMSIS_NN)[1]
        assert more_bytes <= small_core_bytes(core)


def test_an_op_that_was_not_measured_counts_as_the_largest():
    known = ["ADD", "CONV_2D"]
    for kernels in KERNELS:
        found = runtime_bytes([*known, "NEW_OP"], kernels)
        for op in MCU_OPS:
            assert all(a >= b for a, b in zip(found, runtime_bytes([*known, op], kernels), strict=True)), op
    assert "; NEW_OP: not measured, counted as the largest op)" in runtime_words([*known, "NEW_OP"])
    assert "not measured" not in flash_words(1000, known)


def test_a_form_of_the_file_is_admitted_by_file_and_program():
    few, more = ["CONV_2D"], ["CONV_2D", "PAD", "STRIDED_SLICE"]
    size = firmware_bytes(1000, few)[1]
    for limits, admitted in ((Limits(None, 1000), (True, True)), (Limits(None, None, size), (True, False))):
        assert (limits.admit(1000, few), limits.admit(1000, more)) == admitted
        assert not limits.admit(1001, few)
    assert Limits(None, None).admit(10**9, more)


def test_a_board_may_suit_only_a_build_without_messages(monkeypatch):
    one = check_boards(NETWORK.read_bytes(), ["nucleo-f446re"])[1]
    need, board = one.need, BOARDS["nucleo-f446re"]
    assert need.flash_without_messages_bytes < need.flash_bytes
    monkeypatch.setitem(BOARDS, "nucleo-f446re", replace(board, flash_bytes=need.flash_bytes - 1))
    tight = check_boards(NETWORK.read_bytes(), ["nucleo-f446re"])[1]
    assert not tight.fits
    assert tight.words == "no: 1 bytes of flash missing; it fits if the library is built without messages"
    assert tight.to_dict()["fits_without_messages"]
    monkeypatch.setitem(BOARDS, "nucleo-f446re", replace(board, flash_bytes=need.flash_without_messages_bytes - 1))
    assert not check_boards(NETWORK.read_bytes(), ["nucleo-f446re"])[1].fits_without_messages
