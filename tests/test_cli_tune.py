"""``wavemix-tf tune``: from a folder of images to a recipe for ``run``, and every kind of invalid argument."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from search_support import call, pattern_folder

from wavemix_tf import cli
from wavemix_tf.command import tuning
from wavemix_tf.command.verdict import VERDICT
from wavemix_tf.training import Recipe, SearchResult
from wavemix_tf.training.searching import cluster

TINY = [
    *("--set", "image_shape=8x8x1"),
    *("--set", 'model_args={"width": 8, "depth": 1, "dropout": 0.0}'),
    *("--set", "policy=none"),
    *("--set", "shift=0"),
    *("--set", "ema=0"),
    *("--set", "epochs=4"),
    *("--set", "batch_size=16"),
    *("--set", "calibration_images=32"),
    *("--set", "qat_epochs=2"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pattern_folder(tmp_path_factory.mktemp("data") / "patterns")


@pytest.mark.slow
def test_a_search_on_a_folder_ends_in_a_recipe_whose_file_is_within_the_budget(folder, tmp_path, capsys):
    pytest.importorskip("tflite_micro", reason="no wheel for this platform")
    out, best = tmp_path / "search", tmp_path / "best"
    words = ["tune", "--data", folder, "--out", out, *TINY]
    words += ["--budget", "mcu:16KB-ram,12KB-flash", "--max-trials", "2", "--qat"]
    code, shown, err = call(capsys, *words)
    assert code == 0, err
    assert "arena bytes" in shown
    assert "wavemix-tf run" in shown
    result = SearchResult.load(out)
    assert result.objective == "val_int8_accuracy"
    assert len(result.trials) == 2
    for trial in result.trials:
        assert trial.costs["arena_bytes"] <= 16 << 10
        assert trial.costs["flash_bytes"] <= 12 << 10
        assert {"val_accuracy", "val_int8_accuracy"} <= set(trial.metrics)
    assert Recipe.from_json(out / "best.json").qat_epochs == 2
    code, shown, err = call(capsys, *words)
    assert code == 0, err
    assert "2 of 2 trials are finished" in shown
    code, _, err = call(capsys, "run", out / "best.json", "--out", best)
    assert code == 0, err
    card = json.loads((best / "exports" / "mcu-int8.json").read_text())
    assert card["arena_bytes"] == result.best.costs["arena_bytes"]
    assert card["size_bytes"] == result.best.costs["flash_bytes"]


@pytest.mark.slow
def test_a_board_that_fits_a_program_in_c_alone(folder, tmp_path, capsys):
    """NUCLEO-G071RB: 128 KB of flash, less than TensorFlow Lite Micro with CMSIS-NN takes without any file."""
    pytest.importorskip("tflite_micro", reason="no wheel for this platform")
    out, best = tmp_path / "search", tmp_path / "best"
    words = ["tune", "--data", folder, *TINY, "--set", "epochs=1", "--max-trials", "2", "--board", "nucleo-g071rb"]
    code, _, err = call(capsys, *words, "--out", tmp_path / "interpreted")
    assert code == VERDICT
    assert "within the budget" in err
    code, shown, err = call(capsys, *words, "--out", out, "--target", "c")
    assert code == 0, err
    assert "flash: the program in C" in shown
    result = SearchResult.load(out)
    assert set(result.budget) == {"arena_bytes", "ram_bytes", "flash_bytes"}
    for trial in result.trials:
        assert trial.costs["ram_bytes"] <= 36 << 10
        assert trial.costs["flash_bytes"] <= 128 << 10
        assert trial.costs["arena_bytes"] < trial.costs["ram_bytes"]
    # The instructions have no limit, but a front.
    assert result.front("instructions")
    assert "\ninstructions," in (out / "front.csv").read_text()
    code, _, err = call(capsys, "run", out / "best.json", "--out", best, "--targets", "c")
    assert code == 0, err
    code, shown, _ = call(capsys, "check", best / "exports" / "c-int8.tflite", "--board", "nucleo-g071rb", "--json")
    assert code == 0
    (need,) = (row for row in json.loads(shown)["checks"] if row["runtime"] == "c")
    assert {name: need[name] for name in result.budget} == {name: result.best.costs[name] for name in result.budget}


@pytest.mark.slow
def test_a_limit_of_instructions_holds(folder, tmp_path, capsys):
    out = tmp_path / "search"
    words = ["tune", "--data", folder, "--out", out, *TINY, "--set", "epochs=1", "--max-trials", "2"]
    code, _, err = call(capsys, *words, "--budget", "c:400k-instructions")
    assert code == 0, err
    trials = SearchResult.load(out).trials
    assert trials
    assert all(trial.costs["instructions"] <= 400_000 for trial in trials)
    code, _, err = call(capsys, *words[:4], tmp_path / "none", *words[5:], "--budget", "c:2k-instructions")
    assert code == VERDICT
    assert "none of" in err
    assert "instructions" in err


@pytest.mark.slow
def test_a_search_of_one_trial_ends_in_a_recipe(folder, tmp_path, capsys):
    out = tmp_path / "search"
    words = ["tune", "--data", folder, "--out", out, *TINY, "--set", "epochs=1", "--max-trials", "1"]
    code, shown, err = call(capsys, *words, "--budget", "5k-parameters")
    assert code == 0, err
    assert "wavemix-tf run" in shown
    (trial,) = SearchResult.load(out).trials
    assert trial.costs["parameters"] <= 5000
    assert Recipe.from_json(out / "best.json").model_args == trial.recipe.model_args


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--budget", "toaster:5KB-ram"], "target of a budget must be one of"),
        (["--budget", "64KB"], "Received: '64KB'"),
        (["--budget", "10-parameters"], "A network of the space must be within the budget"),
        (["--budget", "mcu:1KB-ram"], "A network of the space must be within the budget"),
        (["--space", "huge"], "space must be one of"),
        (["--tuner", "genetic"], "tuner must be one of"),
        (["--objective", "speed"], "objective must be"),
        (["--minimize", "mcu:instructions"], "minimize and min_score must be given together"),
        (["--min-score", "0.9"], "minimize and min_score must be given together"),
        (["--minimize", "instructions", "--min-score", "0.9"], "instructions needs a target"),
        (["--minimize", "web:instructions", "--min-score", "0.9"], "target of a budget must be one of"),
        (["--minimize", "mcu:latency", "--min-score", "0.9"], "--minimize for target mcu takes ram, flash"),
        (["--budget", "mcu:64KB-ram", "--minimize", "c:ram", "--min-score", "0.9"], "must have one target"),
        (["--minimize", "macs", "--min-score", "0"], "min_score must be a positive number"),
        (
            ["--minimize", "macs", "--min-score", "97"],
            "val_accuracy is a share from 0 to 1: 97 % is 0.97. Received: min_score=97.0",
        ),
        (["--minimize", "macs", "--min-score", "0.9", "--objective", "val_loss"], "better if it is larger"),
        (["--qat", "--objective", "val_loss"], "--qat sets the objective itself"),
        (["--role", "chief"], "--role and --address must be given together"),
        (["--role", "boss", "--address", "localhost:9000"], "role must be 'chief' or 'worker'"),
        (["--role", "worker", "--address", "localhost"], "must be HOST:PORT"),
        (["--set", "model_args.deph=3"], "deph"),
    ],
)
def test_wrong_arguments_are_one_line_and_train_nothing(folder, tmp_path, capsys, words, expected):
    out = tmp_path / "search"
    code, _, err = call(capsys, "tune", "--data", folder, "--out", out, *TINY, *words)
    assert code == (VERDICT if "within the budget" in expected else 1)
    assert len(err.strip().splitlines()) == 1, err
    assert expected in err
    assert not (out / "trials").exists()
    assert cluster.role() is None
    assert "KERASTUNER_TUNER_ID" not in os.environ


@pytest.mark.slow
def test_local_workers(folder, tmp_path, capfd):
    out = tmp_path / "search"
    words = ["tune", "--data", folder, "--out", out, *TINY, "--tuner", "random", "--max-trials", "4", "--workers", "2"]
    code = cli.main([str(word) for word in words])
    captured = capfd.readouterr()
    assert code == 0, captured.err
    result = SearchResult.load(out)
    assert [trial.status for trial in result.trials] == ["completed"] * 4
    assert len({json.dumps(dict(trial.values)) for trial in result.trials}) == 4
    assert cluster.role() is None


@pytest.mark.parametrize(
    ("visible", "there", "seen"),
    [
        (None, 0, [None, None, None]),
        (None, 1, [None, None, None]),
        (None, 2, ["0", "1", "0"]),
        ("3,5", 8, ["3", "5", "3"]),
        ("4", 8, ["4", "4", "4"]),
        ("", 8, ["", "", ""]),
    ],
)
def test_each_local_worker_sees_one_gpu(visible, there, seen, monkeypatch, tmp_path):
    for number in range(there):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
    monkeypatch.setattr(tuning, "GPUS", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [tuning.environment_of(index).get("CUDA_VISIBLE_DEVICES") for index in range(3)] == seen


@pytest.mark.slow
def test_workers_that_cannot_work_end_the_search(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tuning.LocalWorkers, "_start", lambda self, index: broken(self._folder, index))
    words = ["tune", "--data", folder, "--out", tmp_path / "search", *TINY, "--max-trials", "4", "--workers", "2"]
    code, _, err = call(capsys, *words)
    assert code == 1
    assert "A worker must not fail. Received: no disk" in err


def broken(folder, index):
    with (folder / f"{index}.log").open("w") as log:
        command = [sys.executable, "-c", "import sys; sys.exit('no disk')"]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)


@pytest.mark.slow
def test_the_cheapest_network_that_keeps_a_score(folder, tmp_path, capsys):
    out = tmp_path / "search"
    words = ["tune", "--data", folder, "--out", out, *TINY, "--minimize", "mcu:instructions"]
    words += ["--max-trials", "2", "--epochs", "1"]
    code, shown, err = call(capsys, *words, "--min-score", "0.2")
    assert code == 0, err
    result = SearchResult.load(out)
    kept = [trial for trial in result.completed if trial.score >= 0.2]
    assert result.best.costs["instructions"] == min(trial.costs["instructions"] for trial in kept)
    assert Recipe.from_json(out / "best.json") == dataclasses.replace(
        result.best.recipe, description=Recipe.from_json(out / "best.json").description
    )
    assert "instructions" in shown
    code, _, err = call(capsys, *words, "--min-score", "0.3")
    assert code == 1  # the folder holds the search for another score
    assert "min_score=0.3 (there 0.2)" in err
    code, _, err = call(capsys, *words[:-5], "macs", *words[-4:], "--min-score", "1", "--overwrite")
    assert code == VERDICT
    assert "must have a val_accuracy of at least 1; none of" in err
    assert not (out / "best.json").exists()
