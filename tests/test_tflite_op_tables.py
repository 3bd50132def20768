"""The targets' op tables: for each entry that can be run here, a file with that op runs."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from tflite_support import randomise

from wavemix_tf.tflite import TARGETS, RuntimeFailureError, UnsupportedOpError, export, quantize
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.graph.inputs import generated_images
from wavemix_tf.tflite.runtimes.ethos import compile_file
from wavemix_tf.tflite.runtimes.processes import ForkServer
from wavemix_tf.tflite.targets import op_tables
from wavemix_tf.tflite.targets.audit import audit

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import op_tables as files

pytestmark = pytest.mark.filterwarnings("ignore:The outputs of model:UserWarning")
PHONE, MICRO = TARGETS["android-cpu"], TARGETS["mcu"]
NEITHER = {"CONV_3D", "GELU", "POW", "SELECT", "TILE", "TOPK_V2"}  # phone ops that TensorFlow Lite Micro lacks


@pytest.fixture(scope="module")
def servers():
    made = {name: ForkServer(name) for name in ("tflite-micro", "vela")}
    yield made
    for server in made.values():
        server.close()


def kinds(op):
    """Arithmetic in which an op of the tables stands: those of no int8 rule are for parts that stay float."""
    if op in files.NO_FLOAT or op == "QUANTIZE":
        return ["int8"]
    return ["float32", "int8"] if op in op_tables.INT8_RULES and op not in files.NO_INT8 else ["float32"]


@pytest.mark.parametrize("op", sorted({*PHONE.ops, *MICRO.ops}))
@pytest.mark.slow
def test_every_entry_is_an_op_that_ran(op, servers):
    for dtype in kinds(op):
        content, inputs = files.write(op, dtype)
        info = read_file(content)
        assert op in [one.name for one in info.ops]
        for runtime in ("litert-xnnpack", "litert-reference"):
            lacks = runtime == "litert-reference" and dtype in op_tables.REFERENCE_LACKS.get(op, ())
            refusal = files.run(content, inputs, runtime)
            assert (refusal is None) == (op in PHONE.ops and not lacks), (runtime, refusal)
        refusal = files.run(content, inputs, "tflite-micro", servers["tflite-micro"])
        assert (refusal is None) == (op in MICRO.ops), refusal
        if len(info.ops) == 1 and (dtype == "float32" or op not in ("QUANTIZE", "DEQUANTIZE")):
            for name in ("android-cpu", "mcu"):
                if op in TARGETS[name].ops:
                    audit(info, name, TARGETS[name], dtype)  # its own rules accept the file


def test_what_a_microcontroller_lacks_is_in_no_table_of_its():
    assert PHONE.ops.keys() - MICRO.ops.keys() == NEITHER
    assert MICRO.ops.keys() <= PHONE.ops.keys()


@pytest.mark.parametrize("op", ["EXP", "LOG", "SQRT"])
def test_int8_of_some_is_refused_by_name_before_the_kernels_do(op, servers):
    content, inputs = files.write(op, "int8")
    assert files.run(content, inputs, "tflite-micro", servers["tflite-micro"]) is not None
    with pytest.raises(UnsupportedOpError, match=rf"{op} \(.*\) breaks its rule: float operands"):
        audit(read_file(content), "mcu", MICRO, "int8")


@pytest.mark.parametrize("op", sorted(TARGETS["ethos-u55"].ops))
def test_every_entry_of_the_ethos_tables_compiles(op, servers):
    content, _ = files.write(op, "int8")
    assert compile_file(content, TARGETS["ethos-u55"].npu, None, servers["vela"]).cpu_ops == ()
    if TARGETS["ethos-u85"].ops[op] != TARGETS["ethos-u55"].ops[op]:
        assert compile_file(content, TARGETS["ethos-u85"].npu, None, servers["vela"]).cpu_ops == ()


def test_tables_that_nobody_tried_say_so():
    for name, row in TARGETS.items():
        assert bool(row.tried_in) != ("no entry was tried" in row.source), name
    assert TARGETS["ethos-u85"].ops.keys() == TARGETS["ethos-u65"].ops.keys() == TARGETS["ethos-u55"].ops.keys()


def test_a_refusal_of_tflite_micro_names_the_layer(monkeypatch):
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", name="first")(inputs)
    x = layers.Activation("gelu", name="bell")(x)
    model = randomise(keras.Model(inputs, layers.Conv2D(2, 1, name="last")(x), name="refused"))
    quantized = quantize(model, generated_images((6, 6, 3), 32), target="android-cpu", rounding="nearest")
    monkeypatch.setitem(MICRO.ops, "GELU", ())
    monkeypatch.setitem(MICRO.substitutes, "gelu", "gelu")
    with pytest.raises(RuntimeFailureError, match=r"TensorFlow Lite Micro .*GELU.* Refused was op 1 GELU \(.*bell.*\)"):
        export(quantized, "mcu")


def test_a_file_whose_op_the_reference_kernels_lack_is_verified_without_them():
    inputs = keras.Input((6, 6, 3))
    x = layers.Activation("elu")(layers.Conv2D(4, 3)(inputs))
    model = randomise(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)), name="elu"))
    artifact = export(model, "android-cpu", "float32")
    assert "ELU" in artifact.ops
    assert [row["runtime"] for row in artifact.verification["fidelity"]["runtimes"]] == ["litert-xnnpack"]
    assert np.isfinite(artifact.verification["fidelity"]["mean_error_steps"])
