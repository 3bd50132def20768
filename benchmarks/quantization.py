"""The cost of int8 and the gain of fine-tuning: post-training quantization and both QAT engines, side by side.

    python benchmarks/quantization.py --data-dir ~/tensorflow_datasets --out runs/benchmarks

A small WaveMix, which loses accuracy by rounding, is trained once per dataset and seed. The same network gives five
files for `android-cpu`: float32; float32 fine-tuned as long as the int8 files; int8 without fine-tuning; int8
fine-tuned with the native engine; int8 fine-tuned through tensorflow-model-optimization. All fine-tuning uses the same
images, epochs, optimizer and learning rate, and keeps the best epoch on the validation images (a tenth of the training
split, at most 5,000). The test images are read once, after all files are finished, and they score the file under
LiteRT's XNNPACK, not a Keras model.

Every finished row is kept in OUT/quantization.json and its file in OUT/quantization; the same command resumes. Needs
`pip install "wavemix-tf[tfmot]"`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from report import markdown_table, save_figure
from side_by_side import machine, warn_if_busy, write_atomically

METHODS = {
    "float": "float32",
    "tuned": "float32, trained equally long",  # shows the gain of the additional epochs alone
    "ptq": "int8, not fine-tuned",
    "native": "int8, native QAT",
    "tfmot": "int8, tfmot QAT",
}
DATA = ("fashion_mnist", "cifar10")
WEIGHTED_OPS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
MAX_VALIDATION = 5000
CALIBRATION_IMAGES = 512
FIDELITY_IMAGES = 256


def load(name: str, split: str, data_dir: str | None) -> tuple[np.ndarray, np.ndarray]:
    """(images float32 (N, H, W, C) in [0, 1], labels (N,)) of a TFDS split."""
    import tensorflow_datasets as tfds

    found = tfds.as_numpy(tfds.load(name, split=split, batch_size=-1, data_dir=data_dir))
    return found["image"].astype(np.float32) / np.float32(255), found["label"].astype(np.int64)


def training_data(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Training and validation images, the same for every seed."""
    images, labels = load(name, "train", options.data_dir)
    order = np.random.default_rng(0).permutation(len(images))
    held = min(MAX_VALIDATION, len(images) // 10)
    chosen = order[held:][: options.train_images or None]
    return {
        "train": (images[chosen], labels[chosen]),
        "validation": (images[order[:held]], labels[order[:held]]),
        "classes": int(labels.max()) + 1,
    }


def fit(model: Any, data: dict[str, Any], epochs: int, rate: float, batch: int, seed: int) -> dict[str, float]:
    """Train a model of either engine or a float model; it ends with the weights of its best validation epoch."""
    import keras

    class Best(keras.callbacks.Callback):
        accuracy, weights = -1.0, None

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            print(
                f"    epoch {epoch + 1}/{epochs}  loss {logs['loss']:.4f}  validation {logs['val_accuracy']:.4f}",
                flush=True,
            )
            if logs["val_accuracy"] > self.accuracy:
                self.accuracy, self.weights = float(logs["val_accuracy"]), self.model.get_weights()

        def on_train_end(self, logs: Any = None) -> None:
            self.model.set_weights(self.weights)

    keras.utils.set_random_seed(seed)
    steps = epochs * -(-len(data["train"][0]) // batch)
    model.compile(
        keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(rate, steps), weight_decay=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    best, start = Best(), time.perf_counter()
    model.fit(
        *data["train"],
        epochs=epochs,
        batch_size=batch,
        validation_data=data["validation"],
        callbacks=[best],
        verbose=0,
    )
    return {"seconds": time.perf_counter() - start, "validation": best.accuracy}


def float_network(path: Path, data: dict[str, Any], options: argparse.Namespace, seed: int) -> tuple[Any, Any]:
    """The trained float network and the figures of its training; None if it was trained before."""
    import keras

    import wavemix_tf as wm

    if path.exists():
        return keras.saving.load_model(path), None
    keras.utils.set_random_seed(seed)
    shape = data["train"][0].shape[1:]
    model = wm.WaveMixClassifier(data["classes"], shape, width=options.width, depth=options.depth, dropout=0.0)
    found = fit(model, data, options.epochs, options.learning_rate, options.batch, seed)
    temporary = path.with_suffix(".part.keras")
    model.save(temporary)
    temporary.replace(path)
    return model, found


def make_row(method: str, model: Any, data: dict[str, Any], options: argparse.Namespace, seed: int, path: Path) -> Any:
    """Quantize, fine-tune and export ``model`` by one method; write the file to ``path``."""
    import keras

    import wavemix_tf as wm
    from wavemix_tf.tflite.file.flatbuffer import read_file

    row: dict[str, Any] = {"seconds": None}
    if method == "tuned":
        given, model = model, keras.models.clone_model(model)  # the other methods start from the original
        model.set_weights(given.get_weights())
    elif method != "float":
        engine = "tfmot" if method == "tfmot" else "native"
        model = wm.tflite.quantize(model, data["train"][0][:CALIBRATION_IMAGES], engine=engine)
    if method not in ("float", "ptq"):
        row |= fit(model, data, options.qat_epochs, options.qat_learning_rate, options.batch, seed)
    artifact = wm.tflite.export(model, "android-cpu", images=data["validation"][0][:FIDELITY_IMAGES])
    write_atomically(path, artifact.content)
    fidelity = next(r for r in artifact.verification["fidelity"]["runtimes"] if r["runtime"] == "litert-xnnpack")
    scales = [op.inputs[1].channel_scales for op in read_file(artifact.content).ops if op.name in WEIGHTED_OPS]
    return row | {
        "size_bytes": artifact.size_bytes,
        "ops": len(artifact.ops),
        "per_channel": sum(count > 1 for count in scales),
        "per_tensor": sum(count == 1 for count in scales),
        "error_steps": fidelity["mean_error_steps"],
        "max_error_steps": fidelity["max_error_steps"],
        "agreement": fidelity["agreement"],
    }


def score(content: bytes, images: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 accuracy of a file under LiteRT's XNNPACK."""
    from wavemix_tf.tflite.runtimes.running import run_file

    return float((run_file(content, images, "litert-xnnpack").argmax(-1) == labels).mean())


def table(results: dict[str, Any]) -> str:
    """One line per dataset and method; accuracies with their range over the seeds."""
    lines = []
    for name in results["settings"]["data"]:
        for method, title in METHODS.items():
            rows = [results["rows"][f"{name}/{seed}/{method}"] for seed in results["settings"]["seeds"]]
            scores = [row["test"] for row in rows]
            agreements = [row["agreement"] for row in rows if row["agreement"] is not None]
            seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
            lossless = method in ("float", "tuned")
            lines.append(
                [
                    name,
                    title,
                    f"{mean(scores):.2%} ({min(scores):.2%}-{max(scores):.2%})",
                    "" if lossless else f"{mean(row['error_steps'] for row in rows):.2f}",
                    "" if lossless else f"{max(row['max_error_steps'] for row in rows):.0f}",
                    "" if lossless or not agreements else f"{min(agreements):.1%}",
                    "" if lossless else f"{rows[0]['per_channel']} / {rows[0]['per_tensor']}",
                    f"{mean(row['size_bytes'] for row in rows) / 1024:.0f}",
                    "" if method == "float" or not seconds else f"{mean(seconds):.0f}",
                ]
            )
    settings, host = results["settings"], results["machine"]
    header = [
        "data",
        "file",
        "top-1, mean (range over seeds)",
        "mean error, steps",
        "largest",
        "smallest top-1 agreement",
        "ops per channel / per tensor",
        "KiB",
        "fine-tuning, s",
    ]
    return "\n".join(
        [
            f"WaveMix of width {settings['width']} and depth {settings['depth']}, seeds "
            f"{', '.join(map(str, settings['seeds']))}; {settings['train_images'] or 'all'} training images, "
            f"{settings['epochs']} epochs, fine-tuned {settings['qat_epochs']} at "
            f"{settings['qat_learning_rate']:g}; {host['cpu']}.",
            "Top-1 is that of the file under LiteRT XNNPACK on the test images; error and agreement are those of the "
            "file",
            f"against its fake-quant model on {FIDELITY_IMAGES} validation images.",
            "",
            markdown_table(header, lines),
            "",
        ]
    )


def draw(results: dict[str, Any], path: Path) -> None:
    """Plot accuracy by method, one panel per dataset: a dot per seed, a line at the mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = results["settings"]["data"]
    figure, axes = pyplot.subplots(1, len(names), figsize=(6 * len(names), 3.8), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for place, method in enumerate(METHODS):
            scores = [100 * results["rows"][f"{name}/{seed}/{method}"]["test"] for seed in results["settings"]["seeds"]]
            color = {"native": "#1f8a70", "tfmot": "#c8553d"}.get(method, "#9aa5b1")
            axis.hlines(mean(scores), place - 0.28, place + 0.28, color=color, linewidth=2.5)
            offsets = np.linspace(-0.12, 0.12, len(scores)) if len(scores) > 1 else [0.0]
            axis.scatter([place + offset for offset in offsets], scores, color=color, s=28, alpha=0.8)
            axis.annotate(
                f"{mean(scores):.1f}", (place + 0.3, mean(scores)), fontsize=8, va="center", annotation_clip=False
            )
        axis.set_xticks(range(len(METHODS)), [title.replace(", ", "\n") for title in METHODS.values()], fontsize=8)
        axis.set_title(name, fontsize=10)
        axis.set_ylabel("top-1 of the file on the test images, %", fontsize=8)
        axis.set_xmargin(0.12)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    save_figure(figure, path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks"), help="folder for quantization.{json,md,png}"
    )
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--data-dir", help="folder of prepared TFDS data; default: that of TFDS")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--train-images", type=int, default=0, help="0: all that are not held out for validation")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--qat-epochs", type=int, default=2)
    parser.add_argument("--qat-learning-rate", type=float, default=5e-4)
    parser.add_argument("--batch", type=int, default=128)
    return parser.parse_args()


def main() -> int:
    options = parse()
    folder = options.out / "quantization"
    folder.mkdir(parents=True, exist_ok=True)
    record = options.out / "quantization.json"
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "data_dir")}
    results: dict[str, Any] = {"settings": settings, "machine": machine(), "rows": {}}
    if record.exists():
        found = json.loads(record.read_text())
        if found["settings"] != settings:
            print(f"{record} holds a run with other settings: use another --out. Received: {settings}")
            return 1
        results = found
    warn_if_busy()

    def keep() -> None:
        write_atomically(record, json.dumps(results, indent=1))

    rows, start, made = results["rows"], time.perf_counter(), 0
    wanted = [f"{name}/{seed}/{method}" for name in options.data for seed in options.seeds for method in METHODS]
    todo = [key for key in wanted if key not in rows]
    for name in options.data:
        data = training_data(name, options) if any(key.startswith(f"{name}/") for key in todo) else {}
        for seed in options.seeds:
            if not any(key.startswith(f"{name}/{seed}/") for key in todo):
                continue
            print(f"{name}, seed {seed}: float network", flush=True)
            model, found = float_network(folder / f"{name}-{seed}.keras", data, options, seed)
            for method in METHODS:
                key = f"{name}/{seed}/{method}"
                if key in rows:
                    continue
                print(f"  {METHODS[method]}", flush=True)
                row = make_row(method, model, data, options, seed, folder / f"{name}-{seed}-{method}.tflite")
                rows[key] = row | (found or {} if method == "float" else {})
                keep()
                made += 1
                spent = time.perf_counter() - start
                print(f"  {made} of {len(todo)} files after {spent / 60:.1f} min", flush=True)

    for name in options.data:
        unread = [key for key in wanted if key.startswith(f"{name}/") and "test" not in rows[key]]
        if unread:
            images, labels = load(name, "test", options.data_dir)
        for key in unread:
            rows[key]["test"] = score((folder / f"{key.replace('/', '-')}.tflite").read_bytes(), images, labels)
            keep()
            print(f"{key}: top-1 {rows[key]['test']:.4f} on {len(labels)} test images", flush=True)
    write_atomically(options.out / "quantization.md", table(results))
    draw(results, options.out / "quantization.png")
    print("\n" + table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
