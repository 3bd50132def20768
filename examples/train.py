"""WaveMix in plain Keras: train on Fashion-MNIST, make it int8, write a file for a phone.

    python examples/train.py --out runs/fashion
    python examples/train.py --images 2000 --epochs 1      # a short run, one minute

It uses only ``keras``, a network class, and two functions of ``wm.tflite``: build, compile, fit, quantize, fit, export.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

import wavemix_tf as wm


def load(count: int, synthetic: bool) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """((images, labels) to train on, (images, labels) to test on): (N, 28, 28, 1) in [0, 1]."""
    if synthetic:  # stripes at ten angles, if no download is possible
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 10, count + 256)
        rows, columns = np.indices((28, 28))
        angles = np.pi * labels[:, None, None] / 10
        waves = np.sin(0.9 * (rows * np.cos(angles) + columns * np.sin(angles)) + rng.uniform(0, 6, angles.shape))
        images = 0.5 + 0.3 * waves + rng.normal(0, 0.1, waves.shape)
        train, test = (images[:count], labels[:count]), (images[count:], labels[count:])
    else:
        train, test = keras.datasets.fashion_mnist.load_data()
        train = train[0][:count] / 255, train[1][:count]
        test = test[0] / 255, test[1]
    (x, y), (test_x, test_y) = train, test
    return (np.clip(x, 0, 1)[..., None].astype("float32"), y), (
        np.clip(test_x, 0, 1)[..., None].astype("float32"),
        test_y,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/fashion"))
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--synthetic", action="store_true", help="generated stripes, no download")
    options = parser.parse_args()
    (x, y), (test_x, test_y) = load(options.images, options.synthetic)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    keras.utils.set_random_seed(0)
    model = wm.WaveMixClassifier(num_classes=10, image_shape=(28, 28, 1), width=16, depth=4, dropout=0.1)
    model.compile(keras.optimizers.AdamW(4e-3), loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=64, epochs=options.epochs, validation_split=0.1, verbose=2)

    qat = wm.tflite.quantize(model, x[:256])
    qat.compile(keras.optimizers.AdamW(2e-4), loss, metrics=["accuracy"])
    qat.fit(x, y, batch_size=64, epochs=1, verbose=2)

    artifact = wm.tflite.export(qat, target="android-cpu", images=test_x[:128])
    options.out.mkdir(parents=True, exist_ok=True)
    path = artifact.save(options.out / "fashion.tflite", overwrite=True)
    for name, network in (("float", model), ("int8", qat)):
        print(f"{name}: {network.evaluate(test_x, test_y, verbose=0)[1]:.2%} of {len(test_y)} test images")
    print(f"{path}: {artifact.size_bytes / 1024:.1f} KiB, computes the int8 network")


if __name__ == "__main__":
    main()
