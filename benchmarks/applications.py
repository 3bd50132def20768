"""Networks that were not tuned for this library: train one of ``keras.applications``, quantize, export, verify.

    python benchmarks/applications.py --data-dir ~/tensorflow_datasets --out build/applications
    python benchmarks/applications.py --data-dir ... --out ... --model ResNet50V2 --epochs 4

CIFAR-10 is resized to ``--side`` pixels; the last 1,000 training images calibrate and validate. ``applications.json``
has one row per file: test accuracy of the float model, of the fake-quant model and of the int8 file, the mean and
largest error of the file against the fake-quant model in output steps, and top-1 agreement, for every runtime.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow_datasets as tfds
from keras import applications

import wavemix_tf as wm

NETWORKS = {
    # name: (arguments of the constructor, range of its input)
    "MobileNetV2": ({"alpha": 0.35}, (-1.0, 1.0)),
    "MobileNetV3Small": ({"alpha": 0.75}, (0.0, 255.0)),
    "EfficientNetV2B0": ({}, (0.0, 255.0)),
    "ResNet50V2": ({}, (-1.0, 1.0)),
}
CLASSES = 10
VALIDATION = 1000


def read(
    split: str, count: int, side: int, limits: tuple[float, float], data_dir: str
) -> tuple[np.ndarray, np.ndarray]:
    images, labels = tfds.as_numpy(
        tfds.load("cifar10", split=f"{split}[:{count}]", batch_size=-1, as_supervised=True, data_dir=data_dir)
    )
    resized = np.asarray(keras.ops.image.resize(images.astype(np.float32), (side, side)))
    low, high = limits
    return (np.clip(resized, 0, 255) / 255 * (high - low) + low).astype(np.float32), labels.astype(np.int32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NETWORKS, default="MobileNetV2")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--train-images", type=int, default=41_000)
    parser.add_argument("--test-images", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--qat-epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    keras.utils.set_random_seed(given.seed)
    arguments, limits = NETWORKS[given.model]
    images, labels = read("train", given.train_images, given.side, limits, given.data_dir)
    test, truth = read("test", given.test_images, given.side, limits, given.data_dir)
    train, validation = (images[:-VALIDATION], labels[:-VALIDATION]), (images[-VALIDATION:], labels[-VALIDATION:])
    shape = (given.side, given.side, 3)
    build = getattr(applications, given.model)
    model = build(input_shape=shape, weights=None, classes=CLASSES, classifier_activation=None, **arguments)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # with Keras's 0.99 the statistics of a short run lag behind the weights
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = given.epochs * (len(train[0]) // 64)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=2e-3, warmup_steps=steps // 8)
    model.compile(keras.optimizers.AdamW(rate), loss, metrics=["accuracy"])
    model.fit(*train, batch_size=64, epochs=given.epochs, validation_data=validation, verbose=2)

    given.out.mkdir(parents=True, exist_ok=True)
    model.save(given.out / f"{given.model}.keras")

    begun = time.perf_counter()
    quantized = wm.tflite.quantize(model, validation[0][:256], input_range=limits)
    seconds = time.perf_counter() - begun
    models = {"post-training": quantized}
    if given.qat_epochs:
        tuned = wm.tflite.quantize(model, validation[0][:256], input_range=limits)
        tuned.compile(keras.optimizers.AdamW(1e-4), loss, metrics=["accuracy"])
        tuned.fit(*train, batch_size=64, epochs=given.qat_epochs, validation_data=validation, verbose=2)
        models["fine-tuned"] = tuned
    accuracy = float((model.predict(test, verbose=0).argmax(-1) == truth).mean())
    for name, computed in models.items():
        artifact = wm.tflite.export(computed, "android-cpu", images=validation[0][256:], error_bound_steps=4.0)
        report = wm.tflite.verify(artifact, computed, test, truth, limit_s=None, runtimes=["litert-xnnpack"])
        row = {
            "model": given.model,
            "quantized": name,
            "seed": given.seed,
            "images": len(test),
            "float": accuracy,
            "fake_quant": report.model_accuracy,
            "quantize_s": seconds,
            "size_bytes": artifact.size_bytes,
            "runtimes": report.to_dict()["runtimes"],
        }
        path = given.out / "applications.json"
        rows = json.loads(path.read_text()) if path.is_file() else []
        path.write_text(json.dumps([*rows, row], indent=2) + "\n")
        for found in report.runtimes:
            print(
                f"{given.model} {name}, {found.runtime}: float {accuracy:.2%}, fake-quant {report.model_accuracy:.2%}, "
                f"file {found.accuracy:.2%}; error {found.mean_error_steps:.2f} steps (largest "
                f"{found.max_error_steps:.1f}), top-1 agreement {found.agreement:.2%} of {found.counted}",
                flush=True,
            )


if __name__ == "__main__":
    main()
