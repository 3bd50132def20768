"""`wavemix-tf fit --from FILE`: training starts from the weights of another network, with a new head."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import wavemix_tf as wm
from wavemix_tf import cli

SMALL = ["--set", "epochs=2", "--set", "batch_size=8", "--set", "policy=none", "--set", "shift=0", "--set", "ema=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 images a class of two patterns."""
    root = tmp_path_factory.mktemp("data") / "patterns"
    random = np.random.default_rng(0)
    rows, columns = np.indices((12, 12)) // 2
    for name, pattern in (("rows", rows % 2), ("columns", columns % 2)):
        (root / name).mkdir(parents=True)
        for index in range(24):
            pixels = np.where(pattern[..., None] == 1, 200, 60) + random.integers(-15, 15, (12, 12, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A network of seven classes with weights that no initializer makes."""
    path = tmp_path_factory.mktemp("start") / "seven.keras"
    model = wm.StagedClassifier("resnet", 7, (12, 12, 3), widths=(8, 12), depths=(1, 1))
    for weight in model.trainable_weights:
        weight.assign(weight + 0.01)
    model.save(path)
    return path


def call(capsys, *words):
    code = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_fit_starts_from_a_file_with_a_new_head(folder, start, tmp_path, capsys):
    out = tmp_path / "run"
    words = ["fit", "--data", folder, "--from", start, "--out", out, *SMALL]
    code, _, err = call(capsys, *words)
    assert code == 0, err
    recipe = json.loads((out / "recipe.json").read_text())
    assert (recipe["model"], recipe["image_shape"]) == ("StagedClassifier", [12, 12, 3])
    assert recipe["model_args"]["widths"] == [8, 12]
    given, begun, trained = (
        keras.saving.load_model(path) for path in (start, out / "start.keras", out / "model.keras")
    )
    assert begun.output_shape == trained.output_shape == (None, 2)
    for mine, theirs in zip(begun.weights[:-2], given.weights[:-2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    pairs = zip(trained.trainable_weights, begun.trainable_weights, strict=True)
    moved = [np.abs(np.asarray(after) - np.asarray(before)).max() for after, before in pairs]
    assert 0 < max(moved) < 0.5  # trained, from there
    code, shown, _ = call(capsys, *words)
    assert code == 0
    assert "Nothing to do" in shown
    code, shown, _ = call(capsys, "fit", out / "recipe.json", "--out", out)  # the recipe names the network
    assert "Nothing to do" in shown


def test_wrong_files_are_refused_before_anything_is_written(folder, tmp_path, capsys):
    out = tmp_path / "run"
    other = tmp_path / "other.keras"
    keras.Sequential([keras.Input((12, 12, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]).save(other)
    (tmp_path / "broken.keras").write_bytes(other.read_bytes()[:500])
    for path, text in (
        (tmp_path / "none.keras", "--from must be a .keras file. Received"),
        (folder, "--from must be a .keras file. Received"),
        (tmp_path / "broken.keras", "must be intact"),
        (other, "--from must be a network of this package"),
    ):
        code, _, err = call(capsys, "fit", "--data", folder, "--from", path, "--out", out)
        assert code == 1
        assert text in err
        assert not out.exists()


@pytest.mark.slow
def test_arguments_that_change_the_weights_are_refused(folder, start, tmp_path, capsys):
    words = ["fit", "--data", folder, "--from", start, "--out", tmp_path / "run", *SMALL]
    code, _, err = call(capsys, *words, "--set", "model_args.widths=[8,16]")
    assert code == 1
    assert "must hold the model's architecture" in err
    assert not (tmp_path / "run" / "start.keras").exists()
