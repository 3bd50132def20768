"""Compare the estimated instructions of public networks with published times on microcontrollers.

Usage: python benchmarks/published_times.py [--network NAME]

Every network of ``published_times.NETWORKS`` is built in Keras with random weights and written as an int8 file for the
target mcu. The first table is the file's multiply-accumulates and its instructions on a Cortex-M4 with CMSIS-NN; the
second has a row for each published figure, with the cycles for each estimated instruction; the third the range of each
core. Nothing is timed here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import keras
from keras import layers

from wavemix_tf.tflite.c_source.instruction_count import estimate_instructions
from wavemix_tf.tflite.file.flatbuffer import FileInfo, read_file
from wavemix_tf.tflite.file.op_costs import count_macs
from wavemix_tf.tflite.measuring.candidate import write_files
from wavemix_tf.tflite.names import CMSIS_NN
from wavemix_tf.tflite.targets.published_times import NETWORKS, PUBLISHED, cycles_per_instruction
from wavemix_tf.tflite.targets.table import get_target

CLASSES = 10


def _norm_relu(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU()(layers.BatchNormalization()(x))


def resnet_8() -> keras.Model:
    """Image classification of MLPerf Tiny: 32x32x3, 16, 32 and 64 filters, 78,666 parameters."""
    inputs = keras.Input((32, 32, 3))
    x = _norm_relu(layers.Conv2D(16, 3, padding="same")(inputs))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        y = _norm_relu(layers.Conv2D(filters, 3, strides=stride, padding="same")(x))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        if stride > 1:
            x = layers.Conv2D(filters, 1, strides=stride, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return keras.Model(inputs, layers.Dense(CLASSES, activation="softmax")(x))


def _separable(x: keras.KerasTensor, filters: int, stride: int) -> keras.KerasTensor:
    x = _norm_relu(layers.DepthwiseConv2D(3, strides=stride, padding="same")(x))
    return _norm_relu(layers.Conv2D(filters, 1)(x))


def ds_cnn() -> keras.Model:
    """Keyword spotting of MLPerf Tiny: 49 frames of 10 coefficients, 64 filters, 12 words."""
    inputs = keras.Input((49, 10, 1))
    x = _norm_relu(layers.Conv2D(64, (10, 4), strides=2, padding="same")(inputs))
    for _ in range(4):
        x = _separable(x, 64, 1)
    x = layers.Flatten()(layers.AveragePooling2D((24, 5))(x))
    return keras.Model(inputs, layers.Dense(12, activation="softmax")(x))


def mobilenet_tiny() -> keras.Model:
    """Visual wake words of MLPerf Tiny: MobileNetV1 of width 0.25, 96x96x3, two classes."""
    inputs = keras.Input((96, 96, 3))
    x = _norm_relu(layers.Conv2D(8, 3, strides=2, padding="same")(inputs))
    strided = {32: 2, 64: 2, 128: 2, 256: 2}
    seen = 16
    for filters in (16, 32, 32, 64, 64, *[128] * 6, 256, 256):
        x = _separable(x, filters, strided[filters] if filters != seen else 1)
        seen = filters
    x = layers.Flatten()(layers.AveragePooling2D(3)(x))
    return keras.Model(inputs, layers.Dense(2, activation="softmax")(x))


def autoencoder() -> keras.Model:
    """Anomaly detection of MLPerf Tiny: 640 inputs, eight hidden layers of 128 and one of 8."""
    x = inputs = keras.Input((640,))
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = _norm_relu(layers.Dense(units)(x))
    return keras.Model(inputs, layers.Dense(640)(x))


def mobilenet_96() -> keras.Model:
    """MobileNetV1 of width 0.25, 96x96x3, of ``keras.applications``, with five classes: flowers, of ST's model zoo."""
    base = keras.applications.MobileNet((96, 96, 3), alpha=0.25, include_top=False, weights=None, pooling="avg")
    return keras.Model(base.input, layers.Dense(5, activation="softmax")(base.output))


def mobilenet_v2_80() -> keras.Model:
    """MobileNetV2 of width 0.30, 80x80x3, of ``keras.applications``, with 1,000 classes."""
    return keras.applications.MobileNetV2((80, 80, 3), alpha=0.3, weights=None)


BUILDERS: dict[str, Callable[[], keras.Model]] = {
    "ResNet-8": resnet_8,
    "DS-CNN": ds_cnn,
    "MobileNetV1 0.25, 96x96, two classes": mobilenet_tiny,
    "autoencoder 640-128-8": autoencoder,
    "MobileNetV1 0.25, 96x96, five classes": mobilenet_96,
    "MobileNetV2 0.30, 80x80": mobilenet_v2_80,
}


def file_of(name: str) -> FileInfo:
    """The int8 file of a network for the target mcu, parsed."""
    _, content, _ = next(write_files(BUILDERS[name](), "mcu", get_target("mcu")))
    return read_file(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=BUILDERS, help="only this one")
    given = parser.parse_args()
    for name in [given.network] if given.network else BUILDERS:
        info = file_of(name)
        counted = estimate_instructions(info, "cortex-m4", CMSIS_NN)
        macs = sum(map(count_macs, info.ops))
        print(
            f"{name}: {macs / 1e6:.3f} M multiply-accumulates, {counted / 1e6:.3f} M instructions (estimate); "
            f"the table has {NETWORKS.get(name, float('nan')):.3f}"
        )
    for row in sorted(PUBLISHED, key=lambda row: (row.core, row.cycles_per_instruction)):
        print(
            f"{row.core}, {row.board}, {row.clock_mhz} MHz, {row.runtime}, {row.network}: {row.latency_ms:.2f} ms, "
            f"{row.cycles_per_instruction:.2f} cycles for each estimated instruction"
        )
    for core in sorted({row.core for row in PUBLISHED}):
        found = cycles_per_instruction(core, CMSIS_NN)
        print(f"{core}: {found.least:.2f} to {found.most:.2f}, {found.figures} figures")


if __name__ == "__main__":
    main()
