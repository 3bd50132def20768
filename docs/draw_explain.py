r"""Draw docs/explain.png: the explanation of one test image by a network trained on CIFAR-10.

    wavemix-tf fit cifar10 --set "train_split=train[:50%]" --set model=none --set epochs=8 --set batch_size=64 \
        --set 'model_args={"width": 32, "depth": 4, "levels": 2, "upsample": "bilinear", "dropout": 0.0}' \
        --set ema=0.98 --set warmup_epochs=1 --out runs/explain
    python docs/draw_explain.py runs/explain 2

The number selects the test image. It is written as a PNG file and passed to `wavemix-tf explain`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from wavemix_tf import cli
from wavemix_tf.command.run_folder import saved_recipe
from wavemix_tf.training import load_data


def main(run: Path, index: int) -> int:
    data = load_data(saved_recipe(run))
    images, labels = data.sample("test", index + 1)
    name = data.class_names[labels[index]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.png"
        Image.fromarray(np.round(255 * images[index]).astype(np.uint8)).save(path)
        code = cli.main(["explain", str(path), "--out", str(run), "--save", folder])
        if code == 0:
            picture = Image.open(Path(folder) / f"explain_{name}.png").convert("RGB")
            # Fewer colors make a smaller file.
            picture.quantize(256).save(Path(__file__).with_name("explain.png"), optimize=True)
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
