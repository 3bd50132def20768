"""Files for a microcontroller avoid ops that Arm's kernels compute wrongly, and the arena has their buffers."""

import csv
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from tflite_support import randomise

import wavemix_tf as wm
from wavemix_tf.command.budgets import flash_note, parse_budget
from wavemix_tf.tflite import TARGETS, DeviceCosts, MemoryLimitError, UnsupportedOpError, export, quantize
from wavemix_tf.tflite.file.flatbuffer import read_file, schema, strip_names
from wavemix_tf.tflite.graph.graph import Graph
from wavemix_tf.tflite.graph.inputs import generated_images, predict
from wavemix_tf.tflite.graph.lowering import deploy
from wavemix_tf.tflite.graph.passes.write_transposed import UPSAMPLE_FORMS, write_transposed
from wavemix_tf.tflite.kit.firmware_files import transposed_words
from wavemix_tf.tflite.measuring.candidate import measure
from wavemix_tf.tflite.names import CMSIS_NN, KERNELS, REFERENCE_KERNELS
from wavemix_tf.tflite.runtimes import microcontroller
from wavemix_tf.tflite.runtimes.arena import arena_use
from wavemix_tf.tflite.runtimes.converter import convert
from wavemix_tf.tflite.runtimes.microcontroller import resolver_name, run_micro
from wavemix_tf.tflite.targets import cmsis_nn
from wavemix_tf.tflite.targets.firmware import runtime_bytes, runtime_words

FIXTURES = Path(__file__).parent / "fixtures"
pytestmark = [
    pytest.mark.filterwarnings("ignore:The outputs of model:UserWarning"),
    pytest.mark.filterwarnings("ignore:The file has an SNR:UserWarning"),  # of random weights
]


def decoder(channels, kernel, stride, shape=(6, 5, 3), filters=4, **options):
    inputs = keras.Input(shape)
    x = layers.Conv2D(channels, 3, padding="same", activation="relu")(inputs)
    x = layers.Conv2DTranspose(filters, kernel, strides=stride, **options)(x)
    return randomise(keras.Model(inputs, x, name="decoder"))


def rounded(model):
    return quantize(model, generated_images(model.input_shape[1:], 32), rounding="nearest")


def transposed_of(content):
    return [cmsis_nn.transposed(op) for op in read_file(content).ops if op.name == "TRANSPOSE_CONV"]


# --- wrong results ----------------------------------------------------------------------------------------------------


def test_the_rule_is_what_the_kernel_computed():
    with (FIXTURES / "cmsis_transpose_conv.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    judged = {0: 0, 1: 0}
    for row in rows:
        one = {name: int(value) for name, value in row.items()}
        kernel, stride, source, result = (
            (one[f"{name}_h"], one[f"{name}_w"]) for name in ("kernel", "stride", "source", "result")
        )
        figures = cmsis_nn.Transposed(
            kernel, stride, source, result, bool(one["same"]), one["channels"], one["filters"]
        )
        assert figures.matches_reference == (not one["wrong"]), row
        judged[one["wrong"]] += 1
    assert min(judged.values()) > 250


@pytest.mark.parametrize("form", UPSAMPLE_FORMS)
@pytest.mark.parametrize(
    "options",
    [
        dict(kernel=(4, 4), stride=(2, 2), padding="same"),
        dict(kernel=(3, 5), stride=(3, 3), padding="same"),
        dict(kernel=(2, 1), stride=(3, 3), padding="same"),
        dict(kernel=(5, 3), stride=(2, 2), padding="valid"),
        dict(kernel=(5, 2), stride=(1, 1), padding="same"),
        dict(kernel=(3, 3), stride=(1, 1), padding="valid"),
        dict(kernel=(4, 3), stride=(2, 3), padding="same"),
        dict(kernel=(1, 2), stride=(1, 3), padding="valid"),
        dict(kernel=(3, 3), stride=(2, 2), padding="same", output_padding=0),
        dict(kernel=(5, 5), stride=(4, 4), padding="same", output_padding=3),
        dict(kernel=(2, 2), stride=(3, 3), padding="valid", output_padding=2),
    ],
    ids=str,
)
def test_forms_are_the_same_function(form, options):
    model = decoder(5, shape=(4, 3, 2), **options)
    graph = Graph.from_model(model)
    write_transposed(graph, form)
    images = generated_images((4, 3, 2), 3)
    expected = predict(model, images)
    found = predict(graph.to_model("lowered"), images)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("options", "form"),
    [
        (dict(channels=16, kernel=4, stride=2, padding="same"), "subpixel_crop"),  # WaveMix's
        (dict(channels=24, kernel=8, stride=4, padding="same"), "subpixel_crop"),  # strides above 2: any channels
        (dict(channels=8, kernel=(4, 3), stride=(2, 1), padding="same"), "transposed_crop"),  # not square
        (dict(channels=8, kernel=(1, 1), stride=(1, 2), padding="valid"), "transposed_crop"),  # too short a buffer
        (dict(channels=6, kernel=5, stride=1, shape=(1, 6, 3), padding="same"), "subpixel_crop"),  # rows never written
    ],
    ids=str,
)
def test_decoders_ship_without_what_arm_gets_wrong(options, form):
    model = rounded(decoder(**options))
    artifact = export(model, "mcu")
    assert artifact.upsample_form == form
    assert all(one.matches_reference for one in transposed_of(artifact.content))
    assert artifact.verification["fidelity"]["mean_error_steps"] <= 1.0
    with pytest.raises(UnsupportedOpError, match=r"TRANSPOSE_CONV \(.*CMSIS-NN.*upsample_form.*issue 230") as refused:
        export(model, "mcu", upsample_form="transposed_conv")
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_what_arm_gets_right_may_stay():
    for options in (
        dict(channels=17, kernel=4, stride=2, padding="same"),
        dict(channels=4, kernel=2, stride=2, padding="same"),
        dict(channels=4, kernel=3, stride=2, padding="valid"),
    ):
        artifact = export(rounded(decoder(**options)), "mcu", upsample_form="transposed_conv")
        assert transposed_of(artifact.content)[0].matches_reference
    # 16-bit activations and float run by the reference kernels.
    wide = export(decoder(4, 4, 2, padding="same"), "mcu", "int16x8", calibration=generated_images((6, 5, 3), 32))
    assert wide.ops.count("TRANSPOSE_CONV") == 1
    assert "was checked" in transposed_words(artifact)
    assert "runs on the reference kernels" in transposed_words(wide)


def test_costs_of_a_network_are_those_of_a_form_that_is_right():
    model = wm.WaveMixClassifier(4, (8, 8, 1), width=4, depth=1)
    with DeviceCosts("mcu") as costs:
        found, bounds = costs(model), costs.bounds(model)
    options = dict(calibration=generated_images((8, 8, 1), 64), error_bound_steps=99, allow_unjudged=True)
    artifact = export(randomise(model), "mcu", min_snr_db=-99, **options)
    assert artifact.upsample_form == "subpixel_crop"
    assert found["arena_bytes"] == artifact.arena_bytes
    for name, (low, high) in bounds.items():
        assert low <= found[name] <= high


# --- the arena --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_arena_is_enough_for_arms_kernels():
    """Of a map of one pixel the reversed filters are the most; of the reference kernels the accumulators."""
    model = rounded(decoder(40, 4, 2, shape=(1, 1, 3), filters=24, padding="same"))
    artifact = export(model, "mcu", upsample_form="transposed_conv")
    arenas = artifact.kernel_arena_bytes
    assert artifact.arena_bytes == max(arenas.values()) == arenas["cmsis-nn"]
    reversed_filters, columns = 4 * 4 * 40 * 24, 4 * 4 * 4 * 40
    accumulators = 4 * 2 * 2 * 24
    assert arenas["cmsis-nn"] - arenas["reference"] == pytest.approx(reversed_filters + columns - accumulators, abs=256)
    assert f"arena_bytes = {artifact.arena_bytes}," in artifact.files("m.tflite")[Path("m.h")].decode()
    large = export(rounded(decoder(20, 4, 2, shape=(8, 8, 3), padding="same")), "mcu", upsample_form="transposed_conv")
    assert large.arena_bytes == large.kernel_arena_bytes["reference"] > large.kernel_arena_bytes["cmsis-nn"]


def test_the_planner_is_tflite_micros(monkeypatch):
    """Bytes that its own planner laid out, which its interpreter tells when it is asked."""
    said = []
    new_process = microcontroller.new_process_runner

    def listening(tool):
        run = new_process(tool)

        def wrapped(arguments, timeout_s):
            done = run(arguments, timeout_s)
            said.append(done.stderr)
            return done

        return wrapped

    monkeypatch.setattr(microcontroller, "new_process_runner", listening)
    model = rounded(wm.WaveMixClassifier(4, (16, 16, 3), width=8, depth=2, levels=2))
    for form in ("transposed_conv", "subpixel_crop"):
        content = convert(deploy(model, {"gelu": "quick_gelu"}, form), "int8", "int8")
        info = read_file(content)
        run_micro(content, [np.zeros((1, 16, 16, 3), np.int8)])
        head = int(re.search(r"Arena allocation head (\d+)", said[-1]).group(1))
        assert arena_use(info).planned_bytes == head


# --- linked ops -------------------------------------------------------------------------------------------------------


def test_every_op_has_its_method_in_tflite_micros_resolver():
    methods = set((FIXTURES / "tflm_resolver_methods.txt").read_text().split())
    assert len(methods) == 120
    for op in TARGETS["mcu"].ops:
        assert f"Add{resolver_name(op)}" in methods, op
        assert resolver_name(op).lower() == op.replace("_", "").lower()  # no other op's


def test_inner_tensors_have_names_that_are_empty():
    model = rounded(decoder(17, 4, 2, padding="same"))
    content = convert(deploy(model, {}, "transposed_conv"), "int8", "int8")
    stripped = strip_names(content)
    graph = schema.Model.GetRootAsModel(stripped, 0).Subgraphs(0)
    names = [graph.Tensors(index).Name() for index in range(graph.TensorsLength())]
    assert None not in names
    assert sum(name != b"" for name in names) == 2
    assert len(stripped) < len(content)


# --- tolerance of a device --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def attention():
    inputs = keras.Input((4, 4, 3))
    x = layers.Reshape((16, 8))(layers.Conv2D(8, 3, padding="same")(inputs))
    x = layers.Dense(5)(layers.GlobalAveragePooling1D()(x))
    return rounded(randomise(keras.Model(inputs, layers.Softmax()(x), name="attention")))


@pytest.mark.parametrize(
    ("target", "steps", "words"),
    [
        ("mcu", 2, r"2 steps at most: kernels of SOFTMAX differ"),
        ("android-cpu", 2, r"2 steps at most: kernels of SOFTMAX differ"),
        ("android-npu", 12, r"12 steps at most, and 4 on average: .*SOFTMAX.*NPUs round products twice"),
        ("ethos-u55", 12, r"NPUs round products twice"),
    ],
)
@pytest.mark.slow
def test_a_kit_states_its_tolerance(target, steps, words, attention, tmp_path):
    artifact = export(attention, target)
    kit = artifact.save_kit(tmp_path / "kit")
    card = json.loads(next(kit.glob("test_vectors/*/vectors.json")).read_text())
    assert card["tolerance"]["largest_steps"] == steps
    assert card["compare"] == "integers, within the tolerance"
    for file in ("README.md", "MODEL_CARD.md"):
        text = (kit / file).read_text()
        assert re.search(words, text), file
        assert "compare bit by bit" not in text
    tried = "no entry of that list was tried" if target == "android-npu" else "each entry of that list was run"
    assert tried in text
    if target == "mcu":
        main = (kit / "micro" / "main.cc").read_text()
        assert f"const int limit = {steps};" in main
        assert "bit by bit" not in main


def test_other_integers_are_compared_bit_by_bit(tmp_path):
    artifact = export(rounded(decoder(17, 4, 2, padding="same")), "mcu")
    kit = artifact.save_kit(tmp_path / "kit")
    card = json.loads(next(kit.glob("test_vectors/*/vectors.json")).read_text())
    assert card["tolerance"] == {"largest_steps": 0, "mean_steps": None, "reasons": []}
    assert "const int limit = 0;" in (kit / "micro" / "main.cc").read_text()
    readme, model_card = ((kit / file).read_text() for file in ("README.md", "MODEL_CARD.md"))
    assert "compare bit by bit" in readme
    assert "issue 230" in readme
    for text in (readme, model_card):
        assert f"{artifact.size_bytes:,} bytes for the file only" in text
        assert f"adds about {runtime_words(artifact.ops)}. Estimated from the ops" in text


@pytest.mark.slow
def test_an_ethos_kit_names_the_compiled_file(attention, tmp_path):
    artifact = export(attention, "ethos-u55", accelerator="ethos-u55-64")
    kit = artifact.save_kit(tmp_path / "kit", name="cats")
    for file in ("README.md", "MODEL_CARD.md"):
        text = (kit / file).read_text()
        assert "cats_vela.tflite" in text
        assert "ethos-u55-64" in text
        assert artifact.npu.compiler in text
    assert (kit / "cats_vela.tflite").read_bytes() == artifact.npu.content


# --- flash and firmware -----------------------------------------------------------------------------------------------


def test_firmware_is_the_file_and_its_program(attention):
    assert parse_budget("mcu:256KB-firmware,64KB-ram") == ("mcu", {"firmware_bytes": 262144.0, "arena_bytes": 65536.0})
    assert parse_budget("mcu:1MB-firmware-reference") == ("mcu", {"firmware_reference_bytes": 1048576.0})
    assert "for ADD, CONV_2D, FULLY_CONNECTED, LOGISTIC, MEAN, MUL 5" in flash_note(*parse_budget("mcu:100KB-flash"))
    assert "the compiled file only" in flash_note(*parse_budget("ethos-u55:100KB-flash"))
    assert flash_note(*parse_budget("mcu:256KB-firmware")) is None
    with pytest.raises(ValueError, match=r"for target ethos-u55 takes the kinds .*not 'firmware'"):
        parse_budget("ethos-u55:1MB-firmware")
    artifact = export(attention, "mcu")
    size = artifact.size_bytes
    sizes = {kernels: runtime_bytes(artifact.ops, kernels) for kernels in KERNELS}
    assert artifact.firmware_bytes == {
        kernels: (size + release, size + most) for kernels, (release, most) in sizes.items()
    }
    most = size + sizes[CMSIS_NN][1]
    assert export(attention, "mcu", max_firmware_bytes=most) == artifact
    with pytest.raises(
        MemoryLimitError, match=rf"Firmware .* takes {most:,} bytes .*with CMSIS-NN .*, {size:,} of them for the file"
    ):
        export(attention, "mcu", max_firmware_bytes=most - 1)
    with pytest.raises(ValueError, match="max_firmware_bytes applies to mcu"):
        export(attention, "android-cpu", max_firmware_bytes=10**6)


def test_a_search_may_limit_firmware():
    model = wm.WaveMixClassifier(4, (8, 8, 1), width=4, depth=1)
    names = ("flash_bytes", "firmware_bytes", "firmware_reference_bytes")
    with DeviceCosts("mcu", names) as costs:
        found, bounds = costs(model), costs.bounds(model)
    ops = [op.name for op in read_file(measure(model, "mcu")[1]).ops]
    assert found["firmware_bytes"] == found["flash_bytes"] + runtime_bytes(ops, CMSIS_NN)[1]
    assert found["firmware_reference_bytes"] == found["flash_bytes"] + runtime_bytes(ops, REFERENCE_KERNELS)[1]
    for name, (low, high) in bounds.items():
        assert low <= found[name] <= high
