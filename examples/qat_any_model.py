"""Quantization-aware training of a network that is not WaveMix: a MobileNetV2 of keras.applications.

    python examples/qat_any_model.py --out runs/mobilenet            # ImageNet weights, downloaded by Keras
    python examples/qat_any_model.py --weights none --images 256     # random weights, no download

Replace ``data`` by your own arrays; the rest stays unchanged.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

import wavemix_tf as wm


def data(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(images (N, side, side, 3) in [-1, 1] for MobileNetV2; labels (N,): number of the brightest third)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    images = rng.uniform(0, 0.6, (count, side, side, 3))
    third = side // 3
    for image, label in zip(images, labels, strict=True):
        image[:, label * third : (label + 1) * third] += 0.4
    return (2 * images - 1).astype("float32"), labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/mobilenet"))
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--weights", choices=("imagenet", "none"), default="imagenet")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    images, labels = data(options.images, options.side)
    held_out, held_labels = images[-96:], labels[-96:]
    images, labels = images[:-96], labels[:-96]

    keras.utils.set_random_seed(0)
    weights = None if options.weights == "none" else options.weights
    base = keras.applications.MobileNetV2((options.side, options.side, 3), 0.35, include_top=False, weights=weights)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # MobileNetV2's 0.999 needs thousands of steps for new images
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(base.output))
    model = keras.Model(base.input, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    model.fit(images, labels, batch_size=32, epochs=options.epochs, verbose=2)

    qat = wm.tflite.quantize(model, images[:256], input_range=(-1, 1))
    qat.compile(keras.optimizers.Adam(1e-4), loss, metrics=["accuracy"])
    qat.fit(images, labels, batch_size=32, epochs=1, verbose=2)
    print(
        f"float {model.evaluate(held_out, held_labels, verbose=0)[1]:.1%}, int8 "
        f"{qat.evaluate(held_out, held_labels, verbose=0)[1]:.1%} of {len(held_labels)} images"
    )

    # In fifty layers a different rounding shifts later ones: the tolerance in output steps is larger.
    artifact = wm.tflite.export(qat, target="android-cpu", images=held_out, error_bound_steps=6)
    options.out.mkdir(parents=True, exist_ok=True)
    print(artifact.save(options.out / "mobilenet.tflite", overwrite=True), f"{artifact.size_bytes / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
