"""The scripts of ``examples/`` and the Python code of the README run unchanged, on generated data."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not EXAMPLES.is_dir(), reason="runs in a checkout")]


def run(name, *words):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, EXAMPLES / name, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def shares(said, words):
    return [float(line.split(": ")[1].split("%")[0]) for line in said.splitlines() if words in line]


def test_every_script_has_a_test():
    text = Path(__file__).read_text(encoding="utf-8")
    elsewhere = {"several_machines/train.py"}  # test_several_machines.py: it needs several processes
    for path in EXAMPLES.rglob("*.py"):
        if path.relative_to(EXAMPLES).as_posix() in elsewhere:
            continue
        assert f'"{path.relative_to(EXAMPLES).as_posix()}"' in text


def test_train(tmp_path):
    said = run("train.py", "--synthetic", "--images", 1500, "--epochs", 3, "--out", tmp_path)
    assert (tmp_path / "fashion.tflite").stat().st_size > 10_000
    found = shares(said, "test images")
    assert len(found) == 2
    assert min(found) > 90


def test_qat_any_model(tmp_path):
    said = run("qat_any_model.py", "--weights", "none", "--images", 512, "--side", 48, "--epochs", 8, "--out", tmp_path)
    assert (tmp_path / "mobilenet.tflite").stat().st_size > 100_000
    float_share, int8_share = (float(share) for share in re.findall(r"([\d.]+)%", said)[-2:])
    assert int8_share > float_share - 5


def test_search(tmp_path):
    words = ("--trials", 2, "--epochs", 1, "--final-epochs", 2, "--out", tmp_path)
    said = run("search.py", *words)
    assert re.search(r"^best: depth \d+, width \d+$", said, re.M)
    assert (tmp_path / "front.csv").is_file()


def test_segmentation(tmp_path):
    said = run("segmentation.py", "--images", 240, "--epochs", 5, "--out", tmp_path)
    assert (tmp_path / "shapes.tflite").stat().st_size > 10_000
    found = [float(share) for share in re.findall(r"mean IoU ([\d.]+)", said)]
    assert len(found) == 2
    assert abs(found[0] - found[1]) < 0.05


def test_firmware_make_kit(tmp_path):
    said = run("firmware/make_kit.py", "--epochs", 5, "--out", tmp_path)
    assert (tmp_path / "kit" / "micro" / "main.cc").is_file()
    if shutil.which("cc"):
        rows = [[int(n) for n in line.split()] for line in said.splitlines()[-8:]]
        assert np.shape(rows) == (8, 8)
        assert np.ptp(rows) > 150  # a ring, not a constant


def test_the_python_of_the_readme(tmp_path, monkeypatch):
    """Its first block: ten classes of stripes that a short training tells apart."""
    import keras

    block = next(b for b in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S) if "import" in b)
    block = re.sub(r"epochs=\d+", "epochs=3", block)
    assert len(block.strip().splitlines()) <= 12
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 400)
    images = np.full((400, 32, 32, 3), 0.2, np.float32)
    for image, label in zip(images, labels, strict=True):
        image[3 * label : 3 * label + 3] = 0.8
    images += rng.normal(0, 0.05, images.shape).astype(np.float32)
    images = np.clip(images, 0, 1)
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    exec(block, {"images": images, "labels": labels, "held_out": images[-64:]})
    assert (tmp_path / "wavemix.tflite").stat().st_size > 100_000
