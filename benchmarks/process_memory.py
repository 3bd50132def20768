"""Resident memory of one process over repeated fits, exports, trials of a search and trainings of a comparison.

    python benchmarks/process_memory.py                    # 60 fits, 20 of each other kind
    python benchmarks/process_memory.py --keep-gradients   # the same without releasing registered gradients

The table gives the growth per round, by least squares over the second half of the rounds; it should be near zero.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import wavemix_tf as wm
from wavemix_tf import gradient_registry
from wavemix_tf.command.comparing import Comparison

EXPORT, TRIAL, TRAINING = "quantize and export", "trial of a search", "training of a comparison"
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_mib() -> float:
    """Resident memory of this process after a garbage collection."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20


def progress(text: str) -> None:
    print(text, flush=True)


def growth(sizes: list[float]) -> float:
    """Growth in MiB per round, by least squares over the second half."""
    half = sizes[len(sizes) // 2 :]
    return float(np.polyfit(np.arange(len(half)), half, 1)[0]) if len(half) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=60)
    parser.add_argument("--exports", type=int, default=20)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--trainings", type=int, default=20, help="of `wavemix-tf compare`")
    parser.add_argument("--keep-gradients", action="store_true", help="do not clear TensorFlow's registry")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.keep_gradients:
        gradient_registry.release_gradients = lambda: 0

    rng = np.random.default_rng(0)
    images, labels = rng.random((256, 8, 8, 1)).astype("float32"), rng.integers(0, 10, 256)
    recipe = dataclasses.replace(
        wm.training.RECIPES["digits"], epochs=1, warmup_epochs=0.25, model_args=dict(width=8, depth=2), batch_size=32
    )
    sizes: dict[str, list[float]] = {name: [] for name in ("fit", EXPORT, TRIAL, TRAINING)}
    model = None
    for count in range(arguments.fits):
        model = wm.training.fit(recipe, data=(images, labels), verbose=0).model
        sizes["fit"].append(resident_mib())
        progress(f"fit {count + 1} of {arguments.fits}: {sizes['fit'][-1]:.0f} MiB")
    for count in range(arguments.exports):
        qat = wm.tflite.quantize(model, images[:128])
        wm.tflite.export(qat, "android-cpu", images=images[128:])
        sizes[EXPORT].append(resident_mib())
        progress(f"export {count + 1} of {arguments.exports}: {sizes['quantize and export'][-1]:.0f} MiB")

    def remember(result, data):
        trials = sizes[TRIAL]
        trials.append(resident_mib())
        progress(f"trial {len(trials)} of {arguments.trials}: {trials[-1]:.0f} MiB")
        return {}

    if arguments.trials:
        with tempfile.TemporaryDirectory() as out:
            wm.training.search(
                recipe, space="small", tuner="random", max_trials=arguments.trials, epochs=1, data=(images, labels),
                out=out, objective="val_loss", score=remember, verbose=0,
            )  # fmt: skip

    if arguments.trainings:
        with tempfile.TemporaryDirectory() as out:
            small = dataclasses.replace(recipe, data_dir=str(Path(out) / "data"))
            budget = {"parameters": 10_000}
            comparison = Comparison(small, ["wavemix"], budget, None, [], arguments.trainings, Path(out), False, "")
            comparison.size("wavemix")
            for count, seed in enumerate(comparison.seeds):
                comparison.train("wavemix", seed)
                sizes[TRAINING].append(resident_mib())
                progress(f"training {count + 1} of {arguments.trainings}: {sizes[TRAINING][-1]:.0f} MiB")

    print("| | rounds | after the first, MiB | after the last, MiB | growth per round, MiB |")
    print("|---|---|---|---|---|")
    for name, row in sizes.items():
        if row:
            print(f"| {name} | {len(row)} | {row[0]:.0f} | {row[-1]:.0f} | {growth(row):.2f} |")


if __name__ == "__main__":
    main()
