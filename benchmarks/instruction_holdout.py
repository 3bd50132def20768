"""Compare the estimate of instructions with an emulator's counts of networks that no fit of its table has seen.

Usage: python benchmarks/instruction_holdout.py FOLDER
       python benchmarks/instruction_holdout.py FOLDER MEASURED.json [--core cortex-m4] [--kernels reference|cmsis-nn]

Without MEASURED.json it builds the networks, with random weights, and writes their int8 files for ``mcu`` into FOLDER.
MEASURED.json has {NAME: {"instructions": of one inference}} of TensorFlow Lite Micro. The emulator is not part of this
repository; docs/budgets.md says with which revisions the figures there were made.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from nets import spread_weights

from wavemix_tf.tflite.c_source.instruction_count import estimate_instructions
from wavemix_tf.tflite.file.flatbuffer import read_file
from wavemix_tf.tflite.names import CMSIS_NN, REFERENCE_KERNELS

CLASSES = 6


def networks() -> dict[str, Callable[[], Any]]:
    """Name -> what builds it: other depths, widths, mixers and sizes of images than the fit has."""
    from keras import applications

    import wavemix_tf as wm

    small, wide = {"image_shape": (24, 24, 3), "num_classes": CLASSES}, {"weights": None, "classes": CLASSES}
    plain = {"include_preprocessing": False, **wide}
    return {
        "wavemix_12_3_deconv": lambda: wm.WaveMixClassifier(width=12, depth=3, dropout=0.0, upsample="deconv", **small),
        "wavemix_20_2_level_2": lambda: wm.WaveMixClassifier(
            CLASSES, (20, 28, 1), width=20, depth=2, dropout=0.0, levels=2, upsample="bilinear", activation="hard_swish"
        ),
        "wavemix_12_6_nearest": lambda: wm.WaveMixClassifier(
            CLASSES, (32, 32, 3), width=12, depth=6, dropout=0.0, upsample="nearest", activation="relu"
        ),
        "convmixer_24_2": lambda: wm.ConvMixer(width=24, depth=2, kernel_size=7, patch_size=3, **small),
        "mlp_mixer_40_2": lambda: wm.MLPMixer(width=40, depth=2, patch_size=4, **small),
        "vit_32_2": lambda: wm.ViT(width=32, depth=2, heads=4, patch_size=6, **small),
        "mobilenet_025": lambda: applications.MobileNet((48, 48, 3), alpha=0.25, **wide),
        "mobilenetv2_05": lambda: applications.MobileNetV2((48, 48, 3), alpha=0.5, **wide),
        "mobilenetv3_small_05": lambda: applications.MobileNetV3Small((48, 48, 3), alpha=0.5, **plain),
        "mobilenetv3_minimal_05": lambda: applications.MobileNetV3Large(
            (32, 32, 3), alpha=0.5, minimalistic=True, **plain
        ),
    }


def build(folder: Path) -> None:
    """Write NAME.tflite of each network that is not there yet."""
    import keras

    import wavemix_tf as wm

    folder.mkdir(parents=True, exist_ok=True)
    for name, make in networks().items():
        path = folder / f"{name}.tflite"
        if path.is_file():
            continue
        keras.utils.set_random_seed(0)
        model = make()
        images = keras.random.uniform((64, *model.input_shape[1:]), seed=1).numpy()
        spread_weights(model, images)
        artifact = wm.tflite.export(
            wm.tflite.quantize(model, images[:32]),
            "mcu",
            images=images[32:],
            error_bound_steps=100.0,
            min_snr_db=-200,
            min_agreement=0,
            allow_unjudged=True,
        )
        path.write_bytes(artifact.content)
        print(f"{name}: {artifact.size_bytes:,} bytes", flush=True)


def compare(folder: Path, measured: Path, core: str, kernels: str) -> None:
    """Print the error of each network's estimate, the median of their sizes and the largest."""
    errors = []
    for name, row in json.loads(measured.read_text()).items():
        estimate = estimate_instructions(read_file((folder / f"{name}.tflite").read_bytes()), core, kernels)
        if estimate is None:
            print(f"{name}: no estimate")
            continue
        errors.append(estimate / row["instructions"] - 1)
        print(f"{name}: {row['instructions']:,} instructions, estimate {errors[-1]:+.1%}")
    sizes = [abs(error) for error in errors]
    print(f"{len(sizes)} networks: median {median(sizes):.1%}, largest {max(sizes):.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("measured", type=Path, nargs="?")
    parser.add_argument("--core", default="cortex-m4")
    parser.add_argument("--kernels", default=REFERENCE_KERNELS, choices=(REFERENCE_KERNELS, CMSIS_NN))
    given = parser.parse_args()
    if given.measured is None:
        build(given.folder)
    else:
        compare(given.folder, given.measured, given.core, given.kernels)


if __name__ == "__main__":
    main()
