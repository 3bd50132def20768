"""The table of classes and sets, and what always answering the commonest class would score."""

import io

import numpy as np
from rich.console import Console

from wavemix_tf.command.class_counts import counts_table, majority_text, section
from wavemix_tf.training.datasets import DataBundle, missing_classes
from wavemix_tf.training.sources import ArraySource

NAMES = ("cat", "dog", "<b>")
COUNTS = {"train": [90, 30, 3], "validation": [9, 3, 0], "test": [8, 2, 0]}


def bundle(labels, names=NAMES):
    sources = [ArraySource(np.zeros((len(part), 2, 2, 1), np.uint8), np.array(part)) for part in labels]
    return DataBundle(names, (2, 2, 1), *sources, np.zeros((0, 2, 2, 1), np.float32))


def test_counts_and_what_is_missing():
    data = bundle([np.repeat([0, 1, 2], COUNTS[name]) for name in COUNTS])
    assert data.class_counts == COUNTS
    told = missing_classes(data)
    assert told == [f"the {name} set has none of 1 classes: <b>" for name in ("validation", "test")]
    masks = np.array([[[0, 0], [1, 255]], [[2, 2], [2, 0]]], np.uint8)  # 255 is no class
    assert bundle([masks, masks[:1], masks[1:]]).class_counts == {
        "train": [3, 1, 3],
        "validation": [2, 1, 0],
        "test": [1, 0, 3],
    }


def test_majority_is_that_of_the_test_set():
    assert majority_text(NAMES, COUNTS, False).startswith("cat is 80.00 % of the test images")
    assert majority_text(NAMES, {"train": [1, 3, 0]}, True).startswith("dog is 75.00 % of the train pixels")
    assert majority_text(NAMES, {"test": [0, 0, 0]}, False) == ""


def test_table_and_section_have_every_number():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(counts_table(NAMES, COUNTS))
    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["cat", "90", "9", "8"] in rows
    assert ["<b>", "3", "0", "0"] in rows
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
