"""The calculated arena is the one that TensorFlow Lite Micro took on emulated Cortex-M4 and M55."""

import dataclasses
import json
from pathlib import Path

import pytest

from wavemix_tf.tflite.file.arena_plan import largest_first_offsets
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.runtimes.arena import arena_by_kernels, arena_use
from wavemix_tf.tflite.targets.kernel_memory import COPIES_SHAPE, DATA_BYTES, OPTIONS_BYTES
from wavemix_tf.tflite.targets.table import TARGETS

FOLDER = Path(__file__).parent / "fixtures" / "arena"
# File -> kernels and build -> [bytes that the interpreter reported as used, smallest arena in which it started], of
# tflite-micro 90b983c2 with gcc 12.2, in steps of 16 bytes (docs/budgets.md).
EMULATED = json.loads((FOLDER / "emulated.json").read_text())
CASES = [(name, kernels) for name, rows in EMULATED.items() for kernels in rows]


def info_of(name):
    return read_file((FOLDER / f"{name}.tflite").read_bytes())


@pytest.mark.parametrize(("name", "kernels"), CASES)
def test_the_arena_is_what_a_32_bit_device_takes(name, kernels):
    used, start = EMULATED[name][kernels]
    found = arena_use(info_of(name), *kernels.split())
    assert found.used_bytes == used
    assert start <= found.start_bytes <= start + 16


def test_the_stated_arena_is_enough_for_every_build():
    for name, rows in EMULATED.items():
        stated = arena_by_kernels(info_of(name))
        assert set(stated) == {"reference", "cmsis-nn"}
        for kernels, (_, start) in rows.items():
            assert stated[kernels.split()[0]] >= start, name


def test_small_files_need_more_to_start_than_they_use_afterwards():
    """The planner's lists lie in the arena too: what ``arena_used_bytes`` reports would be too small."""
    use = arena_use(info_of("dense"))
    assert use.start_bytes > use.used_bytes + 200


def test_of_equal_buffers_the_last_one_is_placed_first():
    """As in TensorFlow Lite Micro's planner, whose order decides where gaps remain."""
    buffers = [(32, 0, 1), (16, 2, 3), (32, 3, 3), (32, 1, 2)]

    def planned_bytes(requests):
        offsets = largest_first_offsets(requests)
        return max(offset + size for offset, (size, _, _) in zip(offsets, requests, strict=True))

    assert planned_bytes(buffers) == 64
    assert planned_bytes(buffers[::-1]) == 80
    assert planned_bytes([(32, 0, 0), (32, 1, 1)]) == 32


def test_variables_stay_and_tensors_without_a_use_are_planned():
    info = info_of("conv_with_relu")
    plain = arena_use(info)
    spare = dataclasses.replace(info.tensors[-1], name="spare", shape=(4096,), dtype="int8", constant=False, data=b"")
    more = dataclasses.replace(info, tensors=(*info.tensors, spare))
    assert arena_use(more).planned_bytes == 4096
    kept = dataclasses.replace(info, tensors=(*info.tensors, dataclasses.replace(spare, variable=True)))
    assert arena_use(kept).planned_bytes == plain.planned_bytes
    assert arena_use(kept).used_bytes >= plain.used_bytes + 4096


def test_every_op_of_the_target_has_its_memory_or_is_known_to_need_none():
    stated = {*DATA_BYTES, *OPTIONS_BYTES, *COPIES_SHAPE}
    assert set(TARGETS["mcu"].ops) - stated == {
        *("BROADCAST_TO", "EXP", "EXPAND_DIMS", "FLOOR", "LOG", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "MAXIMUM"),
        *("MINIMUM", "NEG", "REVERSE_V2", "SLICE", "SQRT", "SQUARE", "TRANSPOSE"),
    }
