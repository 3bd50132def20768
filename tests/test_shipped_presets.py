"""Every preset in the package: whole, small, and on its stored sample as good as when it was made."""

import json

import numpy as np
import pytest

import wavemix_tf as wm
from wavemix_tf.command.preset_options import MOST_SHIPPED_BYTES, MOST_SHIPPED_BYTES_EACH
from wavemix_tf.command.preset_scores import forms_of, read_sample, recipe_of, sample_values
from wavemix_tf.presets.places import SHIPPED, shipped, shipped_names
from wavemix_tf.tflite.exporting.exporter import model_sha256
from wavemix_tf.training.tasks import task_type

NAMES = shipped_names()
# An accuracy may differ by the images whose two best classes are nearly equal; the outputs decide (below).
TOLERANCE = {"accuracy": 1.01 / 64, "mean_iou": 0.005, "psnr_y": 0.05}


@pytest.fixture(scope="module", params=NAMES)
def preset(request):
    folder = shipped(request.param)
    return folder, folder.read_card(), forms_of(folder), read_sample(folder)


def test_there_are_presets_and_they_are_small():
    assert "digits" in NAMES
    sizes = {name: sum(path.stat().st_size for path in (SHIPPED / name).rglob("*")) for name in NAMES}
    assert all(size <= MOST_SHIPPED_BYTES_EACH for size in sizes.values()), sizes
    assert sum(sizes.values()) <= MOST_SHIPPED_BYTES
    assert {path.name for path in SHIPPED.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_lies_beside_the_listed_files_and_the_card_is_complete(name):
    folder = shipped(name)
    folder.check()
    there = {path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file()}
    assert there == {*folder.files, "metadata.json"}
    card = folder.read_card()
    assert "unknown" not in json.dumps(card.to_dict())
    assert card.seed is not None
    assert card.name == name
    assert card.command.endswith("--ship") or "--ship " in card.command
    assert card.to_markdown() == (folder.path / "card.md").read_text(encoding="utf-8")
    assert recipe_of(card).to_json()
    text = b"".join((folder.path / one).read_bytes() for one in folder.files if one.endswith((".json", ".md")))
    assert not any(word in text for word in (b"/tmp/", b"/home/", b"/root/", b"/Users/"))  # no folder of a machine


@pytest.mark.slow
def test_every_form_is_as_good_as_its_card_says_on_the_sample(preset):
    _, card, forms, sample = preset
    assert sample is not None
    stored = dict(zip(sample["forms"].tolist(), sample["values"].tolist(), strict=True))
    found = sample_values(recipe_of(card), sample, forms)
    assert found.keys() == stored.keys() == {row["form"] for row in card.results}
    for form, value in found.items():
        assert value == pytest.approx(stored[form], abs=TOLERANCE[card.metric]), form
    if "outputs" in sample:
        outputs = forms[0].run(sample["images"].astype(np.float32) / np.float32(255))
        np.testing.assert_allclose(outputs, sample["outputs"], atol=1e-3 * np.abs(sample["outputs"]).max())


@pytest.mark.slow
def test_its_files_are_of_its_models(preset):
    folder, card, _, _ = preset
    wanted = [f"{target}-{dtype}" for target, dtype in task_type(recipe_of(card)).exports]
    assert set(folder.tflite()) == {"android-cpu-int8", "mcu-int8"} & set(wanted)
    artifacts = {name: wm.tflite.Artifact.load(path) for name, path in folder.tflite().items()}
    if "quantized/model.weights.h5" in folder.files:
        digest = model_sha256(wm.from_preset(folder.path.name, quantized=True))
        assert {one.model_sha256 for one in artifacts.values()} == {digest}
    assert {one.class_names for one in artifacts.values()} == {wm.from_preset(folder.path.name).class_names}


@pytest.mark.slow
def test_the_quantized_model_exports_the_same_file():
    folder = shipped("digits")
    sample = read_sample(folder)
    images = sample["images"].astype(np.float32) / np.float32(255)
    qat = wm.from_preset("digits", quantized=True)
    made = wm.tflite.export(qat, target="mcu", images=images, class_names=qat.class_names, crop_to_aspect_ratio=False)
    assert made.content == folder.tflite()["mcu-int8"].read_bytes()


def test_the_readme_example():
    model = wm.from_preset("digits")
    picture = np.zeros((30, 20, 1), np.uint8)
    assert model.predict(model.preprocessing(picture), verbose=0).shape == (1, 10)
    assert model.class_names == tuple("0123456789")
    assert wm.list_presets()["digits"]["value"] == model.card.value > 0.98
