"""``export`` with the real runtimes: XNNPACK, the reference kernels and TensorFlow Lite Micro."""

import dataclasses
import json
import re
import shutil
import subprocess
import warnings

import keras
import numpy as np
import pytest
from keras import layers
from tflite_support import (
    CALIBRATION,
    CLASS_NAMES,
    FILES,
    FLOAT,
    HELD_OUT,
    NETWORKS,
    QUANTIZED,
    network,
    randomise,
    spread,
)
from tflite_support import export_random as export

import wavemix_tf as wm
from wavemix_tf.tflite import (
    TARGETS,
    Artifact,
    ExportError,
    FidelityError,
    RuntimeFailureError,
    UnsupportedOpError,
    benchmark,
    verify,
)
from wavemix_tf.tflite.file import flatbuffer
from wavemix_tf.tflite.graph.graph import Graph
from wavemix_tf.tflite.graph.inputs import predict
from wavemix_tf.tflite.graph.lowering import deploy
from wavemix_tf.tflite.runtimes.arena import arena_by_kernels
from wavemix_tf.tflite.runtimes.converter import convert
from wavemix_tf.tflite.runtimes.microcontroller import run_micro
from wavemix_tf.tflite.targets import audit, constraints
from wavemix_tf.tflite.targets import op_tables as targets

# Mean error allowed here. The reference kernels and TensorFlow Lite Micro round every product twice (gemmlowp's way),
# unlike a fake-quant model; XNNPACK rounds once.
INT8_ERROR_STEPS = {"litert-xnnpack": 1.0, "litert-reference": 1.6, "tflite-micro": 1.6}
INT8_ERROR_STEPS_BILINEAR = INT8_ERROR_STEPS | {"litert-reference": 2.0}  # rounds halves differently


@pytest.fixture(scope="module")
def held_out():
    return HELD_OUT


@pytest.fixture(scope="module")
def models():
    return FLOAT


@pytest.fixture(scope="module")
def quantized():
    return QUANTIZED


@pytest.fixture(scope="module")
def mcu():
    return FILES["deconv", "mcu", None]


def runtimes(artifact, against="fidelity"):
    return {row["runtime"]: row for row in artifact.verification[against]["runtimes"]}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_float32_for_a_phone_is_the_keras_model(name, models, held_out):
    artifact = export(models[name], "android-cpu", images=held_out[name])
    assert artifact.dtype == artifact.io_dtype == "float32"
    assert set(runtimes(artifact)) == {"litert-xnnpack", "litert-reference"}
    assert all(row["mean_error_steps"] <= 1e-3 for row in runtimes(artifact).values())
    assert not {"TRANSPOSE_CONV", "TILE", "GATHER", "SHAPE"} & set(artifact.ops)
    if name == "deconv":
        assert artifact.upsample_form == "subpixel_crop"
        assert "DEPTH_TO_SPACE" in artifact.ops
        assert not {"CONCATENATION", "DEPTHWISE_CONV_2D"} & set(artifact.ops)  # the transform has no op of its own


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_int8_computes_the_quantized_model(name, quantized, held_out):
    artifact = FILES[name, "android-cpu", None]
    expected = predict(quantized[name], held_out[name])
    info = flatbuffer.read_file(artifact.content)
    assert spread(expected) > 5 * info.outputs[0].scale
    bounds = INT8_ERROR_STEPS_BILINEAR if name == "bilinear" else INT8_ERROR_STEPS
    for runtime, row in runtimes(artifact).items():
        assert row["images"] == 48
        assert row["mean_error_steps"] <= bounds[runtime]
        assert row["agreement"] >= (1.0 if runtime == "litert-xnnpack" else 0.95)
        assert row["counted"] >= 24
    assert {tensor.dtype for op in info.ops for tensor in (*op.inputs, *op.outputs)} <= {"int8", "int32"}
    assert (info.inputs[0].scale, info.inputs[0].zero_point) == (pytest.approx(1 / 255), -128)
    resize = {"bilinear": "RESIZE_BILINEAR", "nearest": "RESIZE_NEAREST_NEIGHBOR"}.get(name)
    assert resize is None or resize in artifact.ops


def test_a_models_graph_is_copied_once(models, quantized, held_out, monkeypatch):
    copied, copy = [], Graph.from_model.__func__
    model, fine_tuned = models["deconv"], quantized["deconv"]  # made on first use, with copies of its own
    monkeypatch.setattr(Graph, "from_model", classmethod(lambda *given, **how: copied.append(1) or copy(*given, **how)))
    export(model, "android-cpu", images=held_out["deconv"])
    assert len(copied) == 1
    copied.clear()
    export(fine_tuned, "android-cpu", images=held_out["deconv"])
    assert len(copied) == 2  # the other is the network without its rounding


@pytest.mark.slow
def test_the_file_holds_the_integers_that_were_trained(quantized):
    model = quantized["deconv"]
    layer = model.get_layer("block1_upsample1")  # (4, 4, out, in), followed by batch norm
    kernel = np.asarray(layer.kernel)
    wanted = np.round(kernel / (np.abs(kernel).max((0, 1, 3), keepdims=True) / 127)).astype(int)
    norm = model.get_layer("block1_norm1")
    wanted *= np.sign(np.asarray(norm.gamma)).astype(int)[:, None]
    for form in ("transposed_conv", "subpixel_crop"):
        content = convert(deploy(model, {}, form), "int8", "int8")
        schema = flatbuffer.schema
        file = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        found = []
        for tensor in file.subgraphs[0].tensors:
            data = file.buffers[tensor.buffer].data
            if data is not None and tensor.type == schema.TensorType.INT8 and np.prod(tensor.shape) == kernel.size:
                found.append(np.asarray(data).view(np.int8).astype(int))
        # The forms order taps differently; each channel's integers are the same set.
        assert any(np.array_equal(np.sort(values), np.sort(wanted.ravel())) for values in found), form


@pytest.mark.slow
def test_float16_for_a_gpu():
    artifact = FILES["deconv", "android-gpu", None]
    assert artifact.dtype == "float16"
    assert artifact.io_dtype == "float32"
    assert "TRANSPOSE_CONV" in artifact.ops
    assert all(row["mean_error_steps"] <= 0.1 for row in runtimes(artifact).values())
    weights = [t for op in flatbuffer.read_file(artifact.content).ops for t in op.inputs if t.constant]
    assert {t.dtype for t in weights} == {"float16", "int32"}  # int32: shapes and axes


@pytest.mark.slow
def test_microcontroller_runs_the_file_on_its_own_kernels(mcu, held_out):
    rows = runtimes(mcu)
    assert list(rows) == ["tflite-micro", "litert-xnnpack", "litert-reference"]
    assert all(row["mean_error_steps"] <= 1.0 and row["agreement"] == 1.0 for row in rows.values())
    assert "GELU" not in mcu.ops
    assert mcu.substituted == ("block1_activation1", "block2_activation1")
    assert runtimes(mcu, "against_given_model")["tflite-micro"]["agreement"] == 1.0
    info = flatbuffer.read_file(mcu.content)
    inputs = flatbuffer.to_input(info.inputs[0], held_out["deconv"][:2])
    _, used = run_micro(mcu.content, [inputs], 2 * mcu.arena_bytes)  # pointers of this machine are larger
    assert used > mcu.kernel_arena_bytes["reference"]
    with pytest.raises(RuntimeFailureError, match=r"could not run the file.*arena_bytes="):
        run_micro(mcu.content, [inputs], mcu.kernel_arena_bytes["reference"] - 1024)


def test_microcontroller_gets_the_form_with_the_smaller_arena(mcu, quantized, held_out):
    arenas = {}
    for form in TARGETS["mcu"].upsample_forms:
        content = convert(deploy(quantized["deconv"], TARGETS["mcu"].substitutes, form), "int8", "int8")
        arenas[form] = arena_by_kernels(flatbuffer.read_file(content))["reference"]
    assert arenas[mcu.upsample_form] == mcu.kernel_arena_bytes["reference"] <= mcu.arena_bytes
    # The other form is not allowed: Arm's kernels compute it wrongly for 8 channels (test_tflite_firmware.py).
    assert mcu.upsample_form == "subpixel_crop" == min(arenas, key=arenas.get)


def test_float_model_is_quantized_on_the_way_with_calibration(models):
    artifact = export(models["nearest"], "mcu", calibration=CALIBRATION["nearest"])
    assert artifact.verification["images"] == "held out of calibration"
    assert runtimes(artifact)["tflite-micro"]["images"] == 32
    assert runtimes(artifact)["tflite-micro"]["mean_error_steps"] <= INT8_ERROR_STEPS["tflite-micro"]
    with pytest.raises(ValueError, match=r"calibration images.*calibration=None"):
        export(models["nearest"], "mcu")


@pytest.mark.parametrize("io_dtype", ["uint8", "float32"])
def test_input_and_output_may_be_bytes_or_floats(io_dtype, quantized, held_out):
    artifact = export(quantized["nearest"], "android-cpu", io_dtype=io_dtype, images=held_out["nearest"])
    info = flatbuffer.read_file(artifact.content)
    assert info.inputs[0].dtype == info.outputs[0].dtype == io_dtype
    pixels = np.round(held_out["nearest"][:1] * 255)
    fed = flatbuffer.to_input(info.inputs[0], (pixels / 255).astype(np.float32))
    np.testing.assert_allclose(fed, pixels if io_dtype == "uint8" else pixels / 255, atol=1e-6)


def test_save_writes_everything_a_user_needs(mcu, tmp_path):
    path = mcu.save(tmp_path / "exports" / "bugs-1.tflite")
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "bugs-1.json",
        "bugs-1.labels.txt",
        "bugs-1.tflite",
        "bugs_1.cc",
        "bugs_1.h",
    ]
    assert path.read_bytes() == mcu.content
    assert path.with_suffix(".labels.txt").read_text().split() == CLASS_NAMES
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["input"] == {
        "name": "image",
        "shape": [1, 16, 16, 3],
        "dtype": "int8",
        "scale": pytest.approx(1 / 255),
        "zero_point": -128,
    }
    assert card["input_meaning"] == "pixel - 128"
    assert card["ops"]["CONV_2D"] == mcu.ops.count("CONV_2D")
    assert card["arena_bytes"] == mcu.arena_bytes
    source = path.with_name("bugs_1.cc").read_text()
    numbers = source[source.index("{") : source.index("}")]
    assert bytes(int(n, 16) for n in re.findall(r"0x(..)", numbers)) == mcu.content
    assert "alignas(16) const unsigned char bugs_1[]" in source
    header = path.with_name("bugs_1.h").read_text()
    assert f"bugs_1_size = {len(mcu.content)}," in header
    assert "bugs_1_alignment = 16," in header
    assert f"bugs_1_arena_bytes = {mcu.arena_bytes}," in header
    assert set(re.findall(r"resolver\.Add(\w+)\(\)", header)) >= {"Conv2D", "Mul", "Logistic", "FullyConnected", "Mean"}
    assert header.count("resolver.Add") == len(set(mcu.ops))
    if shutil.which("cc"):  # firmware is C as often as C++
        user = path.with_name("user.c")
        user.write_text('#include "bugs_1.h"\nint first(void) { return bugs_1[0] + bugs_1_arena_bytes; }\n')
        subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", user], check=True)

    assert Artifact.load(path) == mcu
    with pytest.raises(FileExistsError, match=r"overwrite=True.*bugs-1\.tflite"):
        mcu.save(path)
    mcu.save(path, overwrite=True)
    with pytest.raises(ValueError, match=r"path must end in \.tflite"):
        mcu.save(tmp_path / "bugs")


def test_a_file_and_its_card_must_belong_together(mcu, tmp_path):
    path = mcu.save(tmp_path / "bugs.tflite")
    path.write_bytes(mcu.content[:-1])
    with pytest.raises(ExportError, match=r"not the file that its model card"):
        Artifact.load(path)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(
        ExportError, match=r"bugs\.json must be intact.*the field 'target' is missing.*export .*--overwrite"
    ):
        Artifact.load(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ["e", "d", "c", "b", "a"]}, r"the classes of found\.json and found\.labels\.txt differ"),
        ({"target": "<script>"}, "target must be one of"),
        ({"dtype": "<script>"}, "the field 'dtype' must be one of"),
        ({"io_dtype": "int4"}, "the field 'io_dtype' must be one of"),
        ({"model_sha256": "../../x"}, "the field 'model_sha256' must be a SHA-256 digest"),
        ({"input_ranges": [[1.0, 0.0]]}, r"must contain pairs \(low, high\)"),
        ({"input_ranges": [[0.0, float("nan")]]}, "must contain pairs|no number of JSON|NaN"),
        ({"input_ranges": ["<script>"]}, "must contain pairs"),
    ],
)
def test_a_card_with_other_values_is_refused_by_its_name(mcu, changes, words, tmp_path):
    path = mcu.save(tmp_path / "found.tflite")
    card = path.with_suffix(".json")
    card.write_text(json.dumps(json.loads(card.read_text()) | changes))
    with pytest.raises(ExportError, match=words) as raised:
        Artifact.load(path)
    assert "found.json must be intact" in str(raised.value)


def test_nothing_is_left_half_written(mcu, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match=r"disk full"):
        mcu.save(tmp_path / "bugs.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_verify_reports_each_runtime(mcu, quantized, held_out):
    images = held_out["deconv"]
    labels = predict(quantized["deconv"], images).argmax(-1)
    report = verify(mcu, quantized["deconv"], images, labels, runtimes=("tflite-micro", "litert-xnnpack"))
    assert [row.runtime for row in report.runtimes] == ["tflite-micro", "litert-xnnpack"]
    assert report.model_accuracy == 1.0
    assert all(row.accuracy is not None and row.accuracy >= 0.9 for row in report.runtimes)
    assert report.agreement == 1.0
    assert not report.degenerate
    assert json.loads(json.dumps(report.to_dict()))["runtimes"][0]["images"] == len(images)
    with pytest.raises(ValueError, match=r"labels must name a class for each image. Received: 3 labels, 48 images"):
        verify(mcu, quantized["deconv"], images, [1, 2, 3])
    with pytest.raises(ValueError, match=r"runtime must be one of 'litert-xnnpack'"):
        verify(mcu, quantized["deconv"], images, runtimes=["onnx"])
    with pytest.raises(ValueError, match=r"images must be an array \(N, 16, 16, 3\)"):
        verify(mcu, quantized["deconv"], images[:, 1:])


def test_verify_sees_a_wrong_model(mcu, held_out):
    other = network(**{**NETWORKS["deconv"], "seed": 7})
    report = verify(mcu, other, held_out["deconv"], runtimes=["litert-xnnpack"])
    assert report.mean_error_steps > 10
    assert report.agreement < 0.9


@pytest.mark.slow
def test_benchmark_measures(mcu):
    report = benchmark(mcu, runs=5, warmup=1)
    assert 0 < report.latency_ms["p50"] <= report.latency_ms["p90"]
    assert report.arena_bytes == mcu.arena_bytes
    assert report.size_bytes == mcu.size_bytes
    assert report.runs == 5
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()
    with pytest.raises(ValueError, match=r"at least 1.*runs=0"):
        benchmark(mcu, runs=0)


def test_a_file_too_far_from_the_model_is_not_returned(quantized, models, held_out):
    with pytest.raises(FidelityError, match=r"differs from the Keras model by \d+\.\d+ output steps.*tolerance is 0"):
        export(quantized["nearest"], "android-cpu", images=held_out["nearest"], error_bound_steps=0)


@pytest.mark.slow
def test_an_untrained_model_is_reported_so():
    keras.utils.set_random_seed(0)
    fresh = wm.WaveMixClassifier(3, (8, 8, 1), width=8, depth=1)
    fresh.get_layer("head").kernel.assign(np.zeros((8, 3)))
    with pytest.warns(UserWarning, match=r"untrained or degenerate"):
        artifact = export(fresh, "android-cpu")
    assert artifact.verification["images"] == "generated"
    assert artifact.verification["fidelity"]["degenerate"]


def test_an_op_that_the_target_lacks_is_named(held_out):
    inputs = keras.Input((16, 16, 3))
    x = keras.ops.sin(layers.Conv2D(4, 3)(inputs))
    model = randomise(keras.Model(inputs, layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(UnsupportedOpError, match=r"target 'android-cpu': op \d+ SIN.*is not supported"):
        export(model, "android-cpu", images=held_out["deconv"])


def test_ops_outside_the_built_in_ones_are_named_with_their_layer():
    class Sorted(layers.Layer):
        def call(self, x):
            return keras.ops.erfinv(x * 0.5)

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(Sorted()(inputs)))
    with pytest.raises(ExportError, match=r"no op for Erfinv \(layer 'sorted'\)"):
        export(model, "android-cpu")


def test_audit_checks_constraints_floats_and_unknown_sides(mcu):
    info = flatbuffer.read_file(mcu.content)
    row = TARGETS["mcu"]
    audit.audit(info, "mcu", row, "int8")
    op = next(op for op in info.ops if op.name == "MEAN")

    def with_op(**changes):
        return dataclasses.replace(info, ops=(dataclasses.replace(op, **changes),))

    axes = dataclasses.replace(op.inputs[1], constant=False)
    with pytest.raises(UnsupportedOpError, match=r"MEAN .*breaks its rule: constant axes"):
        audit.audit(with_op(inputs=(op.inputs[0], axes)), "mcu", row, "int8")
    wide = dataclasses.replace(op.inputs[0], dtype="float32")
    with pytest.raises(UnsupportedOpError, match=r"MEAN .*computes in float in an int8 file"):
        audit.audit(with_op(inputs=(wide, op.inputs[1])), "mcu", row, "int8")
    unknown = dataclasses.replace(op.inputs[0], shape=(-1, 16, 16, 8))
    with pytest.raises(UnsupportedOpError, match=r"MEAN .*unknown until run time"):
        audit.audit(with_op(inputs=(unknown, op.inputs[1])), "mcu", row, "int8")


def test_every_constraint_in_the_table_is_known():
    tables = [*(row.ops for row in TARGETS.values()), targets.INT8_RULES]
    named = {rule for table in tables for rules in table.values() for rule in rules}
    named |= {rule for row in TARGETS.values() for rule in row.every_op}
    assert named == set(constraints.CONSTRAINTS)
    assert all(source for _, source in constraints.CONSTRAINTS.values())
    assert set(targets.INT8_RULES) <= set(flatbuffer.OP_NAMES.values())
    for row in TARGETS.values():
        assert set(row.ops) <= set(flatbuffer.OP_NAMES.values())
        assert set(row.io_dtypes) == set(row.dtypes)
        assert row.source


@pytest.mark.parametrize("content", [b"", b"not a file at all", b"\x1c\x00\x00\x00TFL3" + b"\xff" * 40])
def test_what_is_not_a_file_is_reported_so(content):
    with pytest.raises(ExportError, match=r"TensorFlow Lite file"):
        flatbuffer.read_file(content)


@pytest.mark.slow
def test_wrong_options_name_the_right_ones(models, quantized):
    model = models["nearest"]
    for arguments, message in [
        (dict(target="phone"), "target must be one of 'android-cpu', 'android-gpu', 'android-npu'.*target='phone'"),
        (dict(target="mcu", dtype="float32"), "'mcu' supports dtype int8 or int16x8. Received: dtype='float32'"),
        (dict(target="mcu", dtype="int4"), "dtype must be one of 'float32'"),
        (dict(target="android-cpu", io_dtype="int8"), "A float32 file has float32 inputs and outputs.*io_dtype='int8'"),
        (dict(target="android-cpu", io_dtype="half"), "io_dtype must be one of"),
        (dict(target="android-cpu", images=np.zeros((2, 3, 3, 3), np.float32)), "images must be an array"),
        (dict(target="android-cpu", class_names=["a"]), "class_names must name each of the 5 outputs"),
        (dict(target="android-cpu", upsample_form="magic"), "upsample_form must be one of"),
    ]:
        with pytest.raises(ValueError, match=message):
            export(model, **arguments)
    with pytest.raises(ValueError, match=r"A model quantized as int8 exports as int8"):
        export(quantized["nearest"], "android-cpu", dtype="float32")


def test_export_is_quiet(models, held_out):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        export(models["nearest"], "android-cpu", images=held_out["nearest"])
