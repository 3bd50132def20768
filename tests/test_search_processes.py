"""Killed searches: one process with ``kill -9`` during trials, and workers of a chief."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wavemix_tf.training import SearchResult
from wavemix_tf.training.searching import cluster

HERE = Path(__file__).parent


def start(out, trials, seconds=0.0, **environment):
    command = [sys.executable, str(HERE / "search_process.py"), str(out), str(trials), str(seconds)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, env=os.environ | quiet | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(condition, what, limit_s=120.0):
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > limit_s:
            pytest.fail(f"{what}: not within {limit_s:.0f} s")
        time.sleep(0.05)


def ended(out):
    return sorted(path.parent.name for path in out.glob("trials/*/outcome.json"))


def in_the_middle(out):
    """Trials that have an epoch behind them and have not ended."""
    begun = {path.parent.name for path in out.glob("trials/*/checkpoint.npz")}
    return sorted(begun - set(ended(out)))


def values_of(out):
    return [json.dumps(dict(trial.values), sort_keys=True) for trial in SearchResult.load(out).trials]


@pytest.mark.slow
def test_a_search_killed_twice_ends_as_one_that_was_not(tmp_path):
    out, whole = tmp_path / "killed", tmp_path / "whole"
    for count in (1, 2):
        process = start(out, 4, seconds=3.0)
        wait_for(lambda count=count: in_the_middle(out) and len(ended(out)) >= count, f"{count} trials and a half")
        killed = in_the_middle(out)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(out, 4)
    shown, _ = process.communicate(timeout=180)
    assert process.returncode == 0, shown
    assert "Resuming" in shown
    assert killed[0] in ended(out)
    history = (out / "trials" / killed[0] / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in history] == ["epoch", "1", "2"]
    process = start(whole, 4)
    shown, _ = process.communicate(timeout=180)
    assert process.returncode == 0, shown
    assert len(set(values_of(out))) == 4
    assert values_of(out) == values_of(whole)
    scores = [[trial.score for trial in SearchResult.load(folder).trials] for folder in (out, whole)]
    assert scores[0] == scores[1]
    with (out / "trials.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
def test_a_killed_worker_loses_no_trial_and_none_runs_twice(tmp_path):
    out = tmp_path / "cluster"
    place = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": free_port()}
    chief = start(out, 6, KERASTUNER_TUNER_ID="chief", **place)
    workers = [start(out, 6, seconds=3.0, KERASTUNER_TUNER_ID=f"worker-{index}", **place) for index in range(3)]
    try:
        state = out / "keras_tuner" / "oracle.json"
        wait_for(lambda: len(in_the_middle(out)) >= 2, "two trials under way")
        running = json.loads(state.read_text())["ongoing_trials"]
        lost = running["worker-0"]
        workers[0].send_signal(signal.SIGKILL)
        shown, _ = chief.communicate(timeout=300)
        assert chief.returncode == 0, shown
        for worker in workers[1:]:
            words, _ = worker.communicate(timeout=60)
            assert worker.returncode == 0, words
    finally:
        for process in (chief, *workers):
            process.kill()
            process.communicate()
    assert lost in ended(out)
    assert len(ended(out)) == 6
    assert len(set(values_of(out))) == 6
    order = json.loads(state.read_text())["end_order"]
    assert sorted(order) == ended(out)  # each ended once
    assert shown.count(" of 6: trial ") == 6


@pytest.mark.slow
def test_a_chief_that_is_killed_and_started_again_finds_its_worker_at_work(tmp_path):
    out = tmp_path / "cluster"
    place = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": free_port()}
    chief = start(out, 3, KERASTUNER_TUNER_ID="chief", **place)
    worker = start(out, 3, seconds=3.0, KERASTUNER_TUNER_ID="worker", **place)
    try:
        wait_for(lambda: in_the_middle(out), "a trial under way")
        chief.send_signal(signal.SIGKILL)
        chief.communicate()
        chief = start(out, 3, KERASTUNER_TUNER_ID="chief", **place)
        shown, _ = chief.communicate(timeout=300)
        assert chief.returncode == 0, shown
        words, _ = worker.communicate(timeout=60)
        assert worker.returncode == 0, words
    finally:
        for process in (chief, worker):
            process.kill()
            process.communicate()
    assert ended(out) == ["0", "1", "2"]
    assert sorted(json.loads((out / "keras_tuner" / "oracle.json").read_text())["end_order"]) == ["0", "1", "2"]
    # The trial was trained once: one epoch row each, no resumption.
    for history in out.glob("trials/*/history.csv"):
        assert [row.split(",")[0] for row in history.read_text().splitlines()] == ["epoch", "1", "2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("boss", "a:1", "w"), "role must be 'chief' or 'worker'"),
        (("chief", "nowhere", "w"), "must be HOST:PORT. Received: address='nowhere'"),
        (("worker", "a:99999", "w"), "must be HOST:PORT"),
        (("worker", "a:1", "my-chief"), "must not contain 'chief'"),
    ],
)
def test_a_wrong_role(arguments, message):
    with pytest.raises(ValueError, match=message), cluster.process_environment(*arguments):
        pass
    assert cluster.role() is None
