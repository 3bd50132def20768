"""Preset folders: what is written, what is read back, and what is refused."""

import dataclasses
import hashlib
import json
import shutil
import time

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

import wavemix_tf as wm
from wavemix_tf.preprocessing import Preprocessing
from wavemix_tf.presets import saving
from wavemix_tf.presets.folder import METADATA, open_folder
from wavemix_tf.presets.weights_file import as_stored, round_weights
from wavemix_tf.state_files import DamagedFileError

NAMES = ("ant", "bee", "cat")
SHAPE = (8, 8, 3)


def network(**options):
    options = dict(num_classes=3, image_shape=SHAPE, width=8, depth=1, dropout=0.1) | options
    model = wm.WaveMixClassifier(**options)
    rng = np.random.default_rng(1)
    for variable in model.weights:  # statistics too: fresh ones are 0 and 1
        if "haar" not in variable.path and "dwt" not in variable.path:
            variable.assign(rng.uniform(0.1, 1, variable.shape))
    return model


def images(count=5):
    return np.random.default_rng(2).random((count, *SHAPE), np.float32)


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """A preset with a quantized model and a further file."""
    folder = tmp_path_factory.mktemp("presets") / "three"
    qat = wm.tflite.quantize(model, np.random.default_rng(0).random((64, *SHAPE), np.float32))
    card = wm.ModelCard("three", "classification", "Three <b>animals</b>", seed=3, license="MIT", command="a && b")
    files = {"tflite/mcu-int8.tflite": b"file"}
    wm.save_to_preset(model, folder, class_names=NAMES, card=card, quantized=qat, files=files)
    return folder, qat


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved[0], tmp_path / "copy")


def rewrite(folder, name, content):
    """Replace a file and make the metadata agree with it, as somebody would who means harm."""
    (folder / name).write_bytes(content)
    metadata = json.loads((folder / METADATA).read_text())
    metadata["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / METADATA).write_text(json.dumps(metadata))


# --- what is kept ---


def test_the_model_comes_back_with_what_belongs_to_it(model, saved):
    found = wm.from_preset(saved[0])
    assert type(found) is wm.WaveMixClassifier
    assert found.get_config() == model.get_config()
    assert found.class_names == NAMES
    assert found.preprocessing == wm.ImagePreprocessor(SHAPE, Preprocessing())
    assert (found.card.name, found.card.seed, found.card.license) == ("three", 3, "MIT")
    assert (found.card.network, found.card.parameters) == ("WaveMixClassifier 8/1", model.count_params() - fixed(model))
    assert found.preset_folder == saved[0]
    json.dumps(found.card.to_dict())


def fixed(model):
    return sum(int(np.prod(one.shape)) for one in model.non_trainable_weights)


def test_weights_are_stored_as_float16_and_nothing_else_is_changed(model, saved):
    found = wm.from_preset(saved[0])
    for mine, theirs in zip(model.weights, found.weights, strict=True):
        expected = keras.ops.convert_to_numpy(mine).astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(theirs), expected, err_msg=mine.path)
    kinds = set()
    with h5py.File(saved[0] / "model.weights.h5") as file:
        file.visititems(lambda _, part: kinds.add(part.dtype.name) if isinstance(part, h5py.Dataset) else None)
    assert kinds == {"float16"}


def test_rounding_beforehand_gives_the_stored_weights(saved):
    rounded = network()
    round_weights(rounded)
    found = wm.from_preset(saved[0])
    for mine, theirs in zip(rounded.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(rounded.predict(images(), verbose=0), found.predict(images(), verbose=0))


def test_a_number_beyond_float16_keeps_its_array_in_float32():
    kept = np.array([1.0001, 70000.0], np.float32)
    assert as_stored(kept, "float16") is kept
    assert as_stored(kept[:1], "float16").dtype == np.float16
    assert as_stored(kept[:1], "float32").dtype == np.float32
    assert as_stored(np.array([1], np.int32), "float16").dtype == np.int32
    assert as_stored(np.array([np.inf, 1], np.float32), "float16").dtype == np.float16


def test_float32_keeps_every_bit(model, tmp_path):
    wm.save_to_preset(model, tmp_path / "exact", dtype="float32")
    for mine, theirs in zip(model.get_weights(), wm.from_preset(tmp_path / "exact").get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_keras_alone_reads_the_weights(saved):
    other = network()
    other.load_weights(saved[0] / "model.weights.h5")
    np.testing.assert_array_equal(other.get_weights()[0], wm.from_preset(saved[0]).get_weights()[0])


def test_the_quantized_model_is_kept_exactly(saved):
    folder, qat = saved
    found = wm.from_preset(folder, quantized=True)
    np.testing.assert_array_equal(found.predict(images(), verbose=0), qat.predict(images(), verbose=0))
    assert found.class_names == NAMES


def test_saved_again_it_is_the_same_to_the_last_byte(saved, tmp_path):
    time.sleep(1.1)  # HDF5 would write the second of its making
    wm.from_preset(saved[0]).save_to_preset(tmp_path / "again")
    for name in ("config.json", "model.weights.h5", "preprocessor.json", "card.json", "card.md", "labels.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (saved[0] / name).read_bytes(), name


def test_a_model_of_plain_keras(tmp_path):
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    rules = wm.ImagePreprocessor((6, 6, 3), value_range=(-1, 1))
    wm.save_to_preset(model, tmp_path / "plain", preprocessing=rules)
    found = wm.from_preset(tmp_path / "plain")
    x = np.ones((1, 6, 6, 3), np.float32)
    np.testing.assert_allclose(found.predict(x, verbose=0), model.predict(x, verbose=0), atol=2e-3)
    assert found.class_names == ()
    assert found.preprocessing(np.full((6, 6, 3), 255, np.uint8)).tolist() == x.tolist()
    assert found.preprocessing(np.zeros((6, 6, 3), np.uint8)).tolist() == (-x).tolist()
    found.save_to_preset(tmp_path / "again")
    assert wm.from_preset(tmp_path / "again").preprocessing == rules


def test_tasks_whose_outputs_are_no_classes(tmp_path):
    for kind, options, task in (
        (wm.WaveMixSegmenter, dict(num_classes=3, stride=1, levels=1), "segmentation"),
        (wm.WaveMixSuperResolver, dict(variant="sisr"), "super_resolution"),
    ):
        model = kind(image_shape=(8, 8, 3), width=8, depth=1, **options)
        model.save_to_preset(tmp_path / task)
        found = wm.from_preset(tmp_path / task)
        assert found.class_names == ()
        assert (found.card.task, found.preprocessing.rules.resize) == (task, "none")


# --- pictures ---


@pytest.mark.parametrize("size", [(8, 8), (31, 17), (5, 40)])
def test_pictures_are_resized_as_pillow_does(saved, size, rng):
    """Pillow's triangle filter is an independent one; rounding differs by at most one level."""
    picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(picture).resize(SHAPE[1::-1], Image.Resampling.BILINEAR), np.float32)
    found = wm.from_preset(saved[0]).preprocessing(picture)
    assert found.shape == (1, *SHAPE)
    assert found.dtype == np.float32
    assert np.abs(255 * found[0] - expected).max() <= 1 + 1e-4


def test_pictures_of_several_sizes(saved, rng):
    fit = wm.from_preset(saved[0]).preprocessing
    pictures = [rng.integers(0, 256, (size, 9, 3), dtype=np.uint8) for size in (8, 12)]
    np.testing.assert_array_equal(fit(pictures), np.concatenate([fit(one) for one in pictures]))
    np.testing.assert_array_equal(fit(np.stack([pictures[0]] * 2))[1], fit(pictures[0])[0])


@pytest.mark.parametrize(
    "picture", [np.zeros((8, 8, 1), np.uint8), np.zeros((8, 8, 3), np.float32), np.zeros((0, 8, 3), np.uint8)]
)
def test_other_pictures_are_refused(picture):
    with pytest.raises(ValueError, match=r"must be uint8 \(height, width, 3\)\. Received: "):
        wm.ImagePreprocessor(SHAPE)(picture)
    with pytest.raises(ValueError, match="must have one size"):
        wm.ImagePreprocessor((None, None, 3))([np.zeros((side, 8, 3), np.uint8) for side in (4, 5)])


# --- places ---


def test_paths_and_urls(saved, tmp_path, monkeypatch):
    place = shutil.copytree(saved[0], tmp_path / "with space")
    for preset in (place, str(place), place.as_uri()):
        assert wm.from_preset(preset).preset_folder == place
    monkeypatch.chdir(tmp_path)
    assert wm.from_preset("./with space").class_names == NAMES


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        ("tree", r"names: .*wavemix_lite_144_7_cifar10"),
        ("https://example.org/x", r"hf://OWNER/REPOSITORY"),
        ("hf://only_one", r"hf://OWNER/REPOSITORY"),
        ("hf://a/b/../c", r"hf://OWNER/REPOSITORY"),
        ("file://server/x", r"of this machine"),
    ],
)
def test_other_names_are_refused_with_the_forms(preset, words):
    with pytest.raises(ValueError, match=words) as caught:
        wm.from_preset(preset)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_preset(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"with metadata\.json"):
        wm.from_preset(tmp_path)
    with pytest.raises(FileNotFoundError, match="which is no folder"):
        wm.from_preset(tmp_path / "none")


# --- arguments ---


def test_arguments_replace_those_of_the_network(saved):
    found = wm.from_preset(saved[0], dropout=0.5, image_shape=(16, 12, 3))
    assert found.dropout == 0.5
    assert found.input_shape == (None, 16, 12, 3)
    assert found.preprocessing.image_shape == (16, 12, 3)
    np.testing.assert_array_equal(found.get_weights()[0], wm.from_preset(saved[0]).get_weights()[0])


@pytest.mark.parametrize("options", [dict(width=16), dict(num_classes=4), dict(depth=2), dict(colour=1)])
def test_arguments_that_change_the_weights_are_refused(saved, options):
    with pytest.raises(ValueError, match=f"keep the shapes of its weights. Received: {next(iter(options))}=") as caught:
        wm.from_preset(saved[0], **options)
    assert not isinstance(caught.value, DamagedFileError)
    assert "\n" not in str(caught.value)


def test_build_model_passes_on_what_it_is_given(monkeypatch):
    found = {}
    monkeypatch.setattr(wm, "from_preset", lambda name, **options: found.update(name=name, **options) or network())
    wm.build_model("wavemix_lite_144_7", weights="cifar10", image_shape=[16, 16, 3], normalize=None, dropout=0.0)
    expected = dict(image_shape=(16, 16, 3), normalize=None, dropout=0.0)
    assert found == dict(name="wavemix_lite_144_7_cifar10", **expected)


def test_build_model_names_the_weights_there_are():
    with pytest.raises(ValueError, match=r"they are 'cifar10'\. Received: weights='imagenet'"):
        wm.build_model("wavemix_lite_144_7", weights="imagenet")
    with pytest.raises(ValueError, match="'deit_tiny' has none"):
        wm.build_model("deit_tiny", weights="imagenet")


# --- damage ---


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "card.json", "preprocessor.json", "labels.txt"])
@pytest.mark.parametrize("kind", ["truncated", "changed", "missing"])
def test_damage_is_one_line_that_names_the_file(copy, name, kind):
    path = copy / name
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "changed":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path.unlink()
    words = {"truncated": r"bytes of [\d,]+", "changed": "SHA-256", "missing": "no such file"}[kind]
    with pytest.raises(DamagedFileError, match=rf"{name}.*Received: .*{words}.*Copy it again") as caught:
        wm.from_preset(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda found: found.update(format=99), "format 99.*install a newer one"),
        (lambda found: found.pop("files"), "'files' is missing"),
        (lambda found: found["files"].update({"../x": {"bytes": 1, "sha256": "0" * 64}}), "plain name"),
        (lambda found: found["files"].update({"/etc/x": {"bytes": 1, "sha256": "0" * 64}}), "plain name"),
        (lambda found: found["files"].update(x={"bytes": 3 << 30, "sha256": "0" * 64}), "of at most"),
        (lambda found: found["files"]["config.json"].update(sha256="x"), "not of the form"),
        (lambda found: found["files"].pop("config.json"), r"lacks config\.json"),
    ],
)
def test_metadata_of_another_form(copy, edit, words):
    found = json.loads((copy / METADATA).read_text())
    edit(found)
    (copy / METADATA).write_text(json.dumps(found))
    with pytest.raises(DamagedFileError, match=rf"metadata\.json.*{words}"):
        wm.from_preset(copy)


def test_truncated_metadata(copy):
    (copy / METADATA).write_bytes((copy / METADATA).read_bytes()[:40])
    with pytest.raises(DamagedFileError, match=r"metadata\.json.*not JSON"):
        wm.from_preset(copy)
    (copy / METADATA).write_bytes(b" " * (2 << 20))
    with pytest.raises(DamagedFileError, match=r"2,097,152 bytes of at most"):
        wm.from_preset(copy)


def test_a_layer_that_runs_code_is_refused(copy):
    inputs = keras.Input((8, 8, 3))
    harmful = keras.Model(inputs, keras.layers.Lambda(lambda x: x)(inputs))
    config = keras.saving.serialize_keras_object(harmful)
    rewrite(copy, "config.json", json.dumps(config).encode())
    with pytest.raises(DamagedFileError, match=r"layers that run code are never loaded. Received: Lambda"):
        wm.from_preset(copy)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda file: file.__setitem__("more", h5py.ExternalLink("/etc/passwd", "/x")), "more in it is a link"),
        (lambda file: file.__setitem__("more", h5py.SoftLink("/layers")), "more in it is a link"),
        (lambda file: file.create_dataset("more", data=np.zeros(9), compression="gzip"), "not a plain array"),
        (lambda file: file.create_dataset("more", (1,), "f4", external=[("/etc/passwd", 0, 4)]), "not a plain array"),
    ],
)
def test_weights_that_reach_elsewhere_are_refused(copy, edit, words):
    path = copy / "model.weights.h5"
    with h5py.File(path, "a") as file:
        edit(file)
    rewrite(copy, path.name, path.read_bytes())
    with pytest.raises(DamagedFileError, match=words):
        wm.from_preset(copy)


def test_weights_that_are_no_numbers_or_another_networks(copy, model):
    other = network(depth=2)
    wm.save_to_preset(other, copy.parent / "other")
    rewrite(copy, "model.weights.h5", (copy.parent / "other" / "model.weights.h5").read_bytes())
    with pytest.raises(DamagedFileError, match="must hold a network"):
        wm.from_preset(copy)
    broken = network()
    broken.get_layer("head").bias.assign([np.nan, 0, 0])
    with pytest.raises(ValueError, match="head/bias are not finite"):
        wm.save_to_preset(broken, copy.parent / "broken")
    assert not (copy.parent / "broken").exists()


# --- writing ---


class Unregistered(keras.layers.Layer):
    def call(self, x):
        return x


def test_what_cannot_be_loaded_is_not_written(tmp_path, model):
    inputs = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="Unregistered"):
        wm.save_to_preset(keras.Model(inputs, Unregistered()(inputs)), tmp_path / "x")
    wm.save_to_preset(model, tmp_path / "y")
    before = (tmp_path / "y" / METADATA).read_bytes()
    with pytest.raises(ValueError, match="Unregistered"):
        wm.save_to_preset(keras.Model(inputs, Unregistered()(inputs)), tmp_path / "y", overwrite=True)
    assert (tmp_path / "y" / METADATA).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["y"]


def test_an_interrupted_save_leaves_nothing(tmp_path, model, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(saving, "write_metadata", full)
    with pytest.raises(OSError, match="No space left"):
        wm.save_to_preset(model, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_only_presets_are_replaced(tmp_path, model):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="without overwrite=True"):
        wm.save_to_preset(model, tmp_path)
    with pytest.raises(FileExistsError, match="which is none"):
        wm.save_to_preset(model, tmp_path, overwrite=True)
    wm.save_to_preset(model, tmp_path / "x", class_names=NAMES)
    wm.save_to_preset(model, tmp_path / "x", class_names=("a", "b", "c"), overwrite=True)
    assert wm.from_preset(tmp_path / "x").class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(class_names=["a"]), "each of the 3 outputs. Received: 1 names"),
        (dict(class_names=["a", "b\n", "c"]), "without control characters"),
        (dict(files={"../x": b""}), r"plain names.*\.\./x"),
        (dict(files={"config.json": b""}), r"plain names.*config\.json"),
        (dict(dtype="int8"), "dtype must be one of 'float16', 'float32'"),
    ],
)
def test_wrong_arguments(model, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        wm.save_to_preset(model, tmp_path / "x", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_kind(tmp_path):
    class Own(keras.Model):
        pass

    for model in (Own(), 3):
        with pytest.raises(ValueError, match="functional Keras model"):
            wm.save_to_preset(model, tmp_path / "x")


# --- card and list ---


def test_the_card_round_trips_and_escapes(saved):
    card = open_folder(saved[0], "").read_card()
    assert wm.ModelCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    page = (saved[0] / "card.md").read_text()
    assert "Three \\<b\\>animals\\</b\\>" in page
    assert "```\na\nb\n```" in page
    rows = ({"form": "x", "runtime": "y", "value": 0.5, "images": 1000, "by": "z"},)
    measured = dataclasses.replace(card, metric="accuracy", results=rows)
    assert "| x | y | 50.00 % | 1,000 | z |" in measured.to_markdown()
    assert measured.value == 0.5
    with pytest.raises(ValueError, match="'seed' must be"):
        wm.ModelCard.from_dict({**card.to_dict(), "seed": "3"})


def test_the_list_is_json_and_every_authors_network_is_a_variant():
    found = json.loads(json.dumps(wm.list_presets()))
    authors = {name: row for name, row in found.items() if row["from"] == "authors"}
    assert len(authors) == 16
    for name, row in authors.items():
        assert set(row) == {key for one in found.values() for key in one}
        if name != "wavemix_imagenet_71_49":
            assert row["network"] in wm.VARIANTS
            assert name.startswith(f"{row['network']}_")
