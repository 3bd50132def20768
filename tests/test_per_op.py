"""Costs by op, the memory plan over time, their pictures, and the node data for Model Explorer."""

import dataclasses
import importlib.util
import json
import re
import xml.etree.ElementTree as ET

import keras
import pytest
from keras import layers
from tflite_support import export_random as export
from tflite_support import randomise

import wavemix_tf as wm
from wavemix_tf.command import op_pictures
from wavemix_tf.command.pages import op_sections
from wavemix_tf.command.pages.terminal_tables import plan_text
from wavemix_tf.tflite.c_source.instruction_count import estimate_instructions, instructions_by_op
from wavemix_tf.tflite.file.arena_plan import (
    FEATURE_MAP,
    INPUT_OP,
    SCRATCH,
    WEIGHTS,
    MemoryPlan,
    greedy_offsets,
    plan_file,
)
from wavemix_tf.tflite.file.flatbuffer import FileInfo, OpInfo, TensorInfo, read_file
from wavemix_tf.tflite.file.layer_names import layer_of, op_layers, user_layer
from wavemix_tf.tflite.graph.inputs import generated_images
from wavemix_tf.tflite.names import CMSIS_NN
from wavemix_tf.tflite.per_op.layer_costs import OpReport, op_report
from wavemix_tf.tflite.runtimes import vela_output
from wavemix_tf.tflite.targets.cmsis_nn import HELIUM
from wavemix_tf.tflite.targets.kernel_memory import kernel_memory

SVG = "{http://www.w3.org/2000/svg}"
ODD = "conv '\"<&>\n\x07 \u00fc\u4e2d"  # in a name


@pytest.fixture(scope="module")
def images():
    return generated_images((16, 16, 3), 64, seed=3)


@pytest.fixture(scope="module")
def model():
    inner_input = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="conv_1")(inner_input)
    x = layers.BatchNormalization(name="norm")(layers.DepthwiseConv2D(3, padding="same", name="deep")(x))
    inner = keras.Model(inner_input, x, name="backbone")
    inputs = keras.Input((16, 16, 3))
    x = layers.ReLU(6.0, name="clip")(layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(inputs))
    x = inner(x)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.add([x, x], name="twice"))
    return randomise(keras.Model(inputs, layers.Dense(3, name="logits")(x), name="net"))


@pytest.fixture(scope="module")
def quantized(model, images):
    return wm.tflite.quantize(model, images)


@pytest.fixture(scope="module")
def micro(quantized, images):
    return export(quantized, "mcu", images=images)


@pytest.fixture(scope="module")
def program(quantized, images):
    return export(quantized, "c", images=images)


@pytest.fixture(scope="module")
def ethos(quantized, images):
    pytest.importorskip("ethosu.vela")
    return export(quantized, "ethos-u55", images=images, accelerator="ethos-u55-128")


def clashes(plan):
    """Pairs of buffers that are taken at the same time and share memory."""
    found = plan.placements
    return [
        (a, b)
        for index, a in enumerate(found)
        for b in found[:index]
        if a.first <= b.last and b.first <= a.last and a.offset < b.end and b.offset < a.end
    ]


# --- the plan ---------------------------------------------------------------------------------------------------------


def chain(sizes, read_again=()):
    """A file of ops in a row with feature maps of these bytes; ``read_again``: (op, earlier map)."""
    maps = [TensorInfo(f"t{i}", (1, size), "int8", 1.0, 0, 1, False) for i, size in enumerate(sizes)]
    again = dict(read_again)
    ops = tuple(
        OpInfo("ADD", (maps[i], *((maps[again[i]],) if i in again else ())), (maps[i + 1],), None)
        for i in range(len(maps) - 1)
    )
    return FileInfo((maps[0],), (maps[-1],), ops, tensors=tuple(maps))


def test_a_plan_of_a_chain_by_hand():
    plan = plan_file(chain([32, 64, 16, 48]), alignment_bytes=16)
    # The largest, t1, first; t3 never lives with it; t2 meets both; t0 meets t1 only.
    assert [(p.op, p.offset, p.size, p.first, p.last) for p in plan.placements] == [
        (INPUT_OP, 64, 32, 0, 0),
        (0, 0, 64, 0, 1),
        (1, 64, 16, 1, 2),
        (2, 0, 48, 2, 2),
    ]
    assert plan.arena_bytes == 96
    assert plan.live_bytes == (96, 80, 64)
    assert plan.high_bytes == (96, 80, 80)
    assert plan.peak_step == 0


def test_of_equal_buffers_the_last_requested_is_placed_first():
    """As TensorFlow Lite Micro's planner, which fills its list from the end: t2 gets the lowest place."""
    plan = plan_file(chain([16, 16, 16], [(1, 0)]), alignment_bytes=16)
    assert [p.offset for p in plan.placements] == [32, 16, 0]


def test_a_map_lives_until_its_last_reader_and_an_output_to_the_end():
    info = chain([16, 16, 16, 16, 16], [(3, 1)])
    plan = plan_file(dataclasses.replace(info, outputs=(*info.outputs, info.ops[1].outputs[0])))
    assert [(p.first, p.last) for p in plan.placements] == [(0, 0), (0, 3), (1, 3), (2, 3), (3, 3)]


def test_scratch_memory_is_taken_during_its_op_alone():
    plan = plan_file(chain([16, 16, 16]), lambda op: (40,) if op.outputs[0].name == "t2" else ())
    (scratch,) = [p for p in plan.placements if p.kind == SCRATCH]
    assert (scratch.size, scratch.first, scratch.last, scratch.op) == (48, 1, 1, 1)
    assert clashes(plan) == []


def test_buffers_are_placed_in_the_first_gap_that_is_large_enough():
    assert greedy_offsets([(64, 0, 9), (32, 0, 1), (32, 2, 9), (16, 1, 2), (8, 5, 6)]) == [0, 64, 64, 96, 96]
    assert greedy_offsets([(32, 0, 9), (32, 0, 1), (16, 0, 9), (32, 5, 6)]) == [0, 32, 64, 32]  # just large enough


@pytest.mark.slow
def test_plans_of_files(micro, program):
    for plan in (
        plan_file(read_file(micro.content), lambda op: kernel_memory(op, CMSIS_NN, HELIUM).scratch),
        op_report(micro).plan,
        op_report(program).plan,
    ):
        assert clashes(plan) == []
        assert len(plan.placements) > 4
        assert max(p.end for p in plan.placements) == plan.arena_bytes == max(plan.high_bytes)
        assert max(plan.live_bytes) <= plan.arena_bytes
        again = MemoryPlan.from_dict(json.loads(json.dumps(plan.to_dict())))
        assert again.to_dict() == plan.to_dict()


# --- names of layers --------------------------------------------------------------------------------------------------


def test_the_layer_of_a_path():
    layers_of = {"conv", "conv_1", "block1_expand1"}
    assert layer_of("deployed_1/block1_expand1_1/BiasAdd", layers_of) == "block1_expand1"
    assert layer_of("deployed_1/conv_1_1/convolution", layers_of) == "conv_1"
    assert layer_of("deployed_1/conv_7/convolution", layers_of) == "conv"
    assert layer_of("deployed_1/other/Mul", layers_of) is None


def test_one_name_for_a_layer_and_its_owners():
    assert user_layer(("stem",)) == "stem"
    assert user_layer(("block1", "block1_reduce")) == "block1_reduce"
    assert user_layer(("backbone", "block1", "block1_reduce")) == "backbone/block1_reduce"


def test_a_convolution_is_named_after_its_weights_not_after_the_activation_behind_it():
    names = ("x", "net/conv/convolution", "net/relu/Relu;net/conv/BiasAdd")
    x, weights, y = (TensorInfo(n, (1, 2, 2, 4), "float32", 0, 0, 0, n == names[1]) for n in names)
    info = FileInfo((x,), (y,), (OpInfo("CONV_2D", (x, weights), (y,), None), OpInfo("ABS", (x,), (y,), None)))
    assert op_layers(info, {"conv": "conv", "relu": "relu"}) == ("conv", "relu")


@pytest.mark.slow
def test_ops_have_the_names_of_the_users_layers(model, micro, images):
    float_file = export(model, "android-cpu", dtype="float32", images=images)
    expected = ("stem", "backbone/conv_1", "backbone/deep", "twice", "pool", "logits")
    assert float_file.op_layers == expected
    assert {"stem", "conv_1", "deep", "twice", "pool", "logits"} == set(micro.op_layers)
    assert len(micro.op_layers) == len(micro.ops)
    assert not any(name.count("deep") for name in (t.name for t in read_file(micro.content).ops[0].outputs))  # stripped


@pytest.mark.slow
def test_the_names_are_kept_beside_the_file(micro, tmp_path):
    path = micro.save(tmp_path / "net.tflite")
    assert wm.tflite.Artifact.load(path).op_layers == micro.op_layers
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "op_layers": [1]}))
    with pytest.raises(wm.tflite.ExportError, match="'op_layers' must be a list of strings"):
        wm.tflite.Artifact.load(path)
    del card["op_layers"]  # as earlier versions wrote it
    path.with_suffix(".json").write_text(json.dumps(card))
    old = wm.tflite.Artifact.load(path)
    assert old.op_layers == ()
    assert op_report(old).layers[0].layer == "CONV_2D 0"


# --- the report -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_measure_is_the_best_that_exists(micro, ethos):
    phone = dataclasses.replace(micro, target="android-cpu")
    counted = op_report(phone)
    assert counted.measure == "macs"
    assert {row.instructions for row in counted.rows} == {None}
    assert sum(row.macs for row in counted.rows) == sum(layer.value for layer in counted.layers)
    assert sum(layer.share for layer in counted.layers) == pytest.approx(1)
    timed = op_report(phone, [None, *range(1, len(micro.ops))])
    assert timed.measure == "time_us"
    assert op_report(micro, [1.0] * len(micro.ops)).measure == "instructions"  # this machine's times say nothing
    assert timed.layers[0].value == 0
    assert op_report(ethos, [1.0] * len(ethos.ops)).measure == "cycles"
    with pytest.raises(ValueError, match=rf"each of the {len(micro.ops)} ops. Received: 1 values"):
        op_report(micro, [1.0])


@pytest.mark.slow
def test_cycles_and_sram_of_an_npu_are_velas(ethos, tmp_path):
    npu, found = ethos.npu, op_report(ethos)
    assert sum(row.cycles for row in found.rows) == npu.cycles > 0
    assert found.plan.arena_bytes == npu.sram_bytes
    assert clashes(found.plan) == []
    assert {p.kind for p in found.plan.placements} == {FEATURE_MAP, WEIGHTS}
    assert max(npu.op_sram_bytes) <= npu.sram_bytes
    assert max(row.live_bytes for row in found.rows) == max(found.plan.live_bytes)
    convolution = max(found.rows, key=lambda row: row.macs)
    assert convolution.cycles > found.rows[-1].cycles  # not under the name of another op
    loaded = wm.tflite.Artifact.load(ethos.save(tmp_path / "net.tflite"))
    assert loaded.npu == ethos.npu or op_report(loaded).to_dict() == found.to_dict()


@pytest.mark.slow
def test_instructions_are_those_of_the_estimate_and_name_their_core(micro, program):
    for artifact, runtime, words in ((micro, "cmsis-nn", "Cortex-M4 with CMSIS-NN"), (program, "c", "program in C")):
        info, found = read_file(artifact.content), op_report(artifact)
        assert [row.instructions for row in found.rows] == instructions_by_op(info, "cortex-m4", runtime)
        assert sum(layer.value for layer in found.layers) == estimate_instructions(info, "cortex-m4", runtime)
        assert words in found.measured
        assert "estimate" in found.measured
        data = found.node_data()["instructions"]["main"]
        assert data["name"] == found.measured
        assert {int(key): entry["value"] for key, entry in data["results"].items()} == {
            row.index: row.instructions for row in found.rows
        }
        assert "instructions" in found.costs_svg()


@pytest.mark.slow
def test_a_report_survives_json(program):
    found = op_report(program)
    again = OpReport.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.to_dict() == found.to_dict()
    assert again.plan_svg() == found.plan_svg()
    assert found.peak.title in {layer.layer for layer in found.layers}


# --- what Vela says ---------------------------------------------------------------------------------------------------

HEAD = "Original Operator,NNG Operator,Target,Staging Usage,Op Cycles,Name"


def vela_file():
    names = ("in", "a/conv", "b/act", "c/mean")
    maps = [TensorInfo(n, (1, 4, 4, 2), "int8", 1.0, 0, 1, False) for i, n in enumerate(names)]
    kinds = ("CONV_2D", "LOGISTIC", "MEAN")
    return FileInfo(
        (maps[0],), (maps[3],), tuple(OpInfo(k, (maps[i],), (maps[i + 1],), None) for i, k in enumerate(kinds))
    )


def test_a_pass_belongs_to_the_op_that_it_computes():
    """A convolution that was fused with an activation is named after it; a mean takes two passes."""
    rows = ["Conv2D,Conv2D,NPU,96,70,b/act", "Sigmoid,LUT,NPU,0,0,b/act"]
    rows += ["Mean,DepthwiseConv2D,NPU,64,20,c/mean_intermediate", "Mean,Mul,NPU,32,5,c/mean"]
    passes = vela_output.read_passes([HEAD, *rows], vela_file())
    assert [(one.op, one.cycles, one.fused) for one in passes] == [
        (0, 70, False),
        (1, 0, True),
        (2, 20, False),
        (2, 5, False),
    ]
    assert vela_output.by_op(passes, 3) == ((70, 0, 25), (96, 0, 64))
    assert vela_output.read_passes([HEAD, "Conv2D,Conv2D,NPU,96,70,unknown"], vela_file()) == ()


def test_a_plan_that_is_not_of_the_stated_size_is_not_shown():
    passes = (vela_output.NpuPass(0, 70, 96, False), vela_output.NpuPass(2, 20, 64, False))
    text = """
Allocation, memory Sram, usage mask: FeatureMap|Staging
Start Time - End Time  : Start Addr -   End Addr: Tensor Size: Memory Usage: Format         : Name
         0 -          1:        0x0 -       0x20:          32:          96: NHWC           : in
         0 -          3:       0x20 -       0x40:          32:          96: NHWC           : b/act
         1 -          3:       0x40 -       0x60:          32:          96: Unknown        : WB_single_32_op1
         2 -          5:        0x0 -       0x20:          32:          96: NHWC           : c/mean
Allocation Peak Tensor Size: 96 bytes == 0.09 KiB
"""
    plan = vela_output.read_plan(text, passes, vela_file(), 96)
    assert [(p.op, p.kind, p.offset, p.size, p.first, p.last) for p in plan.placements] == [
        (INPUT_OP, FEATURE_MAP, 0, 32, 0, 0),
        (1, FEATURE_MAP, 32, 32, 0, 1),
        (2, WEIGHTS, 64, 32, 0, 1),
        (2, FEATURE_MAP, 0, 32, 1, 1),
    ]
    assert plan.step_ops == (0, 2)
    assert vela_output.read_plan(text, passes, vela_file(), 97) is None
    assert vela_output.read_plan(text.replace("Sram", "Dram"), passes, vela_file(), 96) is None


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawn():
    """A report by hand, whose layers have names that must be escaped."""
    plan = plan_file(chain([32, 64, 16, 48]), lambda op: (16,) if op.outputs[0].name == "t1" else ())
    values = {
        "target": "mcu",
        "measure": "macs",
        "measured": "counted <here>",
        "planned": "a <plan>",
        "plan": plan.to_dict(),
    }
    row = {"op": "ADD", "shape": [1, 8], "moved_bytes": 8, "live_bytes": 64, "cycles": None, "time_us": None}
    rows = [{**row, "index": i, "layer": name, "macs": i * 1000 + 1000} for i, name in enumerate((ODD, "b", ""))]
    return OpReport.from_dict({**values, "rows": rows})


def blocks(svg):
    """The rectangles with a description: (x, y, width, height, description)."""
    root = ET.fromstring(svg)
    found = []
    for rect in root.iter(f"{SVG}rect"):
        title = rect.find(f"{SVG}title")
        if title is not None:
            found.append((*(float(rect.get(key)) for key in ("x", "y", "width", "height")), title.text))
    return found


def test_the_picture_of_a_plan_has_a_block_for_each_buffer(drawn):
    found = blocks(drawn.plan_svg())
    assert len(found) == len(drawn.plan.placements) == 5
    areas = sorted(width * height for _, _, width, height, _ in found)
    taken = sorted(p.size * (p.last - p.first + 1) for p in drawn.plan.placements)
    assert [area / areas[-1] for area in areas] == pytest.approx([part / taken[-1] for part in taken], rel=0.02)
    left, right = min(x for x, *_ in found), max(x + width for x, _, width, *_ in found)
    assert (left, right) == (pytest.approx(56), pytest.approx(366, abs=0.1))
    scale = (222 - 46) / drawn.plan.arena_bytes  # from the lower edge of the plot to the upper one
    for (_, y, _, height, _), one in zip(found, drawn.plan.placements, strict=True):
        assert (y, y + height) == pytest.approx((222 - one.end * scale, 222 - one.offset * scale), abs=0.02)
    for index, a in enumerate(found):  # as in the plan, no two overlap
        for b in found[:index]:
            apart = a[0] + a[2] <= b[0] + 0.02 or b[0] + b[2] <= a[0] + 0.02
            assert apart or a[1] + a[3] <= b[1] + 0.02 or b[1] + b[3] <= a[1] + 0.02
    assert "ADD, b: 16 bytes at 64, ops 1 to 2" in " ".join(text for *_, text in found)


def test_the_picture_names_the_peak_by_its_op(drawn):
    """As the terminal and READMEs do, also where a program in C merges ops, so that a step has another number."""
    assert "KiB in op 0, " in drawn.plan_svg()
    merged = dataclasses.replace(drawn, plan=dataclasses.replace(drawn.plan, step_ops=(1, 2, 2)))
    assert merged.peak.index == 1
    assert "KiB in op 1 (step 0), b" in merged.plan_svg()
    assert f"in op {merged.peak.index}, b." in plan_text(merged)
    rows = tuple(dataclasses.replace(row, index=10**12 + row.index, layer="long" * 9) for row in merged.rows)
    (line,) = re.findall(">(peak: [^<]*)<", dataclasses.replace(merged, rows=rows).plan_svg())
    assert line == f"peak: {' of '.join(line.split()[1:4:2])} KiB in op {rows[1].index} (step 0)"  # no room for a name


@pytest.mark.parametrize("picture", ["plan_svg", "costs_svg"])
def test_pictures_escape_names_and_follow_the_theme(drawn, picture):
    for standalone in (True, False):
        text = getattr(drawn, picture)(standalone)
        root = ET.fromstring(text)  # well-formed
        words = " ".join("".join(node.itertext()) for node in root.iter())
        assert "\u00fc\u4e2d" in words
        assert "\\x07" in words
        assert "\n\x07" not in text
        assert ("prefers-color-scheme:dark" in text) == standalone
        assert "var(--ink)" in text or "var(--muted)" in text
        assert "<conv" not in text


def test_layers_are_drawn_from_the_most_expensive_to_the_rest(drawn):
    rows = tuple(dataclasses.replace(drawn.rows[1], index=i, layer=f"layer{i}", macs=1000 * i) for i in range(15))
    text = dataclasses.replace(drawn, rows=rows, plan=None).costs_svg()
    words = ["".join(node.itertext()) for node in ET.fromstring(text).iter(f"{SVG}text")]
    assert words[:4] == ["Cost by layer: counted <here>", "layer14", "14 k", "13%"]  # a page has the title beside it
    assert "Cost by layer" not in "".join(
        "".join(node.itertext()) for node in ET.fromstring(drawn.costs_svg(False)).iter(f"{SVG}text")
    )
    assert words[-3:] == ["3 others", "3 k", "3%"]
    assert len(words) == 1 + 13 * 3


# --- Model Explorer ---------------------------------------------------------------------------------------------------


def test_node_data_is_keyed_by_ops(drawn):
    found = drawn.node_data()
    assert set(found) == {"macs", "live_bytes"}  # no cycles, no times
    graph = found["macs"]["main"]
    assert {key: entry["value"] for key, entry in graph["results"].items()} == {"0": 1000, "1": 2000, "2": 3000}
    assert [stop["stop"] for stop in graph["gradient"]] == [0, 0.5, 1]
    assert graph["name"] == "multiply-accumulates"


@pytest.mark.slow
def test_model_explorer_reads_the_node_data(micro, tmp_path):
    if importlib.util.find_spec("model_explorer") is None:
        pytest.skip("needs ai-edge-model-explorer")
    from model_explorer import node_data_builder
    from model_explorer.builtin_tflite_flatbuffer_adapter import BuiltinTfliteFlatbufferAdapter

    path = micro.save(tmp_path / "net.tflite")
    (graph,) = BuiltinTfliteFlatbufferAdapter().convert(str(path), {})["graphCollections"][0].graphs
    for values in op_report(micro).node_data().values():
        ((name, data),) = values.items()
        assert name == graph["id"]
        assert set(data["results"]) <= {node["id"] for node in graph["nodes"]}
        results = {key: node_data_builder.NodeDataResult(**entry) for key, entry in data["results"].items()}
        built = node_data_builder.GraphNodeData(
            results=results, name=data["name"], gradient=[node_data_builder.GradientItem(**g) for g in data["gradient"]]
        )
        written = json.loads(node_data_builder.ModelNodeData(graphsData={name: built}).to_json_string())
        assert {key: written[name][key] for key in data} == data


# --- files and pages --------------------------------------------------------------------------------------------------


def test_pictures_and_node_data_are_written(drawn, tmp_path):
    paths = op_pictures.write(tmp_path / "new", "mcu-int8", drawn)
    assert sorted(path.name for path in paths) == [
        "mcu-int8_cost_by_layer.svg",
        "mcu-int8_live_bytes.node_data.json",
        "mcu-int8_macs.node_data.json",
        "mcu-int8_memory_plan.svg",
    ]
    assert json.loads(paths[-1].read_text())["main"]["results"]
    without = dataclasses.replace(drawn, plan=None)
    assert "memory_plan.svg" not in without.files()


@pytest.mark.slow
def test_a_program_in_c_is_saved_with_the_picture_of_its_arena(program, micro, tmp_path):
    path = program.save(tmp_path / "net.tflite")
    picture = (tmp_path / "net_plan.svg").read_text()
    assert len(blocks(picture)) == len(op_report(program).plan.placements)
    micro.save(path, overwrite=True)
    assert not (tmp_path / "net_plan.svg").exists()


@pytest.mark.slow
def test_a_kit_shows_memory_and_cost_by_op(program, tmp_path):
    kit = program.save_kit(tmp_path / "kit", name="cats")
    assert {path.name for path in (kit / "costs").iterdir()} == set(op_report(program).files())
    assert list(kit.rglob("*_plan.svg")) == [kit / "costs" / "memory_plan.svg"]
    readme = (kit / "README.md").read_text()
    assert "![Cost by layer](costs/cost_by_layer.svg)" in readme
    assert f"Memory plan of {op_report(program).plan.arena_bytes:,} bytes" in readme


def test_the_page_of_a_run_shows_each_file(drawn):
    export = {"name": "mcu-<int8>", "dtype": "int8", "per_op": drawn.to_dict()}
    text = op_sections.section({"exports": [export, {"name": "old", "dtype": "int8"}]})
    assert text.count("<section") == 1
    assert "mcu-&lt;int8&gt;" in text
    assert "a &lt;plan&gt;" in text
    assert "Counted &lt;here&gt;." in text
    assert text.count("<svg") == 2
    assert text.count("<tr>") == 1 + len(drawn.rows)
    assert "3,000" in text
    assert ODD not in text
    assert op_sections.section({"exports": [{"name": "old", "dtype": "int8"}]}) == ""
    assert op_sections.section({}) == ""


def test_a_file_without_a_plan_says_so(drawn):
    values = dataclasses.replace(drawn, plan=None).to_dict()
    text = op_sections.section({"exports": [{"name": "x", "dtype": "int8", "per_op": values}]})
    assert "stated no plan" in text
    assert text.count("<svg") == 1
