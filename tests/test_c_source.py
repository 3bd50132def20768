"""C programs from int8 files: every op, and whole networks, bit by bit as TensorFlow Lite Micro's reference kernels."""

import sys
from pathlib import Path

import numpy as np
import pytest
from c_support import assert_bit_equal, random_inputs, requires_cc, run_c
from tflite_support import FILES, NETWORKS

from wavemix_tf.tflite import UnsupportedOpError
from wavemix_tf.tflite.c_source.fixed_point import quantize_multiplier, requantize
from wavemix_tf.tflite.c_source.generator import KERNEL_ORDER, write_c
from wavemix_tf.tflite.c_source.memory_plan import Use, plan_memory
from wavemix_tf.tflite.c_source.ops.table import LOWERINGS
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.runtimes.processes import ForkServer

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import op_tables as files

pytestmark = pytest.mark.filterwarnings("ignore:The outputs of model:UserWarning")
# Written by hand as float files alone; the tests below hold int8 ones.
NO_FILE = {"ELU", "EXPAND_DIMS", "SQUEEZE", "ARG_MIN"}


@pytest.fixture(scope="module")
def micro():
    server = ForkServer("tflite-micro")
    yield server
    server.close()


@requires_cc
@pytest.mark.parametrize("op", sorted(LOWERINGS.keys() - NO_FILE))
def test_every_op_is_bit_equal(op, micro, tmp_path):
    content, _ = files.write(op, "int8")
    info = read_file(content)
    assert op in {one.name for one in info.ops}
    inputs = random_inputs(info)
    if op == "RSQRT":
        inputs = [np.maximum(part, info.inputs[0].zero_point).astype(np.int8) for part in inputs]
    assert_bit_equal(content, inputs, tmp_path, micro)


@requires_cc
@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_are_bit_equal(name, micro, tmp_path):
    content = FILES[name, "mcu", None].content
    assert_bit_equal(content, random_inputs(read_file(content)), tmp_path, micro)
