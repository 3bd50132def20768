"""Compare published networks with the copies that `quantize` rounds and `export` writes, before any rounding.

    python benchmarks/copies.py --out build/copies
    python benchmarks/copies.py --out build/copies --networks wavemix_lite_32_7 ResNet50V2 --doc docs/copies.md

Measures every network of `wm.VARIANTS` and ten of `keras.applications`, with random weights for which the outputs
differ from image to image: as `quantize` copies and rewrites it, and as `export` writes it for a phone's CPU
(`wm.tflite.fold`). The result is the largest difference of an output over all images, as a share of its spread
(standard deviation over the images). Images are small if the network allows it. A stopped run resumes: `copies.json`
keeps each row. Writes `copies.md`; `--doc` puts the table into a page, between two marks.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from nets import spread_weights
from report import markdown_table
from side_by_side import write_atomically

import wavemix_tf as wm
from wavemix_tf.tflite import CopyError
from wavemix_tf.tflite.graph.graph import Graph
from wavemix_tf.tflite.graph.inputs import generated_images, predict
from wavemix_tf.tflite.graph.pipeline import quantizing_passes, run
from wavemix_tf.tflite.quantization.copy_check import MAX_DIFFERENCE, check_before_rounding, difference

IMAGES = 8
SMALLEST_SIDE = 16  # pixels, for WaveMix
OTHER_SIDES = (64, None)  # for its peers: the first side with which the network can be built; None: as published
MARK = "<!-- copies -->"
# keras.applications: the range of its input, the side in pixels.
APPLICATIONS: dict[str, tuple[tuple[float, float], int]] = {
    "MobileNet": ((-1.0, 1.0), 64),
    "MobileNetV2": ((-1.0, 1.0), 64),
    "MobileNetV3Small": ((0.0, 255.0), 64),
    "MobileNetV3Large": ((0.0, 255.0), 64),
    "EfficientNetB0": ((0.0, 255.0), 64),
    "EfficientNetV2B0": ((0.0, 255.0), 64),
    "ResNet50V2": ((-1.0, 1.0), 64),
    "DenseNet121": ((-2.5, 2.7), 64),
    "InceptionV3": ((-1.0, 1.0), 96),
    "Xception": ((-1.0, 1.0), 96),
}


def of_variants(name: str) -> tuple[Any, Any]:
    """(network, range of its input)."""
    row = wm.VARIANTS[name]
    if "model" not in row or row["model"].startswith("WaveMix"):
        reduction = row["patch_size"] if row.get("stem") == "patchify" else row.get("stride", 1) ** 2
        side = max(SMALLEST_SIDE, reduction * 2 ** row.get("levels", 1))
        shape = (side, 2 * side, row.get("image_shape", (0, 0, 3))[2])  # not square, to detect swapped sides
        return wm.build_model(name, image_shape=shape), (0.0, 1.0)
    for side in OTHER_SIDES:
        try:
            return wm.build_model(name, image_shape=None if side is None else (side, side, 3)), (0.0, 1.0)
        except ValueError:
            if side is None:
                raise
    raise AssertionError


def of_applications(name: str) -> tuple[Any, Any]:
    limits, side = APPLICATIONS[name]
    build = getattr(keras.applications, name)
    return build(input_shape=(side, side, 3), weights=None, classes=10, classifier_activation=None), limits


BUILDERS: dict[str, Callable[[str], tuple[Any, Any]]] = {
    **dict.fromkeys(wm.VARIANTS, of_variants),
    **dict.fromkeys(APPLICATIONS, of_applications),
}


def compare(name: str, seed: int) -> dict[str, Any]:
    """Measure one row: a network and its copies on the same images."""
    keras.utils.set_random_seed(seed)
    model, limits = BUILDERS[name](name)
    shape = model.inputs[0].shape[1:]
    low, high = limits
    images = (generated_images(tuple(shape), IMAGES, seed) * (high - low) + low).astype(np.float32)
    spread_weights(model, images, seed, deep=True)
    expected = predict(model, [images])
    row: dict[str, Any] = {"image_shape": list(shape), "parameters": model.count_params(), "images": IMAGES}
    try:
        graph = Graph.from_model(model)
        run(graph, quantizing_passes([limits], [images], keep_unsupported=True))
        row["quantize"] = max(check_before_rounding(model, graph, [images], {}).copy.differences, default=float("nan"))
    except CopyError as error:
        row["fault"] = str(error)
    written = predict(wm.tflite.fold(model), [images])
    row["export"] = max(difference(["output"], expected, written).differences)
    return row


def table(rows: dict[str, dict[str, Any]]) -> str:
    header = ["network", "parameters", "image", "images", "copy of `quantize`", "network of `export`"]
    lines = [
        [
            name,
            f"{row['parameters']:,}",
            " x ".join(map(str, row["image_shape"])),
            str(row["images"]),
            row.get("fault") or f"{row['quantize']:.1e}",
            f"{row['export']:.1e}",
        ]
        for name, row in rows.items()
    ]
    return markdown_table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", choices=BUILDERS, default=list(BUILDERS))
    parser.add_argument("--again", action="store_true", help="also measure networks that copies.json has")
    parser.add_argument("--doc", type=Path, help=f"page whose lines between two {MARK} are replaced by this table")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "copies.json"
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}
    wanted = [name for name in given.networks if given.again or name not in rows]
    for index, name in enumerate(wanted, 1):
        begun = time.perf_counter()
        rows[name] = compare(name, list(BUILDERS).index(name))
        write_atomically(path, (json.dumps(rows, indent=2) + "\n").encode())
        copied = rows[name].get("fault") or f"{rows[name]['quantize']:.1e}"
        print(
            f"{index}/{len(wanted)} {name}: copied {copied}, written {rows[name]['export']:.1e} of the spread "
            f"({time.perf_counter() - begun:.0f} s)",
            flush=True,
        )
        keras.backend.clear_session()
        gc.collect()
    rows = {name: rows[name] for name in BUILDERS if name in rows}
    text = table(rows)
    write_atomically(given.out / "copies.md", (text + "\n").encode())
    if given.doc is not None:
        before, _, after = given.doc.read_text(encoding="utf-8").split(MARK)
        write_atomically(given.doc, f"{before}{MARK}\n{text}\n{MARK}{after}".encode())
    worst = max((max(row.get("quantize", np.inf), row["export"]) for row in rows.values()), default=0.0)
    print(f"{len(rows)} networks; the largest difference is {worst:.1e} of the spread (allowed: {MAX_DIFFERENCE:g}).")


if __name__ == "__main__":
    main()
