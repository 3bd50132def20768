"""Time of `quantize` and `export` against TensorFlow's own post-training quantization of the same network.

    python benchmarks/export_time.py --out runs/benchmarks

MobileNetV2 of `keras.applications` with random weights, 224 pixels, and the same calibration images for both. The
converter calibrates and writes a full int8 file; ours also measures each range image by image, compares the copy with
the model, and runs the file in LiteRT's XNNPACK and reference kernels against the Keras model. Each round runs all in
turn in one process; the times are wall-clock, with the processor's time beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from report import markdown_table
from side_by_side import cpu_seconds, machine, warn_if_busy, write_atomically

TITLES = {
    "quantize": "`quantize`",
    "export": "`export`, with both runtimes",
    "both": "both",
    "converter": "TensorFlow's converter, post-training int8",
}


def timed(function: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """(result, wall-clock and processor seconds)."""
    start, cpu = time.perf_counter(), cpu_seconds()
    result = function()
    return result, {"wall_s": time.perf_counter() - start, "cpu_s": cpu_seconds() - cpu}


def run_round(side: int, images: np.ndarray) -> dict[str, dict[str, float]]:
    """One round: a new network, ours, then the converter's."""
    import keras
    import tensorflow as tf

    import wavemix_tf as wm

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(
        weights=None, classes=10, input_shape=(side, side, 3), classifier_activation=None
    )

    def convert() -> Any:
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return converter.convert()

    found: dict[str, dict[str, float]] = {}
    quantized, found["quantize"] = timed(lambda: wm.tflite.quantize(model, images))
    # The weights are random: no accuracy is judged.
    options: dict[str, Any] = {"min_snr_db": -99.0, "allow_unjudged": True}
    _, found["export"] = timed(lambda: wm.tflite.export(quantized, target="android-cpu", **options))
    found["both"] = {key: found["quantize"][key] + found["export"][key] for key in ("wall_s", "cpu_s")}
    _, found["converter"] = timed(convert)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for export_time.{json,md}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--images", type=int, default=64, help="calibration images")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warn_if_busy()
    warnings.simplefilter("ignore")
    images = np.random.default_rng(0).random((options.images, options.side, options.side, 3), dtype="float32")
    rounds = []
    for number in range(options.rounds):
        rounds.append(run_round(options.side, images))
        print(f"round {number + 1} of {options.rounds}: {rounds[-1]}", flush=True)
    ratios = [one["both"]["wall_s"] / one["converter"]["wall_s"] for one in rounds]
    results = {"machine": machine(), "side": options.side, "images": options.images, "rounds": rounds, "ratios": ratios}
    rows = [
        [title, *(f"{median(one[name][key] for one in rounds):.1f}" for key in ("wall_s", "cpu_s"))]
        for name, title in TITLES.items()
    ]
    text = "\n".join(
        [
            f"MobileNetV2, {options.side} pixels, {options.images} calibration images, on {results['machine']['cpu']}, "
            f"{options.rounds} rounds.",
            f"Both against the converter: {median(ratios):.2f} times its time ({min(ratios):.2f}-{max(ratios):.2f}).",
            "",
            markdown_table(["", "wall-clock, s", "processor, s"], rows),
            "",
        ]
    )
    write_atomically(options.out / "export_time.json", json.dumps(results, indent=1))
    write_atomically(options.out / "export_time.md", text)
    print("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
