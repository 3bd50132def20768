"""`wavemix-tf predict` and `explain`: every task, kind of file and way to name images, and their errors."""

import io
import json
import sys

import keras
import numpy as np
import pytest
from keras import layers as L
from PIL import Image
from tflite_support import UNJUDGED

import wavemix_tf as wm
from wavemix_tf import cli
from wavemix_tf.colours import overlay, palette
from wavemix_tf.command.networks import probabilities, task_by_shape
from wavemix_tf.tflite import export
from wavemix_tf.tiling import predict_tiled

NAMES = ["sky", "tree", "lake", "road", "house"]


def call(capsys, *words):
    """(exit code, stdout, stderr) of the command, run in this process."""
    code = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def json_lines(capsys, *words):
    code, out, err = call(capsys, "predict", "--json", *words)
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def network(shape, *stack):
    """A model whose outputs differ enough from pixel to pixel that no rounding changes a class."""
    inputs = keras.Input(shape)
    x = inputs
    for layer in stack:
        x = layer(x)
    model = keras.Model(inputs, x)
    random = np.random.default_rng(0)
    model.set_weights([random.normal(0, 1, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Models of every task, and images of several sizes."""
    root = tmp_path_factory.mktemp("predict")
    keras.utils.set_random_seed(0)
    wm.WaveMixClassifier(num_classes=3, image_shape=(16, 16, 3), width=8, depth=2, levels=2).save(root / "cls.keras")
    (root / "cls.labels.txt").write_text("cat\ndog\nbird\n")
    network((16, 16, 3), L.Conv2D(5, 3, padding="same")).save(root / "seg.keras")
    (root / "seg.labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    network((None, None, 3), L.Conv2D(5, 3, padding="same")).save(root / "any.keras")
    stack = (L.Conv2D(8, 3, strides=2, padding="same"), L.Conv2DTranspose(5, 4, strides=2, padding="same"))
    network((None, None, 3), *stack).save(root / "even.keras")
    enlarging = L.Conv2DTranspose(3, 4, strides=2, padding="same", activation="sigmoid")
    network((16, 16, 3), enlarging).save(root / "sr.keras")
    network((None, None, 3), enlarging.__class__.from_config(enlarging.get_config())).save(root / "sr_any.keras")
    random = np.random.default_rng(1)
    (root / "images" / "inner").mkdir(parents=True)
    for name, size in (("b", (16, 16)), ("a", (16, 16)), ("inner/c", (23, 37)), ("inner/d", (40, 12))):
        coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(root / "images" / f"{name}.png")
    (root / "images" / "note.txt").write_text("no image")
    (root / "images" / "._a.png").write_bytes(b"another program's")
    return root


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def logits(model, image):
    return keras.ops.convert_to_numpy(keras.saving.load_model(model)(image[None].astype(np.float32) / 255))[0]


def mask_of(path):
    picture = Image.open(path)
    assert picture.mode == "P"
    return np.asarray(picture)


# --- tasks ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_classification(place, capsys):
    model, images = place / "cls.keras", place / "images"
    rows = json_lines(capsys, images, "--model", model, "--top", 2)
    assert [row["path"] for row in rows] == [str(images / f"{n}.png") for n in ("a", "b", "inner/c", "inner/d")]
    for row in rows[:2]:
        expected = np.exp(logits(model, pixels(row["path"])))
        expected /= expected.sum()
        best = np.argsort(-expected)[:2]
        assert row["task"] == "classification"
        assert [part["index"] for part in row["classes"]] == best.tolist()
        assert [part["name"] for part in row["classes"]] == [["cat", "dog", "bird"][i] for i in best]
        np.testing.assert_allclose([part["probability"] for part in row["classes"]], expected[best], atol=1e-4)
        assert row["seconds"] >= 0
    assert not (place / "predictions").exists()


def test_the_mask_of_an_image_of_the_networks_size(place, tmp_path, capsys):
    path = place / "images" / "a.png"
    save = tmp_path / "masks"
    (row,) = json_lines(capsys, path, "--model", place / "seg.keras", "--save", save, "--overlay")
    expected = logits(place / "seg.keras", pixels(path)).argmax(-1)
    np.testing.assert_array_equal(mask_of(row["mask"]), expected)
    assert row["mask"] == str(save / "a_mask.png")
    palette_of_file = Image.open(row["mask"]).getpalette()
    assert palette_of_file[:15] == palette(5).reshape(-1).tolist()
    assert {part["name"]: part["share"] for part in row["classes"]} == {
        NAMES[i]: np.mean(expected == i) for i in np.unique(expected)
    }
    np.testing.assert_array_equal(pixels(row["overlay"]), overlay(pixels(path), expected, palette(5)))
    assert {file.name for file in save.iterdir()} == {"a_mask.png", "a_overlay.png", "legend.png"}
    # The legend shows the color of every class.
    shown = set(map(tuple, pixels(save / "legend.png").reshape(-1, 3).tolist()))
    assert set(map(tuple, palette(5).tolist())) <= shown


def test_a_mask_has_the_size_of_its_image(place, tmp_path, capsys):
    rows = json_lines(capsys, place / "images", "--model", place / "seg.keras", "--save", tmp_path)
    for row in rows:
        assert mask_of(row["mask"]).shape == pixels(row["path"]).shape[:2] == tuple(row["size"])
        assert sum(part["share"] for part in row["classes"]) == pytest.approx(1)
    assert rows[2]["mask"] == str(tmp_path / "inner" / "c_mask.png")


def test_a_fully_convolutional_network_takes_an_image_at_its_size(place, tmp_path, capsys):
    rows = json_lines(capsys, place / "images", "--model", place / "any.keras", "--save", tmp_path)
    for row in rows:
        expected = logits(place / "any.keras", pixels(row["path"])).argmax(-1)
        np.testing.assert_array_equal(mask_of(row["mask"]), expected)
    # For a network that needs even sides, an odd image is extended by mirroring.
    (row,) = json_lines(capsys, place / "images/inner/c.png", "--model", place / "even.keras", "--save", tmp_path)
    image = pixels(row["path"])
    padded = np.pad(image, [(0, 1), (0, 1), (0, 0)], mode="symmetric")
    expected = logits(place / "even.keras", padded).argmax(-1)[:-1, :-1]
    np.testing.assert_array_equal(mask_of(row["mask"])[:-4, :-4], expected[:-4, :-4])


def test_tiles_give_a_local_network_its_whole_image(place, tmp_path, capsys):
    """Resized to 16 x 16 the mask would be another one; the tiles' own borders do not show."""
    words = (place / "images" / "inner" / "c.png", "--model", place / "seg.keras", "--save", tmp_path)
    (tiled,) = json_lines(capsys, *words, "--tile")
    shown = mask_of(tiled["mask"])
    model = keras.saving.load_model(place / "seg.keras")
    free = network((None, None, 3), L.Conv2D(5, 3, padding="same"))
    free.set_weights(model.get_weights())
    expected = np.asarray(free(pixels(words[0])[None].astype(np.float32) / 255))[0].argmax(-1)
    np.testing.assert_array_equal(shown[1:-1, 1:-1], expected[1:-1, 1:-1])
    (resized,) = json_lines(capsys, *words)
    assert (mask_of(resized["mask"]) != shown).mean() > 0.05


def test_super_resolution_never_makes_small(place, tmp_path, capsys):
    path = place / "images" / "inner" / "c.png"
    code, out, err = call(capsys, "predict", path, "--model", place / "sr.keras", "--save", tmp_path, "--json")
    assert code == 0, err
    row = json.loads(out)
    assert row["picture"] == str(tmp_path / "c_x2.png")
    assert row["size"] == [46, 74]
    model = keras.saving.load_model(place / "sr.keras")
    image = pixels(path).astype(np.float32) / 255
    expected = predict_tiled(model, image, (16, 16), 4, 2)
    np.testing.assert_allclose(pixels(row["picture"]), 255 * expected, atol=1)
    (whole,) = json_lines(capsys, path, "--model", place / "sr_any.keras", "--save", tmp_path / "any")
    free = keras.ops.convert_to_numpy(keras.saving.load_model(place / "sr_any.keras")(image[None]))[0]
    np.testing.assert_allclose(pixels(whole["picture"]), 255 * np.clip(free, 0, 1), atol=1)


def test_one_line_of_text_an_image(place, tmp_path, capsys):
    image = place / "images" / "a.png"
    code, out, _ = call(capsys, "predict", image, "--model", place / "seg.keras", "--save", tmp_path)
    assert code == 0
    assert out.startswith(f"{image}: ")
    assert out.rstrip().endswith(f"-> {tmp_path / 'a_mask.png'}")
    assert len(out.splitlines()) == 1
    code, out, _ = call(capsys, "predict", image, "--model", place / "sr.keras", "--save", tmp_path)
    assert out == f"{image}: 32 x 32 pixels -> {tmp_path / 'a_x2.png'}\n"


def test_task_by_shape():
    assert task_by_shape((1, 8, 8, 3), (1, 10)) == "classification"
    assert task_by_shape((1, 8, 8, 3), (1, 8, 8, 3)) == "segmentation"
    assert task_by_shape((1, 8, 6, 3), (1, 24, 18, 3)) == "super_resolution"
    for output in ((1, 4, 4, 3), (1, 16, 16, 5), (1, 16, 24, 3), (1, 8, 10), (1,)):
        with pytest.raises(ValueError, match="Received"):
            task_by_shape((1, 8, 8, 3), output)
    with pytest.raises(ValueError, match="Received"):
        task_by_shape((1, 8, 8, 4), (1, 10))


def test_probabilities_of_logits_of_one_logit_and_of_a_distribution():
    np.testing.assert_allclose(probabilities(np.log([1.0, 3.0]) - 5), [0.25, 0.75])
    np.testing.assert_allclose(probabilities(np.array([-np.log(3.0)])), [0.75, 0.25])
    np.testing.assert_allclose(probabilities(np.array([0.2, 0.8])), [0.2, 0.8])


# --- files of TF Lite -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(place):
    model = wm.WaveMixClassifier(num_classes=3, image_shape=(16, 16, 3), width=8, depth=1)
    model.save(place / "exported.keras")
    images = np.random.default_rng(0).random((32, 16, 16, 3)).astype(np.float32)
    for dtype in ("float32", "int8"):
        options = {"calibration": images, "class_names": ("x", "y", "z"), **UNJUDGED}
        export(model, target="android-cpu", dtype=dtype, **options).save(place / f"{dtype}.tflite")
    return place


@pytest.mark.filterwarnings("ignore:The outputs of model")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.slow
def test_a_tflite_file_with_its_card_and_without(exported, tmp_path, capsys, dtype):
    image = exported / "images" / "a.png"
    expected = np.exp(logits(exported / "exported.keras", pixels(image)))
    expected /= expected.sum()
    (row,) = json_lines(capsys, image, "--model", exported / f"{dtype}.tflite")
    shares = {part["name"]: part["probability"] for part in row["classes"]}
    np.testing.assert_allclose([shares[name] for name in "xyz"], expected, atol=1e-4 if dtype == "float32" else 0.05)
    bare = tmp_path / "bare.tflite"
    bare.write_bytes((exported / f"{dtype}.tflite").read_bytes())
    (without,) = json_lines(capsys, image, "--model", bare)
    assert [part["name"] for part in without["classes"]] == [str("xyz".index(p["name"])) for p in row["classes"]]
    assert [p["probability"] for p in without["classes"]] == [p["probability"] for p in row["classes"]]
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n")
    (named,) = json_lines(capsys, image, "--model", bare)
    assert [p["name"] for p in named["classes"]] == [
        ["cat", "dog", "bird"]["xyz".index(p["name"])] for p in row["classes"]
    ]
    (tmp_path / "labels.txt").write_text("cat\n")
    code, out, err = call(capsys, "predict", image, "--model", bare)
    assert code == 0
    assert "1:" not in out.split(": ")[0]
    assert "names 1 classes, the network has 3" in err


@pytest.mark.slow
def test_a_segmenting_tflite_file(place, tmp_path, capsys):
    import tensorflow as tf

    model = keras.saving.load_model(place / "seg.keras")
    (tmp_path / "seg.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    capsys.readouterr()  # discards the converter's output
    words = (place / "images", "--save", tmp_path / "masks", "--tile")
    from_file = json_lines(capsys, *words, "--model", tmp_path / "seg.tflite")
    masks = [mask_of(row["mask"]) for row in from_file]
    from_keras = json_lines(capsys, *words, "--model", place / "seg.keras")
    for mask, row in zip(masks, from_keras, strict=True):
        assert (mask == mask_of(row["mask"])).mean() > 0.99


# --- ways to name images ----------------------------------------------------------------------------------------------


def with_stdin(monkeypatch, content):
    class Stream:
        buffer = io.BytesIO(content)

    monkeypatch.setattr(sys, "stdin", Stream())


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
@pytest.mark.slow
def test_a_list_on_standard_input(place, capsys, monkeypatch, separator):
    paths = [str(place / "images" / name) for name in ("b.png", "inner/d.png")]
    with_stdin(monkeypatch, (separator.join(paths) + separator).encode())
    rows = json_lines(capsys, "-", "--model", place / "cls.keras")
    assert [row["path"] for row in rows] == paths


def test_an_image_on_standard_input(place, capsys, monkeypatch):
    words = ("--model", place / "cls.keras")
    (expected,) = json_lines(capsys, place / "images" / "a.png", *words)
    for kind in ("PNG", "BMP", "TIFF", "GIF"):
        buffer = io.BytesIO()
        Image.open(place / "images" / "a.png").save(buffer, format=kind)
        with_stdin(monkeypatch, buffer.getvalue())
        (row,) = json_lines(capsys, "-", *words)
        assert row["path"] == "-"
        if kind != "GIF":  # which changes colors to 256
            assert row["classes"] == expected["classes"]


@pytest.mark.slow
def test_an_unreadable_file_does_not_take_the_others_with_it(place, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes((place / "images" / "a.png").read_bytes()[:60])
    (tmp_path / "empty.jpg").touch()
    Image.fromarray(np.full((9, 9), 0.5, np.float32)).save(tmp_path / "floating.tif")
    (tmp_path / "good.png").write_bytes((place / "images" / "a.png").read_bytes())
    code, out, err = call(capsys, "predict", tmp_path, "--model", place / "cls.keras")
    assert code == 1
    assert len(out.splitlines()) == 1
    assert "good.png" in out
    told = err.splitlines()
    assert len(told) == 4
    assert "broken.png" in told[0]
    assert "empty.jpg" in told[1]
    assert "8 or 16 bits per channel. Received: " in told[2]
    assert "floating.tif" in told[2]
    assert told[3] == "wavemix-tf: 3 of 4 files gave no result"


def test_a_cut_off_tflite_file_is_named_with_a_remedy(exported, place, tmp_path, capsys):
    """In plain words: what the parser says of offsets and buffers helps nobody."""
    whole = (exported / "int8.tflite").read_bytes()
    for size in (100, 3000, len(whole) - 5000):
        (tmp_path / "cut.tflite").write_bytes(whole[:size])
        code, _, err = call(capsys, "predict", place / "images" / "a.png", "--model", tmp_path / "cut.tflite")
        assert code == 1
        assert f"{tmp_path / 'cut.tflite'}: The TensorFlow Lite file is damaged: it is truncated, or bytes in it" in err
        assert f"Received: {size:,} bytes. Copy cut.tflite again" in err
        assert "unpack" not in err


@pytest.mark.slow
def test_a_missing_path_of_a_list_is_skipped(place, capsys, monkeypatch):
    with_stdin(monkeypatch, f"no/such.png\n{place / 'images'}\n{place / 'images/a.png'}\n".encode())
    code, out, err = call(capsys, "predict", "-", "--model", place / "cls.keras")
    assert (code, len(out.splitlines()), len(err.splitlines())) == (1, 1, 3)
    assert "no/such.png" in err
    assert "2 of 3 files" in err


def test_no_input_and_no_picture_of_another_image_is_overwritten(place, tmp_path, capsys):
    content = (place / "images" / "a.png").read_bytes()
    for name in ("x.png", "x_mask.png", "x.bmp"):
        (tmp_path / name).write_bytes(content)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    rows = json_lines(capsys, tmp_path, "--model", place / "seg.keras", "--save", tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    masks = [row["mask"] for row in rows]
    assert len(set(masks)) == len(rows) == 3
    assert all((tmp_path / mask).is_file() for mask in masks)


def test_where_pictures_go_is_not_searched_for_images(place, tmp_path, capsys, monkeypatch):
    (tmp_path / "a.png").write_bytes((place / "images" / "a.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        (row,) = json_lines(capsys, ".", "--model", place / "seg.keras")
        assert row["mask"] == "predictions/a_mask.png"


# --- invalid arguments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["{images}"], 2, "--model"),
        (["{images}", "--model", "no.keras"], 1, "no.keras"),
        (["{images}", "--model", "{place}/cls.labels.txt"], 1, ".keras or .tflite"),
        (["{images}", "--model", "{text}.keras"], 1, "Keras"),
        (["{images}", "--model", "{text}.tflite"], 1, "TFL3"),
        (["{images}", "--model", "{zip}.keras"], 1, "must be intact"),
        (["nothing.png", "--model", "{place}/cls.keras"], 1, "nothing.png"),
        (["{empty}", "--model", "{place}/cls.keras"], 1, "no images"),
        (["{images}", "--model", "{place}/cls.keras", "--tile"], 1, "--tile is for segmentation"),
        (["{images}", "--model", "{place}/sr.keras", "--overlay"], 1, "--overlay is for segmentation"),
        (["{images}", "--model", "{place}/cls.keras", "--set", "seed=1"], 1, "--out"),
        (["{images}", "--model", "{place}/cls.keras", "--save", "{place}/cls.keras"], 1, "--save must be a folder"),
    ],
)
@pytest.mark.slow
def test_wrong_arguments_are_reported_in_one_line(place, tmp_path, capsys, words, code, expected):
    import zipfile

    for ending in ("keras", "tflite"):
        (tmp_path / f"text.{ending}").write_text("this is no model")
    with zipfile.ZipFile(tmp_path / "zip.keras", "w") as archive:
        archive.writestr("note.txt", "nor is this")
    (tmp_path / "empty").mkdir()
    values = {"images": place / "images", "place": place, **{n: tmp_path / n for n in ("text", "zip", "empty")}}
    found, out, err = call(capsys, "predict", *(word.format(**values) for word in words))
    assert found == code, err
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("wavemix-tf: ")
    assert expected in err


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_draws_one_picture_an_image(place, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    words = (place / "images" / "a.png", tmp_path / "broken.png", place / "images" / "inner" / "c.png")
    save = tmp_path / "pictures"
    code, out, err = call(capsys, "explain", *words, "--model", place / "cls.keras", "--save", save)
    assert code == 1
    assert "1 of 3 files" in err
    assert [line.split(": ")[1] for line in out.splitlines()] == [str(save / f"explain_{n}.png") for n in "ac"]
    for picture in save.iterdir():
        image = Image.open(picture).convert("RGB")
        assert min(image.size) > 600
        assert len(image.getcolors(1 << 24)) > 500  # something was drawn


def test_explain_another_class(place, tmp_path, capsys):
    words = ("explain", place / "images" / "a.png", "--model", place / "cls.keras")
    pictures = set()
    for name in ("cat", "bird"):
        code, _, err = call(capsys, *words, "--save", tmp_path / name, "--class", name)
        assert code == 0, err
        pictures.add((tmp_path / name / "explain_a.png").read_bytes())
    assert len(pictures) == 2
    code, _, err = call(capsys, *words, "--class", "birb")
    assert code == 1
    assert "such as bird" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--model", "{place}/seg.keras"], "WaveMixBlock"),
        (["--model", "{place}/float32.tflite"], ".keras"),
        ([], "--model"),
    ],
)
def test_explain_refuses_in_one_line(exported, capsys, options, expected):
    words = [option.format(place=exported) for option in options]
    code, out, err = call(capsys, "explain", exported / "images" / "a.png", *words)
    assert code in (1, 2)
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert expected in err


@pytest.mark.slow
def test_explain_a_network_that_is_no_classifier(tmp_path, place, capsys):
    inputs = keras.Input((None, None, 3))
    x = wm.WaveMixBlock(8, levels=1)(L.Conv2D(8, 3, padding="same")(inputs))
    keras.Model(inputs, L.Conv2D(4, 1)(x)).save(tmp_path / "seg.keras")
    keras.Model(inputs, L.Conv2DTranspose(3, 2, strides=2)(x)).save(tmp_path / "sr.keras")
    for name in ("seg", "sr"):
        words = ("explain", place / "images" / "inner" / "c.png", "--model", tmp_path / f"{name}.keras")
        code, _, err = call(capsys, *words, "--save", tmp_path / name)
        assert code == 0, err
        assert (tmp_path / name / "explain_c.png").is_file()
        code, _, err = call(capsys, *words, "--class", "1")
        assert code == 1
        assert "--class is for classifiers" in err
