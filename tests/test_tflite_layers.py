"""``layer_errors`` names the layer that was damaged; damaged files are refused and never end the process."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from tflite_support import CALIBRATION, FLOAT, QUANTIZED
from tflite_support import export_random as export

from wavemix_tf.tflite import Artifact, ExportError, benchmark, layer_errors, quantize, verify
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.layers.fake_quant import FakeQuant

SHAPE = (16, 16, 3)


@pytest.fixture(scope="module")
def images():
    return CALIBRATION["deconv"]


@pytest.fixture(scope="module")
def model():
    return FLOAT["deconv"]


@pytest.fixture(scope="module")
def quantized():
    return QUANTIZED["deconv"]


@pytest.fixture(scope="module")
def artifact(quantized, images):
    return export(quantized, target="android-cpu", images=images[:32])


@pytest.fixture(scope="module")
def clean(quantized, images):
    return layer_errors(quantized, images[:16])


def test_a_clean_network(quantized, clean):
    quantizers = [layer for layer in quantized.layers if isinstance(layer, FakeQuant)]
    assert len(clean) == len(quantizers)
    assert sorted(row.step for row in clean) == pytest.approx(sorted(layer.get_step() for layer in quantizers))
    names = {layer.name: layer for layer in quantized.layers}
    for row in clean:
        assert row.shape == tuple(names[row.name].output.shape[1:] if row.name in names else SHAPE)
    # XNNPACK rounds like the model: a few integers differ, more with depth, and none in the first layers.
    for row in clean[:4]:
        assert row.file_error_steps < 1e-3, row
        assert row.file_differs < 1e-3, row
    assert all(row.file_error_steps < 1 for row in clean)
    assert sum(row.output_share for row in clean) == pytest.approx(1)
    assert all(10 < row.noise_db <= 100 and 0 <= row.lost_db < 10 for row in clean), clean


@pytest.mark.parametrize("factor", [30.0, 0.25])
@pytest.mark.parametrize("place", [3, -3])
@pytest.mark.slow
def test_a_layer_made_bad_is_named_first(model, images, clean, factor, place):
    quantized = quantize(model, images)
    bad = clean[place].name
    quantizer = next(layer for layer in quantized.layers if layer.name == f"{bad}_quant")
    quantizer.set_range(*(factor * end for end in quantizer.get_range()))
    rows = layer_errors(quantized, images[:16])
    first = max(rows, key=lambda row: row.lost_db)
    assert first.name == bad
    assert first.output_share > 0.5
    index = [row.name for row in rows].index(bad)
    assert rows[index].noise_db < clean[index].noise_db - 6
    for row, before in zip(rows[:index], clean[:index], strict=True):  # earlier layers are unchanged
        assert row.noise_db == pytest.approx(before.noise_db, abs=0.01)


def test_without_rounding_it_is_the_float_network(model, quantized, images):
    """A network that was not fine-tuned: the noise of the outputs is what separates the two models."""
    found, exact = (np.asarray(m(images[:16], training=False)) for m in (quantized, model))
    decibels = 10 * np.log10(np.square(exact).sum() / np.square(found - exact).sum())
    rows = layer_errors(quantized, images[:16])
    assert rows[-1].noise_db == pytest.approx(decibels, abs=0.05)


def test_only_a_native_int8_model(model, images):
    with pytest.raises(ValueError, match="dtype='int8'"):
        layer_errors(model, images)
    with pytest.raises(ValueError, match="dtype='int8'"):
        layer_errors(quantize(model, images, dtype="int16x8"), images)
    with pytest.raises(ValueError, match="images must"):
        layer_errors(quantize(model, images), images[:, :8])


# --- damaged files ----------------------------------------------------------------------------------------------------


def damaged(content, count, seed):
    """Random bit flips, and every fourth one cut off."""
    random = np.random.default_rng(seed)
    for index in range(count):
        if index % 4 == 3:
            yield content[: random.integers(len(content))]
            continue
        changed = bytearray(content)
        for place in random.integers(0, 8 * len(content), random.integers(1, 5)):
            changed[place // 8] ^= 1 << (place % 8)
        yield bytes(changed)


RUN_ALL = """
import os, sys
import numpy as np
from wavemix_tf.tflite.errors import ExportError
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.runtimes.litert import invoke, make_interpreter
ran = refused = 0
with np.load(sys.argv[1]) as file:
    for name in file.files:
        for reference in (False, True):
            print(name, reference, flush=True)
            try:
                interpreter = make_interpreter(file[name].tobytes(), reference=reference)
                invoke(interpreter)
                ran += 1
            except ExportError:
                refused += 1
print("ran", ran, "refused", refused, flush=True)
os._exit(0)  # TensorFlow's threads, as in wavemix_tf.cli.script
"""


def test_a_damaged_file_is_refused_or_runs_and_ends_no_process(artifact, tmp_path):
    accepted = []
    for content in damaged(artifact.content, 200, seed=0):
        try:
            read_file(content)
            accepted.append(np.frombuffer(content, np.uint8))
        except ExportError:
            continue
    assert 20 < len(accepted) < 150  # most of a file is weights, where any bits are valid
    np.savez(tmp_path / "files.npz", *accepted)
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, str(tmp_path / "files.npz")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, (done.stdout[-200:], done.stderr[-2000:])
    assert done.stdout.splitlines()[-1].startswith("ran ")


@pytest.mark.slow
def test_damaged_content_in_an_artifact_is_one_line(artifact, quantized, images):
    content = artifact.content
    for broken in (content[:1000], b"", content[: len(content) // 2], b"\0" * 100, content[:8] + b"\xff" * 64):
        by_hand = dataclasses.replace(artifact, content=broken)
        for call in (lambda a=by_hand: verify(a, quantized, images[:2]), lambda a=by_hand: benchmark(a, runs=3)):
            with pytest.raises(ExportError) as caught:
                call()
            assert len(str(caught.value).splitlines()) == 1


def test_a_changed_bit_a_missing_card_and_a_foreign_card(artifact, tmp_path):
    path = artifact.save(tmp_path / "model.tflite")
    for place in (4000, len(artifact.content) // 2, len(artifact.content) - 1):
        changed = bytearray(artifact.content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ExportError, match="is not the file that its model card"):
            Artifact.load(path)
    path.write_bytes(artifact.content)
    assert Artifact.load(path).content == artifact.content
    card = path.with_suffix(".json")
    for text in (b"[]", b"\xff\xfe", b'{"target": 3}', b"null"):
        card.write_bytes(text)
        with pytest.raises(ExportError, match=r"model\.json must be intact"):
            Artifact.load(path)
    card.unlink()
    with pytest.raises(ExportError, match=r"model\.json missing"):
        Artifact.load(path)
