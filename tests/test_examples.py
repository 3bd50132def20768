"""The scripts of ``examples/`` run as they stand, on generated data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not EXAMPLES.is_dir(), reason="runs in a checkout")]


def run(name, *words):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, EXAMPLES / name, *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_train(tmp_path):
    said = run("train.py", "--synthetic", "--images", 1500, "--epochs", 3, "--out", tmp_path)
    assert (tmp_path / "fashion.tflite").stat().st_size > 10_000
    shares = [float(line.split(": ")[1].split("%")[0]) for line in said.splitlines() if "test images" in line]
    assert min(shares) > 90
