"""Semantic segmentation in plain Keras: train a WaveMix segmenter, make it int8, write a file for a phone.

    python examples/segmentation.py --out runs/shapes

The images are generated: discs and squares on noise, one of three classes per pixel. Replace ``shapes`` by your own
arrays.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

import wavemix_tf as wm

SIDE = 48


def shapes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, SIDE, SIDE, 3) in [0, 1] and masks (N, SIDE, SIDE): 0 background, 1 disc, 2 square."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((SIDE, SIDE))
    images = rng.uniform(0, 0.4, (count, SIDE, SIDE, 3))
    masks = np.zeros((count, SIDE, SIDE), np.int32)
    for image, mask in zip(images, masks, strict=True):
        (y, x), (v, u) = rng.integers(8, SIDE - 8, (2, 2))
        mask[(rows - y) ** 2 + (columns - x) ** 2 < rng.integers(36, 100)] = 1
        half = rng.integers(4, 9)
        mask[(abs(rows - v) < half) & (abs(columns - u) < half)] = 2
        image[mask > 0] += rng.uniform(0.3, 0.6, 3)
    return np.clip(images, 0, 1).astype("float32"), masks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/shapes"))
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    images, masks = shapes(options.images, seed=0)
    test_images, test_masks = shapes(64, seed=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def compiled(model: keras.Model, rate: float) -> keras.Model:
        iou = keras.metrics.MeanIoU(3, sparse_y_pred=False, name="mean_iou")
        model.compile(keras.optimizers.AdamW(rate), loss, metrics=[iou])
        return model

    keras.utils.set_random_seed(0)
    model = compiled(wm.WaveMixSegmenter(3, (SIDE, SIDE, 3), width=16, depth=3, levels=2, dropout=0.0), 4e-3)
    model.fit(images, masks, batch_size=16, epochs=options.epochs, verbose=2)
    qat = compiled(wm.tflite.quantize(model, images[:128]), 2e-4)
    qat.fit(images, masks, batch_size=16, epochs=1, verbose=2)

    artifact = wm.tflite.export(qat, target="android-cpu", images=test_images, class_names=["ground", "disc", "square"])
    options.out.mkdir(parents=True, exist_ok=True)
    path = artifact.save(options.out / "shapes.tflite", overwrite=True)
    for name, network in (("float", model), ("int8", qat)):
        print(f"{name}: mean IoU {network.evaluate(test_images, test_masks, verbose=0)[1]:.4f} on the test images")
    print(f"{path}: {artifact.size_bytes / 1024:.1f} KiB")


if __name__ == "__main__":
    main()
