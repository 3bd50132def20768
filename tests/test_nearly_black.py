"""Images that are read as nearly black, or have a single color, are reported by name by every reader."""

import dataclasses
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

import wavemix_tf as wm
from wavemix_tf.cli import main
from wavemix_tf.training import Recipe, load_data
from wavemix_tf.training.data.gate import Gate
from wavemix_tf.training.data.given import as_bundle
from wavemix_tf.training.images import nearly_black_text, read_header, read_image
from wavemix_tf.warning import WavemixWarning

RECIPE = Recipe(name="dark", dataset="folder", image_shape=(8, 8, 3), num_classes=2, calibration_images=4)
TOLD = r"12 of 24 images of more than 8 bits have no value above 255: .* nearly black\. Save them with 8 bits, or"


def noise(most, seed=0, shape=(8, 8)):
    pixels = np.random.default_rng(seed).integers(0, most + 1, shape)
    pixels.flat[0] = most
    return pixels


def write_png(path, pixels):
    """(H, W, 3) or (H, W, 4) as a PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def write_classes(root):
    """A class of 8 bits' values in 32, and a class that uses all of 16 bits."""
    for name, most in (("low", 255), ("whole", 65535)):
        (root / name).mkdir(parents=True)
        for number in range(12):
            Image.fromarray(noise(most, number).astype(np.int32)).save(root / name / f"{number}.tif")
    return str(root)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_folder_scan_tells_of_pictures_without_a_scale_once(tmp_path, in_memory):
    recipe = dataclasses.replace(RECIPE, data_dir=write_classes(tmp_path / "a"), in_memory=in_memory)
    with pytest.warns(WavemixWarning, match=TOLD) as caught:
        data = load_data(recipe)
    assert len(caught) == 1
    assert [text for text in data.notes if "more than 8 bits" in text] == [str(caught[0].message)]
    assert str(tmp_path / "a" / "low" / "0.tif") in data.notes[-1]
    # The pixels do not change: all are divided by 257.
    plain = [text for text in data.notes if "single color" in text]
    assert plain == ["every image of a class of the train set has a single color: low"]


@pytest.mark.parametrize("task", ["segmentation", "super_resolution"])
def test_other_tasks_read_folders_alike(tmp_path, task):
    for number in range(12):
        path = tmp_path / "images" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        if task == "segmentation":
            (tmp_path / "masks").mkdir(exist_ok=True)
            Image.fromarray(noise(1, number, (32, 32)).astype(np.uint8)).save(tmp_path / "masks" / path.name)
        Image.fromarray(noise(4095, number, (32, 32)).astype(np.uint16)).save(path)
    place = tmp_path if task == "segmentation" else tmp_path / "images"
    recipe = Recipe(name="x", dataset="folder", task=task, data_dir=str(place), image_shape=(8, 8, 3))
    with pytest.warns(WavemixWarning, match=r"12 of 12 images of more than 8 bits have no value above 4,095: "):
        load_data(recipe)


@pytest.mark.parametrize("kind", ["I;16.png", "I.tif", "RGB.png", "RGBA.png", "P6.ppm", "P5.pgm"])
def test_every_form_of_more_than_eight_bits_is_known(tmp_path, kind):
    for most, dark in ((255, True), (40_000, False)):
        path = tmp_path / kind
        grey, colour = noise(most), noise(most, shape=(8, 8, 3))
        if kind.startswith("I"):
            Image.fromarray(grey.astype(np.uint16 if "16" in kind else np.int32)).save(path)
        elif kind.startswith("RGB"):
            opaque = np.full((8, 8, 1), 65535)
            write_png(path, colour if kind == "RGB.png" else np.concatenate([colour, opaque], -1))
        else:
            pixels = colour if kind == "P6.ppm" else grey
            path.write_bytes(kind[:2].encode() + b"\n8 8\n65535\n" + pixels.astype(">u2").tobytes())
        found = {}
        assert (read_image(path, 3, found).max() <= 1) == dark
        assert read_header(path).deep
        assert bool(nearly_black_text(found)) == dark, found


def test_eight_bits_are_no_more_than_eight(tmp_path):
    found = {}
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK"):
        path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new(mode, (4, 4)).save(path)
        read_image(path, 3, found)
        assert not read_header(path).deep
    bmp = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 98, 0, 0, 66, 40, 4, 4, 1, 16, 3, 32, 0, 0, 0, 0)
    (tmp_path / "565.bmp").write_bytes(bmp + struct.pack("<III", 0xF800, 0x7E0, 0x1F) + bytes(32))
    read_image(tmp_path / "565.bmp", 3, found)
    assert not read_header(tmp_path / "565.bmp").deep
    assert found == {}


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_predict_and_explain_tell_of_them_once_a_call(tmp_path, capsys, verb):
    wm.WaveMixClassifier(num_classes=2, image_shape=(8, 8, 3), width=4, depth=1).save(tmp_path / "model.keras")
    write_classes(tmp_path / "images")
    words = [str(tmp_path / "images"), "--model", str(tmp_path / "model.keras"), "--save", str(tmp_path / "made")]
    assert main([verb, *words]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "more than 8 bits" in line]
    assert len(told) == 1
    assert told[0].startswith("note: 12 of 24 images of more than 8 bits have no value above 255: ")


@pytest.mark.parametrize("scale", [np.uint8(1), np.float32(1 / 255), np.float32(0.05)])
def test_arrays_and_batches_that_are_nearly_black_are_reported(scale):
    images, labels = (noise(1, shape=(8, 8, 8, 3)) * scale).astype(scale.dtype), np.arange(8) % 2
    with pytest.warns(WavemixWarning, match=r"No value of data is above .* nearly black"):
        Gate(RECIPE).check_arrays((images, labels))
    gate = Gate(RECIPE, 2, "validation_data")
    with pytest.warns(WavemixWarning, match=r"No value of validation_data is above"):
        gate.check_batch(0, (images, labels))
    for index in (1, 0):  # the next epoch does not warn again
        gate.check_batch(index, (images, labels))


def test_arrays_of_one_colour_are_reported():
    images = noise(255, shape=(24, 8, 8, 3)).astype(np.uint8)
    labels = np.arange(24) % 2
    images[labels == 1] = images[labels == 1][:, :1, :1]  # each has a different color
    assert "every image of a class of the train set has a single color: 1" in as_bundle(RECIPE, (images, labels)).notes
    images[:] = images[:, :1, :1]
    notes = as_bundle(RECIPE, (images, labels)).notes
    assert any(text.startswith("every image of the train set has a single color") for text in notes)
    assert any(text.startswith("every image of the validation set has a single color") for text in notes)
