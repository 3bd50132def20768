"""Small generated data for the tasks whose targets are masks and images."""

import numpy as np
from PIL import Image

VOID = 3


def scene(random):
    """Sky over ground with a box in it: (image, mask) of three colours, with a void line between."""
    horizon, left, top = random.integers(8, 16), random.integers(2, 20), random.integers(4, 14)
    mask = np.zeros((24, 32), np.uint8)
    mask[horizon:] = 1
    mask[top : top + 8, left : left + 9] = 2
    image = np.array([[90, 140, 230], [60, 150, 40], [220, 60, 50]], np.uint8)[mask].astype(int)
    mask[horizon] = VOID
    return np.clip(image + random.integers(-25, 25, image.shape), 0, 255).astype(np.uint8), mask


def write_scenes(root, counts=(("train", 40), ("val", 8), ("test", 8))):
    """A folder as CamVid's: train/ beside trainannot/, and so on, with classes.txt."""
    random = np.random.default_rng(0)
    for split, count in counts:
        for number in range(count):
            image, mask = scene(random)
            for folder, pixels in ((split, image), (f"{split}annot", mask)):
                (root / folder).mkdir(exist_ok=True, parents=True)
                Image.fromarray(pixels).save(root / folder / f"{number}.png")
    (root / "classes.txt").write_text("sky\nground\nbox\nvoid\n")
    return root


def write_photographs(root, count=24):
    """Smooth pictures with edges, each of another size."""
    random = np.random.default_rng(0)
    for number in range(count):
        height, width = random.integers(40, 60, 2)
        rows, columns = np.indices((height, width))
        waves = [np.sin(rows * random.uniform(0, 0.5) + columns * random.uniform(0, 0.5) + k) for k in range(3)]
        image = 128 + 60 * np.stack(waves, -1)
        image[rows > columns * random.uniform(0.3, 2)] *= 0.5
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(root / f"{number:02}.png")
    return root
