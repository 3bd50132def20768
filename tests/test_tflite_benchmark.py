"""``benchmark``: its counts against manual ones, its measurements against those of the runtimes."""

import json
import math

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers
from tflite_support import FILES, FLOAT, HELD_OUT, randomise
from tflite_support import export_random as export

from wavemix_tf.tflite import Artifact, benchmark
from wavemix_tf.tflite.file import flatbuffer
from wavemix_tf.tflite.file.op_costs import BYTE_PJ, MAC_PJ, count_costs, energy_proxy_uj
from wavemix_tf.tflite.measuring import latency
from wavemix_tf.tflite.runtimes.litert import make_interpreter


@pytest.fixture(scope="module")
def images():
    return HELD_OUT["deconv"][:32]


@pytest.fixture(scope="module")
def files():
    return {
        "mcu": FILES["deconv", "mcu", None],
        "int8": FILES["deconv", "android-cpu", None],
        "float16": FILES["deconv", "android-gpu", None],
    }


def macs(artifact, *ops):
    costs = count_costs(flatbuffer.read_file(artifact.content))
    return sum(cost.macs for cost in costs if not ops or cost.name in ops)


def test_macs_of_known_layers(images):
    """Each op that multiplies, with the product written out."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(inputs)  # 8x8
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Conv2DTranspose(4, 4, strides=2, padding="same")(x)  # 16x16
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    model = randomise(keras.Model(inputs, layers.Dense(10)(x)))
    artifact = export(model, "android-gpu", images=images)
    assert macs(artifact, "CONV_2D") == 8 * 8 * 8 * (3 * 3 * 3)
    assert macs(artifact, "DEPTHWISE_CONV_2D") == 8 * 8 * 8 * (3 * 3)
    assert macs(artifact, "TRANSPOSE_CONV") == 8 * 8 * 8 * (4 * 4 * 4)
    assert macs(artifact, "FULLY_CONNECTED") == 4 * 10
    assert macs(artifact) == 13824 + 4608 + 32768 + 40


def test_macs_of_the_upsampling_forms(files):
    """A transposed convolution written as a 2x2 convolution has the same products, but for the border it crops."""
    transposed = macs(files["float16"], "TRANSPOSE_CONV")
    assert transposed == 2 * 8 * 8 * 8 * 8 * 16
    same = macs(files["float16"]) - transposed
    assert macs(files["int8"]) == same + 2 * 9 * 9 * 8 * 32 * 4


def test_moved_bytes_and_energy(files):
    info = flatbuffer.read_file(files["int8"].content)
    costs = count_costs(info)
    op, cost = next((op, cost) for op, cost in zip(info.ops, costs, strict=True) if cost.name == "CONV_2D")
    _, height, width, channels = op.outputs[0].shape
    assert cost.moved_bytes == 16 * 16 * 3 + height * width * channels + 3 * 3 * 3 * channels + 4 * channels
    energy = energy_proxy_uj(costs, "int8")
    expected = sum(cost.macs for cost in costs) * 0.3 + sum(cost.moved_bytes for cost in costs) * 12.5
    assert energy == pytest.approx(expected / 1e6)
    assert energy_proxy_uj(costs, "float32") > energy
    assert energy_proxy_uj(costs, "int16") is None  # not in the table
    assert (MAC_PJ["int8"], MAC_PJ["float32"], BYTE_PJ) == (pytest.approx(0.3), pytest.approx(4.6), 12.5)


@pytest.mark.slow
def test_report(files):
    report = benchmark(files["int8"], runs=5, warmup=1, threads=2, profile=True)
    info = flatbuffer.read_file(files["int8"].content)
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()
    assert report.threads == 2
    for times in (report.latency_ms, report.single_thread_latency_ms):
        assert 0 < times["p50"] <= times["p90"]
    assert report.macs == macs(files["int8"])
    assert 0 < report.peak_share < 1
    assert report.gmacs_per_s == pytest.approx(report.macs / report.single_thread_latency_ms["p50"] / 1e6)
    assert 100_000 < report.memory_bytes < 100_000_000
    assert [op.name for op in report.ops] == [op.name for op in info.ops]
    assert all(op.time_us >= 0 for op in report.ops)
    assert "XNNPACK" in report.profiled


def test_what_is_not_asked_for_is_not_measured(files, monkeypatch):
    def never(*_, **__):
        raise AssertionError("measured")

    for name in ("peak_gmacs_per_s", "measure_memory", "op_times"):
        monkeypatch.setattr(latency, name, never)
    report = benchmark(files["int8"], runs=3, warmup=0, memory=False, peak=False)
    assert report.memory_bytes is report.peak_share is report.peak_gmacs_per_s is report.ops is report.profiled is None
    assert report.single_thread_latency_ms == report.latency_ms


@pytest.mark.parametrize("name", ["mcu", "float16"])
@pytest.mark.slow
def test_a_cut_computes_what_the_whole_file_does_there(name, files, images):
    """Every cut's output is that tensor of the whole file, both by the reference kernels: the same numbers."""
    content = files[name].content
    info = flatbuffer.read_file(content)
    inputs = flatbuffer.to_input(info.inputs[0], images[:1])
    whole = Interpreter(
        model_content=flatbuffer.for_reference_kernels(content),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    whole.allocate_tensors()
    whole.set_tensor(whole.get_input_details()[0]["index"], inputs)
    whole.invoke()
    for index, op in enumerate(info.ops):
        cut_content = latency.cut_after(content, index)
        read = flatbuffer.read_file(cut_content)
        assert [(o.name, o.inputs, o.outputs) for o in read.ops] == [
            (o.name, o.inputs, o.outputs) for o in info.ops[: index + 1]
        ]
        assert read.outputs == op.outputs
        cut = make_interpreter(cut_content, reference=True)
        cut.set_tensor(cut.get_input_details()[0]["index"], inputs)
        cut.invoke()
        end = cut.get_output_details()[0]["index"]
        np.testing.assert_array_equal(cut.get_tensor(end), whole.get_tensor(end))


def test_profile_adds_up_to_the_whole(files, images):
    content = files["float16"].content
    info = flatbuffer.read_file(content)
    inputs = flatbuffer.to_input(info.inputs[0], images[:1])
    ops = latency.op_times(content, info, count_costs(info), [inputs])
    whole = benchmark(files["float16"], runs=300, memory=False, peak=False).latency_ms["p50"]
    timed = [op.time_us for op in ops if op.time_us is not None]
    assert sum(timed) == pytest.approx(1e3 * whole, rel=0.5)  # a shared machine's clock; usually within 5 %
    unread = [op for op in ops if op.time_us is None]
    assert {op.name for op in unread} == {"DEQUANTIZE"}  # of constant weights
    slowest = max(ops, key=lambda op: op.time_us or 0)
    assert slowest.name == "TRANSPOSE_CONV"  # the bottleneck for which android-cpu has another form


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_the_peak_is_of_a_convolution_that_computes(dtype):
    content = latency.convolution(4, 8, dtype)
    (cost,) = count_costs(flatbuffer.read_file(content))
    assert (cost.name, cost.macs) == ("CONV_2D", 4 * 4 * 8 * 8)
    interpreter = make_interpreter(content)
    x = np.random.default_rng(1).integers(-100, 100, (1, 4, 4, 8)).astype(dtype)
    interpreter.set_tensor(0, x)
    interpreter.invoke()
    details = {row["name"]: row["index"] for row in interpreter.get_tensor_details()}
    weights = interpreter.get_tensor(details["weights"]).astype(np.float64)
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = np.einsum("bhwc,fijc->bhwf", x.astype(np.float64), weights)
    if dtype == "int8":
        expected = np.clip(np.round(expected * 0.02 * 0.01), -128, 127)
        assert np.abs(y - expected).max() <= 1
    else:
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-3)
    assert latency.peak_gmacs_per_s(dtype) > 1


def test_memory_grows_with_the_network(images):
    small = FLOAT["deconv"]
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(256, 5, padding="same")(layers.Conv2D(256, 3, padding="same")(inputs))
    large = randomise(keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x))))
    needs = []
    for model in (small, large):
        content = export(model, "android-cpu", images=images).content
        needs.append(latency.measure_memory(content, images[:1]))
    if None in needs:
        pytest.skip("the system does not tell a process's largest resident memory")
    weights_bytes = 4 * math.prod(large.layers[2].kernel.shape)
    assert needs[1] - needs[0] > weights_bytes  # XNNPACK copies the weights when it packs them


@pytest.mark.slow
def test_an_artifact_from_disk_is_as_good(files, tmp_path):
    path = files["mcu"].save(tmp_path / "mcu.tflite")
    report = benchmark(Artifact.load(path), runs=3, memory=False, peak=False)
    assert report.arena_bytes == files["mcu"].arena_bytes
