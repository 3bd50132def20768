"""C programs from int8 files: every op, and whole networks, bit by bit as TensorFlow Lite Micro's reference kernels."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from c_support import assert_bit_equal, random_inputs, requires_cc
from mixer_support import SHAPE, SYSTEMS, stand_in
from tflite_support import CLASS_NAMES, FILES, HELD_OUT, NETWORKS, QUANTIZED, Made, export_random, randomise

from wavemix_tf.tflite import TARGETS, Artifact, UnsupportedOpError, quantize
from wavemix_tf.tflite.c_source import variants
from wavemix_tf.tflite.c_source.fixed_point import quantize_multiplier, requantize
from wavemix_tf.tflite.c_source.generator import check_c, write_c
from wavemix_tf.tflite.c_source.memory_plan import Use, plan_memory
from wavemix_tf.tflite.c_source.ops.table import LOWERINGS
from wavemix_tf.tflite.c_source.variants import KERNEL_ORDER
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.graph.inputs import generated_images
from wavemix_tf.tflite.runtimes.processes import ForkServer

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import op_tables as files

pytestmark = pytest.mark.filterwarnings("ignore:The outputs of model:UserWarning")
# Written by hand as float files alone; the tests below hold int8 ones.
NO_FILE = {"ELU", "EXPAND_DIMS", "SQUEEZE"}
# Ops of target "mcu" that the generator refuses: they work on floats, on booleans and on indices. DEQUANTIZE begins
# every part of an int8 file that stays float.
NOT_IN_C = {
    *("CAST", "CUMSUM", "DEQUANTIZE", "EXP", "FLOOR", "GATHER_ND", "LOG", "NEG", "SQRT", "SQUARE"),
    *("EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL", "SELECT_V2"),
    *("LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR", "UNIDIRECTIONAL_SEQUENCE_LSTM"),
}


@pytest.fixture(scope="module")
def micro():
    server = ForkServer("tflite-micro")
    yield server
    server.close()


@pytest.mark.slow
@requires_cc
@pytest.mark.parametrize("op", sorted(LOWERINGS.keys() - NO_FILE))
def test_every_op_is_bit_equal(op, micro, tmp_path):
    content, _ = files.write(op, "int8")
    info = read_file(content)
    assert op in {one.name for one in info.ops}
    inputs = random_inputs(info)
    if op == "RSQRT":
        inputs = [np.maximum(part, info.inputs[0].zero_point).astype(np.int8) for part in inputs]
    if op == "DIV":
        # Zero is -128. Of smaller quotients the reference kernel shifts by more than 31 bits: 1/255 is 127 there.
        inputs = [np.maximum(part, -120).astype(np.int8) for part in inputs]
    assert_bit_equal(content, inputs, tmp_path, micro)


def weights(*shape):
    return tf.constant(np.random.default_rng(len(shape) + sum(shape)).normal(0, 0.4, shape).astype(np.float32))


def conv(shape, **options):
    options = {"strides": 1, "padding": "SAME", **options}
    return lambda x: tf.nn.conv2d(x, weights(*shape), **options) + weights(shape[-1])


def depthwise(shape, stride=1, padding="SAME", dilation=1):
    step = (1, stride, stride, 1)
    return lambda x: tf.nn.depthwise_conv2d(x, weights(*shape), step, padding, dilations=(dilation, dilation))


def transposed(shape, out, stride, padding):
    return lambda x: tf.nn.conv2d_transpose(x, weights(*shape), out, stride, padding)


def padded_conv(x):
    return tf.nn.conv2d(tf.pad(x, ((0, 0), (2, 1), (0, 3), (0, 0))), weights(3, 3, 5, 6), 2, "VALID")


def blocks(x):
    """A convolution, its sub-pixels, a crop and an activation: one call."""
    x = tf.nn.depth_to_space(tf.nn.conv2d(x, weights(3, 3, 5, 12), 1, "SAME"), 2)[:, 1:10, 1:-2]
    return x * tf.sigmoid(1.7 * x)


def four_axes(x):
    x = tf.reshape(x, (1, 2, 3, 7, 5))
    return x + tf.reduce_max(tf.reduce_max(x, 2, keepdims=True), 4, keepdims=True)


MAP, ODD = (1, 6, 7, 5), (1, 9, 7, 5)
# Forms of the ops that networks have beside those of op_tables.py: (function, shapes of its inputs).
FORMS = {
    "conv of a stride": (conv((3, 3, 5, 7), strides=2), [ODD]),
    "conv without padding": (conv((2, 3, 5, 4), padding="VALID"), [ODD]),
    "conv 1x1": (conv((1, 1, 5, 9)), [MAP]),
    "conv 1x1 of a stride": (conv((1, 1, 5, 8), strides=2), [MAP]),
    "conv of a dilation": (conv((3, 3, 5, 6), dilations=2), [ODD]),
    "conv of rows apart": (conv((3, 3, 5, 6), dilations=[1, 2, 1, 1]), [ODD]),
    "conv of groups": (conv((3, 3, 2, 12)), [(1, 6, 5, 6)]),
    "conv with relu": (lambda x: tf.nn.relu(conv((3, 3, 5, 4))(x)), [MAP]),
    "conv with relu6": (lambda x: tf.nn.relu6(conv((3, 3, 5, 4))(x)), [MAP]),
    "conv larger than its map": (conv((7, 7, 5, 4)), [(1, 3, 3, 5)]),
    "conv of many taps": (conv((5, 5, 24, 6)), [(1, 6, 5, 24)]),
    "conv of weights alike": (lambda x: tf.nn.conv2d(x, tf.ones((5, 5, 24, 2)), 1, "SAME"), [(1, 6, 5, 24)]),
    "conv with relu6 and its table": (lambda x: tf.sigmoid(tf.nn.relu6(conv((3, 3, 5, 4))(x) - 1.0)), [MAP]),
    "conv behind a padding": (padded_conv, [ODD]),
    "conv, blocks, crop": (blocks, [MAP]),
    "depthwise of a stride": (depthwise((3, 3, 5, 1), 2), [ODD]),
    "depthwise of a dilation": (depthwise((3, 3, 9, 1), dilation=2), [(1, 9, 7, 9)]),
    "depthwise without padding": (depthwise((2, 2, 8, 1), 2, "VALID"), [(1, 6, 6, 8)]),
    "depthwise of one tap": (lambda x: tf.sigmoid(depthwise((1, 1, 5, 1))(x)), [MAP]),
    "depthwise of one tap behind a padding": (
        lambda x: depthwise((1, 1, 5, 1), padding="VALID")(tf.pad(x, ((0, 0), (2, 1), (0, 3), (0, 0)))),
        [MAP],
    ),
    "depthwise of one tap and a stride": (depthwise((1, 1, 5, 1), 2), [ODD]),
    "depthwise of several filters": (depthwise((3, 3, 5, 3)), [MAP]),
    "depthwise of one channel": (depthwise((3, 3, 1, 6)), [(1, 6, 7, 1)]),
    "dense": (lambda x: tf.matmul(x, weights(11, 7)) + weights(7), [(1, 11)]),
    "dense over rows": (lambda x: tf.tensordot(x, weights(5, 7), 1), [(1, 6, 5)]),
    "transposed 4x4": (transposed((4, 4, 6, 5), (1, 12, 14, 6), 2, "SAME"), [MAP]),
    "transposed 3x3, rows left over": (transposed((3, 3, 6, 5), (1, 11, 13, 6), 2, "SAME"), [MAP]),
    "transposed without padding": (transposed((3, 2, 6, 5), (1, 13, 14, 6), 2, "VALID"), [MAP]),
    "transposed, stride above the kernel": (transposed((2, 2, 3, 5), (1, 18, 21, 3), 3, "SAME"), [MAP]),
    "add of a vector": (lambda x: x + weights(5), [MAP]),
    "add of one number": (lambda x: x + 0.4, [MAP]),
    "add over rows": (lambda x, y: x + y, [MAP, (1, 1, 7, 5)]),
    "add of both sides": (lambda x, y: x + y, [(1, 6, 1, 5), (1, 1, 7, 1)]),
    "add of a smaller scale first": (lambda x, y: 0.05 * x + y, [MAP, MAP]),
    "add along four axes": (four_axes, [MAP]),
    "add with relu": (lambda x, y: tf.nn.relu(x + y), [MAP, MAP]),
    "div by channels": (lambda x, y: x / (tf.abs(y) + 0.5), [MAP, (1, 1, 1, 5)]),
    "sub from a vector": (lambda x: weights(5) - x, [MAP]),
    "sub of a smaller scale first": (lambda x, y: 0.05 * x - y, [MAP, MAP]),
    "sub of a larger scale first": (lambda x, y: x - 0.05 * y, [MAP, (1, 1, 1, 5)]),
    "sub with relu": (lambda x, y: tf.nn.relu(x - y), [MAP, MAP]),
    "mul by channels": (lambda x, y: x * y, [MAP, (1, 1, 1, 5)]),
    "mul of itself": (lambda x: x * x, [MAP]),
    "swish": (lambda x: x * tf.sigmoid(x), [MAP]),
    "sigmoid far from zero": (lambda x: tf.sigmoid(40.0 * x), [MAP]),
    "tanh far from zero": (lambda x: tf.tanh(-40.0 * x), [MAP]),
    "a chain of functions": (lambda x: tf.tanh(tf.nn.relu6(x * 3.0) - 0.5), [MAP]),
    "a function that is read twice": (
        lambda x: tf.nn.avg_pool2d(tf.sigmoid(x), 2, 2, "VALID") + tf.sigmoid(x)[:, :3, :3],
        [MAP],
    ),
    "average pool at edges": (lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"), [ODD]),
    "max pool at edges": (lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"), [ODD]),
    "mean of channels": (lambda x: tf.reduce_mean(x, -1), [MAP]),
    "mean of rows, kept": (lambda x: tf.reduce_mean(x, (1, 2), keepdims=True), [MAP]),
    "sum of columns": (lambda x: tf.reduce_sum(x, 2), [MAP]),
    "largest of channels": (lambda x: tf.reduce_max(x, -1), [MAP]),
    "pad of channels": (lambda x: tf.pad(x, ((0, 0), (0, 0), (1, 0), (2, 3))), [MAP]),
    "mirror with the edge": (lambda x: tf.pad(x, ((0, 0), (2, 1), (1, 2), (0, 0)), "SYMMETRIC"), [MAP]),
    "transpose of five axes": (
        lambda x: tf.transpose(tf.reshape(x, (1, 3, 2, 7, 5)), (0, 4, 2, 1, 3)),
        [MAP],
    ),
    "slice of three axes": (lambda x: x[:, 1:5:2, ::3, 1:4], [MAP]),
    "slice from the end": (lambda x: x[:, ::-1, 1:], [MAP]),
    "slice of one row": (lambda x: x[:, 3], [MAP]),
    "concatenation of rows": (lambda x, y: tf.concat([x, y, x], 1), [MAP, (1, 2, 7, 5)]),
    "split of channels": (lambda x: tf.split(x, 3, -1), [(1, 6, 7, 6)]),
    "stack at the end": (lambda x, y: tf.stack([x, y], -1), [MAP, MAP]),
    "gather of channels": (lambda x: tf.gather(x, [4, 0, 0, 2], axis=-1), [MAP]),
    "softmax of rows": (lambda x: tf.nn.softmax(4.0 * x), [(1, 6, 50)]),
    "softmax of steps too small": (lambda x: tf.nn.softmax(0.02 * x), [(1, 6, 9)]),
    "log softmax of rows": (lambda x: tf.nn.log_softmax(4.0 * x), [(1, 6, 50)]),
    "log softmax far below": (lambda x: tf.nn.log_softmax(tf.minimum(63.9 * x, 0.0)), [(1, 6, 50)]),
    "log softmax of steps too small": (lambda x: tf.nn.log_softmax(0.02 * x), [(1, 6, 9)]),
    "log softmax of many": (lambda x: tf.nn.log_softmax(2.0 * x), [(1, 2, 1000)]),
    "log softmax of one": (lambda x: tf.nn.log_softmax(x), [(1, 6, 1)]),
    "matmul, second transposed": (lambda x, y: tf.matmul(x, y, transpose_b=True), [(1, 3, 6, 5), (1, 3, 7, 5)]),
    "matmul, first transposed": (lambda x, y: tf.matmul(x, y, transpose_a=True), [(1, 6, 4), (1, 6, 5)]),
    "bilinear of corners": (
        lambda x: tf.compat.v1.image.resize_bilinear(x, (11, 9), align_corners=True),
        [MAP],
    ),
    "bilinear, smaller": (lambda x: tf.image.resize(x, (4, 3), "bilinear"), [MAP]),
    "nearest of corners": (
        lambda x: tf.compat.v1.image.resize_nearest_neighbor(x, (11, 9), align_corners=True),
        [MAP],
    ),
    "nearest, smaller": (lambda x: tf.image.resize(x, (4, 3), "nearest"), [MAP]),
    "two outputs, one of them the other's input": (lambda x: (tf.nn.relu(x), tf.reduce_mean(tf.nn.relu(x), -1)), [MAP]),
    "one output twice": (lambda x: (tf.nn.relu(x), tf.reshape(tf.nn.relu(x), (1, 42, 5))), [MAP]),
    "a padding of another value, then conv": (
        lambda x: tf.nn.conv2d(
            tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=0.7), weights(3, 3, 5, 4), 1, "VALID"
        ),
        [MAP],
    ),
    "a reshape alone": (lambda x: tf.reshape(x, (1, 42, 5)), [MAP]),
}


@pytest.mark.slow
@requires_cc
@pytest.mark.parametrize("name", list(FORMS))
def test_forms_of_ops_are_bit_equal(name, micro, tmp_path, monkeypatch):
    monkeypatch.setitem(files.FLOAT, name, FORMS[name])
    content, _ = files.write(name, "int8")
    assert_bit_equal(content, random_inputs(read_file(content)), tmp_path, micro)


@pytest.mark.slow
@requires_cc
@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_are_bit_equal(name, micro, tmp_path):
    content = FILES[name, "mcu", None].content
    assert_bit_equal(content, random_inputs(read_file(content)), tmp_path, micro)


@pytest.fixture(scope="module")
def systems():
    images = generated_images(SHAPE, 64, seed=1)
    return Made(lambda name: export_random(quantize(stand_in(SYSTEMS[name]), images, target="c"), "c").content)


@pytest.mark.slow
@requires_cc
@pytest.mark.filterwarnings("ignore:Calibration image", "ignore:Replacing ")  # of random weights
@pytest.mark.parametrize("name", SYSTEMS)
def test_token_mixers_are_bit_equal(name, systems, micro, tmp_path):
    content = systems[name]
    images = generated_images(SHAPE, 6, seed=3)  # of random integers a norm may take the root of a negative variance
    info = read_file(content)
    inputs = np.clip(np.round(images / info.inputs[0].scale) + info.inputs[0].zero_point, -128, 127).astype(np.int8)
    assert_bit_equal(content, [inputs], tmp_path, micro)


@pytest.mark.slow
@requires_cc
@pytest.mark.filterwarnings("ignore:Calibration image")
def test_a_published_network_is_bit_equal(micro, tmp_path):
    model = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=5, classifier_activation=None)
    images = generated_images((32, 32, 3), 32, seed=1)
    content = export_random(quantize(randomise(model), images, target="c"), "c").content
    assert_bit_equal(content, random_inputs(read_file(content), 3), tmp_path, micro)


@pytest.mark.slow
@requires_cc
@pytest.mark.parametrize(
    ("compiler", "options"),
    [
        ("c++", ("-x", "c++", "-std=c++17", "-O1")),
        ("cc", ("-std=c99", "-pedantic", "-O1", "-fsanitize=undefined,address", "-fno-sanitize-recover=all")),
    ],
)
def test_other_compilers_and_checks_of_memory(compiler, options, micro, tmp_path):
    """As C++; and with every access and overflow checked while it runs."""
    content = FILES["bilinear", "mcu", None].content
    link = options[-2:] if compiler == "cc" else ()
    inputs = random_inputs(read_file(content))
    assert_bit_equal(content, inputs, tmp_path, micro, compiler=compiler, options=options, link=link)


@pytest.mark.slow
@requires_cc
def test_sums_of_any_size_are_rounded_alike(micro, tmp_path, monkeypatch):
    content = FILES["deconv", "c", None].content
    assert "scale" in write_c(content, "net").kernels
    monkeypatch.setattr(variants, "SUM_LIMIT", 1)
    made = assert_bit_equal(content, random_inputs(read_file(content)), tmp_path, micro)
    assert {"scale", "scale_wide"} & set(made.kernels) == {"scale_wide"}


@pytest.mark.parametrize(
    ("op", "dtype", "message"),
    [
        ("CONV_2D", "float32", r"op 0 CONV_2D \(.*\) has a feature map of float32"),
        ("CUMSUM", "float32", r"op \d+ CUMSUM \(.*\) is not among the ops it takes"),
    ],
)
def test_what_it_does_not_take_is_named(op, dtype, message):
    with pytest.raises(UnsupportedOpError, match=message):
        write_c(files.write(op, dtype)[0], "net")


def test_every_other_op_is_named():
    info = read_file(FILES["deconv", "c", None].content)
    for op in NOT_IN_C:
        other = dataclasses.replace(info, ops=(info.ops[0], dataclasses.replace(info.ops[1], name=op)))
        with pytest.raises(UnsupportedOpError, match=rf"op 1 {op} \(.*\) is not among the ops it takes"):
            check_c(other)


@pytest.mark.slow
def test_int16x8_and_other_ends_are_refused():
    with pytest.raises(ValueError, match="int16x8"):
        export_random(QUANTIZED["deconv"], "c", "int16x8")
    with pytest.raises(UnsupportedOpError, match=r"QUANTIZE \(.*\) has a feature map of uint8; the generator takes"):
        export_random(QUANTIZED["deconv"], "c", io_dtype="uint8", images=HELD_OUT["deconv"])


def test_the_table_of_the_target_is_what_the_generator_takes():
    assert TARGETS["c"].ops.keys() == LOWERINGS.keys()
    assert TARGETS["mcu"].ops.keys() - LOWERINGS.keys() == NOT_IN_C


@pytest.mark.slow
def test_a_saved_file_comes_with_its_program(tmp_path):
    artifact = FILES["deconv", "c", None]
    assert artifact.arena_bytes == write_c(artifact.content, "net").plan.arena_bytes > 0
    artifact.save(tmp_path / "my-net.tflite")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("my-net.json", "my-net.labels.txt", "my-net.tflite", "my_net.c", "my_net.h", "my_net_plan.svg"),
    ]
    header, source = ((tmp_path / f"my_net.{end}").read_text() for end in "hc")
    assert "#define MY_NET_INPUT_SHAPE {1, 16, 16, 3}" in header
    assert "void my_net_run(const int8_t *input, int8_t *output);" in header
    assert all(f'"{name}"' in source for name in CLASS_NAMES)
    assert Artifact.load(tmp_path / "my-net.tflite").files(tmp_path / "my-net.tflite") == artifact.files(
        tmp_path / "my-net.tflite"
    )
    FILES["deconv", "mcu", None].save(tmp_path / "my-net.tflite", overwrite=True)
    assert not (tmp_path / "my_net.c").exists()


@pytest.mark.slow
@requires_cc
def test_the_arena_may_be_a_buffer_of_the_firmware(micro, tmp_path):
    content = FILES["deconv", "c", None].content
    (tmp_path / "buffer.c").write_text('#include "net.h"\nint32_t shared[NET_ARENA_BYTES / 4];\n')
    options = ("-std=c99", "-O2", "-DNET_ARENA=shared")
    assert_bit_equal(content, random_inputs(read_file(content)), tmp_path, micro, options=options, link=("buffer.c",))


@pytest.mark.slow
def test_names_of_classes_are_utf8_in_octal():
    source = write_c(FILES["deconv", "c", None].content, "net", ['a"b', "é?", "*/", "c", "d"]).source
    assert r'"a\042b"' in source
    assert r'"\303\251\077"' in source


@pytest.mark.slow
def test_a_program_is_written_alike_each_time():
    content = FILES["deconv", "c", None].content
    first, second = write_c(content, "net"), write_c(content, "net")
    assert (first.source, first.header) == (second.source, second.header)
    assert set(first.kernels) <= set(KERNEL_ORDER)


@pytest.mark.slow
def test_a_convolution_takes_its_neighbors():
    made = write_c(FILES["deconv", "mcu", None].content, "net")
    together = [ops for ops in made.ops if "DEPTH_TO_SPACE" in ops]
    assert together
    assert all(ops == ("PAD", "CONV_2D", "DEPTH_TO_SPACE", "STRIDED_SLICE") for ops in together)
    assert any(ops == ("CONV_2D", "LOGISTIC", "MUL") for ops in made.ops)


# --- the arena --------------------------------------------------------------------------------------------------------


def overlapping(plan):
    pairs = [(a, b) for a in plan.placements for b in plan.placements if a is not b]
    return [
        (a, b)
        for a, b in pairs
        if a.first <= b.last and b.first <= a.last and a.offset < b.offset + b.size and b.offset < a.offset + a.size
    ]


@pytest.mark.slow
def test_buffers_that_live_at_once_do_not_overlap():
    for name in NETWORKS:
        plan = write_c(FILES[name, "mcu", None].content, "net").plan
        assert overlapping(plan) == []
        assert all(place.offset % 4 == 0 for place in plan.placements)
        assert max(place.offset + place.size for place in plan.placements) == plan.arena_bytes
        assert len(plan.picture().split("\n")) == len(plan.placements) + 1


def test_a_map_is_written_over_one_that_is_read_for_the_last_time():
    uses = [Use((), ((0, 100),)), Use((0,), ((1, 100),), in_place=((1, 0),)), Use((1,), ((2, 8),))]
    assert plan_memory(uses, {0: "a", 1: "b", 2: "c"}).arena_bytes == 108
    read_later = [*uses[:2], Use((0, 1), ((2, 8),))]
    assert plan_memory(read_later, {0: "a", 1: "b", 2: "c"}).arena_bytes == 208


def test_scratch_memory_lives_with_its_step():
    plan = plan_memory([Use((), ((0, 10),), 20), Use((0,), ((1, 40),))], {0: "a", 1: "b"})
    assert plan.arena_bytes == 52
    assert overlapping(plan) == []


# --- arithmetic -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [1e-9, 0.1, 0.5, 0.999999999999, 1.0, 3.7, 1000.0])
def test_a_multiplier_stands_for_its_number(real):
    multiplier, shift = quantize_multiplier(real)
    assert 1 << 30 <= multiplier < 1 << 31
    assert multiplier * 2.0 ** (shift - 31) == pytest.approx(real, rel=1e-9)
    x = np.arange(-1000, 1001)
    np.testing.assert_allclose(requantize(x, multiplier, shift), x * real, atol=1.0)


# --- the kit ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@requires_cc
def test_a_kit_compiles_and_passes_its_own_vectors(tmp_path):
    FILES["deconv", "c", None].save_kit(tmp_path / "kit", name="my-net")
    kit = tmp_path / "kit"
    for line in re.search(r"```\n(cc .*)\n```", (kit / "README.md").read_text()).group(1).split(" && "):
        done = subprocess.run(line, cwd=kit, shell=True, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert done.stdout == "PASS my_net\n"
    assert "bytes of the program in C" in (kit / "MODEL_CARD.md").read_text()
    source = kit / "c" / "my_net_vectors.h"
    text = source.read_text()
    source.write_text(re.sub(r"(expected_0\[\d+\]\[\d+\] = \{\n *\{)-?\d+", r"\g<1>99", text))
    subprocess.run("cc -std=c99 -O2 c/my_net.c c/main.c -o check", cwd=kit, shell=True, check=True)
    done = subprocess.run("./check", cwd=kit, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "FAIL my_net: output 0 of vector 0 differs\n")
