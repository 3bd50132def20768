"""``wavemix-tf compare``: systems of one budget side by side, failures as rows, and resuming after ``kill -9``."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from search_support import call, pattern_folder

from wavemix_tf.command.comparing import Comparison
from wavemix_tf.command.pages import comparison as comparison_page
from wavemix_tf.profiler import profile
from wavemix_tf.training import Recipe
from wavemix_tf.training.fitting import trainer
from wavemix_tf.training.searching.candidates import Candidates
from wavemix_tf.training.searching.systems import SYSTEMS, system_recipe, widest

# Networks trained for a few epochs, which rounding and fine-tuning change a lot.
pytestmark = pytest.mark.filterwarnings("ignore:The file:UserWarning")

TINY = [
    *("--set", "image_shape=8x8x1"),
    *("--set", 'model_args={"depth": 1, "stem": "patchify", "patch_size": 2}'),
    *("--set", "policy=none"),
    *("--set", "shift=0"),
    *("--set", "ema=0"),
    *("--set", "epochs=2"),
    *("--set", "batch_size=16"),
    *("--set", "calibration_images=32"),
]
BUDGET = ["--budget", "2k-parameters"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pattern_folder(tmp_path_factory.mktemp("data") / "patterns")


def record(out):
    return json.loads((out / "comparison.json").read_text())


@pytest.mark.slow
def test_a_comparison_ends_in_a_page_a_table_and_a_picture(folder, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["compare", "--data", folder, "--out", out, *TINY, *BUDGET, "--systems", "wavemix,convmixer"]
    code, shown, err = call(capsys, *words, "--seeds", "1")
    assert code == 0, err
    assert "convmixer" in shown
    found = record(out)
    assert found["seeds"] == [0]
    for name in ("wavemix", "convmixer"):
        row = found["systems"][name]
        assert row["profile"]["parameters"] <= 2000
        assert set(row["files"]) == {"float32", "int8"}
        assert row["files"]["int8"]["size_bytes"] == (out / f"exports/{name}-android-cpu-int8.tflite").stat().st_size
        assert row["files"]["int8"]["accuracy"] == pytest.approx(row["runs"]["0"]["test"], abs=0.15)
        assert row["files"]["int8"]["float_layers"] == []
        assert row["files"]["float32"]["accuracy"] == pytest.approx(row["runs"]["0"]["test"], abs=0.05)
        assert {"float32_ms", "int8_ms", "step_ms"} == set(row["times"])
        for times in row["times"].values():
            assert 0 < times["least"] <= times["median"] <= times["most"]
    with (out / "comparison.csv").open() as file:
        rows = {row["system"]: row for row in csv.DictReader(file)}
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert float(rows["wavemix"]["top1_seed0"]) == found["systems"]["wavemix"]["runs"]["0"]["test"]
    assert (out / "comparison.png").read_bytes()[1:4] == b"PNG"
    html = (out / "comparison.html").read_text()
    assert html.count("<svg") == len(comparison_page.COSTS)
    assert "http" not in html.replace("http://www.w3.org", "")
    assert "| WaveMix |" in (out / "comparison.md").read_text()

    # More seeds and systems are added; nothing is trained again.
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/seed0/model.keras")}
    code, shown, err = call(capsys, *words[:-1], "wavemix,convmixer,fourier", "--seeds", "2")
    assert code == 0, err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found = record(out)
    assert set(found["systems"]) == {"wavemix", "convmixer", "fourier"}
    for row in found["systems"].values():
        assert set(row["runs"]) == {"0", "1"}
    for another in ("3k-parameters", "android-cpu:2k-parameters"):
        code, _, err = call(capsys, *words, "--budget", another)
        assert code == 1
        assert "holds another comparison" in err
    code, _, err = call(capsys, *words, "--set", "learning_rate=0.5")
    assert code == 1
    assert "learning_rate=0.5 (there" in err


@pytest.mark.slow
def test_a_system_that_fails_is_a_row_that_says_so(folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    build = trainer.build

    def broken(recipe, num_classes):
        if recipe.model_args.get("mixer") == "poolformer":
            raise RuntimeError("out of memory")
        return build(recipe, num_classes)

    monkeypatch.setattr(trainer, "build", broken)
    words = ["compare", "--data", folder, "--out", out, *TINY, "--seeds", "1"]
    words += ["--budget", "1k-parameters", "--systems", "convmixer,wavemix_lite_8_10_up,poolformer"]
    code, _, err = call(capsys, *words)
    assert code == 1
    assert "2 of 3 systems failed, see their rows: wavemix_lite_8_10_up, poolformer" in err
    found = record(out)["systems"]
    assert found["poolformer"]["failed"] == {"step": "train, seed 0", "reason": "out of memory"}
    reason = found["wavemix_lite_8_10_up"]["failed"]["reason"]
    assert "The budget must allow the published network of wavemix_lite_8_10_up" in reason
    assert "test" in found["convmixer"]["runs"]["0"]
    page = (out / "comparison.html").read_text()
    assert "failed (train, seed 0): out of memory" in page
    assert "failed (train, seed 0): out of memory" in (out / "comparison.md").read_text()
    # The cause of the failure is removed: the same command resumes.
    monkeypatch.undo()
    code, _, err = call(capsys, *words[:-1], "convmixer,poolformer")
    assert code == 0, err
    assert "failed" not in record(out)["systems"]["poolformer"]


@pytest.mark.slow
def test_all_are_timed_again_where_one_failed_to_be(folder, tmp_path, capsys, monkeypatch):
    out, step, timed = tmp_path / "out", Comparison._training_step, []
    words = ["compare", "--data", folder, "--out", out, *TINY, *BUDGET, "--seeds", "1", "--qat"]
    words += ["--systems", "wavemix,convmixer"]

    def watched(self, name):
        timed.append(name)
        return step(self, name)

    def failing(self, name):
        if name == "convmixer":
            raise RuntimeError("out of memory")
        return step(self, name)

    def rows():
        found = record(out)["systems"]
        return found["wavemix"], found["convmixer"]

    monkeypatch.setattr(Comparison, "_training_step", failing)
    assert call(capsys, *words)[0] == 1
    wavemix, convmixer = rows()
    assert convmixer["failed"] == {"step": "time", "reason": "out of memory"}
    assert set(wavemix["times"]) == {"float32_ms", "int8_ms", "step_ms"}
    assert "times" not in convmixer
    assert len(list(out.glob("runs/*/seed0/*qat*"))) >= 2  # both are fine-tuned

    monkeypatch.setattr(Comparison, "_training_step", watched)
    assert call(capsys, *words)[0] == 0
    assert timed == ["wavemix", "convmixer"]
    assert "failed" not in rows()[1]
    timed.clear()
    assert call(capsys, *words)[0] == 0
    assert timed == []

    # Times of an earlier measurement are not kept with new ones.
    (out / "comparison.json").write_text(json.dumps({**record(out), "timed": {}}))
    monkeypatch.setattr(Comparison, "_training_step", failing)
    assert call(capsys, *words)[0] == 1
    assert "times" not in rows()[1]


@pytest.mark.slow
def test_killed_it_goes_on_to_the_same_numbers(folder, tmp_path):
    words = ["compare", "--data", folder, *TINY, "--seeds", "2", *BUDGET, "--systems", "wavemix,convmixer"]
    words += ["--set", "epochs=3"]
    command = [sys.executable, "-m", "wavemix_tf.cli", *map(str, words)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}

    def run(out):
        return subprocess.Popen([*command, "--out", str(out)], env=environment, stdout=subprocess.PIPE, text=True)

    whole, torn = tmp_path / "whole", tmp_path / "torn"
    process = run(torn)
    deadline = time.monotonic() + 240
    while not list(torn.glob("runs/convmixer/seed0/checkpoint.npz")):  # during the second training
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "convmixer" not in record(torn)["systems"] or not record(torn)["systems"]["convmixer"]["runs"]
    for out in (torn, whole):
        process = run(out)
        process.communicate(timeout=400)
        assert process.returncode == 0

    def scores(out):
        return {
            name: {seed: (run["validation"], run["test"]) for seed, run in row["runs"].items()}
            for name, row in record(out)["systems"].items()
        }

    assert scores(torn) == scores(whole)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--systems", "wavemix,lenet"], "system must be one of 'wavemix', 'dct'"),
        (["--systems", "wavemix_seg_192_16_l3"], "A system must classify images"),
        (["--budget", "64KB"], "Received: '64KB'"),
        (["--set", "task=segmentation"], "segmentation"),
        (["--set", "batch_size=auto"], "compare trains all systems with one batch_size"),
        (["--set", "epoch=3"], "--set takes KEY=VALUE"),
    ],
)
def test_wrong_arguments_are_one_line_and_train_nothing(folder, tmp_path, capsys, words, expected):
    out = tmp_path / "out"
    code, _, err = call(capsys, "compare", "--data", folder, "--out", out, *TINY, *words)
    assert code == 1
    assert len(err.strip().splitlines()) == 1, err
    assert expected in err
    assert not out.exists()


# --- the widest network of a budget -----------------------------------------------------------------------------------


def candidates(budget):
    return Candidates(lambda values: values, lambda recipe: trainer.build(recipe, 3), budget)


BASE = Recipe(
    "base", "digits", (16, 16, 3), num_classes=3, model_args={"depth": 1, "stem": "patchify", "patch_size": 4}
)


@pytest.mark.slow
def test_a_budget_counts_the_datas_own_classes(tmp_path):
    """A folder's recipe does not say how many there are; a head for two would let 98 classes in for nothing."""
    recipe = dataclasses.replace(BASE, num_classes=None, image_shape=(8, 8, 1), data_dir=str(tmp_path))
    comparison = Comparison(recipe, ["convmixer"], {"parameters": 3000}, None, [], 1, tmp_path / "out", False, "")
    comparison.size("convmixer")
    assert comparison.classes == 10
    assert 2000 < comparison.row("convmixer")["profile"]["parameters"] <= 3000


@pytest.mark.parametrize("name", ["wavemix", "convmixer", "mlp_mixer", "vit", "dynamixer"])
@pytest.mark.parametrize("budget", [{"parameters": 5000}, {"macs": 200_000}])
@pytest.mark.slow
def test_the_width_is_the_largest_within_the_budget(name, budget):
    width = widest(BASE, name, candidates(budget))
    (cost, limit), step = next(iter(budget.items())), SYSTEMS[name].step
    assert width % step == 0
    costs = [getattr(profile(trainer.build(system_recipe(BASE, name, w), 3)), cost) for w in (width, width + step)]
    assert costs[0] <= limit < costs[1]


def test_a_budget_that_nothing_is_within_is_an_error():
    with pytest.raises(ValueError, match=r"must allow width 4 of convmixer\. Received: parameters [0-9.]+"):
        widest(BASE, "convmixer", candidates({"parameters": 10}))


def test_a_systems_recipe_keeps_what_is_common_and_leaves_the_rest():
    recipe = Recipe(
        "one", "digits", (8, 8, 1), model="wavemix_lite_8_5", model_args={"levels": 2, "dropout": 0.1}, seed=3
    )
    found = system_recipe(recipe, "poolformer", 12, seed=5)
    assert found.model == "TokenMixerClassifier"
    stem = {"stem": "strided", "stride": 1, "patch_size": 4}  # the defaults of WaveMixClassifier
    common = {"depth": 5, "dropout": 0.1, "activation": "gelu", "normalize": None}
    assert found.model_args == {"mixer": "poolformer", "width": 12, **common, **stem}
    vit = system_recipe(recipe, "vit", 16).model_args
    assert (vit["patch_size"], vit["heads"], vit["depth"]) == (1, 2, 5)
    assert (found.seed, found.epochs, found.dataset) == (5, recipe.epochs, "digits")
    assert system_recipe(recipe, "poolformer_s12").model_args == {}


@pytest.mark.slow
def test_a_new_process_of_the_command_goes_on_with_what_another_trained(folder, tmp_path):
    """The command loads no layer that it does not name, and a .keras file names them all."""
    out = tmp_path / "out"
    names = "convmixer,vit,dynamixer"
    words = ["compare", "--data", str(folder), "--out", str(out), *TINY, "--budget", "20k-parameters", "--seeds", "1"]
    words += ["--systems", names, "--set", "epochs=12"]  # enough to be worth a file: SNR of 10 dB
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [str(Path(sys.executable).with_name("wavemix-tf")), *words]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    found = record(out)
    for row in found["systems"].values():
        row["files"] = {}
    (out / "comparison.json").write_text(json.dumps(found))
    for path in (out / "exports").iterdir():
        path.unlink()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    for name in names.split(","):
        row = record(out)["systems"][name]
        assert "failed" not in row
        file = row["files"]["int8"]
        assert "refused" not in file, file["refused"]
        assert file["size_bytes"] > 0
        assert file["float_layers"] == []
