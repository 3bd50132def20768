"""The command on masks and on images to enlarge: end to end once each, then the verbs on those folders."""

import json

import numpy as np
import pytest
from picture_support import write_photographs, write_scenes
from PIL import Image

import wavemix_tf as wm
from wavemix_tf import cli
from wavemix_tf.command.pages.formats import decibels, score_text
from wavemix_tf.command.preset_scores import forms_of, read_sample, recipe_of, sample_values
from wavemix_tf.presets.folder import open_folder

# Networks trained for a few epochs, which fine-tuning changes a lot.
pytestmark = pytest.mark.filterwarnings("ignore:The file:UserWarning")


def call(capsys, *words):
    """(exit code, stdout, stderr) of the command, run in this process."""
    code = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def size_of(path):
    with Image.open(path) as file:
        return file.size


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    folder, out = write_scenes(root / "scenes", (("train", 64), ("val", 8), ("test", 8))), root / "run"
    settings = {
        "task": "segmentation",
        "ignore_index": 3,
        "image_shape": "24x32x3",
        "model_args": '{"width": 8, "depth": 1, "levels": 1, "dropout": 0.0}',
        "epochs": 3,
        "learning_rate": 0.02,
        "qat_epochs": 1,
    }
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert cli.main(["run", "--data", str(folder), "--out", str(out), *sets]) == 0
    return folder, out


@pytest.mark.slow
def test_report_of_a_segmentation(segmented):
    _, out = segmented
    report = json.loads((out / "report.json").read_text())
    assert report["metric"] == "mean_iou"
    rows = {row["name"]: row for row in report["results"]}
    assert set(rows) >= {"float model", "QAT model", "android-cpu-int8", "android-cpu-float32"}
    first = rows["float model"]
    assert first["mean_iou"] == pytest.approx(np.mean([value for value in first["iou"] if value is not None]))
    assert first["images"] == rows["android-cpu-int8"]["images"] == 8
    assert abs(first["mean_iou"] - rows["android-cpu-float32"]["mean_iou"]) < 0.002
    assert abs(rows["QAT model"]["mean_iou"] - rows["android-cpu-int8"]["mean_iou"]) < 0.03
    assert sum(first["pixels"]) == 8 * 23 * 32  # a line of each image is void
    assert len(report["pictures"]) == 3
    assert [cell["title"] for cell in report["pictures"][0]["cells"]] == [
        *("image", "truth", "float model", "android-cpu-int8")
    ]
    page = (out / "report.html").read_text()
    for text in ("IoU per class", "sky", "Outputs", "data:image/jpeg", "mIoU"):
        assert text in page
    assert "top-1 accuracy" not in page.replace("a classifier's top-1 accuracy", "")


def test_verbs_on_a_segmentation(segmented, capsys, tmp_path):
    folder, out = segmented
    code, shown, err = call(capsys, "verify", out)
    assert code == 0, err
    assert "android-cpu-int8" in shown
    image = folder / "test" / "0.png"
    code, shown, err = call(capsys, "predict", image, "--out", out, "--save", tmp_path, "--json")
    assert code == 0, err
    row = json.loads(shown.splitlines()[-1])
    assert {part["name"] for part in row["classes"]} <= {"sky", "ground", "box"}
    assert size_of(row["mask"]) == (32, 24)
    code, shown, err = call(capsys, "run", out / "recipe.json", "--out", out)
    assert (code, "Nothing to do" in shown) == (0, True), err


@pytest.mark.parametrize("target", ["mcu", "ethos-u55", "edge-tpu", "android-npu"])
def test_a_small_segmenter_for_every_target(segmented, capsys, target):
    pytest.importorskip("ethosu.vela") if target.startswith("ethos") else None
    _, out = segmented
    code, shown, err = call(capsys, "export", "--out", out, "--target", target)
    assert code == 0, err
    assert f"{target}-int8: " in shown


@pytest.fixture(scope="module")
def enlarged(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    folder, out = root / "photographs", root / "run"
    folder.mkdir()
    write_photographs(folder)
    settings = {
        "image_shape": "16x16x3",
        "model_args": '{"width": 8, "depth": 1, "dropout": 0.0}',
        "epochs": 4,
        "learning_rate": 0.01,
        "qat_epochs": 1,
        "patches": 8,
        "calibration_images": 32,
    }
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert cli.main(["run", "super_resolution_x2", "--data", str(folder), "--out", str(out), *sets]) == 0
    return folder, out


def test_report_of_a_super_resolution(enlarged):
    _, out = enlarged
    report = json.loads((out / "report.json").read_text())
    assert report["metric"] == "psnr_y"
    rows = {row["name"]: row for row in report["results"]}
    assert report["results"][0]["name"] == "bicubic"
    assert rows["float model"]["psnr_y"] == pytest.approx(rows["android-cpu-float32"]["psnr_y"], abs=0.05)
    assert rows["QAT model"]["psnr_y"] == pytest.approx(rows["android-cpu-int8"]["psnr_y"], abs=0.5)
    for row in report["results"]:
        assert row["psnr_y"] == pytest.approx(np.mean([one["psnr_y"] for one in row["rows"]]))
        assert 0 < row["ssim_y"] <= 1
    page = (out / "report.html").read_text()
    for text in ("Comparison with bicubic", "PSNR-Y", decibels(rows["bicubic"]["psnr_y"]), "official"):
        assert text in page


def test_verbs_on_a_super_resolution(enlarged, capsys, tmp_path):
    folder, out = enlarged
    code, _, err = call(capsys, "verify", out)
    assert code == 0, err
    for model in ([], ["--model", out / "exports" / "android-cpu-int8.tflite"]):
        code, shown, err = call(
            capsys, "predict", folder / "00.png", "--out", out, "--save", tmp_path / str(len(model)), "--json", *model
        )
        assert code == 0, err
        row = json.loads(shown.splitlines()[-1])
        given = size_of(folder / "00.png")
        assert size_of(row["picture"]) == (2 * given[0], 2 * given[1])


def test_scores_as_people_read_them():
    assert score_text("mean_iou", 0.51234) == "mIoU 51.23 %"
    assert score_text("psnr_y", 33.674) == "PSNR-Y 33.67 dB"
    assert score_text("accuracy", None) == "top-1 –"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "metric", "names"), [("segmented", "mean_iou", 3), ("enlarged", "psnr_y", 0)])
def test_a_preset_of_pictures(kind, metric, names, request, capsys, tmp_path):
    _, out = request.getfixturevalue(kind)
    described = ["--data-source", "drawn", "--data-license", "CC0-1.0", "--name", "pictures", "--sample", "4"]
    code, _, err = call(capsys, "preset", "--out", out, "--to", tmp_path / "made", *described)
    assert code == 0, err
    model = wm.from_preset(tmp_path / "made")
    assert (model.card.metric, len(model.class_names), model.card.data["license"]) == (metric, names, "CC0-1.0")
    assert "data_dir" not in model.card.recipe
    assert str(out) not in (tmp_path / "made" / "card.md").read_text()
    reported = {row["name"]: row[metric] for row in json.loads((out / "report.json").read_text())["results"]}
    measured = {row["form"]: row["value"] for row in model.card.results}
    assert measured["float16 weights"] == pytest.approx(reported["float model"], rel=0.02)
    assert measured["tflite/android-cpu-int8.tflite"] == pytest.approx(reported["android-cpu-int8"], rel=1e-3)
    folder = open_folder(tmp_path / "made", "")
    sample = read_sample(folder)
    assert len(sample["images"]) == len(sample["targets"]) == 4
    found = sample_values(recipe_of(model.card), sample, forms_of(folder))
    assert found == pytest.approx(dict(zip(sample["forms"].tolist(), sample["values"].tolist(), strict=True)), abs=1e-6)
    assert all(value > 0 for value in found.values())
