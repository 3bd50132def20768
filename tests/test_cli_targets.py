"""`run --targets`: which files a run writes, and that later calls keep to them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wavemix_tf import cli
from wavemix_tf.command import exports, run_folder
from wavemix_tf.command.arguments import check_export, check_targets, exports_to
from wavemix_tf.state_files import DamagedFileError
from wavemix_tf.tflite import ExportError
from wavemix_tf.tflite.runtimes import ethos
from wavemix_tf.tflite.targets.table import TARGETS
from wavemix_tf.training import RECIPES
from wavemix_tf.training.tasks import EXPORTS

# Networks trained for an epoch, which rounding changes a lot.
pytestmark = pytest.mark.filterwarnings("ignore:The file:UserWarning")
TINY = [
    *("--set", "image_shape=8x8x3"),
    *("--set", 'model_args={"width": 8, "depth": 1, "dropout": 0.0}'),
    *("--set", "policy=none", "--set", "shift=0", "--set", "epochs=6", "--set", "learning_rate=0.01"),
    *("--set", "calibration_images=32", "--set", "qat_epochs=1", "--set", "ema=0"),
]


def call(capsys, *words):
    """(exit code, stdout, stderr) of the command, run in this process."""
    code = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_names_of_targets():
    assert check_targets("mcu, android-cpu,mcu,") == ("mcu", "android-cpu")
    assert exports_to(None, EXPORTS) == list(EXPORTS)
    # A target of the task has its files, another one its preferred dtype.
    assert exports_to(("android-cpu", "ethos-u55"), EXPORTS) == [
        ("android-cpu", "float32"),
        ("android-cpu", "int8"),
        ("ethos-u55", TARGETS["ethos-u55"].dtypes[0]),
    ]
    for text in ("mcu,nothing", "", ",", "mcu-int8"):
        with pytest.raises(ValueError, match=r"--targets must name some of android-cpu, .*Received: "):
            check_targets(text)


def test_dtypes_of_the_targets_of_a_run():
    pairs = [("mcu", "int8")]
    assert check_export(None, "int8", None, pairs) == pairs
    with pytest.raises(ValueError, match=r"a target of the run \(mcu\)"):
        check_export(None, "float16", None, pairs)
    assert check_export("android-gpu", None, None, pairs)[0][0] == "android-gpu"


def test_the_folder_keeps_them(tmp_path):
    recipe = RECIPES["digits"]
    assert run_folder.choose_exports(recipe, tmp_path, None) == list(EXPORTS)
    run_folder.save_targets(tmp_path, "mcu", False)
    assert run_folder.choose_exports(recipe, tmp_path, None) == [("mcu", "int8")]
    assert run_folder.choose_exports(recipe, tmp_path, "android-gpu") == [("android-gpu", "float16")]
    run_folder.save_targets(tmp_path, None, False)  # not given: kept
    assert run_folder.read_targets(tmp_path) == ("mcu",)
    # A run that starts over has the targets of its own command line.
    assert run_folder.choose_exports(recipe, tmp_path, None, overwrite=True) == list(EXPORTS)
    run_folder.save_targets(tmp_path, None, True)
    assert run_folder.read_targets(tmp_path) is None
    for text in ("{", '{"targets": ["nothing"]}', '{"targets": []}', '{"targets": "mcu"}'):
        (tmp_path / run_folder.TARGETS_FILE).write_text(text)
        with pytest.raises(DamagedFileError, match=r"targets\.json must be intact"):
            run_folder.choose_exports(recipe, tmp_path, None)


def test_wrong_targets_are_one_line_and_train_nothing(tmp_path, capsys):
    code, _, err = call(capsys, "run", "digits", "--out", tmp_path / "run", "--targets", "mcu,phone")
    assert code == 1
    assert err.rstrip().endswith("Received: phone")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_compiler_is_found_before_the_training(monkeypatch):
    exports.check_tools([("mcu", "int8"), ("ethos-u55", "int8")])
    monkeypatch.setattr(ethos, "find_spec", lambda name: None)
    exports.check_tools([("mcu", "int8")])
    with pytest.raises(ExportError, match="pip install"):
        exports.check_tools([("mcu", "int8"), ("ethos-u55", "int8")])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The words of a finished run to one target, and its folder."""
    root, random = tmp_path_factory.mktemp("targets"), np.random.default_rng(0)
    for name, tone in (("dark", 60), ("light", 190)):
        (root / "tones" / name).mkdir(parents=True)
        for index in range(60):
            pixels = np.clip(tone + random.integers(-50, 50, (8, 8, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / "tones" / name / f"{index}.png")
    words = ["run", "--data", str(root / "tones"), "--out", str(root / "run"), *TINY]
    assert cli.main([*words, "--targets", "android-gpu"]) == 0
    return words, root / "run"


def files(out):
    return sorted(path.stem for path in (out / "exports").glob("*.tflite"))


@pytest.mark.slow
def test_a_run_to_some_targets(finished, capsys, tmp_path):
    words, given = finished
    out = tmp_path / "run"
    shutil.copytree(given, out)
    words = [str(out) if word == str(given) else word for word in words]
    assert files(out) == ["android-gpu-float16"]
    report = json.loads((out / "report.json").read_text())
    assert [row["name"] for row in report["exports"]] == files(out)
    # Called again with and without them, and `export`: there is nothing to do.
    for again in (words, [*words, "--targets", "android-gpu"], ["export", "--out", out]):
        code, text, err = call(capsys, *again)
        assert code == 0, err
        assert "Nothing to do" in text
    assert files(out) == ["android-gpu-float16"]
    # Other targets are added; the trained network and the earlier file stay.
    before = {path: path.read_bytes() for path in (*out.glob("*.keras"), *(out / "exports").glob("*.tflite"))}
    code, text, err = call(capsys, *words, "--targets", "mcu,android-gpu")
    assert code == 0, err
    assert "Nothing to do" not in text
    assert "Epoch" not in text
    assert files(out) == ["android-gpu-float16", "mcu-int8"]
    assert {path: path.read_bytes() for path in before} == before
    code, text, err = call(capsys, *words)
    assert "Nothing to do" in text
    (out / "exports" / "mcu-int8.tflite").unlink()
    (out / "exports" / "mcu-int8.json").unlink()
    code, text, err = call(capsys, "export", "--out", out, "--overwrite")
    assert code == 0, err
    assert files(out) == ["android-gpu-float16", "mcu-int8"]
    assert Path(run_folder.TARGETS_FILE).name in {path.name for path in out.iterdir()}
