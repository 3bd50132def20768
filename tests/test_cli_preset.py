"""``wavemix-tf preset`` and ``list --presets``: a finished run folder becomes a preset that is what its card says."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

import wavemix_tf as wm
from wavemix_tf import cli
from wavemix_tf.command import preset_making, preset_options
from wavemix_tf.command.command_line import CommandLine
from wavemix_tf.command.preset_options import card_line, data_facts, place_of, run_command
from wavemix_tf.presets import places
from wavemix_tf.training import RECIPES, load_data

SETTINGS = ["--set", "epochs=2", "--set", "qat_epochs=1", "--set", "model_args.width=8", "--set", "model_args.depth=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "mine"
    assert (
        cli.main(["run", "digits", "--out", str(out), "--targets", "android-cpu,mcu", *SETTINGS, "--set", "seed=5"])
        == 0
    )
    return out


@pytest.fixture(scope="module")
def made(run):
    words = ["preset", "--out", str(run), "--name", "small", "--sample", "40", "--add-note", "A <note>."]
    assert cli.main(words) == 0
    return run / "preset"


@pytest.mark.slow
def test_the_preset_is_the_run(run, made):
    model, trained = wm.from_preset(made), keras.saving.load_model(run / "model.keras", compile=False)
    for mine, theirs in zip(model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs.astype(np.float16).astype(np.float32))
    tuned = keras.saving.load_model(run / "qat.keras", compile=False)
    for mine, theirs in zip(wm.from_preset(made, quantized=True).get_weights(), tuned.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for name in ("android-cpu-int8", "mcu-int8"):
        artifact = wm.tflite.Artifact.load(made / "tflite" / f"{name}.tflite")
        assert artifact.content == (run / "exports" / f"{name}.tflite").read_bytes()
    assert not list(made.rglob("*.cc"))


@pytest.mark.slow
def test_the_card_is_of_the_run_and_measured_on_what_is_stored(made):
    card = wm.from_preset(made).card
    assert (card.name, card.seed, card.metric, card.notes) == ("small", 5, "accuracy", ("A <note>.",))
    assert card.data["train"] == 1193
    assert card.data["license"] == "CC BY 4.0"
    first, second = card.command.split(" && ")
    assert first == (
        "wavemix-tf run digits --set model_args.width=8 --set model_args.depth=1 --set seed=5 --set epochs=2 "
        "--set warmup_epochs=0.5 --set qat_epochs=1"
    )
    assert second.startswith("wavemix-tf preset --out runs/small --name small")
    assert "data_dir" not in card.recipe
    assert [row["form"] for row in card.results] == [
        *("float16 weights", "quantized model", "tflite/android-cpu-int8.tflite", "tflite/mcu-int8.tflite"),
    ]
    # The oracle: Keras and NumPy alone.
    images, labels = load_data(RECIPES["digits"]).test_arrays
    for quantized, row in zip((False, True), card.results, strict=False):
        model = wm.from_preset(made, quantized=quantized)
        expected = np.mean(model.predict(images, verbose=0).argmax(-1) == labels)
        assert row["value"] == pytest.approx(expected, abs=0.003)
        assert row["images"] == len(labels) == 360


@pytest.mark.slow
def test_the_sample_is_of_the_test_images(made):
    with np.load(made / "sample.npz") as file:
        sample = dict(file)
    images, labels = load_data(RECIPES["digits"]).test_arrays
    known = {
        (image.tobytes(), label) for image, label in zip(np.round(255 * images).astype(np.uint8), labels, strict=True)
    }
    assert len(sample["images"]) == 40
    for image, label in zip(sample["images"], sample["targets"], strict=True):
        assert (image.tobytes(), label) in known
    model = wm.from_preset(made)
    np.testing.assert_allclose(
        model.predict(sample["images"] / np.float32(255), verbose=0), sample["outputs"], atol=1e-4
    )


@pytest.mark.slow
def test_shipping_checks_the_size(run, monkeypatch, tmp_path, capsys):
    for module in (places, preset_options, preset_making):
        monkeypatch.setattr(module, "SHIPPED", tmp_path / "wavemix_tf" / "presets" / "shipped")
    words = ["preset", "--out", str(run), "--name", "small", "--ship"]
    assert cli.main(words) == 1
    assert "--ship needs a checkout" in capsys.readouterr().err
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setattr(preset_making, "MOST_SHIPPED_BYTES_EACH", 1000)
    assert cli.main(words) == 1
    assert "A shipped preset must have at most 1,000 bytes" in capsys.readouterr().err
    assert not list(places.SHIPPED.glob("*"))
    monkeypatch.setattr(preset_making, "MOST_SHIPPED_BYTES_EACH", 10**6)
    assert cli.main([*words, "--without-quantized", "--sample", "0"]) == 0
    assert wm.from_preset("small").card.seed == 5
    assert not (places.SHIPPED / "small" / "quantized").exists()
    assert not (places.SHIPPED / "small" / "sample.npz").exists()


@pytest.mark.slow
def test_a_file_of_another_model_is_refused(run, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    model = keras.saving.load_model(other / "qat.keras", compile=False)
    model.layers[-1].set_weights([part * 1.5 for part in model.layers[-1].get_weights()])
    model.save(other / "qat.keras")
    assert cli.main(["preset", "--out", str(other), "--to", str(tmp_path / "x")]) == 1
    assert "files of a preset must be made from its models" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


# --- before Keras is loaded ---


@pytest.mark.slow
def test_wrong_words(run, made, capsys, tmp_path):
    part = shutil.copytree(run, tmp_path / "part", ignore=shutil.ignore_patterns("mcu*", "preset"))
    for words, text in (
        (["--out", run, "--to", made], "--to must be free, or a preset and --overwrite given"),
        (["--out", run, "--name", "a/b"], "letters, digits and _"),
        (["--out", run, "--to", "x", "--ship"], "--ship writes into the package"),
        (["--out", part], "has no mcu-int8.tflite"),
        (["--out", tmp_path], "is not a run folder"),
    ):
        assert cli.main(["preset", *map(str, words)]) == 1
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
    (part / "qat_training.json").unlink()
    assert cli.main(["preset", "--out", str(part)]) == 1
    assert "must be a finished run" in capsys.readouterr().err


def test_data_that_is_not_known_must_be_described():
    recipe = RECIPES["camvid"]
    with pytest.raises(ValueError, match="--data-source TEXT, --data-license TEXT"):
        data_facts(recipe, "somewhere", None)
    assert data_facts(recipe, "somewhere", "MIT") == ("somewhere", "MIT")
    assert data_facts(RECIPES["mnist"], None, "X")[1] == "X"


def test_the_command_of_a_recipe_makes_that_recipe():
    assert run_command(RECIPES["digits"]) == "wavemix-tf run digits"
    less = dataclasses.replace(RECIPES["digits"], model_args={"width": 16})  # --set removes no argument
    assert run_command(less) == "wavemix-tf run recipe.json"
    own = json.loads(RECIPES["digits"].to_json()) | {"name": "own"}
    assert run_command(wm.training.Recipe.from_json(json.dumps(own))) == "wavemix-tf run recipe.json"


def test_no_folder_of_this_machine_is_in_the_card(tmp_path):
    line = CommandLine(("preset", "--out", str(tmp_path), "--to", "/somewhere/x", "--name", "n"))
    shown = card_line(line, tmp_path, preset_options.Path("/somewhere/x"), "n")
    assert shown == "wavemix-tf preset --out runs/n --to presets/n --name n"
    assert place_of(tmp_path, None, False, "n") == tmp_path / "preset"


def test_list_presets(capsys):
    assert cli.main(["list", "--presets", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"presets": wm.list_presets()}
    assert cli.main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"recipes", "networks", "targets", "presets"}
    assert cli.main(["list", "--presets"]) == 0
    shown = capsys.readouterr().out
    assert "digits" in shown
    assert "wavemix_lite_144_7_cifar10" in shown
