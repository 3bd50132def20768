"""Quality of the search: Bayesian, also with a warm start, and Hyperband against random and the paper's network.

    python benchmarks/search.py --data-dir ~/tensorflow_datasets --out runs/benchmarks

Fashion-MNIST, 10,000 training and 2,000 validation images, networks of at most 12,000 parameters: 20 trials of three
epochs in the space "small" (depth, width, upsampling, learning rate) for each method and seed, Hyperband with as many
rounds as take about the same epochs, and the published Lite-8/5 (7,156 parameters) trained for the epochs of one trial
on the same images. With a warm start a trial begins with the weights of an earlier one, so that its score includes more
than its own epochs: the comparison is by what the whole search trained. Validation accuracy chooses a trial; the 10,000
test images are read once, for the chosen networks, after all searches. So few epochs on so few images rank networks;
they do not show the accuracy that the networks can reach.

Every trial is kept in OUT/search and the same command resumes; it ends with OUT/search.{json,md,png}.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from quantization import load
from report import markdown_table, save_figure
from side_by_side import machine, write_atomically

TITLES = {
    "random": "random",
    "bayesian": "Bayesian",
    "warm": "Bayesian, warm start",
    "hyperband": "Hyperband",
    "lite": "Lite-8/5, no search",
}
COLORS = {"random": "#9aa5b1", "bayesian": "#1f8a70", "warm": "#7a4fb5", "hyperband": "#3f6c9e", "lite": "#d4602a"}
HYPERBAND_ROUNDS = 1.7  # trainings of Hyperband, most of them shorter, that take the epochs of one other trial
VALIDATION_IMAGES, CALIBRATION_IMAGES = 2000, 100


def recipe_of(options: argparse.Namespace, seed: int) -> Any:
    from wavemix_tf.training import RECIPES

    images = options.train_images + VALIDATION_IMAGES + CALIBRATION_IMAGES
    return dataclasses.replace(
        RECIPES["fashion_mnist"],
        epochs=options.epochs,
        warmup_epochs=options.epochs / 4,
        ema=0.0,  # an average over many epochs is useless after three
        validation_fraction=VALIDATION_IMAGES / images,
        calibration_images=CALIBRATION_IMAGES,
        seed=seed,
    )


def run_lite(options: argparse.Namespace, seed: int, data: Any, folder: Path) -> dict[str, Any]:
    from wavemix_tf.training import fit

    result = fit(recipe_of(options, seed), data=data, out=folder, verbose=0)
    return {
        "model": str(folder / "model.keras"),
        "validation": result.validation_accuracy,
        "parameters": sum(int(np.prod(weight.shape)) for weight in result.model.trainable_weights),
        "network": "depth=5 width=8",
        "seconds": result.seconds,
        "epochs": options.epochs,
        "curve": [result.validation_accuracy],
    }


def run_search(method: str, options: argparse.Namespace, seed: int, data: Any, folder: Path) -> dict[str, Any]:
    from wavemix_tf.training import SearchResult, search

    search(
        recipe_of(options, seed),
        space="small",
        tuner="bayesian" if method == "warm" else method,
        warm_start=method == "warm",
        max_trials=round(options.trials * HYPERBAND_ROUNDS) if method == "hyperband" else options.trials,
        epochs=options.epochs,
        budget={"parameters": options.parameters},
        data=data,
        out=folder,
        seed=seed,
    )
    result = SearchResult.load(folder)
    best = result.best
    curve = np.maximum.accumulate([trial.score or 0.0 for trial in result.trials])
    return {
        "model": str(folder / "trials" / best.trial_id / "model.keras"),
        "validation": best.score,
        "parameters": int(best.costs["parameters"]),
        "network": best.describe(),
        "seconds": sum(trial.seconds for trial in result.trials),
        "epochs": sum(trial.epochs - trial.values.get("tuner/initial_epoch", 0) for trial in result.trials),
        "curve": [float(value) for value in curve],
    }


def test_accuracy(path: str, images: np.ndarray, labels: np.ndarray) -> float:
    import keras

    import wavemix_tf  # noqa: F401 - registers its layers

    logits = keras.saving.load_model(path).predict(images, batch_size=256, verbose=0)
    return float((logits.argmax(-1) == labels).mean())


def text_of(results: dict[str, Any]) -> str:
    rows = []
    for method, title in TITLES.items():
        cells = [cell for key, cell in results["cells"].items() if key.startswith(f"{method}/")]
        if not cells:
            continue
        if any("test" not in cell for cell in cells):
            tests = ["not read yet"]
        else:
            found = [100 * cell["test"] for cell in cells]
            tests = [f"{mean(found):.2f} % ({', '.join(f'{value:.2f}' for value in found)})"]
        validation = [100 * cell["validation"] for cell in cells]
        rows.append([
            title,
            f"{mean(validation):.2f} % ({min(validation):.2f}-{max(validation):.2f})",
            *tests,
            f"{mean(cell['epochs'] for cell in cells):.0f}",
            f"{mean(cell['seconds'] for cell in cells) / 60:.1f} min",
            "; ".join(f"{cell['network']}, {cell['parameters']:,}" for cell in cells),
        ])  # fmt: skip
    settings = results["settings"]
    header = ["", "validation, of the chosen", "test, mean (each seed)", "total epochs", "training", "chosen"]
    return "\n".join(
        [
            f"Fashion-MNIST, {settings['train_images']:,} training images, {settings['epochs']} epochs per trial,",
            f"{settings['trials']} trials, at most {settings['parameters']:,} parameters, seeds",
            f"{', '.join(map(str, settings['seeds']))}: mean (range, or one value per seed).",
            "",
            markdown_table(header, rows),
            "",
        ]
    )


def draw(results: dict[str, Any], path: Path) -> None:
    """Plot the best validation accuracy so far by trial, mean and range over the seeds; and the test accuracy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), width_ratios=(1.6, 1))
    for place, (method, title) in enumerate(TITLES.items()):
        cells = [cell for key, cell in results["cells"].items() if key.startswith(f"{method}/")]
        if not cells:
            continue
        if method == "lite":
            left.axhline(100 * mean(cell["validation"] for cell in cells), color=COLORS[method], ls="--", label=title)
        else:
            length = min(len(cell["curve"]) for cell in cells)
            curves = 100 * np.array([cell["curve"][:length] for cell in cells])
            trials = np.arange(1, length + 1)
            left.plot(trials, curves.mean(0), color=COLORS[method], label=title)
            left.fill_between(trials, curves.min(0), curves.max(0), color=COLORS[method], alpha=0.15, lw=0)
        tests = [100 * cell["test"] for cell in cells if "test" in cell]
        right.scatter([place] * len(tests), tests, color=COLORS[method], s=30)
        if tests:
            right.plot([place - 0.25, place + 0.25], [mean(tests)] * 2, color=COLORS[method], lw=2)
    left.set_xlabel("trials")
    left.set_ylabel("best validation accuracy so far, %")
    left.legend(frameon=False, fontsize=9)
    right.set_ylabel("test accuracy of the chosen, %")
    right.set_xticks(range(len(TITLES)), list(TITLES.values()), fontsize=8, rotation=12)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
    figure.tight_layout()
    save_figure(figure, path, dpi=140)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for search.{json,md,png}")
    parser.add_argument("--data-dir", help="folder of prepared TFDS data")
    parser.add_argument("--train-images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each trial")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--parameters", type=int, default=12_000, help="upper limit for a network")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=TITLES, default=list(TITLES))
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("train_images", "epochs", "trials", "parameters", "seeds")}
    record = options.out / "search.json"
    results: dict[str, Any] = {"settings": settings, "machine": machine(), "cells": {}}
    if record.exists():
        results = json.loads(record.read_text())
        if results["settings"] != settings:
            print(f"{record} holds a run with other settings: use another --out. Received: {settings}")
            return 1
    images, labels = load("fashion_mnist", "train", options.data_dir)
    chosen = np.random.default_rng(0).permutation(len(images))
    chosen = chosen[: options.train_images + VALIDATION_IMAGES + CALIBRATION_IMAGES]
    data = (images[chosen], labels[chosen])
    todo = [(s, one) for s in options.seeds for one in options.methods if f"{one}/{s}" not in results["cells"]]
    begun = time.perf_counter()
    for number, (seed, method) in enumerate(todo, 1):
        folder = options.out / "search" / f"{method}_{seed}"
        print(f"{number} of {len(todo)}: {TITLES[method]}, seed {seed}", flush=True)
        run = run_lite if method == "lite" else lambda *given, method=method: run_search(method, *given)
        results["cells"][f"{method}/{seed}"] = run(options, seed, data, folder)
        write_atomically(record, json.dumps(results, indent=1))
        print(f"  {(time.perf_counter() - begun) / 60:.1f} min so far", flush=True)
    images, labels = load("fashion_mnist", "test", options.data_dir)
    for cell in results["cells"].values():
        if "test" not in cell:
            with contextlib.redirect_stdout(io.StringIO()):
                cell["test"] = test_accuracy(cell["model"], images, labels)
    write_atomically(record, json.dumps(results, indent=1))
    text = text_of(results)
    write_atomically(options.out / "search.md", text)
    draw(results, options.out / "search.png")
    print("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
