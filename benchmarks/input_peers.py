"""The peers of input_pipeline.py: tf.data written by hand, and PyTorch's DataLoader. Loaded by input_worker.py.

Each function returns an endless iterator over batches (images float32 in [0, 1], soft labels float32).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from input_pictures import CLASSES, NAME

STRENGTH = 0.5  # of RandAugment's wide space, as the default of our recipes
MAGNITUDE = 15  # the same for torchvision, whose range has 31 bins
ALPHA = 0.2  # of MixUp
BUFFER = 512  # of encoded pictures, for shuffling; ours has the same


def hand_written(arguments: dict[str, Any]) -> Iterator[Any]:
    """tf.data as its guide advises: parallel maps, decoding and RandAugment for each picture, MixUp for each batch.

    RandAugment works on uint8 as that of TensorFlow's Model Garden: for every picture one operation out of 14 by
    ``tf.switch_case``, twice, nearest-neighbor sampling. With "keras" it is ``keras.layers.RandAugment`` on batches,
    which draws once for all pictures of a batch.
    """
    import keras
    import tensorflow as tf

    side, batch = arguments["side"], arguments["batch"]

    def read(content: Any, label: Any) -> tuple[Any, Any]:
        image = tf.io.decode_jpeg(content, channels=3)
        image = tf.image.resize(image, (side, side), antialias=True)
        image = tf.cast(tf.round(image), tf.uint8)
        return (image if arguments["keras"] else rand_augment(image)), label

    augment = keras.layers.RandAugment((0, 1), num_ops=2, factor=STRENGTH)

    def mix(images: Any, labels: Any) -> tuple[Any, Any]:
        images, labels = tf.cast(images, tf.float32) / 255, tf.one_hot(labels, CLASSES)
        if arguments["keras"]:
            images = augment(images, training=True)
        ones = [tf.random.gamma([], ALPHA) for _ in range(2)]
        share = ones[0] / (ones[0] + ones[1])
        return share * images + (1 - share) * images[::-1], share * labels + (1 - share) * labels[::-1]

    encoded = ENCODED[arguments["source"]](Path(arguments["pictures"]))
    options = tf.data.Options()
    options.deterministic = False
    dataset = encoded.repeat().map(read, tf.data.AUTOTUNE).batch(batch, drop_remainder=True)
    return iter(dataset.map(mix, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE).with_options(options))


def _folder(folder: Path) -> Any:
    import tensorflow as tf

    paths = sorted((folder / "images" / "train").glob("*/*.jpg"))
    labels = [int(path.parent.name.rpartition("_")[2]) for path in paths]
    files = tf.data.Dataset.from_tensor_slices((list(map(str, paths)), labels)).shuffle(len(paths))
    return files.map(lambda path, label: (tf.io.read_file(path), label), tf.data.AUTOTUNE)


def _parse(record: Any) -> tuple[Any, Any]:
    import tensorflow as tf

    kinds = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    example = tf.io.parse_single_example(record, kinds)
    return example["image"], example["label"]


def _tfrecord(folder: Path) -> Any:
    import tensorflow as tf

    paths = sorted(map(str, (folder / "tfrecord" / NAME).glob("*/*-train.tfrecord-*")))
    return tf.data.TFRecordDataset(paths).shuffle(BUFFER).map(_parse, tf.data.AUTOTUNE)


def _array_record(folder: Path) -> Any:
    import tensorflow as tf
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    paths = sorted(map(str, (folder / "array_record" / NAME).glob("*/*-train.array_record-*")))
    source = ArrayRecordDataSource(paths)
    rows = tf.data.Dataset.range(len(source)).shuffle(len(source)).batch(64)

    def read(numbers: Any) -> Any:
        records = tf.numpy_function(
            lambda found: np.array(source.__getitems__(found.tolist()), object), [numbers], tf.string
        )
        return tf.ensure_shape(records, [None])

    return rows.map(read).prefetch(2).unbatch().map(_parse, tf.data.AUTOTUNE)


ENCODED: dict[str, Callable[[Path], Any]] = {
    "folder": _folder,
    "tfrecord": _tfrecord,
    "array_record": _array_record,
}


def rand_augment(image: Any) -> Any:
    """RandAugment of one picture, uint8 (h, w, 3): two of the 14 operations of ``training/augment.py``."""
    import tensorflow as tf

    height, width = image.shape[:2]

    def signed(value: float) -> Any:
        return tf.where(tf.random.uniform([]) < 0.5, value, -value)

    def moved(matrix: list[Any]) -> Any:
        row = tf.stack([tf.cast(value, tf.float32) for value in (*matrix, 0.0, 0.0)])[None]
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=image[None],
            transforms=row,
            output_shape=[height, width],
            fill_value=0.0,
            interpolation="NEAREST",
            fill_mode="CONSTANT",
        )[0]

    def rotated() -> Any:
        angle = signed(STRENGTH * 135 / 180 * math.pi)
        cosine, sine = tf.cos(angle), tf.sin(angle)
        x, y = (width - 1) / 2, (height - 1) / 2
        return moved([cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y])

    def blended(other: Any) -> Any:
        factor = 1.0 + signed(0.99 * STRENGTH)
        other = tf.cast(other, tf.float32)
        return tf.saturate_cast(other + factor * (tf.cast(image, tf.float32) - other), tf.uint8)

    def gray() -> Any:
        return tf.image.rgb_to_grayscale(image)

    def blurred() -> Any:
        kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32)[..., None, None] / 13
        pixels = tf.cast(image, tf.float32)[None]
        return tf.nn.depthwise_conv2d(pixels, tf.tile(kernel, [1, 1, 3, 1]), [1, 1, 1, 1], "SAME")[0]

    def contrasted() -> Any:
        pixels = tf.cast(image, tf.float32)
        low, high = tf.reduce_min(pixels, [0, 1]), tf.reduce_max(pixels, [0, 1])
        return tf.cast((pixels - low) * 255 / tf.maximum(high - low, 1), tf.uint8)

    def equalized() -> Any:
        def one(channel: Any) -> Any:
            counts = tf.math.bincount(tf.cast(channel, tf.int32), minlength=256, maxlength=256)
            below = tf.cumsum(counts) - counts
            table = tf.cast(below * 255 // tf.maximum(height * width - counts[-1], 1), tf.int32)
            return tf.cast(tf.gather(tf.clip_by_value(table, 0, 255), tf.cast(channel, tf.int32)), tf.uint8)

        return tf.stack([one(image[..., index]) for index in range(3)], -1)

    def posterized() -> Any:
        return tf.bitwise.left_shift(tf.bitwise.right_shift(image, np.uint8(3)), np.uint8(3))

    operations: list[Callable[[], Any]] = [
        lambda: image,
        lambda: moved([1.0, signed(0.99 * STRENGTH), 0.0, 0.0, 1.0, 0.0]),
        lambda: moved([1.0, 0.0, 0.0, signed(0.99 * STRENGTH), 1.0, 0.0]),
        lambda: moved([1.0, 0.0, signed(32 * STRENGTH), 0.0, 1.0, 0.0]),
        lambda: moved([1.0, 0.0, 0.0, 0.0, 1.0, signed(32 * STRENGTH)]),
        rotated,
        lambda: blended(tf.zeros_like(image)),
        lambda: blended(gray()),
        lambda: blended(tf.reduce_mean(tf.cast(gray(), tf.float32))),
        lambda: blended(blurred()),
        posterized,
        lambda: tf.where(image < int(255 * (1 - STRENGTH)), image, 255 - image),
        contrasted,
        equalized,
    ]
    for _ in range(2):
        choice = tf.random.uniform([], 0, len(operations), tf.int32)
        image = tf.ensure_shape(tf.switch_case(choice, operations), [height, width, 3])
    return image


def data_loader(arguments: dict[str, Any]) -> Iterator[Any]:
    """PyTorch's DataLoader with torchvision's v2 transforms; MixUp in the collate function, as its guide advises."""
    import torch
    import torchvision
    from PIL import Image
    from torchvision.transforms import v2

    side, batch = arguments["side"], arguments["batch"]
    paths = sorted((Path(arguments["pictures"]) / "images" / "train").glob("*/*.jpg"))
    resize, augment = v2.Resize((side, side), antialias=True), v2.RandAugment(2, MAGNITUDE)
    scale = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    mix = v2.MixUp(alpha=ALPHA, num_classes=CLASSES)

    class Pictures(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            path = str(paths[index])
            if arguments["pil"]:
                image = Image.open(path).convert("RGB")
            else:
                content = torchvision.io.read_file(path)
                image = torchvision.io.decode_jpeg(content, torchvision.io.ImageReadMode.RGB)
            return scale(augment(resize(image))), index % CLASSES

    pictures = Pictures()
    # Epochs in a row: the workers never wait for the next one.
    order = torch.utils.data.RandomSampler(pictures, num_samples=1 << 30)
    return iter(
        torch.utils.data.DataLoader(
            pictures,
            batch_size=batch,
            sampler=order,
            num_workers=arguments["threads"],
            collate_fn=lambda examples: mix(*torch.utils.data.default_collate(examples)),
            drop_last=True,
        )
    )
