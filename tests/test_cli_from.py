"""`wavemix-tf fit --from FILE`: training starts from the weights of another network, with a new head."""

import json
import zipfile

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
    masks = tmp_path / "masks.keras"
    wm.WaveMixSegmenter(3, (16, 16, 3), width=8, depth=1, levels=1).save(masks)
    lacking = tmp_path / "lacking.keras"
    with zipfile.ZipFile(masks) as archive, zipfile.ZipFile(lacking, "w") as changed:
        for name in archive.namelist():
            text = archive.read(name)
            if name == "config.json":
                config = json.loads(text)
                config["class_name"] = "StagedClassifier"
                del config["config"]["image_shape"]
                text = json.dumps(config).encode()
            changed.writestr(name, text)
    (tmp_path / "broken.keras").write_bytes(other.read_bytes()[:500])
    for path, text in (
        (tmp_path / "none.keras", "--from must be a preset or a .keras file. Received"),
        (folder, "--from must be a preset or a .keras file. A preset is a folder with metadata.json"),
        (tmp_path / "broken.keras", "must be intact"),
        (other, "--from must be a network of this package"),
        (lacking, "lacking.keras must be intact. Received: it lacks 'image_shape'. Save the model again."),
        (masks, "--from must be a network for classification. Received"),
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


@pytest.mark.slow
def test_a_missing_teacher_is_told_before_the_images_are_read(folder, tmp_path, capsys):
    code, shown, err = call(capsys, "fit", "--data", folder, "--out", tmp_path / "run", "--set", "teacher=nowhere")
    assert code == 1
    assert "teacher must be a .keras file or a run folder. Received: nowhere" in err
    assert "Read" not in shown + err


@pytest.mark.slow
def test_the_recipe_seed_makes_the_new_head(folder, start, tmp_path, capsys):
    for out in ("one", "two"):
        code, _, err = call(capsys, "fit", "--data", folder, "--from", start, "--out", tmp_path / out, *SMALL)
        assert code == 0, err
    one, two = (keras.saving.load_model(tmp_path / out / "model.keras") for out in ("one", "two"))
    for mine, theirs in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


@pytest.mark.slow
def test_a_run_that_began_from_another_file_is_not_taken_for_it(folder, start, tmp_path, capsys):
    other, out = tmp_path / "other.keras", tmp_path / "run"
    model = keras.saving.load_model(start)
    model.weights[0].assign(model.weights[0] + 1.0)
    model.save(other)
    assert call(capsys, "fit", "--data", folder, "--from", start, "--out", out, *SMALL)[0] == 0
    again = ["fit", "--data", folder, "--from", other, "--out", out, *SMALL]
    code, _, err = call(capsys, *again)
    assert code == 1
    assert "holds a run that did not start from this file: use another --out, or --overwrite. Received" in err
    assert call(capsys, *again, "--overwrite")[0] == 0
    begun = keras.saving.load_model(out / "start.keras")
    np.testing.assert_array_equal(begun.weights[0], model.weights[0])


@pytest.mark.slow
def test_a_kill_while_the_start_is_replaced_does_not_leave_the_old_one(folder, start, tmp_path, capsys, monkeypatch):
    """Between the deletion of the old run and the new start.keras: the same command then makes the start."""
    other, out = tmp_path / "other.keras", tmp_path / "run"
    model = keras.saving.load_model(start)
    model.weights[0].assign(model.weights[0] + 1.0)
    model.save(other)
    assert call(capsys, "fit", "--data", folder, "--from", start, "--out", out, *SMALL)[0] == 0
    again = ["fit", "--data", folder, "--from", other, "--out", out, *SMALL]

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wavemix_tf.command.steps.save_model", killed)
        assert call(capsys, *again, "--overwrite")[0] != 0
    assert not (out / "start.keras").exists()
    assert call(capsys, *again)[0] == 0
    np.testing.assert_array_equal(keras.saving.load_model(out / "start.keras").weights[0], model.weights[0])


def test_overwrite_does_not_delete_the_file_that_it_starts_from(folder, start, tmp_path, capsys):
    file = tmp_path / "model.keras"
    file.write_bytes(start.read_bytes())
    code, _, err = call(capsys, "fit", "--data", folder, "--from", file, "--out", tmp_path, "--overwrite", *SMALL)
    assert code == 1
    assert "--from must not be a file of the run folder that --overwrite empties. Received" in err
    assert file.is_file()


@pytest.mark.slow
def test_fit_starts_from_a_preset(folder, start, tmp_path, capsys):
    preset, out = tmp_path / "preset", tmp_path / "run"
    names = [f"class {number}" for number in range(7)]
    wm.save_to_preset(keras.saving.load_model(start), preset, class_names=names)
    code, _, err = call(capsys, "fit", "--data", folder, "--from", preset, "--out", out, *SMALL)
    assert code == 0, err
    given, begun = wm.from_preset(preset), keras.saving.load_model(out / "start.keras")
    assert begun.output_shape == (None, 2)
    for mine, theirs in zip(begun.weights[:-2], given.weights[:-2], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for name in ("model.weights.h5", "config.json"):
        path = preset / name
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"relu", b"gelu") if name == "config.json" else whole[:-1] + b"?")
        code, _, err = call(capsys, "fit", "--data", folder, "--from", preset, "--out", tmp_path / "other", *SMALL)
        path.write_bytes(whole)
        assert code == 1
        assert name in err
        assert len(err.strip().splitlines()) == 1
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", "--from must be a preset or a .keras file. A preset is"),
        ("wavemix_lite_144_7_cifar10", "read by `wavemix-tf import-torch --new-head`"),
    ],
)
def test_names_that_are_no_preset(folder, tmp_path, capsys, name, text):
    code, _, err = call(capsys, "fit", "--data", folder, "--from", name, "--out", tmp_path / "run")
    assert code == 1
    assert text in err
    assert not (tmp_path / "run").exists()
