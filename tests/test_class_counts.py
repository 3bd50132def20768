"""The table of classes and sets, and the score of always predicting the most frequent class."""

import dataclasses

import keras
import numpy as np
from PIL import Image

from wavemix_tf.command.pages.data_sections import section
from wavemix_tf.training import Recipe, fit, load_data
from wavemix_tf.training.data.bundle import DataBundle, missing_classes
from wavemix_tf.training.data.class_counts import counts_lines, majority_text
from wavemix_tf.training.data.sources import ArraySource

NAMES = ("cat", "dog", "<b>")
COUNTS = {"train": [90, 30, 3], "validation": [9, 3, 0], "test": [8, 2, 0]}


def bundle(labels, names=NAMES):
    sources = [ArraySource(np.zeros((len(part), 2, 2, 1), np.uint8), np.array(part)) for part in labels]
    return DataBundle(names, (2, 2, 1), *sources, np.zeros((0, 2, 2, 1), np.float32))


def test_counts_and_what_is_missing():
    data = bundle([np.repeat([0, 1, 2], COUNTS[name]) for name in COUNTS])
    assert data.class_counts == COUNTS
    told = missing_classes(data)
    assert told == [f"the {name} set lacks 1 classes: <b>" for name in ("validation", "test")]
    masks = np.array([[[0, 0], [1, 255]], [[2, 2], [2, 0]]], np.uint8)  # 255 is not a class
    assert bundle([masks, masks[:1], masks[1:]]).class_counts == {
        "train": [3, 1, 3],
        "validation": [2, 1, 0],
        "test": [1, 0, 3],
    }


def test_majority_is_that_of_the_test_set():
    assert majority_text(NAMES, COUNTS, "images").startswith("cat is 80.00 % of the test images")
    assert majority_text(NAMES, {"train": [1, 3, 0]}, "pixels").startswith("dog is 75.00 % of the train pixels")
    assert majority_text(NAMES, {"test": [0, 0, 0]}, "images") == ""


def test_table_and_section_have_every_number():
    assert counts_lines(("cat", "犬", "\x1b[2J"), COUNTS) == [
        "class    train  validation  test",
        "cat         90           9     8",
        "犬          30           3     2",
        "\\x1b[2J      3           0     0",
    ]
    assert counts_lines(NAMES, {}) == []
    page = section({"dataset": {"class_names": NAMES, "counts": COUNTS}, "recipe": {"task": "classification"}})
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert section({"dataset": {"class_names": NAMES}}) == ""
    many = {"train": list(range(1000))}
    page = section({"dataset": {"class_names": [f"c{n}" for n in range(1000)], "counts": many}})
    assert ">c0<" in page
    assert ">c999<" in page
    assert ">c500<" not in page
    assert "20 smallest and largest of 1,000 classes" in page


def test_fit_prints_them_once_before_it_trains(tmp_path, capsys):
    recipe = Recipe(
        name="photos",
        dataset="folder",
        data_dir=str(tmp_path),
        image_shape=(4, 4, 3),
        batch_size=4,
        epochs=1,
        warmup_epochs=0,
    )
    for name, count in (("cat", 24), ("dog", 12)):
        (tmp_path / name).mkdir()
        for index in range(count):
            Image.new("RGB", (4, 4), (index, 0, 0)).save(tmp_path / name / f"{index}.png")
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    data = load_data(recipe)
    expected = [[name, *(str(data.class_counts[kind][row]) for kind in COUNTS)] for row, name in enumerate(NAMES[:2])]
    for given in (None, data):
        fit(recipe, model=model, data=given, verbose=2)
        lines = capsys.readouterr().out.splitlines()
        rows = [line.split() for line in lines]
        assert all(row in rows for row in expected)
        assert sum("always predicting it" in line for line in lines) == 1
        assert rows.index(expected[0]) < next(row for row, line in enumerate(lines) if "val_loss" in line)
    fit(recipe, model=model, data=data, verbose=2)
    assert "always predicting it" not in capsys.readouterr().out  # printed once for the same data, as in a later stage
    fit(recipe, model=model, data=dataclasses.replace(data), verbose=0)
    assert "class" not in capsys.readouterr().out
