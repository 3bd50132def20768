"""`wavemix-tf evaluate`: figures against other implementations, the release gate, and what is refused."""

import csv
import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as L
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from tflite_support import UNJUDGED

from wavemix_tf import cli
from wavemix_tf.command import evaluating
from wavemix_tf.command.verdict import VERDICT
from wavemix_tf.files import remove_abandoned_beside
from wavemix_tf.metrics import precision_recall_f1
from wavemix_tf.preprocessing import Preprocessing, write_to_keras_file
from wavemix_tf.tflite import export
from wavemix_tf.training.data.identity import SplitList
from wavemix_tf.training.data.listing import digest

NAMES = ("red", "green", "blue")  # not the order of the folders, which is that of the alphabet
COUNTS = {"red": 20, "green": 14, "blue": 9}


def call(capsys, *words):
    """(exit code, stdout, stderr) of the command, run in this process."""
    code = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def summary(capsys, *words, code=0):
    found, out, err = call(capsys, "evaluate", *words, "--json")
    assert found == code, err
    return json.loads(out), err


def averaging(weights, crop=False, path=None, names=NAMES):
    """A classifier of mean colors: logits are the means of the channels times ``weights`` (3, classes)."""
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, L.Dense(len(weights[0]), use_bias=False)(L.GlobalAveragePooling2D()(inputs)))
    model.set_weights([np.asarray(weights, np.float32)])
    if path is not None:
        model.save(path)
        write_to_keras_file(path, Preprocessing(crop_to_aspect_ratio=crop))
        path.with_suffix(".labels.txt").write_text("".join(f"{name}\n" for name in names))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noisy images of three classes, of different sizes, which a classifier of mean colors often gets wrong."""
    root = tmp_path_factory.mktemp("images") / "colours"
    random = np.random.default_rng(0)
    for name, count in COUNTS.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            mean = random.integers(60, 140, 3)
            mean[NAMES.index(name)] += 25
            pixels = np.clip(mean + random.integers(-40, 40, (random.integers(8, 20), 11, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """model.keras; other.keras, whose classes have another order; worse.keras, which prefers one class."""
    root = tmp_path_factory.mktemp("models")
    averaging(8 * np.eye(3), path=root / "model.keras")
    averaging([[0, 8, 1.5], [1, 0, 8], [8, 0, 0]], path=root / "other.keras", names=("blue", "red", "green"))
    averaging([[9.5, 0, 0], [0, 4, 0], [0, 0, 4]], path=root / "worse.keras")
    return root


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def truth(rows):
    return [NAMES.index(row["label"]) for row in rows], [NAMES.index(row["prediction"]) for row in rows]


# --- figures ----------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_sklearn(folder, models, tmp_path, capsys):
    out = tmp_path / "found"
    report, _ = summary(capsys, folder, "--model", models / "model.keras", "--out", out)
    rows = table(out / "predictions.csv")
    assert len(rows) == sum(COUNTS.values()) == report["results"][0]["images"]
    labels, predicted = truth(rows)
    assert 0.4 < np.mean(np.equal(labels, predicted)) < 0.95  # otherwise there is little to compare
    np.testing.assert_array_equal(report["confusion"]["matrix"], confusion_matrix(labels, predicted))
    expected = precision_recall_fscore_support(labels, predicted)
    found = [[row[key] for row in report["classes"]] for key in ("precision", "recall", "f1", "images")]
    np.testing.assert_allclose(found, expected)
    assert [row["name"] for row in report["classes"]] == list(NAMES)
    (result,) = report["results"]
    assert result["accuracy"] == np.mean(np.equal(labels, predicted))
    wilson = binomtest(result["correct"], result["images"]).proportion_ci(method="wilson")
    np.testing.assert_allclose(result["interval"], (wilson.low, wilson.high), atol=1e-6)
    assert {path.name for path in out.iterdir()} == {"report.json", "report.html", "predictions.csv"}


def test_a_class_that_is_never_predicted_has_no_precision():
    matrix = np.array([[3, 0, 0], [2, 0, 0], [0, 0, 0]])
    precision, recall, f1 = precision_recall_f1(matrix)
    np.testing.assert_allclose(precision, [0.6, np.nan, np.nan])
    np.testing.assert_allclose(recall, [1, 0, np.nan])
    np.testing.assert_allclose(f1, [0.75, 0, np.nan])


@pytest.mark.parametrize("crop", [False, True])
def test_images_are_read_as_by_predict(crop, tmp_path, capsys):
    """Orientation, 16 bits, gray, transparency, proportions: an independent path through the same network agrees."""
    folder = tmp_path / "data"
    random = np.random.default_rng(1)
    for name in NAMES:
        (folder / name / "deeper").mkdir(parents=True)
    wide = random.integers(0, 256, (9, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(wide).save(folder / "red" / "turned.jpg", exif=exif)
    Image.fromarray(random.integers(0, 65536, (12, 12), dtype=np.uint16)).save(folder / "red" / "deep.png")
    Image.fromarray(wide[..., 0]).save(folder / "green" / "deeper" / "gray.png")
    Image.fromarray(random.integers(0, 256, (9, 30, 4), dtype=np.uint8)).save(folder / "blue" / "clear.png")
    (folder / "blue" / "note.txt").write_text("no image")
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(inputs)))
    model.set_weights([random.normal(0, 0.1, weight.shape) for weight in model.get_weights()])
    path = tmp_path / "model.keras"
    model.save(path)
    write_to_keras_file(path, Preprocessing(crop_to_aspect_ratio=crop))
    path.with_suffix(".labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    summary(capsys, folder, "--model", path)
    rows = {row["path"]: row for row in table(tmp_path / "evaluation" / "predictions.csv")}
    assert list(rows) == ["blue/clear.png", "green/deeper/gray.png", "red/deep.png", "red/turned.jpg"]
    code, out, err = call(capsys, "predict", folder, "--model", path, "--json", "--top", 1)
    assert code == 0, err
    for line in map(json.loads, out.splitlines()):
        row = rows[os.path.relpath(line["path"], folder)]
        assert row["prediction"] == line["classes"][0]["name"]
        assert float(row["confidence"]) == pytest.approx(line["classes"][0]["probability"], abs=1e-5)


def test_the_surest_errors_are_shown_first(folder, models, tmp_path, capsys):
    out = tmp_path / "found"
    report, _ = summary(capsys, folder, "--model", models / "model.keras", "--out", out)
    wrong = [row for row in table(out / "predictions.csv") if row["label"] != row["prediction"]]
    assert report["mistakes"]
    for shown in report["mistakes"]:
        (row,) = [row for row in wrong if row["path"] == shown["file"]]
        assert (row["label"], row["prediction"]) == (shown["label"], shown["prediction"])
        assert float(row["confidence"]) == pytest.approx(shown["confidence"], abs=1e-5)
    page = (out / "report.html").read_text()
    assert all(f"<small>{shown['file']}</small>" in page for shown in report["mistakes"])
    assert page.count("<img") == len(report["mistakes"])
    shares = [shown["confidence"] for shown in report["mistakes"]]
    assert shares == sorted(shares, reverse=True)
    largest = sorted((float(row["confidence"]) for row in wrong), reverse=True)[: len(shares)]
    assert shares == pytest.approx(largest, abs=1e-5)


def test_a_network_of_one_logit_has_two_classes(folder, tmp_path, capsys):
    data = tmp_path / "data"
    for name in ("red", "green"):
        shutil.copytree(folder / name, data / name)
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, L.Dense(1, use_bias=False)(L.GlobalAveragePooling2D()(inputs)))
    model.set_weights([np.array([[-9.0], [9.0], [0.0]], np.float32)])
    model.save(tmp_path / "binary.keras")
    write_to_keras_file(tmp_path / "binary.keras", Preprocessing())
    (tmp_path / "binary.labels.txt").write_text("red\ngreen\n")
    report, _ = summary(capsys, data, "--model", tmp_path / "binary.keras")
    rows = table(tmp_path / "evaluation" / "predictions.csv")
    matrix = confusion_matrix([row["label"] for row in rows], [row["prediction"] for row in rows], labels=NAMES[:2])
    np.testing.assert_array_equal(report["confusion"]["matrix"], matrix)
    assert np.trace(matrix) > 0.6 * matrix.sum()
    assert {row["prediction"] for row in rows} == {"red", "green"}


# --- the comparison of two files --------------------------------------------------------------------------------------


def test_against_a_shipped_file(folder, models, tmp_path, capsys):
    out = tmp_path / "found"
    words = (folder, "--model", models / "other.keras", "--against", models / "model.keras", "--out", out)
    report, err = summary(capsys, *words, "--max-drop", 30)
    summary(capsys, folder, "--model", models / "model.keras", "--out", tmp_path / "shipped")
    new, shipped = (
        {row["path"]: row for row in table(place / "predictions.csv")} for place in (out, tmp_path / "shipped")
    )
    changed = {row["path"]: row for row in table(out / "changed.csv")}
    expected = {path for path in new if new[path]["prediction"] != shipped[path]["prediction"]}
    assert expected == set(changed)
    assert 3 <= len(changed) < len(new)
    for path, row in changed.items():
        label = new[path]["label"]
        assert (row["label"], row["new"], row["shipped"]) == (
            label,
            new[path]["prediction"],
            shipped[path]["prediction"],
        )
        assert float(row["shipped_confidence"]) == pytest.approx(float(shipped[path]["confidence"]), abs=1e-5)
        words_of = {True: "right", False: "wrong"}
        assert row["change"] == f"{words_of[row['shipped'] == label]}->{words_of[row['new'] == label]}"
    against = report["against"]
    assert against["changed"] == len(changed)
    assert sum(against["kinds"].values()) == len(changed)
    gained, lost = against["kinds"]["wrong->right"], against["kinds"]["right->wrong"]
    accuracies = [row["accuracy"] for row in report["results"]]
    assert against["difference"] == pytest.approx(accuracies[0] - accuracies[1])
    assert against["difference"] == pytest.approx((gained - lost) / len(new))
    assert against["interval"][0] < against["difference"] < against["interval"][1]
    sizes = [(models / name).stat().st_size for name in ("other.keras", "model.keras")]
    assert against["size_ratio"] == sizes[0] / sizes[1]
    times = [row["latency_ms"]["p50"] for row in report["results"]]
    assert against["latency_ratio"] == times[0] / times[1]
    assert against["passed"]
    assert f"may replace {models / 'model.keras'}" in err
    page = (out / "report.html").read_text()
    assert "Release gate: passes" in page
    assert all(f"<small>{path}</small>" in page for path in list(changed)[:12])
    assert "changes" not in report
    assert {path.name for path in out.iterdir()} == {"report.json", "report.html", "predictions.csv", "changed.csv"}


def test_a_worse_file_fails_with_one_line(folder, models, tmp_path, capsys):
    words = (folder, "--model", models / "worse.keras", "--against", models / "model.keras", "--out", tmp_path / "out")
    report, err = summary(capsys, *words, code=VERDICT)
    assert not report["against"]["passed"]
    assert err.splitlines()[-1].startswith(f"wavemix-tf: {models / 'worse.keras'} must not replace ")
    assert "significantly lower" in err.splitlines()[-1]
    assert "Release gate: fails" in (tmp_path / "out" / "report.html").read_text()
    drop = -100 * report["against"]["difference"]
    code, _, err = call(capsys, "evaluate", *words, "--max-drop", drop + 0.01)
    assert code == 0, err
    code, _, err = call(capsys, "evaluate", *words, "--max-drop", drop - 0.01)
    assert code == VERDICT
    assert "--max-drop" in err
    code, _, err = call(capsys, "evaluate", *words, "--max-drop", 100, "--max-changed", 0.01)
    assert code == VERDICT
    assert "--max-changed" in err.splitlines()[-1]


def test_names_of_any_bytes(folder, models, tmp_path, capsys):
    """A name that is not UTF-8 keeps its bytes in the tables and is shown as escapes."""
    data = tmp_path / os.fsdecode(b"data\xfe")
    shutil.copytree(folder, data)
    for place in list(data.glob("*/*.png")):
        place.rename(place.with_name(os.fsdecode(b"\xff") + place.name))
    words = (data, "--model", models / "worse.keras", "--against", models / "other.keras", "--max-drop", 100)
    report, _ = summary(capsys, *words, "--out", tmp_path / "out")
    assert report["dataset"]["folder"].endswith("data\\xfe")
    assert b"red/\xff" in (tmp_path / "out" / "predictions.csv").read_bytes()
    assert b"red/\xff" in (tmp_path / "out" / "changed.csv").read_bytes()
    assert "/\\xff1" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_file_against_itself_changes_nothing(folder, models, tmp_path, capsys):
    path = models / "model.keras"
    words = (folder, "--model", path, "--against", path, "--out", tmp_path / "out", "--max-changed", 0, "--max-drop", 0)
    report, _ = summary(capsys, *words)
    assert report["against"]["changed"] == 0
    assert report["against"]["p_value"] == 1
    assert table(tmp_path / "out" / "changed.csv") == []


def test_exported_files(folder, models, tmp_path, capsys):
    """The card gives names, preprocessing and arena; a file without a card needs its labels."""
    model = averaging(8 * np.eye(3))
    calibration = np.random.default_rng(0).random((64, 8, 8, 3), np.float32)
    for name, target, dtype in (("phone", "android-cpu", "float32"), ("mcu", "mcu", "int8")):
        artifact = export(
            model,
            target=target,
            dtype=dtype,
            calibration=calibration if dtype == "int8" else None,
            class_names=NAMES,
            crop_to_aspect_ratio=False,
            **UNJUDGED,
        )
        artifact.save(tmp_path / f"{name}.tflite")
    words = (folder, "--model", tmp_path / "mcu.tflite", "--against", tmp_path / "phone.tflite")
    report, _ = summary(capsys, *words, "--max-drop", 20)
    assert [row["runtime"] for row in report["results"]] == ["TFLite Micro", "LiteRT XNNPACK"]
    assert report["results"][0]["arena_bytes"] == artifact.arena_bytes > 0
    assert report["against"]["arena_ratio"] is None
    assert report["against"]["latency_ratio"] > 0
    keras_report, _ = summary(capsys, folder, "--model", models / "model.keras", "--out", tmp_path / "keras")
    assert report["results"][1]["accuracy"] == keras_report["results"][0]["accuracy"]

    mixed = ("--against", models / "model.keras", "--max-drop", 20, "--out", tmp_path / "mixed")
    report_of_both, _ = summary(capsys, folder, "--model", tmp_path / "phone.tflite", *mixed)
    assert report_of_both["against"]["latency_ratio"] is None  # of different runtimes
    assert report_of_both["against"]["changed"] == 0
    bare = tmp_path / "bare" / "file.tflite"
    bare.parent.mkdir()
    shutil.copy(tmp_path / "phone.tflite", bare)
    code, _, err = call(capsys, "evaluate", folder, "--model", bare)
    assert code == 1
    assert f"write them to {bare.with_suffix('.labels.txt')}" in err
    bare.with_suffix(".labels.txt").write_text("red\ngreen\nblue\n")
    moved, _ = summary(capsys, folder, "--model", bare)
    assert moved["results"][0]["accuracy"] == report["results"][1]["accuracy"]


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nowhere", "--model", "{models}/model.keras"), "FOLDER must be a folder of images"),
        (("{folder}",), "Missing option '--model'"),
        (("{folder}", "--model", "missing.keras"), "There is no file missing.keras"),
        (("{folder}", "--model", "{folder}/red/0.png"), "--model must be a .keras or .tflite file"),
        (("{folder}", "--model", "{models}/model.keras", "--against", "missing.tflite"), "There is no file missing"),
        (("{folder}", "--model", "{models}/model.keras", "--against", "{folder}/red/0.png"), "--against must be"),
        (("{folder}", "--model", "{models}/model.keras", "--max-drop", "1"), "--max-drop compares with a shipped file"),
        (
            ("{folder}", "--model", "{models}/model.keras", "--max-changed", "0"),
            "--max-changed compares with a shipped file",
        ),
        (("{folder}", "--model", "{models}/model.keras", "--max-changed", "2"), "--max-changed"),
        (("{folder}", "--model", "{models}/model.keras", "--max-drop", "-1"), "--max-drop"),
        (
            ("{folder}", "--model", "{models}/model.keras", "--against", "{models}/other.keras", "--max-drop", "inf"),
            "--max-drop must be finite",
        ),
        (("{folder}", "--model", "{models}/model.keras", "--set", "epochs=3"), "--set takes only on_bad_image"),
        (("{folder}", "--model", "{models}/model.keras", "--set", "crop_to_aspect_ratio=3"), "crop_to_aspect_ratio"),
        (("{folder}", "--model", "{models}/model.keras", "--set", "crop_to_aspect_ratio=true"), "states how images"),
        (("{folder}", "--model", "{models}/model.keras", "--set", "image_shape=9x9x3"), "takes images of 8x8x3"),
        (("{folder}", "--model", "{models}/model.keras", "--out", "{folder}/found"), "must not be in the folder"),
        (("{folder}", "--model", "{models}/model.keras", "--out", "{folder}/red/0.png"), "--out must be a folder"),
    ],
)
def test_wrong_arguments_are_one_line(words, expected, folder, models, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = [word.format(folder=folder, models=models) for word in words]
    code, out, err = call(capsys, "evaluate", *words)
    assert code in (1, 2)
    assert expected in err
    assert len([line for line in err.splitlines() if not line.startswith("note: ")]) == 1
    assert out == ""
    assert not (models / "evaluation").exists()


def test_classes_that_do_not_match_are_named(folder, models, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    (data / "green").rename(data / "Green")
    (data / "violet").mkdir()
    shutil.copy(data / "red" / "0.png", data / "violet")
    code, _, err = call(capsys, "evaluate", data, "--model", models / "model.keras", "--out", tmp_path / "out")
    assert code == 1
    assert err.rstrip().endswith("with 'Green' (differs only by case: 'green'), 'violet'")
    assert not (tmp_path / "out").exists()
    averaging(np.eye(3), path=tmp_path / "names.keras", names=("red", "green", "teal"))
    words = ("--model", models / "model.keras", "--against", tmp_path / "names.keras", "--out", tmp_path / "out")
    code, _, err = call(capsys, "evaluate", folder, *words)
    assert code == 1
    assert "lacks blue and has teal" in err


def test_a_folder_may_have_some_of_the_classes(folder, models, tmp_path, capsys):
    """New photos rarely show every class. All classes can still be predicted, and a misnamed folder stays an error."""
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    for name in ("red", "blue"):
        shutil.rmtree(data / name)
    report, err = summary(capsys, data, "--model", models / "worse.keras", "--out", tmp_path / "out")
    assert f"{data} has no images of 2 of the 3 classes, 'red', 'blue'" in err
    assert "no images of 2 of the 3 classes" in (tmp_path / "out" / "report.html").read_text()
    assert report["dataset"]["images"] == COUNTS["green"]
    assert report["dataset"]["class_names"] == list(NAMES)
    rows = {row["name"]: row for row in report["classes"]}
    assert [rows[name]["images"] for name in NAMES] == [0, COUNTS["green"], 0]
    assert rows["red"]["recall"] is None
    assert sum(row["predicted"] for row in rows.values()) == COUNTS["green"]
    whole, _ = summary(capsys, folder, "--model", models / "worse.keras", "--out", tmp_path / "out")
    assert whole["confusion"]["matrix"][1] == report["confusion"]["matrix"][1]
    (data / "green").rename(data / "Green")
    code, _, err = call(capsys, "evaluate", data, "--model", models / "worse.keras", "--out", tmp_path / "out")
    assert code == 1
    assert "must be classes of the network" in err


def test_an_empty_class_is_refused_as_in_a_run(folder, models, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    shutil.rmtree(data / "blue")
    (data / "blue").mkdir()
    code, _, err = call(capsys, "evaluate", data, "--model", models / "model.keras", "--out", tmp_path / "out")
    assert code == 1
    assert "Every class folder must contain images" in err


def test_unknown_preprocessing_is_refused(folder, tmp_path, capsys):
    path = tmp_path / "plain.keras"
    averaging(np.eye(3)).save(path)
    path.with_suffix(".labels.txt").write_text("red\ngreen\nblue\n")
    code, _, err = call(capsys, "evaluate", folder, "--model", path)
    assert code == 1
    assert "--set crop_to_aspect_ratio=true" in err
    summary(capsys, folder, "--model", path, "--set", "crop_to_aspect_ratio=false")
    path.with_suffix(".labels.txt").write_text("red\ngreen\nred\n")
    code, _, err = call(capsys, "evaluate", folder, "--model", path, "--set", "crop_to_aspect_ratio=false")
    assert code == 1
    assert "a name of its own" in err


@pytest.mark.parametrize("kind", ["header", "pixels"])
def test_a_broken_image_is_named_or_skipped(kind, folder, models, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    content = (data / "red" / "3.png").read_bytes()
    broken = b"no image" if kind == "header" else content[: len(content) * 2 // 3]
    (data / "red" / "3.png").write_bytes(broken)
    words = (data, "--model", models / "model.keras", "--out", tmp_path / "out")
    code, _, err = call(capsys, "evaluate", *words)
    assert code == 1
    assert str(data / "red" / "3.png") in err
    assert "--set on_bad_image=skip" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    report, _ = summary(capsys, *words, "--set", "on_bad_image=skip")
    assert report["dataset"]["images"] == sum(COUNTS.values()) - 1
    assert [row[0] for row in report["dataset"]["skipped"]] == [str(data / "red" / "3.png")]
    shutil.copytree(data, tmp_path / "all")
    for path in (tmp_path / "all").glob("*/*.png"):
        path.write_bytes(b"no image")
    code, _, err = call(capsys, "evaluate", tmp_path / "all", *words[1:], "--set", "on_bad_image=skip")
    assert code == 1
    assert "must have readable images" in err
    assert "red/3.png" not in {row["path"] for row in table(tmp_path / "out" / "predictions.csv")}


def test_outputs_that_are_no_numbers(folder, tmp_path, capsys):
    averaging(np.full((3, 3), np.nan), path=tmp_path / "model.keras")
    code, _, err = call(capsys, "evaluate", folder, "--model", tmp_path / "model.keras")
    assert code == 1
    assert f"{tmp_path / 'model.keras'}: A network's outputs must be finite" in err


def test_splits_and_images_of_the_training(folder, tmp_path, capsys):
    """Of a folder with splits the test images are used; images that the run trained on are reported."""
    data, run = tmp_path / "data", tmp_path / "run"
    for split in ("train", "test"):
        shutil.copytree(folder, data / split)
    (data / "test" / "red" / "0.png").unlink()
    run.mkdir()
    averaging(8 * np.eye(3), path=run / "model.keras")
    used = {f"{name}/0.png": digest(str(folder / name / "0.png")) for name in NAMES}
    sets = {key: {"size": 1, "checksum": 1, "origin": None} for key in ("train", "validation", "test", "calibration")}
    SplitList({"classes": list(NAMES), **sets}, {"train": used}).save(run)
    report, err = summary(capsys, data, "--model", run / "model.keras")
    assert report["dataset"]["images"] == sum(COUNTS.values()) - 1
    assert f"only the test images are used, those in {data / 'test'}" in err
    assert "2 of the 42 images were used to train the network" in err
    assert "2 of the 42 images were used" in (run / "evaluation" / "report.html").read_text()
    assert {row["path"].split("/")[0] for row in table(run / "evaluation" / "predictions.csv")} == {"test"}
    shutil.rmtree(data / "test")
    code, _, err = call(capsys, "evaluate", data, "--model", run / "model.keras")
    assert code == 1
    assert "must have test images" in err


# --- the folder -------------------------------------------------------------------------------------------------------


def test_a_folder_of_something_else_is_kept(folder, models, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    words = (folder, "--model", models / "model.keras", "--out", out)
    for name in ("mine.txt", "report.json"):
        code, _, err = call(capsys, "evaluate", *words)
        assert code == 1
        assert f"{out} with {name}" in err
        assert [path.name for path in out.iterdir()] == [name]
        (out / name).unlink()
        (out / "report.json").write_text('{"format": 1, "name": "model.keras"}')  # of a run
    (out / "report.json").unlink()
    summary(capsys, *words)  # an empty folder
    (out / "changed.csv").write_text("of an earlier call")
    summary(capsys, *words)  # its own
    assert not (out / "changed.csv").exists()
    code, _, err = call(capsys, "evaluate", folder, "--model", models / "other.keras", "--out", out)
    assert code == 1
    assert "holds the evaluation of another file" in err
    assert "that of model.keras" in err


KILLED = """
import os, sys
from wavemix_tf.command import evaluating
render = evaluating.render_html
evaluating.render_html = lambda report: os._exit(9)  # the predictions are written, the page is not
from wavemix_tf import cli
cli.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_kill_leaves_no_half_folder(folder, models, tmp_path, capsys):
    words = ["evaluate", str(folder), "--model", str(models / "model.keras"), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    assert not (tmp_path / "out").exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.")
    assert (left / "predictions.csv").is_file()
    other = tmp_path / left.name.replace(".out.", ".other.")
    other.mkdir()
    code, _, err = call(capsys, *words)
    assert code == 0, err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["out", other.name])  # another folder's stays
    assert remove_abandoned_beside(tmp_path / "other") == [other]


def test_an_interrupted_call_keeps_the_earlier_evaluation(folder, models, tmp_path, capsys, monkeypatch):
    words = ("evaluate", folder, "--model", models / "model.keras", "--out", tmp_path / "out")
    assert call(capsys, *words)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluating, "render_html", stopped)
    code, _, err = call(capsys, *words)
    assert code == 130
    assert "Stopped" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_text_for_a_terminal(folder, models, tmp_path, capsys):
    code, out, err = call(
        capsys, "evaluate", folder, "--model", models / "model.keras", "--out", tmp_path / "out", "--against",
        models / "other.keras", "--max-drop", 100,
    )  # fmt: skip
    assert code == 0, err
    lines = out.splitlines()
    assert any(line.startswith("new: model.keras") and "Keras" in line for line in lines)
    assert any(line.startswith("green") and f" {COUNTS['green']}" in line for line in lines)
    assert str(tmp_path / "out" / "report.html") in out
    assert "McNemar p = " in lines[-1]


# --- masks and enlarged images ----------------------------------------------------------------------------------------


def test_masks(tmp_path, capsys):
    """The mIoU of a network that returns the channels, against sklearn's matrix over all pixels."""
    data, random = tmp_path / "data", np.random.default_rng(0)
    found, truths = [], []
    for place in ("images", "masks"):
        (data / place).mkdir(parents=True)
    for index in range(5):
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        mask = np.where(random.random((8, 8)) < 0.7, pixels.argmax(-1), random.integers(0, 3, (8, 8)))
        mask[0] = 255
        Image.fromarray(pixels).save(data / "images" / f"{index}.png")
        Image.fromarray(mask.astype(np.uint8)).save(data / "masks" / f"{index}.png")
        found.append(pixels.argmax(-1))
        truths.append(mask)
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, L.Conv2D(3, 1, use_bias=False)(inputs))
    model.set_weights([np.eye(3, dtype=np.float32)[None, None]])
    path = tmp_path / "model.keras"
    model.save(path)
    write_to_keras_file(path, Preprocessing())
    path.with_suffix(".labels.txt").write_text("red\ngreen\nblue\n")
    report, _ = summary(capsys, data, "--model", path)
    kept = np.array(truths) != 255
    matrix = confusion_matrix(np.array(truths)[kept], np.array(found)[kept])
    ious = np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    (row,) = report["results"]
    np.testing.assert_allclose(row["iou"], ious)
    assert row["mean_iou"] == pytest.approx(ious.mean())
    assert row["images"] == 5
    assert "IoU per class" in (tmp_path / "evaluation" / "report.html").read_text()
    code, _, err = call(capsys, "evaluate", data, "--model", path, "--against", path)
    assert code == 1
    assert "--against compares classifiers" in err
    part = tmp_path / "part"  # nothing is learned: masks of one class will do
    for place, value in (("images", 9), ("masks", 0)):
        (part / place).mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3) if value else (8, 8), value, np.uint8)).save(part / place / "0.png")
    report, err = summary(capsys, part, "--model", path)
    assert report["results"][0]["mean_iou"] == 1
    assert "learned" not in err
    (data / "classes.txt").write_text("red\nblue\ngreen\n")
    code, _, err = call(capsys, "evaluate", data, "--model", path)
    assert code == 1
    assert "must have the classes of the network, in their order: red, green, blue. Received: red, blue, green" in err
    code, _, err = call(capsys, "evaluate", tmp_path / "evaluation", "--model", path, "--out", tmp_path / "other")
    assert code == 1
    assert "must have images/ and masks/" in err


def test_enlarged_images(tmp_path, capsys):
    """A network that repeats pixels is worse than bicubic interpolation, by the same means as in a run's report."""
    data, random = tmp_path / "data", np.random.default_rng(0)
    data.mkdir()
    for index in range(3):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((40, 36), Image.Resampling.BICUBIC).save(data / f"{index}.png")
    inputs = keras.Input((16, 16, 3))
    keras.Model(inputs, L.UpSampling2D(2)(inputs)).save(tmp_path / "model.keras")
    report, _ = summary(capsys, data, "--model", tmp_path / "model.keras")
    rows = {row["name"]: row for row in report["results"]}
    assert list(rows) == ["bicubic", "model.keras"]
    assert rows["model.keras"]["images"] == 3
    assert 15 < rows["model.keras"]["psnr_y"] < rows["bicubic"]["psnr_y"]
    assert "Comparison with bicubic" in (tmp_path / "evaluation" / "report.html").read_text()
