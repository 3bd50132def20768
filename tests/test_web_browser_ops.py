"""LiteRT.js in headless Chromium: every op of the table, and whole files.

Needs what ``test_web_browser.py`` needs.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from tflite_support import FILES, FLOAT, HELD_OUT, export_random

from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.targets import op_tables
from wavemix_tf.tflite.targets.table import TARGETS

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import browser
import op_tables as op_files

MISSING = browser.missing()
pytestmark = [pytest.mark.skipif(MISSING is not None, reason=MISSING or ""), pytest.mark.slow]


def kinds(op):
    """Arithmetic in which an op of the table stands."""
    if op in op_files.NO_FLOAT:
        return ["int8"]
    rescales = op == "QUANTIZE"
    return (
        ["float32", "int8"] if rescales or (op in op_tables.INT8_RULES and op not in op_files.NO_INT8) else ["float32"]
    )


def test_every_op_of_the_table_gives_litert_s_numbers():
    opened, different = browser.LiteRtJs(), []
    try:
        for op in sorted(TARGETS["android-cpu"].ops):
            for dtype in kinds(op):
                found = op_files.run_in_browser(op, dtype, opened)
                runs = not isinstance(found, str)
                if runs != (op in TARGETS["web"].ops) or (runs and found > (0 if dtype == "int8" else 1e-6)):
                    different.append((op, dtype, found))
        # Whole files.
        for io_dtype in ("uint8", "float32"):
            content = FILES["deconv", "web", io_dtype if io_dtype == "float32" else None].content
            tensor = read_file(content).inputs[0]
            inputs = [np.random.default_rng(2).integers(0, 2, tensor.shape).astype(tensor.dtype)]
            (found,), (wanted,) = opened.run(content, inputs), op_files.run_whole(content, inputs)
            np.testing.assert_array_equal(found, wanted.ravel())
        # Weights of 16 bits.
        content = export_random(FLOAT["deconv"], "web", "float16").content
        inputs = [HELD_OUT["deconv"][:1]]
        (found,), (wanted,) = opened.run(content, inputs), op_files.run_whole(content, inputs)
        np.testing.assert_allclose(found, wanted.ravel(), atol=1e-5)
        content, inputs = op_files.write("RELU", "int8")
        with pytest.raises(RuntimeError, match="Element type INT8 is not supported"):
            opened.run(content, inputs)
    finally:
        opened.close()
    assert different == []
