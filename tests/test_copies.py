"""Images that occur more than once in a folder: the notes about them, at the start and in the report."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from wavemix_tf.command.pages.data_sections import copies as section
from wavemix_tf.training import Recipe, load_data
from wavemix_tf.training.data.copies import copy_notes

RECIPE = Recipe(name="photos", dataset="folder", image_shape=(8, 8, 3), calibration_images=4)


def write(folder, count, first=0):
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.random.default_rng(first + index).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")


@pytest.mark.parametrize("in_memory", [True, False])
def test_copies_of_training_images_are_reported(tmp_path, in_memory):
    for kind in ("train", "val", "test"):
        for place, name in enumerate(("cat", "dog")):
            write(tmp_path / kind / name, 10, 100 * place + 1000 * len(kind))
    recipe = dataclasses.replace(RECIPE, data_dir=str(tmp_path), in_memory=in_memory)
    assert copy_notes(load_data(recipe)) == []
    for index in range(3):
        shutil.copy(tmp_path / f"train/cat/0{index}.png", tmp_path / f"test/cat/0{index}.png")
    shutil.copy(tmp_path / "train/dog/04.png", tmp_path / "val/dog/new.png")
    expected = [
        "3 of 20 test images are copies of training images (test/cat/00.png is train/cat/00.png): "
        "the test score is too optimistic",
        "1 of 21 validation images is a copy of a training image (val/dog/new.png is train/dog/04.png): "
        "the score that chooses the epoch is too optimistic",
    ]
    data = load_data(recipe)
    assert copy_notes(data) == expected
    assert list(data.notes[-2:]) == expected


def test_a_picture_in_two_classes_is_reported(tmp_path):
    write(tmp_path / "cat", 20)
    write(tmp_path / "dog", 20, 100)
    shutil.copy(tmp_path / "cat/03.png", tmp_path / "dog/a.png")
    recipe = dataclasses.replace(RECIPE, data_dir=str(tmp_path))
    told = "1 image is in two classes (cat/03.png is dog/a.png): one of the two is wrong"
    assert copy_notes(load_data(recipe))[-1] == told
    shutil.copy(tmp_path / "cat/04.png", tmp_path / "dog/b.png")
    assert copy_notes(load_data(recipe))[-1].startswith("2 images are in two classes (")


def test_the_report_has_what_was_reported():
    page = section({"dataset": {"copies": ["3 of 4 test images (a<b>.png)"]}})
    assert "3 of 4 test images (a&lt;b&gt;.png)." in page
    assert section({"dataset": {"copies": []}}) == section({}) == ""
