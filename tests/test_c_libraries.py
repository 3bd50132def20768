"""C programs that call CMSIS-NN, and the form of a convolution for cores with long products.

The tests that compile CMSIS-NN need its sources: ``WAVEMIX_TEST_CMSIS_NN`` names their folder, and
``WAVEMIX_TEST_CMSIS_CORE`` that of CMSIS's core headers. They compile its plain C; a Cortex-M runs its DSP and Helium
code.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from c_support import assert_bit_equal, random_inputs, requires_cc
from test_c_source import FORMS, files, micro  # noqa: F401
from tflite_support import FILES

from wavemix_tf.tflite.c_source.generator import write_c
from wavemix_tf.tflite.c_source.libraries.table import LIBRARIES
from wavemix_tf.tflite.c_source.ops.channels import in_order, interleave
from wavemix_tf.tflite.c_source.variants import condition, guarded
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.targets.cmsis_nn import convolution_scratch_bytes, depthwise_scratch_bytes

pytestmark = pytest.mark.filterwarnings("ignore:The outputs of model:UserWarning")
HELIUM, OTHER = (1 + [library.name for library in LIBRARIES].index(name) for name in ("cmsis_nn_helium", "cmsis_nn"))
CMSIS_NN = os.environ.get("WAVEMIX_TEST_CMSIS_NN", "")
CMSIS_CORE = os.environ.get("WAVEMIX_TEST_CMSIS_CORE", "")
requires_cmsis_nn = pytest.mark.skipif(not CMSIS_NN, reason="WAVEMIX_TEST_CMSIS_NN names no folder of CMSIS-NN")
PAIRED = [name for name in FORMS if name.startswith(("conv", "dense", "transposed", "depthwise of several"))]
CALLED = [
    name for name in FORMS if name.startswith(("conv", "dense", "transposed", "depthwise", "add", "mul", "average"))
]


def written(name, monkeypatch):
    monkeypatch.setitem(files.FLOAT, name, FORMS[name])
    return files.write(name, "int8")[0]


# --- two pixels in one number -----------------------------------------------------------------------------------------


@pytest.mark.slow
@requires_cc
@pytest.mark.parametrize("name", PAIRED)
def test_pairs_of_pixels_are_bit_equal(name, micro, tmp_path, monkeypatch):  # noqa: F811
    content = written(name, monkeypatch)
    options = ("-std=c99", "-O1", "-DWAVEMIX_PAIRS=1", "-fsanitize=undefined,address", "-fno-sanitize-recover=all")
    inputs = random_inputs(read_file(content))
    assert_bit_equal(content, inputs, tmp_path, micro, options=options, link=options[-2:])


# --- forms of a source ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("outputs", [1, 3, 4, 6, 8])
def test_weights_come_back_in_their_own_order(outputs, whole):
    weights = np.random.default_rng(outputs).integers(-127, 128, (outputs, 9)).astype(np.int8)
    np.testing.assert_array_equal(in_order(interleave(weights, whole), outputs, whole), weights)


def test_a_text_is_guarded_unless_every_form_has_it():
    every = set(range(len(LIBRARIES) + 1))
    assert condition(every, "net") == ""
    assert condition({0}, "net") == "NET_KERNELS == 0"
    assert condition(every - {0}, "net") == "NET_KERNELS != 0"
    assert guarded([("a", every), ("b", {0}), ("c", {0}), ("d", every)], "net").split("\n") == [
        *("a", "#if NET_KERNELS == 0", "b", "c", "#endif /* NET_KERNELS == 0 */", "d"),
    ]


@pytest.mark.slow
def test_every_form_has_a_plan_and_calls_what_it_may():
    made = write_c(FILES["deconv", "c", None].content, "net")
    assert set(made.library_plans) == {library.name for library in LIBRARIES}
    assert made.library_plans["cmsis_nn_helium"].arena_bytes > made.plan.arena_bytes
    assert "arm_convolve_wrapper_s8" in made.source
    assert "arm_elementwise_add_s8" in made.source
    assert "arm_transpose_conv" not in made.source
    assert f"#define NET_ARENA_BYTES {made.library_plans['cmsis_nn_helium'].arena_bytes}" in made.header


# --- CMSIS-NN ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """(options of the compiler, archive): CMSIS-NN's int8 kernels in plain C."""
    folder, root = tmp_path_factory.mktemp("cmsis_nn"), Path(CMSIS_NN)
    includes = [f"-isystem{root / 'Include'}", *([f"-isystem{CMSIS_CORE}"] if CMSIS_CORE else [])]
    sources = {*root.glob("Source/*/*_s8*.c"), *root.glob("Source/NNSupportFunctions/*.c")}
    kept = sorted(path for path in sources if not any(kind in path.name for kind in ("f16", "f32")))
    subprocess.run(["cc", "-O1", "-w", *includes, "-c", *map(str, kept)], cwd=folder, check=True)
    subprocess.run(["ar", "rcs", "library.a", *(f"{path.stem}.o" for path in kept)], cwd=folder, check=True)
    return (*includes, "-DWAVEMIX_CMSIS_NN"), folder / "library.a"


@pytest.mark.slow
@requires_cc
@requires_cmsis_nn
@pytest.mark.parametrize("form", [HELIUM, OTHER])
@pytest.mark.parametrize("name", CALLED)
def test_calls_of_cmsis_nn_are_bit_equal(name, form, library, micro, tmp_path, monkeypatch):  # noqa: F811
    content = written(name, monkeypatch)
    options = ("-std=gnu99", "-O2", f"-DNET_KERNELS={form}", *library[0])
    assert_bit_equal(
        content, random_inputs(read_file(content)), tmp_path, micro, options=options, link=(str(library[1]),)
    )


@pytest.mark.slow
@requires_cc
@requires_cmsis_nn
def test_a_network_by_cmsis_nn_is_bit_equal(library, micro, tmp_path):  # noqa: F811
    content = FILES["deconv", "c", None].content
    options = ("-std=gnu99", "-O2", f"-DNET_KERNELS={HELIUM}", *library[0])
    assert_bit_equal(
        content, random_inputs(read_file(content)), tmp_path, micro, options=options, link=(str(library[1]),)
    )


SIZES_C = """
#include <stdio.h>
#include "arm_nnfunctions.h"
int main(void) {
  int h, w, c;
  while (scanf("%d %d %d", &h, &w, &c) == 3) {
    const cmsis_nn_dims in = {1, 9, 9, c}, out = {1, 9, 9, c}, kernel = {c, h, w, c}, filter = {1, h, w, c};
    const cmsis_nn_conv_params conv = {0, 0, {1, 1}, {w / 2, h / 2}, {1, 1}, {-128, 127}};
    const cmsis_nn_dw_conv_params depthwise = {0, 0, 1, {1, 1}, {w / 2, h / 2}, {1, 1}, {-128, 127}};
    printf("%d %d %d %d\\n", (int)arm_convolve_wrapper_s8_get_buffer_size_mve(&conv, &in, &kernel, &out),
           (int)arm_convolve_wrapper_s8_get_buffer_size_dsp(&conv, &in, &kernel, &out),
           (int)arm_depthwise_conv_wrapper_s8_get_buffer_size_mve(&depthwise, &in, &filter, &out),
           (int)arm_depthwise_conv_wrapper_s8_get_buffer_size_dsp(&depthwise, &in, &filter, &out));
  }
  return 0;
}
"""


@pytest.mark.slow
@requires_cc
@requires_cmsis_nn
def test_buffers_are_what_cmsis_nn_asks_for(library, tmp_path):
    (tmp_path / "sizes.c").write_text(SIZES_C)
    subprocess.run(["cc", *library[0], "sizes.c", str(library[1]), "-o", "sizes"], cwd=tmp_path, check=True)
    cases = [(h, w, c) for h in (1, 2, 3, 5) for w in (1, 2, 3, 7) for c in (1, 2, 5, 8, 16, 48, 130, 256)]
    given = "\n".join(f"{h} {w} {c}" for h, w, c in cases)
    lines = subprocess.run(["./sizes"], cwd=tmp_path, input=given, capture_output=True, text=True, check=True).stdout
    for (h, w, c), line in zip(cases, lines.split("\n"), strict=False):
        asked = [int(part) for part in line.split()]
        assert convolution_scratch_bytes(h * w * c, (h, w) == (1, 1)) >= max(asked[:2]), (h, w, c)
        if c > 1:  # of one channel it is another kernel
            assert depthwise_scratch_bytes(h * w, c) >= max(asked[2:]), (h, w, c)
