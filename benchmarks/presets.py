"""Evaluate every shipped preset on the whole test set of its data, and compare with its card.

    python benchmarks/presets.py                          # all of them; the data as the recipe of each card names it
    python benchmarks/presets.py digits --doc docs/presets.md

The float weights, the quantized model and every .tflite file run, each in its own runtime. The exit code is 1 if a form
differs from its card by more than ``TOLERANCE``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from report import markdown_table
from side_by_side import write_atomically

from wavemix_tf.command.preset_scores import forms_of, recipe_of, scores
from wavemix_tf.presets.card import UNITS, format_value
from wavemix_tf.presets.places import shipped, shipped_names
from wavemix_tf.training.data.datasets import load_data

MARK = "<!-- presets -->"
TOLERANCE = {"accuracy": 0.002, "mean_iou": 0.002, "psnr_y": 0.02}  # another processor rounds differently
COMMAND = "benchmarks/presets.py"


def evaluate(name: str, data_dir: str | None, limit: int) -> tuple[list[list[str]], bool]:
    """Return (rows of the table, whether every form is as its card says)."""
    folder = shipped(name)
    card = folder.read_card()
    recipe = recipe_of(card)
    if data_dir is not None:
        recipe = dataclasses.replace(recipe, data_dir=data_dir)
    stated = {row["form"]: row["value"] for row in card.results}
    rows, right = [], True
    for row in scores(recipe, load_data(recipe), forms_of(folder), limit, COMMAND):
        there = stated[row["form"]]
        same = abs(row["value"] - there) <= TOLERANCE[recipe.metric]
        right &= same
        value, card_value = (format_value(recipe.metric, number) for number in (row["value"], there))
        rows.append(
            [
                name,
                row["form"],
                row["runtime"],
                f"{row['images']:,}",
                value,
                card_value if same else f"{card_value} (!)",
            ]
        )
    return rows, right


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="presets (default: all that are shipped)")
    parser.add_argument("--data-dir", help="folder of the datasets (default: TFDS's)")
    parser.add_argument("--test-images", type=int, default=1_000_000, help="largest number of test images")
    parser.add_argument("--doc", type=Path, help=f"page whose lines between two {MARK} are replaced by the table")
    given = parser.parse_args()
    rows, wrong = [], []
    for name in given.names or shipped_names():
        found, right = evaluate(name, given.data_dir, given.test_images)
        rows += found
        wrong += [] if right else [name]
    units = ", ".join(f"{name} in {unit}" for name, (unit, _) in UNITS.items())
    text = markdown_table(["preset", "weights or file", "runtime", "test images", "here", "card"], rows)
    print(f"{text}\n\n({units})")
    if given.doc is not None:
        before, _, after = given.doc.read_text(encoding="utf-8").split(MARK)
        write_atomically(given.doc, f"{before}{MARK}\n{text}\n{MARK}{after}".encode())
    if wrong:
        print(f"Not as in their cards: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
