"""`benchmarks/gpu.py`: its search for the largest batch, its time budget, and a whole run on the CPU."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="runs in a checkout")


def options(**changes):
    found = {"batch": 256, "largest_batch": 65_536, "memory_limit_mib": None, "minutes": 1.0, "nets": ["lite_32_7"]}
    return argparse.Namespace(**found | changes)


@pytest.mark.parametrize(
    ("fits", "largest"), [(3_000, 2_048), (256, 256), (255, 128), (1, 1), (0, None), (1 << 20, 65_536)]
)
@pytest.mark.parametrize("memory", [lambda n: 3 * n, lambda n: 900 + 3 * n, lambda n: n * n])
def test_the_search_ends_at_the_largest_power_of_two_that_fits(fits, largest, memory):
    """The limit is the memory of `fits` images. The last row grows faster than the search expects."""
    import gpu

    row = {"batches": {}, "largest": None, "too_large": None}
    batch, tried = 256, []
    while batch is not None:
        tried.append(batch)
        if batch <= fits:
            row["batches"][str(batch)] = {"peak_mib": memory(batch), "limit_mib": memory(fits)}
            row["largest"] = batch
        else:
            row["too_large"] = batch
        batch = gpu.next_batch(row, options())
    assert row["largest"] == largest
    assert len(tried) == len(set(tried)) <= 9
    if largest:
        assert row["too_large"] == (2 * largest if largest < 65_536 else None)
    if memory(2) < 4 * memory(1):  # it tries what may not fit only at the end
        assert tried == sorted(tried) or fits < 256


def test_what_fits_no_more_into_the_time_is_dropped_and_named(tmp_path, monkeypatch):
    import gpu

    asked = []

    def measure(one, options, deadline, log, say):
        asked.append((one.name, deadline - time.monotonic()))
        # A measured batch, then no time is left.
        now = time.monotonic()
        monkeypatch.setattr(gpu.time, "monotonic", lambda: now + 230)
        return {"batches": {}, "largest": None, "too_large": None, "failed": None, "stopped": "time"}

    monkeypatch.setattr(gpu, "measure", measure)
    results = {"nets": {"lite_32_7": {}}}
    names = [name for part in gpu.PASSES for name in part]
    gpu.compete(
        results,
        options(minutes=4.0, contenders=names, device="cpu", tiny=True, out=tmp_path, peer_python=sys.executable),
        tmp_path / "log",
        lambda: None,
    )
    ((first, share),) = asked
    assert first == "ours bfloat16"
    assert 115 < share <= 120  # half of the four minutes: two contenders in the first pass
    found = results["nets"]["lite_32_7"]
    assert [name for name in names if found[name].get("dropped")] == names[1:]


def call(out, *words):
    """Run the script on the CPU with tiny networks, without TensorFlow; (exit code, output)."""
    hidden = out / "hidden"
    hidden.mkdir(parents=True, exist_ok=True)
    (hidden / "tensorflow.py").write_text("raise ImportError('TensorFlow is not there')")
    kept = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    kept["PYTHONPATH"] = str(hidden)
    command = [sys.executable, BENCHMARKS / "gpu.py", "--device", "cpu", "--tiny", "--nets", "lite_32_7", "--out", out]
    done = subprocess.run([*command, *words], env=kept, capture_output=True, text=True, timeout=900, check=False)
    return done.returncode, done.stdout + done.stderr


def test_it_runs_on_a_cpu_and_goes_on_where_it_stopped(tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    peer = os.environ.get("WAVEMIX_TEST_PEER_PYTHON", sys.executable)
    probe = [peer, "-c", "import importlib.util as u; assert u.find_spec('torch') and u.find_spec('wavemix')"]
    has_peers = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    words = ["--peer-python", peer, "--minutes", "10", "--contenders", "ours bfloat16 block"]
    code, said = call(tmp_path, *words)
    assert code == 0, said[-3000:]
    first = json.loads((tmp_path / "gpu_tiny_cpu.json").read_text())["nets"]["lite_32_7"]["ours bfloat16 block"]
    assert first["largest"] == 8
    assert set(first["batches"]) == {"2", "4", "8"}
    assert all(row["images_per_s"] > 0 and row["peak_mib"] > 0 for row in first["batches"].values())
    if not has_peers:
        pytest.skip("torch and the official package are not installed (WAVEMIX_TEST_PEER_PYTHON)")
    code, said = call(tmp_path, *words, "official bfloat16")
    assert code == 0, said[-3000:]
    both = json.loads((tmp_path / "gpu_tiny_cpu.json").read_text())["nets"]["lite_32_7"]
    assert both["ours bfloat16 block"] == first  # not measured again
    assert both["official bfloat16"]["largest"] == 8
    table = (tmp_path / "gpu_tiny_cpu.md").read_text()
    assert "| Lite 32/7, 32x32 | official bfloat16 |" in table
    assert "these figures mean nothing" in table
    code, said = call(tmp_path, *words, "--memory-limit-mib", "1")
    assert code == 2
    assert "must have been written with the same settings" in said
