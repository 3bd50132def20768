"""The command, from its arguments to a finished run folder: end to end once, then each verb on that folder."""

import csv
import dataclasses
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import wavemix_tf as wm
from wavemix_tf import cli
from wavemix_tf.command import arguments, exports, run_folder, steps, terminal
from wavemix_tf.command.verdict import VERDICT
from wavemix_tf.tflite import Artifact, ExportError
from wavemix_tf.tflite.graph.graph import Graph
from wavemix_tf.tflite.graph.lowering import float_layers
from wavemix_tf.tflite.verification import verifier
from wavemix_tf.training import RECIPES, Recipe, fit
from wavemix_tf.training.tasks import TASKS

# Networks trained for a few epochs, which rounding and fine-tuning change a lot.
pytestmark = pytest.mark.filterwarnings("ignore:The file:UserWarning")

# A network that a CPU trains in seconds, and that still distinguishes the three patterns.
TINY = [
    *("--set", "image_shape=12x12x3"),
    *("--set", 'model_args={"width": 8, "depth": 1, "dropout": 0.0}'),
    *("--set", "policy=none"),
    *("--set", "label_smoothing=0"),
    *("--set", "shift=0"),
    *("--set", "ema=0.9"),
    *("--set", "epochs=6"),
    *("--set", "calibration_images=32"),  # the minimum of `quantize`; a small folder holds out fewer
    *("--set", "learning_rate=0.01"),
    *("--set", "qat_epochs=2"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """48 images a class of three patterns: rows, columns, checks, in random colours."""
    root = tmp_path_factory.mktemp("data") / "patterns"
    random = np.random.default_rng(0)
    rows, columns = np.indices((12, 12)) // 2
    for name, pattern in (("rows", rows % 2), ("columns", columns % 2), ("checks", (rows + columns) % 2)):
        (root / name).mkdir(parents=True)
        for index in range(48):
            colours = random.integers(0, 90, 3), random.integers(150, 255, 3)
            pixels = np.where(pattern[..., None] == 1, *colours) + random.integers(-15, 15, (12, 12, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / name / f"{index}.png")
    return root


def call(capsys, *words):
    """(exit code, stdout, stderr) of the command, run in this process."""
    code = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    """A run that was interrupted between training and export, then called again: folder, words, both outputs."""
    out = tmp_path_factory.mktemp("runs") / "patterns"
    words = ["run", "--data", str(folder), "--out", str(out), *TINY]
    with pytest.MonkeyPatch.context() as patch, Captured() as first:
        patch.setattr(exports, "write_exports", interrupt)
        first.code = cli.main(words)
    interrupted_files = {path.name for path in out.iterdir()}
    with Captured() as second:
        second.code = cli.main(words)
    return {"out": out, "words": words, "first": first, "second": second, "after_first": interrupted_files}


class Captured:
    """What a module-scoped fixture prints, where capsys is not to be had."""

    def __enter__(self):
        import io

        self._kept = sys.stdout, sys.stderr
        self._out, self._err = sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
        return self

    def __exit__(self, *_):
        sys.stdout, sys.stderr = self._kept
        self.out, self.err = self._out.getvalue(), self._err.getvalue()


def interrupt(*_, **__):
    raise KeyboardInterrupt


# --- end to end -------------------------------------------------------------------------------------------------------


def test_interrupted_run_says_how_to_go_on(finished):
    first = finished["first"]
    assert first.code == 130
    assert f"wavemix-tf run --data {finished['words'][2]}" in first.err
    assert {"model.keras", "qat.keras", "recipe.json", "history.csv"} <= finished["after_first"]
    assert "report.json" not in finished["after_first"]


@pytest.mark.slow
def test_run_again_finishes_without_training_again(finished):
    second = finished["second"]
    assert second.code == 0, second.err
    assert "Epoch" in finished["first"].out
    assert "Epoch" not in second.out
    for name in ("android-cpu-float32", "android-cpu-int8", "android-gpu-float16", "mcu-int8"):
        assert (finished["out"] / "exports" / f"{name}.tflite").stat().st_size > 1000
        assert name in second.out
    assert "Traceback" not in second.err
    assert "WARNING" not in second.err


def test_report_of_the_run(finished):
    report = json.loads((finished["out"] / "report.json").read_text())
    rows = {row["name"]: row for row in report["results"]}
    assert list(rows) == [
        "float model",
        "QAT model",
        "android-cpu-float32",
        "android-cpu-int8",
        "android-gpu-float16",
        "mcu-int8",
    ]
    assert all(0.6 < row["accuracy"] <= 1 for row in rows.values())
    assert rows["mcu-int8"]["runtime"].startswith("TFLite Micro")
    assert rows["mcu-int8"]["arena_bytes"] % 16 == 0
    assert all(row["latency_ms"]["p50"] <= row["latency_ms"]["p90"] for row in rows.values() if "file" in row)
    tested = report["dataset"]["sizes"]["test"]
    assert np.sum(report["confusion"]["matrix"]) == tested
    assert np.trace(report["confusion"]["matrix"]) == round(tested * rows["mcu-int8"]["accuracy"])
    assert len(report["mistakes"]) == min(12, tested - np.trace(report["confusion"]["matrix"]))
    with (finished["out"] / "predictions.csv").open(newline="") as file:
        listed = {row["path"]: row for row in csv.DictReader(file)}
    assert len(listed) == tested  # each test image, once
    right = sum(row["label"] == row["prediction"] for row in listed.values())
    assert report["predictions"]["of"] == "mcu-int8"
    assert right == np.trace(report["confusion"]["matrix"])
    for mistake in report["mistakes"]:
        assert {key: listed[mistake["file"]][key] for key in ("label", "prediction")} == {
            key: mistake[key] for key in ("label", "prediction")
        }
    for path, row in listed.items():
        assert row["split"] == "test"
        assert path.split("/")[-2] == row["label"]
        assert 1 / 3 <= float(row["confidence"]) <= 1
    assert np.shape(report["wavelet"]["bands"]["HH"]) == (6, 6)
    assert len(report["scatter"]["int8"]) == len(report["scatter"]["float"]) == tested * 3
    assert all(check["passed"] for export in report["exports"] for check in export["checks"])
    assert report["command"].startswith("wavemix-tf run --data ")
    cells = {row["file"]: row["cells"] for row in report["verification"]["rows"]}
    assert set(cells["mcu-int8"]) == {"tflite-micro", "litert-xnnpack", "litert-reference", "keras-fake-quant"}
    assert set(cells["android-cpu-float32"]) == {"litert-xnnpack", "litert-reference"}
    assert not any(cell["fault"] for row in cells.values() for cell in row.values())
    layers = report["verification"]["layers"]
    assert layers["of"] == "android-cpu-int8"
    assert sum(row["output_share"] for row in layers["rows"]) == pytest.approx(1)
    counts = report["dataset"]["counts"]
    assert {name: sum(of) for name, of in counts.items()} == {
        name: report["dataset"]["sizes"][name] for name in ("train", "validation", "test")
    }
    assert min(map(min, counts.values())) >= 2
    page = (finished["out"] / "report.html").read_text()
    assert "Images of each class" in page
    assert "always predicting it is right as often" in finished["second"].out
    assert "Accuracy loss per layer" in page
    assert "mcu-int8" in page
    assert "patterns" in page


def test_finished_run_has_nothing_to_do(finished, capsys, monkeypatch):
    monkeypatch.setattr(steps, "load_images", interrupt)
    before = {path: path.stat().st_mtime_ns for path in finished["out"].rglob("*") if path.is_file()}
    code, out, _ = call(capsys, *finished["words"])
    assert code == 0
    assert "Nothing to do" in out
    assert "mcu-int8" in out
    assert {path: path.stat().st_mtime_ns for path in finished["out"].rglob("*") if path.is_file()} == before


def test_a_finished_run_with_other_images_is_refused(finished, folder, capsys):
    added = folder / sorted(path.name for path in folder.iterdir() if path.is_dir())[0] / "added.png"
    Image.new("RGB", (16, 16), "red").save(added)
    try:
        for words in (finished["words"], ["quantize", "--out", finished["out"]]):
            code, _, err = call(capsys, *words)
            assert code == 1
            assert "was trained on other data; --old-split" in err
            assert "1 new" in err
            code, out, err = call(capsys, *words, "--old-split")
            assert (code, "Nothing to do" in out) == (0, True), err
    finally:
        added.unlink()


def test_another_recipe_into_the_folder_is_refused(finished, capsys):
    code, _, err = call(capsys, *finished["words"], "--set", "seed=7")
    assert code == 1
    assert one_line(err)
    assert "--overwrite" in err
    assert "seed=7 (there 0)" in err


@pytest.mark.slow
def test_verify(finished, capsys, monkeypatch):
    monkeypatch.setattr(terminal.console, "width", 140)
    code, out, err = call(capsys, "verify", "--out", finished["out"], "--target", "mcu")
    assert code == 0, err
    for runtime in ("TFLite Micro", "LiteRT reference"):
        assert runtime in out
    assert "android" not in out


def test_verify_prints_one_matrix_and_the_worst_layers(finished, capsys, monkeypatch):
    monkeypatch.setattr(terminal.console, "width", 80)
    code, out, err = call(capsys, "verify", finished["out"])
    assert code == 0, err
    heads = [line for line in out.splitlines() if line.startswith("file ")]
    assert len(heads) == 1
    assert [re.search(rf"^{name} ", out, re.MULTILINE) is not None for name in ("android-cpu-int8", "mcu-int8")]
    row = next(line for line in out.splitlines() if line.startswith("android-cpu-float32"))
    assert row.count("✓") == 2
    assert row.count("–") == 2  # neither TFLite Micro nor a fake-quant model
    assert "✗" not in out
    assert len([line for line in out.splitlines() if "of the noise" in line]) == 5
    code, _, err = call(capsys, "verify")
    assert code == 2
    assert one_line(err)


def test_verify_fails_where_a_bound_is_exceeded(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(terminal.console, "width", 140)
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    card = out / "exports" / "mcu-int8.json"
    text = json.loads(card.read_text())
    text["verification"]["error_bound_steps"]["tflite-micro"] = -1.0
    card.write_text(json.dumps(text))
    code, shown, err = call(capsys, "verify", out, "--target", "mcu")
    assert code == VERDICT
    assert one_line(err)
    assert shown.count("✗") == 1
    assert "under tflite-micro" in err


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no card", "another's card"])
def test_verify_refuses_a_damaged_file_in_one_line(finished, tmp_path, capsys, damage):
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    file = out / "exports" / "android-cpu-int8.tflite"
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 3] ^= 4
        file.write_bytes(content)
    elif damage == "no card":
        file.with_suffix(".json").unlink()
    else:
        shutil.copy(out / "exports" / "mcu-int8.json", file.with_suffix(".json"))
    code, _, err = call(capsys, "verify", out)
    assert code == 1
    assert one_line(err), err
    assert "android-cpu-int8" in err


@pytest.mark.slow
def test_benchmark(finished, capsys):
    code, out, err = call(capsys, "benchmark", "--out", finished["out"], "--runs", 5)
    assert code == 0, err
    assert len(re.findall(r"KiB", out)) >= 5


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(finished, folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    image = next(folder.rglob("*.png"))
    for words in (("benchmark", "--out", finished["out"]), ("predict", image, "--out", finished["out"])):
        code, shown, err = call(capsys, *words, "--save", tmp_path / "file" / "below")
        assert (code, shown) == (1, "")
        assert "--save must be a folder that can be created and written" in err


def test_benchmark_with_a_profile(finished, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(terminal.console, "width", 160)
    words = ["benchmark", "--out", finished["out"], "--target", "mcu", "--runs", 5, "--threads", 2, "--profile"]
    code, out, err = call(capsys, *words, "--save", tmp_path / "pictures")
    assert code == 0, err
    assert "2 threads" in out
    assert "proxy" in out
    assert "Horowitz" in out
    card = json.loads((finished["out"] / "exports" / "mcu-int8.json").read_text())
    rows = [line.split()[0] for line in out.splitlines() if line.strip() and line.split()[0] in card["ops"]]
    assert rows == card["op_sequence"]
    assert all(name in out for name in card["op_layers"])
    assert re.search(
        r"^Memory: [\d.]+ KiB, TensorFlow Lite Micro's plan .* The peak is [\d.]+ KiB in op \d+", out, re.M
    )
    report = json.loads((finished["out"] / "report.json").read_text())
    measures = {row["name"]: row["per_op"]["measure"] for row in report["exports"]}
    assert measures["mcu-int8"] == "macs"
    assert measures["android-cpu-int8"] == "time_us"
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert "mcu-int8_memory_plan.svg" in names
    assert "mcu-int8_time_us.node_data.json" in names


@pytest.mark.parametrize("file", [None, "mcu-int8", "android-cpu-float32"])
def test_predict(finished, folder, capsys, file):
    images = [folder / "rows" / "1.png", folder / "checks" / "2.png"]
    options = ["--model", finished["out"] / "exports" / f"{file}.tflite"] if file else []
    code, out, err = call(capsys, "predict", *images, "--out", finished["out"], *options)
    assert code == 0, err
    first, second = out.strip().splitlines()
    assert re.fullmatch(rf"{images[0]}: \w+ [\d.]+%, \w+ [\d.]+%, \w+ [\d.]+%", first)
    assert first.split()[1] == "rows"
    assert second.split()[1] == "checks"


def test_export_one_file_with_another_input(finished, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    code, _, err = call(
        capsys, "export", "--out", out, "--target", "mcu", "--dtype", "int8", "--io-dtype", "uint8", "--overwrite"
    )
    assert code == 0, err
    card = json.loads((out / "exports" / "mcu-int8.json").read_text())
    assert card["input"]["dtype"] == card["output"]["dtype"] == "uint8"
    before, after = (json.loads((place / "report.json").read_text()) for place in (finished["out"], out))
    assert [row["name"] for row in after["results"]] == [row["name"] for row in before["results"]]
    digest = hashlib.sha256((out / "exports" / "mcu-int8.tflite").read_bytes()).hexdigest()
    assert [row["card"]["sha256"] for row in after["exports"]][:3] == [
        row["card"]["sha256"] for row in before["exports"]
    ][:3]
    assert after["exports"][3]["card"]["sha256"] == digest != before["exports"][3]["card"]["sha256"]
    assert [row["file"] for row in after["verification"]["rows"]] == [
        row["file"] for row in before["verification"]["rows"]
    ]
    assert after["confusion"]["of"] == after["predictions"]["of"] == "mcu-int8"
    assert card["class_names"] == ["checks", "columns", "rows"]


def test_files_that_are_there_are_not_written_again(finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished["out"].rglob("*") if path.is_file()}
    code, shown, err = call(capsys, "export", "--out", finished["out"])
    assert (code, "Nothing to do" in shown) == (0, True), err
    code, _, err = call(capsys, "export", "--out", finished["out"], "--target", "mcu", "--io-dtype", "uint8")
    assert code == 1
    assert one_line(err)
    assert "--io-dtype uint8, the file has int8" in err
    assert {path: path.stat().st_mtime_ns for path in finished["out"].rglob("*") if path.is_file()} == before


def test_files_that_are_there_are_held_to_bounds_that_are_named(finished, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    file, words = out / "exports" / "android-gpu-float16.tflite", ("export", "--out", out, "--target", "android-gpu")
    before = file.read_bytes()
    for option in (("--min-snr-db", "0"), ("--min-agreement", "0"), ("--allow-unjudged",)):
        code, shown, err = call(capsys, *words, *option)
        assert (code, "passed every check" in shown, "Nothing to do" in shown) == (0, True, False), err
        held = json.loads(file.with_suffix(".json").read_text())["verification"]["float_model_bounds"]
        assert held.pop(option[0][2:].replace("-", "_")) == (0 if option[1:] else True)
        assert not any(held[name] for name in held if name != "refuses")
    assert any("limits: 10 dB, 90%" in check["bound"] for check in of_report(out, file.stem)["checks"])
    code, _, err = call(capsys, *words, "--min-snr-db", "150")
    assert (code, one_line(err)) == (VERDICT, True)
    assert "required is 150" in err
    assert file.read_bytes() == before


def of_report(out, name):
    return next(row for row in json.loads((out / "report.json").read_text())["exports"] if row["name"] == name)


def test_a_file_of_other_weights_is_not_taken_for_ours(finished, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished["out"], out)
    model = steps.load_model(out / "qat.keras")
    model.trainable_weights[0].assign_add(np.full(model.trainable_weights[0].shape, 1e-3))
    model.save(out / "qat.keras")
    before = {path: path.stat().st_mtime_ns for path in (out / "exports").iterdir()}
    words = ("export", "--out", out, "--target", "mcu")
    for extra in ((), ("--max-arena-bytes", "1000000")):
        code, _, err = call(capsys, *words, *extra)
        assert code == 1
        assert one_line(err)
        assert "mcu-int8.tflite was made from another model: --overwrite replaces it. Received: model " in err
    assert {path: path.stat().st_mtime_ns for path in (out / "exports").iterdir()} == before
    code, _, err = call(capsys, *words, "--overwrite")
    assert code == 0, err


def test_a_device_too_small_is_reported_by_how_much(finished, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(finished["out"], out)
    before = {path: path.stat().st_mtime_ns for path in (out / "exports").iterdir()}
    for option in ("--max-arena-bytes", "--max-flash-bytes"):
        code, _, err = call(capsys, "export", "--out", out, "--target", "mcu", option, "1024")
        assert code == VERDICT
        assert one_line(err)
        assert "1,024" in err or "1024" in err
    code, shown, err = call(capsys, "export", "--out", out, "--target", "mcu", "--max-arena-bytes", "1000000")
    assert (code, "within the limits" in shown) == (0, True), err  # not written again in another form
    code, _, err = call(capsys, "export", "--out", out, "--target", "android-cpu", "--max-arena-bytes", "1024")
    assert (code, one_line(err)) == (1, True)
    assert {path: path.stat().st_mtime_ns for path in (out / "exports").iterdir()} == before


def test_export_kits(finished, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    words = ["export", "--out", out, "--kit"]
    code, shown, err = call(capsys, *words)
    assert code == 0, err
    names = {"android-cpu-float32", "android-cpu-int8", "android-gpu-float16", "mcu-int8"}
    assert {path.name for path in (out / "exports").glob("*_kit")} == {f"{name}_kit" for name in names}
    for name in names:
        folder = out / "exports" / f"{name}_kit"
        assert (folder / f"{name}.tflite").read_bytes() == (out / "exports" / f"{name}.tflite").read_bytes()
        assert "Accuracy: unknown" not in (folder / "MODEL_CARD.md").read_text()
        assert "patterns" in (folder / "MODEL_CARD.md").read_text()
    vectors = json.loads((out / "exports" / "mcu-int8_kit" / "test_vectors/mcu-int8/vectors.json").read_text())
    assert set(vectors["labels"][:-1]) <= {"checks", "columns", "rows"}
    told = json.loads((out / "exports" / "mcu-int8.json").read_text())["preprocessing"]
    assert (told["resize"], told["crop_to_aspect_ratio"]) == ("triangle", False)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    code, shown, err = call(capsys, *words)
    assert (code, "Nothing to do" in shown) == (0, True), err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    # A file that is written again gets a new kit; if no kit is requested, the old one is removed.
    again = ["export", "--out", out, "--target", "mcu", "--dtype", "int8", "--io-dtype", "uint8", "--overwrite"]
    code, _, err = call(capsys, *again)
    assert code == 0, err
    assert not (out / "exports" / "mcu-int8_kit").exists()
    code, _, err = call(capsys, *again, "--kit", "--project", "cmake")
    assert code == 0, err
    project = out / "exports" / "mcu-int8_cmake"
    assert "uint8_t network_input_t" in (project / "src" / "network.h").read_text()
    assert "Accuracy: unknown" not in (project / "MODEL_CARD.md").read_text()
    code, shown, err = call(capsys, *again[:5], "--project", "cmake")
    assert (code, "Nothing to do" in shown) == (0, True), err
    code, _, err = call(capsys, "export", "--out", out, "--target", "android-cpu", "--project", "cmake")
    assert (code, "--project cmake takes --target mcu or c. Received: android-cpu" in err) == (1, True)
    card = json.loads((out / "exports" / "mcu-int8_kit" / "mcu-int8.json").read_text())
    assert card["input"]["dtype"] == "uint8"
    named = [*again[:7], "--name", "gate", "--kit", "--project", "cmake"]
    code, shown, err = call(capsys, *named)
    assert (code, "code named gate" in shown) == (0, True), err
    assert (out / "exports" / "gate.h").is_file()
    assert not (out / "exports" / "mcu_int8.h").exists()
    assert (project / "src" / "gate_network.h").is_file()
    assert (out / "exports" / "mcu-int8_kit" / "micro" / "gate.h").is_file()
    for words in (named, [*again[:7], "--kit", "--project", "cmake"]):  # without --name a file keeps its name
        code, shown, err = call(capsys, *words)
        assert (code, "Nothing to do" in shown) == (0, True), err
    edited, kept = project / "src" / "gate_network.h", (project / "CMakeLists.txt").read_bytes()
    (project / "CMakeLists.txt").unlink()
    code, _, err = call(capsys, *named, "--overwrite")
    assert code == 0, err
    assert (project / "CMakeLists.txt").read_bytes() == kept  # written again
    edited.write_text("mine")
    code, _, err = call(capsys, *named, "--overwrite")
    assert (code, "A project whose files were edited is not replaced" in err) == (1, True), err
    assert edited.read_text() == "mine"
    (foreign := out / "exports" / "mcu-int8_zephyr").mkdir()
    (foreign / "mine.txt").write_text("mine")
    code, _, err = call(capsys, *again[:7], "--project", "zephyr", "--overwrite")
    assert (code, "is not replaced: move it" in err) == (1, True), err
    assert [path.name for path in foreign.iterdir()] == ["mine.txt"]
    code, _, err = call(capsys, *again[:7], "--name", "int")
    assert (code, "--name must be an identifier of C" in err) == (1, True)


def test_export_without_fine_tuning_is_quantized_after_training(finished, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    (out / "qat.keras").unlink()
    shutil.rmtree(out / "exports")
    (out / "report.json").unlink()
    code, shown, err = call(capsys, "export", "--out", out, "--target", "android-cpu", "--dtype", "int8", "--kit")
    assert code == 0, err
    assert "no qat.keras" in shown
    card = (out / "exports" / "android-cpu-int8_kit" / "MODEL_CARD.md").read_text()
    assert re.search(
        r"\*\*this file\*\*, android-cpu-int8 \(LiteRT XNNPACK\) \| [\d.]+ % \|", card
    )  # measured for the kit
    assert not (out / "report.json").exists()
    code, _, err = call(capsys, "verify", "--out", out, "--target", "android-cpu", "--dtype", "int8")
    assert code == 0, err


def test_an_npu_adds_its_columns_to_the_benchmark(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(terminal.console, "width", 140)
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    code, _, err = call(capsys, "export", "--out", out, "--target", "ethos-u55", "--kit")
    assert code == 0, err
    assert (out / "exports" / "ethos-u55-int8_vela.tflite").is_file()
    before, after = (json.loads((place / "report.json").read_text()) for place in (finished["out"], out))
    assert after["results"][:-1] == before["results"]  # the report is kept and extended by a row
    assert after["results"][-1]["name"] == "ethos-u55-int8"
    assert "ethos-u55-int8" in (out / "report.html").read_text()
    assert after["mistakes"] == before["mistakes"]
    assert "this file**, ethos-u55-int8" in (out / "exports" / "ethos-u55-int8_kit" / "MODEL_CARD.md").read_text()
    code, shown, err = call(capsys, "benchmark", "--out", out, "--runs", 3)  # of all existing files
    assert code == 0, err
    assert "NPU cycles" in shown
    assert len(set(re.findall(r"^((?:android|mcu|ethos)\S+) +\d", shown, re.MULTILINE))) == 5
    code, shown, err = call(capsys, "benchmark", "--out", out, "--target", "mcu", "--runs", 3)
    assert code == 0, err
    assert "NPU" not in shown


def test_int16x8_files(finished, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    words = ["--out", out, "--target", "android-cpu", "--dtype", "int16x8"]
    code, _, err = call(capsys, "export", *words, "--kit")
    assert code == 0, err
    code, shown, err = call(capsys, "verify", *words)
    assert code == 0, err
    assert "android-cpu-int16x8" in shown
    # The tolerance is for the model that the file computes; the float model's own difference has none.
    (row,) = [
        row
        for row in json.loads((out / "report.json").read_text())["verification"]["rows"]
        if row["dtype"] == "int16x8"
    ]
    rounding = row["cells"].pop("keras-fake-quant")
    assert rounding["bound_steps"] is None
    assert max(cell["mean_error_steps"] for cell in row["cells"].values()) < 0.2 * rounding["mean_error_steps"]
    assert f"{rounding['mean_error_steps']:.3f} steps" in shown  # without a tolerance
    code, shown, err = call(capsys, "benchmark", *words[:2], *words[4:], "--runs", 3)
    assert code == 0, err
    assert "android-cpu-int16x8" in shown
    assert "this file**, android-cpu-int16x8" in (out / "exports" / "android-cpu-int16x8_kit/MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("target", "dtype", "expected"),
    [
        (None, None, list(arguments.EXPORTS)),
        ("android-cpu", None, [("android-cpu", "float32"), ("android-cpu", "int8")]),
        ("mcu", None, [("mcu", "int8")]),
        ("edge-tpu", None, [("edge-tpu", "int8")]),
        (None, "int8", [("android-cpu", "int8"), ("mcu", "int8")]),
        (None, "int16x8", [("android-cpu", "int16x8"), ("mcu", "int16x8")]),
        ("mcu", "int16x8", [("mcu", "int16x8")]),
    ],
)
def test_which_files_target_and_dtype_mean(target, dtype, expected):
    assert arguments.check_export(target, dtype) == expected


@pytest.mark.parametrize("name", TASKS)
def test_export_makes_what_run_makes(name, tmp_path, capsys, monkeypatch):
    (tmp_path / "recipe.json").write_text(next(recipe for recipe in RECIPES.values() if recipe.task == name).to_json())
    found = []
    monkeypatch.setattr(exports, "all_exported", lambda out, chosen, *_: found.extend(chosen) or interrupt())
    call(capsys, "export", "--out", tmp_path)
    assert found == list(TASKS[name].exports)


def test_a_missing_file_names_the_command_that_makes_it(tmp_path):
    out = tmp_path / "a b"
    for target, dtype, options in (
        ("edge-tpu", None, " --target edge-tpu"),
        (None, "int16x8", " --dtype int16x8"),
        ("mcu", "int8", " --target mcu --dtype int8"),
        (None, None, ""),
    ):
        with pytest.raises(FileNotFoundError, match=re.escape(f"`wavemix-tf export --out '{out}'{options}` makes")):
            exports.saved_exports(out, target, dtype)
    with pytest.raises(FileNotFoundError, match=re.escape(f"`wavemix-tf quantize --out '{out}'` creates it")):
        steps.load_model(out / "qat.keras")
    with pytest.raises(FileNotFoundError, match=re.escape(f"`wavemix-tf run RECIPE --out '{out}'` or ")):
        run_folder.saved_recipe(out)
    (out / "exports").mkdir(parents=True)
    (out / "exports" / "android-cpu-int8.json").write_text("cut")
    command = f"`wavemix-tf export --out '{out}' --target android-cpu --dtype int8 --overwrite`"
    with pytest.raises(ExportError, match=re.escape(command)):
        Artifact.load(out / "exports" / "android-cpu-int8.tflite")


@pytest.mark.parametrize("damage", [b"", b"cut", b"[]"])
@pytest.mark.parametrize("name", ["mcu-int8.json", "mcu-int8.tflite", "qat_training.json", "qat.keras"])
def test_a_finished_run_with_a_damaged_file_is_reported(finished, tmp_path, capsys, name, damage):
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    (path,) = out.rglob(name)
    path.write_bytes(damage)
    code, _, err = call(capsys, *finished["words"][:4], out, *finished["words"][5:])
    assert (code, one_line(err)) == (1, True), err
    assert str(path) in err
    assert "anew" in err or "again" in err


@pytest.mark.parametrize("verb", ["run", "fit", "quantize", "export"])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("splits.json", lambda text: text[: len(text) // 2]),
        ("splits.json", lambda text: text.replace('"size"', '"sise"')),
        ("labels.txt", lambda text: ""),
        ("labels.txt", lambda text: text.partition("\n")[0] + "\n"),
        ("training.json", lambda text: text.replace('"size": ', '"size": -')),
    ],
)
def test_no_verb_has_nothing_to_do_on_a_damaged_folder(finished, tmp_path, capsys, verb, name, change):
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    (out / name).write_text(change((out / name).read_text()))
    words = {"run": finished["words"], "fit": ["fit", *finished["words"][1:]]}.get(verb, [verb, "--out", ""])
    words = [*words]
    words[words.index("--out") + 1] = out
    code, shown, err = call(capsys, *words)
    assert (code, one_line(err)) == (1, True), shown + err
    assert f"{out / name} must be intact" in err


def test_a_damaged_report_is_reported_and_measured_anew(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(steps, "load_images", interrupt)
    for number, text in enumerate(("cut", '{"format": -5}')):
        out = tmp_path / str(number)
        shutil.copytree(finished["out"], out)
        (out / "report.json").write_text(text)
        _, _, err = call(capsys, *finished["words"][:4], out, *finished["words"][5:])
        assert err.startswith(f"note: {out / 'report.json'} "), err
        assert "ll files are measured and it is written again" in err


@pytest.mark.slow
def test_a_finished_export_looks_at_the_data_as_fit_does(finished, folder, tmp_path, capsys):
    out, moved = tmp_path / "copy", tmp_path / "data"
    shutil.copytree(finished["out"], out)
    shutil.copytree(folder, moved)
    words = ("export", "--out", out, "--set", f"data_dir={moved}")
    code, shown, err = call(capsys, *words)
    assert (code, "Nothing to do" in shown) == (0, True), err
    shutil.copy(moved / "rows" / "1.png", moved / "rows" / "new.png")
    code, shown, err = call(capsys, *words)
    assert (code, "was trained on other data" in err, "Nothing to do" in shown) == (1, True, False)


def test_a_folder_of_images_that_was_renamed_is_no_other_recipe(finished, folder, tmp_path, capsys):
    """The run's name came from the folder's."""
    out, moved = tmp_path / "copy", tmp_path / "renamed"
    shutil.copytree(finished["out"], out)
    shutil.copytree(folder, moved)
    recipe = Recipe.from_json(out / "recipe.json")
    (out / "recipe.json").write_text(recipe.to_json().replace(str(folder), str(tmp_path / "gone")))
    for verb in ("run", "fit"):
        code, shown, err = call(capsys, verb, "--data", moved, "--out", out, *finished["words"][5:])
        assert (code, "Nothing to do" in shown) == (0, True), err
    code, _, err = call(capsys, "run", "--data", moved, "--out", out, *finished["words"][5:], "--set", "name=other")
    assert (code, "name='other' (there 'patterns')" in err) == (1, True)


def test_brackets_in_a_path_are_no_markup(finished, tmp_path, capsys):
    out = tmp_path / "a[/b]"  # a folder b] in a folder a[
    shutil.copytree(finished["out"], out)
    code, shown, err = call(capsys, *finished["words"][:4], out, *finished["words"][5:])
    assert code == 0, err
    assert f"\n{out / 'report.html'}\n" in shown  # and a pipe's lines are not wrapped


@pytest.mark.slow
def test_outputs_that_are_no_numbers(finished, folder, tmp_path, capsys):
    model = steps.load_model(finished["out"] / "model.keras")
    model.trainable_weights[-1].assign(np.full(model.trainable_weights[-1].shape, np.nan))
    model.save(tmp_path / "broken.keras")
    image = tmp_path / "a\x1b[2J.png"
    shutil.copy(folder / "rows" / "1.png", image)
    code, shown, err = call(capsys, "predict", image, "--model", tmp_path / "broken.keras", "--json")
    assert (code, shown) == (1, "")
    assert r"a\x1b[2J.png: A network's outputs must be finite" in err
    code, shown, err = call(capsys, "predict", image, "--out", finished["out"])
    assert code == 0, err
    assert shown.startswith(str(tmp_path) + r"/a\x1b[2J.png: rows ")


def test_the_end_of_a_file_is_no_interruption(monkeypatch, capsys):
    def ended(*_):
        raise EOFError("no more bytes")

    monkeypatch.setattr("wavemix_tf.command.verbs.fit.choose_run", ended)
    code, _, err = call(capsys, "fit", "digits")
    assert code == 1
    assert err.strip() == "wavemix-tf: EOFError: no more bytes (--debug shows where)"


def test_a_refused_file_does_not_take_the_others_with_it(finished, tmp_path, capsys, monkeypatch):
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    shutil.rmtree(out / "exports")
    monkeypatch.setitem(verifier.ERROR_BOUND_STEPS["int8"], "tflite-micro", -1.0)
    words = [*finished["words"]]
    words[words.index("--out") + 1] = str(out)
    (out / "report.json").unlink()
    code, shown, err = call(capsys, *words)
    assert code == VERDICT
    assert one_line(err)
    assert "mcu-int8 was not written" in err
    assert "android-cpu-int8" in shown
    assert {path.stem for path in (out / "exports").glob("*.tflite")} == {
        *("android-cpu-float32", "android-cpu-int8", "android-gpu-float16")
    }
    assert "mcu-int8 was not written" in (out / "report.html").read_text()
    monkeypatch.undo()
    code, shown, err = call(capsys, *words)  # retry
    assert code == 0, err
    assert (out / "exports" / "mcu-int8.tflite").exists()


def test_a_wrong_network_is_reported_before_the_data_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(steps, "load_images", interrupt)
    code, _, err = call(capsys, "run", "digits", "--out", tmp_path / "run", "--set", "model_args.deph=3")
    assert code == 1
    assert one_line(err)
    assert "deph" in err
    assert not (tmp_path / "run").exists()


def test_quantize_takes_other_settings_before_it_has_begun(finished, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    for path in out.glob("qat*"):
        path.unlink()
    code, _, err = call(capsys, "quantize", "--out", out, "--set", "qat_epochs=1")
    assert code == 0, err
    assert run_folder.saved_recipe(out).qat_epochs == 1


def test_quantize_keeps_a_named_layer_float(finished, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(finished["out"], out)
    for path in out.glob("qat*"):
        path.unlink()
    words = ("quantize", "--out", out, "--set", "qat_epochs=1")
    for setting, expected in (("qat_skip=heat", "similar: head"), ("qat_observer=median", "percentile")):
        code, _, err = call(capsys, *words, "--set", setting)
        assert code == 1
        assert one_line(err)
        assert expected in err
    assert not list(out.glob("qat*"))
    code, _, err = call(capsys, *words, "--set", "qat_skip=head", "--set", "qat_observer=mse")
    assert code == 0, err
    assert run_folder.saved_recipe(out).qat_skip == ("head",)
    assert float_layers(Graph.from_model(steps.load_model(out / "qat.keras"))) == ["head"]


def test_fit_and_quantize_have_nothing_to_do(finished, capsys):
    out = finished["out"]
    code, shown, _ = call(capsys, "fit", *finished["words"][1:])
    assert (code, "Nothing to do" in shown) == (0, True)
    code, shown, _ = call(capsys, "quantize", "--out", out)
    assert (code, "Nothing to do" in shown) == (0, True)
    assert (out / "report.json").exists()


def test_import_torch(tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="pip install wavemix-tf[torch]")
    golden = np.load(Path(__file__).parent / "fixtures" / "golden.npz")
    config = json.loads(str(golden["strided1/config"]))
    prefix = "strided1/state/"
    state = {key.removeprefix(prefix): torch.tensor(golden[key]) for key in golden.files if key.startswith(prefix)}
    torch.save(state, tmp_path / "official.pth")
    recipe = Recipe(
        name="golden",
        dataset="digits",
        image_shape=tuple(config.pop("image_shape")),
        num_classes=config.pop("num_classes"),
        model_args=config,
    )
    (tmp_path / "golden.json").write_text(recipe.to_json())
    out = tmp_path / "run"
    words = ["import-torch", tmp_path / "official.pth", tmp_path / "golden.json", "--out", out]
    code, _, err = call(capsys, *words)
    assert code == 0, err
    model = steps.load_model(out / "model.keras")
    image = golden["strided1/image"]
    np.testing.assert_allclose(model.predict(image, verbose=0), golden["strided1/outputs"], atol=1e-4)
    assert run_folder.saved_recipe(out) == recipe
    code, _, err = call(capsys, *words)
    assert (code, "--overwrite" in err) == (1, True)
    # The imported weights are the finished float stage: nothing trains over them.
    code, shown, err = call(capsys, "fit", tmp_path / "golden.json", "--out", out)
    assert (code, "Nothing to do" in shown) == (0, True), err
    again = fit(recipe, out=out)
    np.testing.assert_array_equal(again.model.predict(image, verbose=0), model.predict(image, verbose=0))
    assert again.history == {}


def test_import_torch_with_a_new_head(folder, tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="pip install wavemix-tf[torch]")
    source = wm.build_model("wavemix_lite_8_5", num_classes=10, image_shape=(12, 12, 3))
    state = {key: torch.tensor(value) for key, value in wm.export_torch_weights(source).items()}
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "official.pth")
    out = tmp_path / "run"
    words = ["import-torch", tmp_path / "official.pth", "--model", "wavemix_lite_8_5", "--out", out, "--data", folder]
    sizes = ["--set", "image_shape=12x12x3", "--set", "num_classes=3", "--set", "epochs=1", "--set", "batch_size=16"]
    code, _, err = call(capsys, *words, *sizes)
    assert (code, "head" in err or "pool" in err) == (1, True), err  # ten classes do not fit three
    code, shown, err = call(capsys, *words, *sizes, "--normalize", "cifar10", "--new-head")
    assert code == 0, err
    assert f"wavemix-tf fit {out / 'recipe.json'} --out {out}".replace(" ", "") in "".join(shown.split())
    start = steps.load_model(out / "start.keras")
    assert start.output_shape == (None, 3)
    np.testing.assert_array_equal(start.get_layer("block1").reduce.kernel, source.get_layer("block1").reduce.kernel)
    code, _, err = call(capsys, "fit", out / "recipe.json", "--out", out, "--set", "calibration_images=32")
    assert code == 1
    code, shown, err = call(capsys, *words, *sizes, *TINY[-6:-4], "--new-head", "--overwrite")
    assert code == 0, err
    code, shown, err = call(capsys, "fit", out / "recipe.json", "--out", out)
    assert code == 0, err
    assert "model.keras:top-1" in "".join(shown.split())


@pytest.mark.parametrize("present", [False, True])
def test_import_of_a_bad_checkpoint(present, tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="pip install wavemix-tf[torch]")
    if present:
        torch.save({"wrong": torch.zeros(1)}, tmp_path / "bad.pth")
    code, _, err = call(capsys, "import-torch", tmp_path / "bad.pth", "cifar10", "--out", tmp_path / "run")
    assert code == 1
    assert one_line(err)
    assert ("exactly the tensors" if present else "bad.pth") in err
    assert not (tmp_path / "run").exists()


# --- invalid arguments ------------------------------------------------------------------------------------------------


def one_line(text):
    return len(text.strip().splitlines()) == 1 and text.startswith("wavemix-tf: ") and "Traceback" not in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run"], "digits"),
        (["run", "nope"], "Received: nope"),
        (["run", "nope.json"], "nope.json"),
        (["run", "galaxy10"], "--data FOLDER"),
        (["run", "--data", "no/such/folder"], "no/such/folder"),
        (["run", "digits", "--set", "epochz=3"], "qat_epochs"),
        (["run", "digits", "--set", "epochs"], "KEY=VALUE"),
        (["run", "digits", "--set", "epochs=many"], "--set epochs takes int"),
        (["run", "digits", "--set", "epochs=-1"], "epochs must be positive"),
        (["run", "digits", "--set", "flip=perhaps"], "flip takes bool"),
        (["run", "digits", "--set", "name="], "name must be valid as the name of a folder"),
        (["run", "digits", "--set", "name=../x"], "name must be valid as the name of a folder"),
        (["run", "digits", "--set", "image_shape=big"], "HxWxC"),
        (["fit", "digits", "--set", "seed.x=1"], "model_args"),
        (["quantize", "--out", "no/run"], "no/run"),
        (["export", "--out", "no/run"], "no/run"),
        (["predict", "x.png", "--out", "no/run"], "no/run"),
    ],
)
def test_wrong_argument_is_one_line(capsys, words, expected):
    code, out, err = call(capsys, *words)
    assert code == 1
    assert one_line(err), err
    assert expected in err
    assert out == ""


@pytest.mark.parametrize("words", [["run", "--nope"], ["nope"], ["export"], ["run", "digits", "--test-images", "0"]])
def test_wrong_usage_is_exit_code_2(capsys, words):
    code, _, err = call(capsys, *words)
    assert code == 2
    assert one_line(err), err
    assert "--help" in err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["export", "--target", "toaster"], "'android-cpu', 'android-gpu', 'android-npu'"),
        (["export", "--target", "mcu", "--dtype", "float32"], "int8"),
        (["verify", "--dtype", "int4"], "float16"),
        (["export", "--io-dtype", "int4"], "--io-dtype must be"),
        (["export", "--target", "android-gpu", "--io-dtype", "int8"], "android-gpu-float16 has float32 input"),
        (["quantize", "--set", "epochs=3"], "only data_dir, download, qat_epochs"),
        (["quantize", "--set", "qat_epochs=3"], "--overwrite"),
        (["benchmark", "--set", "seed=3"], "only data_dir, download here"),
        (["predict", "no.png"], "no.png"),
    ],
)
def test_wrong_argument_for_a_run(finished, capsys, words, expected):
    code, _, err = call(capsys, *words, "--out", finished["out"])
    assert code == 1
    assert one_line(err), err
    assert expected in err


def test_corrupt_image_is_named(finished, tmp_path, capsys):
    (tmp_path / "empty.png").touch()
    code, out, err = call(capsys, "predict", tmp_path / "empty.png", "--out", finished["out"])
    assert (code, out) == (1, "")
    assert "empty.png" in err.splitlines()[0]
    assert err.splitlines()[1:] == ["wavemix-tf: 1 of 1 files gave no result"]


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="nope"):
        cli.main(["run", "nope", "--debug"])


def test_unexpected_error_names_its_type(capsys, monkeypatch):
    def broken(*_):
        raise KeyError("spam")

    monkeypatch.setattr("wavemix_tf.command.verbs.run.choose_run", broken)
    code, _, err = call(capsys, "run", "digits")
    assert code == 1
    assert "KeyError: 'spam'" in err
    assert "--debug" in err


# --- arguments to recipes ---------------------------------------------------------------------------------------------


def test_settings_are_typed_by_the_recipe():
    recipe = arguments.apply_settings(
        RECIPES["digits"],
        [
            *("epochs=50", "learning_rate=1e-4", "patience=none", "flip=true", "data_dir=here", "image_shape=16x20x1"),
            *("model_args.width=24", "model_args.activation=relu6", "crop_area=0.5"),
        ],
    )
    assert (recipe.epochs, recipe.learning_rate, recipe.patience, recipe.flip) == (50, 1e-4, None, True)
    assert (recipe.data_dir, recipe.image_shape, recipe.crop_area) == ("here", (16, 20, 1), 0.5)
    assert recipe.model_args == {**RECIPES["digits"].model_args, "width": 24, "activation": "relu6"}


def test_short_try_needs_no_warm_up():
    assert arguments.apply_settings(RECIPES["digits"], ["epochs=1"]).warmup_epochs < 1


@pytest.mark.parametrize("name", ["comparison.json", "search.json"])
def test_a_comparison_or_search_of_a_folder_that_was_renamed_keeps_its_name(name, folder, tmp_path):
    begun, moved = tmp_path / "begun", tmp_path / "renamed"
    begun.mkdir()
    shutil.copytree(folder, moved)
    recipe = dataclasses.replace(arguments.folder_recipe(folder), data_dir=str(tmp_path / "gone"))
    (begun / name).write_text(json.dumps({"recipe": json.loads(recipe.to_json())}))
    found = arguments.choose_recipe(None, moved, None, begun)
    assert (found.name, found.data_dir) == ("patterns", str(moved))
    assert not found.differences(recipe)
    (begun / name).write_text("cut")
    assert arguments.choose_recipe(None, moved, None, begun).name == "renamed"


def test_a_recipe_on_own_images(folder):
    recipe = arguments.choose_recipe("cifar10", folder, ["seed=1"])
    assert (recipe.dataset, recipe.data_dir, recipe.num_classes, recipe.seed) == ("folder", str(folder), None, 1)
    assert recipe.model == RECIPES["cifar10"].model


def test_recipe_from_json(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(RECIPES["mnist"].to_json())
    assert arguments.choose_recipe(str(path), None, ["seed=3"]) == Recipe.from_json(path).__class__(
        **{**vars(RECIPES["mnist"]), "seed": 3}
    )


# --- the process ------------------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path):
    """The command as it is installed: the script's name decides that it starts without Keras."""
    path = tmp_path / "wavemix-tf"
    path.write_text(
        "import sys\nfrom wavemix_tf.cli import main\ncode = main()\n"
        "heavy = {'keras', 'tensorflow', 'tensorflow_datasets', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))\nsys.exit(code)\n"
    )

    def run(*words):
        command = [sys.executable, str(path), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)

    return run


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["list"], 0),
        (["list", "--presets", "--json"], 0),
        (["preset", "--out", "no"], 1),
        (["run", "nope"], 1),
        (["run", "digits", "--set", "x=1"], 1),
        (["predict", "--help"], 0),
        (["predict", "no.png", "--model", "no.keras"], 1),
        (["explain", "no.png", "--model", "no.tflite"], 1),
    ],
)
@pytest.mark.slow
def test_answers_without_keras(script, words, code):
    result = script(*words)
    assert result.returncode == code, result.stderr
    assert "HEAVY []" in result.stdout


@pytest.mark.slow
def test_finished_run_answers_without_keras(script, finished):
    result = script(*finished["words"])
    assert result.returncode == 0, result.stderr
    assert "Nothing to do" in result.stdout
    assert "HEAVY []" in result.stdout


def test_loads_the_models_it_saved(script, finished, folder):
    """In the command's process nothing has registered the layers before."""
    out = finished["out"]
    result = script("predict", folder / "rows" / "1.png", folder / "rows" / "2.png", "--out", out)
    assert result.returncode == 0, result.stderr
    assert "rows" in result.stdout
    assert result.stderr == ""  # no log of TensorFlow
