"""Compare the range observers: int8 accuracy by observer, without fine-tuning, on the same float networks.

    python benchmarks/ranges.py --data-dir ~/tensorflow_datasets --out runs/benchmarks

A small WaveMix is trained per dataset and seed, quantized once with every observer, and scored on the test images. The
share of rare peaks that a heat map keeps is also measured. The quantized Keras model is scored;
``tests/test_tflite_general.py`` checks that it equals its file. Rows are kept in OUT/ranges.json, and the same command
resumes; the table is OUT/ranges.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from report import markdown_table
from side_by_side import write_atomically

OBSERVERS = ("image_error", "percentile", "minmax", "mse")
CALIBRATION_IMAGES = 256
TEST_IMAGES = 2000


def load(name: str, data_dir: str | None, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(training images, labels, test images, labels), float32 in [0, 1]."""
    if name == "digits":
        from sklearn.datasets import load_digits

        data = load_digits()
        order = np.random.default_rng(0).permutation(len(data.target))
        images, labels = (data.images[order, ..., None] / 16).astype(np.float32), data.target[order]
        return images[:1200], labels[:1200], images[1200:], labels[1200:]
    from quantization import load as load_split

    train, test = load_split(name, "train", data_dir), load_split(name, "test", data_dir)
    chosen, scored = (np.random.default_rng(0).permutation(len(part[0])) for part in (train, test))
    chosen, scored = chosen[:count], scored[:TEST_IMAGES]
    return train[0][chosen], train[1][chosen], test[0][scored], test[1][scored]


def accuracies(name: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Top-1 accuracy of the float network and of its int8 form by observer."""
    import keras

    import wavemix_tf as wm
    from wavemix_tf.keras_internals import flatten_layers
    from wavemix_tf.tflite.graph.inputs import predict

    x, y, tx, ty = load(name, options.data_dir, options.train_images)
    keras.utils.set_random_seed(seed)
    model = wm.WaveMixClassifier(10, x.shape[1:], width=options.width, depth=options.depth, dropout=0.0)
    for layer in flatten_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    model.compile(
        keras.optimizers.AdamW(4e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False
    )
    model.fit(x, y, batch_size=64, epochs=options.epochs, verbose=0)
    found = {"float": float((predict(model, tx).argmax(-1) == ty).mean())}
    for observer in OBSERVERS:
        quantized = wm.tflite.quantize(model, x[:CALIBRATION_IMAGES], observer=observer)
        found[observer] = float((predict(quantized, tx).argmax(-1) == ty).mean())
    return found


def peaks(seed: int) -> dict[str, float]:
    """Share of single bright pixels, in every second image of 160 x 160, that a 3x3 filter still detects in int8."""
    import keras

    import wavemix_tf as wm
    from wavemix_tf.tflite.graph.inputs import predict

    rng, side = np.random.default_rng(seed), 160
    x = rng.uniform(0, 0.15, (96, side, side, 1)).astype(np.float32)
    places = rng.integers(4, side - 4, (96, 2))
    shown = np.arange(96) % 2 == 0
    for image in np.flatnonzero(shown):
        x[image, places[image, 0], places[image, 1]] = rng.uniform(0.85, 1)
    inputs = keras.Input((side, side, 1))
    conv = keras.layers.Conv2D(1, 3, padding="same")
    model = keras.Model(inputs, conv(inputs))
    kernel = np.full((3, 3, 1, 1), -0.3, np.float32)
    kernel[1, 1] = 8
    conv.set_weights([kernel, np.array([-6.0])])

    def share(network: Any) -> float:
        maps = predict(network, x[64:])
        kept = [maps[i, r, c, 0] > 0 for i, (r, c) in enumerate(places[64:]) if shown[64 + i]]
        return float(np.mean(kept))

    found = {"float": share(model)}
    for observer in OBSERVERS:
        found[observer] = share(wm.tflite.quantize(model, x[:64], observer=observer))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--data", nargs="+", default=["digits", "cifar10"])
    parser.add_argument("--data-dir")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--train-images", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    record = options.out / "ranges.json"
    rows: dict[str, dict[str, dict[str, float]]] = json.loads(record.read_text()) if record.exists() else {}
    for name in ["peaks", *options.data]:
        for seed in options.seeds:
            done = rows.setdefault(name, {})
            if str(seed) not in done:
                done[str(seed)] = peaks(seed) if name == "peaks" else accuracies(name, seed, options)
                write_atomically(record, json.dumps(rows, indent=1))
            print(name, seed, done[str(seed)], flush=True)
    header = ["data", *("float", *OBSERVERS)]
    lines = []
    for name, found in rows.items():
        cells = [[row[column] for row in found.values()] for column in header[1:]]
        lines.append([name, *(f"{mean(cell):.2%} ({min(cell):.2%}-{max(cell):.2%})" for cell in cells)])
    table = markdown_table(header, lines)
    write_atomically(options.out / "ranges.md", table + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
