"""Data and networks that train in seconds: three patterns of 8x8 pixels, networks with one or two blocks."""

import numpy as np
from PIL import Image

from wavemix_tf import cli
from wavemix_tf.training import Recipe

RECIPE = Recipe(
    name="patterns",
    dataset="digits",
    image_shape=(8, 8, 1),
    num_classes=3,
    model_args=dict(width=8, depth=1, dropout=0.0),
    calibration_images=32,
    batch_size=16,
    epochs=4,
    learning_rate=5e-3,
    qat_epochs=2,
)


def pattern_folder(root, count=240):
    """A folder of such images, one sub-folder a class."""
    for index, (image, label) in enumerate(zip(*patterns(count), strict=True)):
        path = root / ("rows", "columns", "checks")[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[..., 0] * 255).astype(np.uint8)).save(path)
    return root


def call(capsys, *words):
    """(exit code, stdout, stderr) of the command, run in this process."""
    code = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def patterns(count=192, seed=0):
    """Rows, columns and checks with noise, (N, 8, 8, 1) in [0, 1], and their labels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((8, 8)) // 2 % 2
    kinds = np.stack([rows, columns, rows ^ columns])
    labels = rng.integers(0, 3, count)
    images = 0.25 + 0.5 * kinds[labels] + rng.normal(0, 0.1, (count, 8, 8))
    return np.clip(images, 0, 1).astype(np.float32)[..., None], labels
