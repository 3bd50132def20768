"""Device costs of untrained networks: equal to those of export; the worker's lifetime; the bounds."""

import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from tflite_support import export_random as export
from tflite_support import network

import wavemix_tf as wm
from wavemix_tf.tflite import (
    TARGETS,
    DeviceCosts,
    ExportError,
    RuntimeFailureError,
    UnsupportedLayerError,
    UnsupportedOpError,
)
from wavemix_tf.tflite.c_source.instruction_count import estimate_instructions
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.graph.inputs import generated_images
from wavemix_tf.tflite.measuring import candidate
from wavemix_tf.tflite.measuring.board_fit import needs_by_runtime
from wavemix_tf.tflite.measuring.candidate import measure, write_files
from wavemix_tf.tflite.measuring.file_plan import Plan
from wavemix_tf.tflite.measuring.graph_plan import graph_plans
from wavemix_tf.tflite.measuring.wavemix_plan import wavemix_plan
from wavemix_tf.tflite.runtimes.microcontroller import run_micro
from wavemix_tf.tflite.runtimes.processes import ForkServer
from wavemix_tf.tflite.targets.table import DEVICE_COSTS

# These tests use untrained networks on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The outputs of model:UserWarning"),
]
TINY = dict(image_shape=(8, 8, 1), width=4, depth=1)


@pytest.fixture(scope="module")
def mcu():
    with DeviceCosts("mcu") as costs:
        yield costs


@pytest.fixture(scope="module")
def ethos():
    with DeviceCosts("ethos-u55", accelerator="ethos-u55-128") as costs:
        yield costs


@pytest.fixture(scope="module")
def runners():
    micro, vela = ForkServer("tflite-micro"), ForkServer("vela")
    yield {"mcu": micro, "ethos-u55": vela, "ethos-u85": vela}
    micro.close()
    vela.close()


def fresh(**options):
    return wm.WaveMixClassifier(5, **{**TINY, **options})


# --- compared with export ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        dict(width=8, depth=2, levels=2, activation="gelu"),
        dict(
            width=8,
            depth=1,
            upsample="bilinear",
            activation="relu6",
            stem="patchify",
            patch_size=2,
            image_shape=(18, 16, 3),
            normalize=((0.5, 0.4, 0.3), (0.2, 0.3, 0.25)),
        ),
    ],
    ids=["two forms", "bilinear"],
)
def test_mcu_costs_are_those_of_the_exported_file(mcu, options):
    model = network(**{**TINY, **options})  # weights as spread as trained ones; initial weights are similar
    artifact = export(model, "mcu", calibration=generated_images(model.image_shape, 64), error_bound_steps=99)
    assert mcu(model) == {"arena_bytes": artifact.arena_bytes, "flash_bytes": artifact.size_bytes}
    # Not only the sums: op by op, tensor by tensor.
    written = {form: info for form, _, info in write_files(model, "mcu", TARGETS["mcu"])}
    info = written[artifact.upsample_form or "transposed_conv"]
    whole = read_file(artifact.content)
    assert tuple(op.name for op in info.ops) == artifact.ops
    for mine, theirs in zip(info.ops, whole.ops, strict=True):
        for a, b in zip((*mine.inputs, *mine.outputs), (*theirs.inputs, *theirs.outputs), strict=True):
            assert (a.shape, a.dtype, a.constant, a.channel_scales) == (b.shape, b.dtype, b.constant, b.channel_scales)


@pytest.mark.slow
def test_costs_of_a_program_in_c_are_those_of_the_exported_file():
    """RAM and flash as ``check`` has them; instructions as the budget names them, estimated for a Cortex-M4."""
    model = network(**{**TINY, "upsample": "deconv"})
    artifact = export(model, "c", calibration=generated_images(model.image_shape, 64), error_bound_steps=99)
    costs, _ = measure(model, "c")
    need = needs_by_runtime(artifact.content)["c"]
    known = {"ram_bytes": need.ram_bytes, "flash_bytes": need.flash_bytes, "arena_bytes": need.arena_bytes}
    assert costs == known | {"instructions": estimate_instructions(read_file(artifact.content), "cortex-m4", "c")}
    with DeviceCosts("c", names=("flash_bytes", "instructions")) as named:
        low = named.bounds(model)
    assert 0 < low["flash_bytes"][0] <= costs["flash_bytes"]
    assert low["instructions"] == (0.0, math.inf)


@pytest.mark.slow
def test_ethos_costs_are_those_of_the_exported_file(ethos):
    model = network(**TINY, upsample="nearest", activation="relu6")
    artifact = export(
        model,
        "ethos-u55",
        calibration=generated_images(model.image_shape, 64),
        accelerator="ethos-u55-128",
        error_bound_steps=99,
    )
    found = ethos(model)
    assert ethos.names == tuple(found) == ("npu_cycles", "sram_bytes", "flash_bytes")
    assert found["sram_bytes"] == artifact.npu.sram_bytes
    assert found["npu_cycles"] == pytest.approx(artifact.npu.cycles, rel=0.01)  # weights are compressed
    assert found["flash_bytes"] == pytest.approx(artifact.npu.flash_bytes, rel=0.02)


def test_phone_costs_are_a_time_and_the_exported_file():
    model = network(**TINY)
    artifact = export(model, "android-cpu", "int8", calibration=generated_images((8, 8, 1), 64), error_bound_steps=99)
    with DeviceCosts("android-cpu") as costs:
        costs.start(model)
        found = costs(model)
        assert tuple(found) == costs.names == ("latency_ms", "file_bytes")
        assert 0.001 < found["latency_ms"] < 50
        # The names of inner tensors, which this file keeps, differ by a few characters.
        assert abs(found["file_bytes"] - artifact.size_bytes) <= 256
        assert costs(model) == found  # timed once


@pytest.mark.slow
def test_a_forked_tool_says_what_a_started_one_says(runners):
    content = next(content for _, content, _ in write_files(fresh(), "mcu", TARGETS["mcu"]))
    inputs = [np.zeros((1, 8, 8, 1), np.int8)]
    (forked,), used = run_micro(content, inputs, run=runners["mcu"])
    (started,), expected = run_micro(content, inputs)
    assert used == expected
    np.testing.assert_array_equal(forked, started)


def test_weights_and_training_state_do_not_matter(mcu):
    model = fresh()
    found = mcu(model)
    keras.utils.set_random_seed(7)
    model.set_weights([np.random.default_rng(1).normal(size=part.shape) for part in model.get_weights()])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert mcu(model) == found


# --- the worker -------------------------------------------------------------------------------------------------------


def test_start_works_in_the_background_and_each_network_is_measured_once(mcu, monkeypatch):
    model = fresh(width=8)
    mcu(fresh())  # the worker runs
    with monkeypatch.context() as patch:
        patch.setattr(mcu._worker, "receive", lambda: pytest.fail("start waited for the worker"))
        mcu.start(model)
        mcu.start(model)
    assert len(mcu._pending) == 1
    found = mcu(model)
    monkeypatch.setattr(mcu._worker, "send", lambda _: pytest.fail("the network was measured twice"))
    assert mcu(model) == found
    assert not mcu._pending


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
def test_a_crash_is_one_network_s_and_the_next_one_is_measured(mcu):
    victim, waiting = fresh(width=12, depth=3), fresh(width=8, activation="relu6")
    mcu.start(victim)
    mcu.start(waiting)
    first = mcu._worker.pid
    assert os.getpriority(os.PRIO_PROCESS, first) >= 10  # training has priority
    os.kill(first, signal.SIGSEGV)
    with pytest.raises(RuntimeFailureError, match="crashed on this network: signal SIGSEGV"):
        mcu(victim)
    assert mcu(waiting)["arena_bytes"] > 0
    second = mcu._worker.pid
    assert second != first
    assert len(members(second)) == 2  # the worker, and the process of the interpreter
    mcu.close()
    mcu.close()
    assert members(second) == members(first) == []
    assert mcu(waiting)["arena_bytes"] > 0  # known
    assert mcu._worker is None


def members(group):
    """Processes of a group that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, own = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(own) == group and state != "Z":
            found.append(path.parent.name)
    return found


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at /proc")
def test_a_killed_parent_leaves_no_worker(tmp_path):
    program = textwrap.dedent("""
        import time
        import wavemix_tf as wm
        costs = wm.tflite.DeviceCosts("mcu")
        costs(wm.WaveMixClassifier(5, (8, 8, 1), width=4, depth=1))
        costs.start(wm.WaveMixClassifier(5, (32, 32, 1), width=64, depth=16))
        print(costs._worker.pid, flush=True)
        time.sleep(600)
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as parent:
        group = int(parent.stdout.readline())
        assert len(members(group)) >= 2  # the worker, and the process of the interpreter
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not members(group), 10)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_a_target_cannot_run_is_an_export_error(ethos):
    with pytest.raises(UnsupportedOpError, match=r"DEPTH_TO_SPACE"):
        ethos(fresh(upsample="pixel_shuffle"))
    inputs = keras.Input((8, 8, 4), name="image")
    model = keras.Model(inputs, layers.Dense(3)(layers.UnitNormalization()(layers.GlobalMaxPooling2D()(inputs))))
    with pytest.raises(UnsupportedLayerError, match=r"has no int8 rule"):
        ethos(model)
    with pytest.raises(ExportError, match="sides must be known"):
        ethos(wm.WaveMixClassifier(5, (None, None, 1), width=4, depth=1))
    assert ethos(fresh())["npu_cycles"] > 0  # and continues


@pytest.mark.parametrize(
    ("target", "options", "rule"),
    [
        ("esp32", {}, r"target must be one of 'android-cpu'"),
        ("edge-tpu", {}, r"costs: android-cpu, ethos-u55, ethos-u65, ethos-u85, mcu, c\. Received: target='edge-tpu'"),
        ("mcu", dict(names=("npu_cycles",)), r"names must be one of 'arena_bytes', 'flash_bytes'"),
        ("mcu", dict(names=()), r"names must be some of arena_bytes, flash_bytes"),
        ("mcu", dict(names="arena_bytes"), r"names must be some of"),
        ("mcu", dict(names=("arena_bytes", "arena_bytes")), r"each once"),
        ("mcu", dict(accelerator="ethos-u55-128"), r"accelerator applies to Ethos-U targets"),
        ("ethos-u55", dict(accelerator="ethos-u85-128"), r"accelerator must be one of 'ethos-u55-256'"),
    ],
)
def test_wrong_arguments_name_the_rule(target, options, rule):
    with pytest.raises(ValueError, match=rule):
        DeviceCosts(target, **options)


def test_what_is_not_installed_is_reported_at_once(monkeypatch):
    for module, target, extra in (("ethos", "ethos-u55", "[ethos]"), ("microcontroller", "mcu", "tflite-micro")):
        monkeypatch.setattr(f"wavemix_tf.tflite.runtimes.{module}.find_spec", lambda _: None)
        with pytest.raises(ExportError, match="pip install") as told:
            DeviceCosts(target)
        assert extra in str(told.value)


def test_a_worker_that_does_not_start_is_no_network_s_fault(monkeypatch):
    """A search takes an ExportError for a network that cannot be; it would refuse every one."""
    monkeypatch.setattr("wavemix_tf.tflite.measuring.device_costs.WORKER", "wavemix_tf.tflite.no_such_module")
    costs = DeviceCosts("mcu")
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"could not be started: exit code 1, .*no_such_module"):
            costs(fresh())


def test_names_choose_and_order(ethos):
    chosen = DeviceCosts("ethos-u55", ("sram_bytes", "npu_cycles"))
    assert chosen.names == ("sram_bytes", "npu_cycles")
    assert tuple(chosen.bounds(fresh())) == chosen.names
    assert set(DEVICE_COSTS) <= set(TARGETS)


# --- bounds -----------------------------------------------------------------------------------------------------------

SPREAD = [
    dict(width=4, depth=1, image_shape=(8, 8, 1)),
    dict(width=4, depth=8, image_shape=(32, 32, 1), upsample="nearest", activation="relu6"),
    dict(width=32, depth=1, image_shape=(32, 32, 3), expansion=3),
    dict(width=32, depth=4, image_shape=(8, 8, 3), activation="hard_swish"),
    dict(width=16, depth=1, image_shape=(16, 16, 3), levels=2, upsample="bilinear", ff_dim=8),
    dict(width=8, depth=4, image_shape=(30, 26, 1), levels=2, activation="quick_gelu"),
    dict(width=24, depth=1, image_shape=(32, 32, 3), stem="patchify", patch_size=4, levels=2),
    dict(width=12, depth=2, image_shape=(17, 19, 1), stride=2, upsample="nearest", normalize=((0.5,), (0.2,))),
]


# An Ethos-U has no depth to space.
SHUFFLED = [
    dict(width=8, depth=2, image_shape=(16, 16, 3), upsample="pixel_shuffle_conv", expansion=4),
    dict(width=8, depth=1, image_shape=(12, 16, 1), upsample="pixel_shuffle_conv", ff_dim=32, levels=2),
]


@pytest.mark.parametrize(
    ("target", "accelerator", "options"),
    [
        *(("mcu", None, options) for options in SPREAD),
        *(("mcu", None, options) for options in SHUFFLED),
        *(("ethos-u55", "ethos-u55-32", options) for options in SPREAD[3:]),
        ("ethos-u85", "ethos-u85-2048", SPREAD[0]),
        ("ethos-u85", "ethos-u85-1024", SPREAD[2]),
    ],
    ids=lambda part: f"w{part['width']}d{part['depth']}" if isinstance(part, dict) else None,
)
@pytest.mark.slow
def test_bounds_hold_and_the_plan_behind_them_is_the_file(target, accelerator, options, runners, monkeypatch):
    model, row = wm.WaveMixClassifier(10, **options), TARGETS[target]
    files = list(write_files(model, target, row))
    for form, _, info in files:
        made = wavemix_plan(model, row, form)
        assert [step.op for step in made.steps] == [op.name for op in info.ops]
        assert [made.sizes[step.writes] for step in made.steps] == [np.prod(op.outputs[0].shape) for op in info.ops]
        constants = {part.name: part for op in info.ops for part in op.inputs if part.constant and part.dtype == "int8"}
        weights = sum(len(part.data) for part in constants.values())
        assert sum(step.weights for step in made.steps if not step.again) == weights
    monkeypatch.setattr(candidate, "write_files", lambda *_: iter(files))
    found, _ = candidate.measure(model, target, accelerator, runners[target])
    for name, (low, high) in DeviceCosts(target, accelerator=accelerator).bounds(model).items():
        assert low <= found[name] <= high, name
        # The bounds must be useful. An NPU's cycles and SRAM have no tight lower bound.
        assert high <= 4.5 * found[name] + 8192, name
        if target == "mcu":
            assert low >= 0.3 * found[name], name


@pytest.mark.parametrize("target", ["mcu", "ethos-u55", "android-cpu"])
@pytest.mark.parametrize("options", SPREAD + SHUFFLED, ids=lambda part: f"w{part['width']}d{part['depth']}")
@pytest.mark.slow
def test_the_plan_by_arguments_is_the_plan_of_the_graph(target, options):
    model, row = wm.WaveMixClassifier(10, **options), TARGETS[target]
    forms = row.upsample_forms if model.upsample == "deconv" else row.upsample_forms[:1]
    for form, read in zip(forms, graph_plans(model, row), strict=True):
        made = wavemix_plan(model, row, form)
        steps = [step for step in read.steps if step.op]
        assert Counter(map(figures(made), made.steps)) == Counter(map(figures(read), steps))
        assert sum(step.again for step in made.steps) == sum(step.again for step in steps)
        assert made.peak_bytes() == read.least_peak_bytes()  # in the order of the file, and in any order


def figures(made):
    """Of a step: what the bounds count."""
    names = ("op", "weights", "channels", "macs", "npu_macs", "scratch_bytes")

    def of(step):
        return (made.sizes[step.writes], *(getattr(step, name) for name in names))

    return of


OTHERS = {
    "ViT": lambda: wm.ViT(5, (16, 16, 3), patch_size=4, width=16, depth=1, heads=2, mlp_ratio=2),
    "PoolFormer": lambda: wm.TokenMixerClassifier("poolformer", 5, (16, 16, 3), width=16, depth=1, patch_size=2),
    "WTConv": lambda: wm.TokenMixerClassifier("wtconv", 5, (18, 16, 3), width=16, depth=1, patch_size=2),
    "CNN": lambda: mobile_network(),
}


def mobile_network():
    image = x = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, activation="relu6")(layers.ZeroPadding2D(1)(x))
    y = layers.DepthwiseConv2D(3, padding="same")(layers.Conv2D(24, 1, activation="hard_swish", use_bias=False)(x))
    y = layers.BatchNormalization()(layers.Conv2D(8, 1)(layers.ReLU(6.0)(layers.BatchNormalization()(y))))
    gate = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D()(y))
    x = layers.Add()([x, layers.Multiply()([y, layers.Reshape((1, 1, 8))(gate)])])
    x = layers.Concatenate()([layers.AveragePooling2D(2)(x), layers.Conv2D(4, 3, strides=2, padding="same")(x)])
    return keras.Model(image, layers.Dense(5)(layers.Flatten()(x)))


@pytest.mark.parametrize(("target", "accelerator"), [("mcu", None), ("ethos-u55", "ethos-u55-32")])
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.slow
def test_lower_bounds_hold_for_any_network(name, target, accelerator, runners):
    model = OTHERS[name]()
    found, _ = candidate.measure(model, target, accelerator, runners[target])
    for cost, (low, high) in DeviceCosts(target, accelerator=accelerator).bounds(model).items():
        assert 0 < low <= found[cost], cost
        assert high == np.inf
        if target == "mcu":  # and they are useful
            assert low >= 0.3 * found[cost], cost


@pytest.mark.slow
def test_bounds_measure_nothing_and_work_for_any_model(monkeypatch):
    costs = DeviceCosts("mcu")
    monkeypatch.setattr(costs, "_request", lambda _: pytest.fail("bounds asked the worker"))
    monkeypatch.setattr(candidate, "write_files", lambda *_: pytest.fail("bounds wrote a file"))
    model = fresh(width=32, depth=2, levels=2)
    assert costs.bounds(model)["flash_bytes"][0] > 0
    inputs = keras.Input((8, 8, 4), name="image")
    other = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(inputs))))
    # Weights, a bias, two steps and zero points per channel; the tables of three ops; the weights of two layers.
    constants = 6 * 36 + 18 + (4 + 2 * 12) * 9
    assert costs.bounds(other)["flash_bytes"] == (constants + 3 * 112 + 2 * 100, np.inf)
    # A network that no file can hold is not refused here: its weights are counted.
    refused = keras.Model(inputs, layers.Resizing(4, 4, interpolation="bicubic")(layers.Conv2D(6, 3)(inputs)))
    assert costs.bounds(refused) == {"arena_bytes": (0.0, np.inf), "flash_bytes": (6 * 36 + 4 * 6, np.inf)}
    monkeypatch.undo()
    measured, _ = candidate.measure(other, "mcu")
    assert measured["flash_bytes"] > costs.bounds(other)["flash_bytes"][0]
    assert DeviceCosts("android-cpu").bounds(model)["latency_ms"] == (0.0, np.inf)


def test_memory_of_branches_is_counted_in_any_order():
    """Both branches of a sum are held, however the converter orders what makes them."""
    made = Plan()
    image = made.tensor(4, 4, 4)
    left = made.conv(image, 8, 1)
    right = made.conv(image, 16, 1)
    made.add("CONCATENATION", [left, right], (4, 4, 24))
    held = [step.scratch_bytes for step in made.steps]
    assert made.least_peak_bytes() == 16 * (8 + 16 + 24) + held[2]
    first, second, last = made.steps
    assert made.least_peak_bytes() == Plan(made.sizes, [second, first, last]).least_peak_bytes()
    # Neither convolution depends on the other: the first one to run needs only the image and its own output.
    assert made.peak_bytes() >= made.least_peak_bytes()
