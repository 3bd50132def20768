"""A search that takes seconds: three patterns of 8x8 pixels, networks of one or two blocks."""

import numpy as np

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


def patterns(count=192, seed=0):
    """Rows, columns and checks with noise, (N, 8, 8, 1) in [0, 1], and their labels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((8, 8)) // 2 % 2
    kinds = np.stack([rows, columns, rows ^ columns])
    labels = rng.integers(0, 3, count)
    images = 0.25 + 0.5 * kinds[labels] + rng.normal(0, 0.1, (count, 8, 8))
    return np.clip(images, 0, 1).astype(np.float32)[..., None], labels
