"""Augmentation with Keras layers, with seeds that are a pure function of (seed, epoch, batch).

Keras's layers count their draws in a variable. In a parallel tf.data pipeline the order of draws is not repeatable, and
after a restart the count is lost. Here every batch gets its own stateless seed, so that a resumed run sees the same
images.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

if TYPE_CHECKING:
    from .recipe import Recipe

UNIT = {"value_range": (0.0, 1.0)}
BLACK = {"fill_mode": "constant", "fill_value": 0.0}


class BatchSeed(keras.random.SeedGenerator):
    """Seed generator without a variable: each draw is hashed from (seed, epoch, batch) and the number of the draw.

    Passed to Keras's random functions in place of a ``SeedGenerator``, which counts in a variable.

    Args:
        seed: The recipe's seed.
        epoch: From 0; an int, or an int64 scalar tensor in a tf.data pipeline.
        batch: Number of the batch in its epoch; types as for ``epoch``.
        framework: "tensorflow" (also in a tf.data pipeline that feeds another backend), "jax" or "torch".
    """

    def __init__(
        self, seed: int, epoch: Any, batch: Any, framework: str = "tensorflow", branches: tuple[int, ...] = ()
    ) -> None:
        # The parent's constructor is not called: it would create the variable.
        self._key = (seed, epoch, batch)
        self._framework = framework
        self._branches = branches
        self._draws = 0

    def branch(self, number: int) -> BatchSeed:
        """Return a separate seed for an optional step, so that skipping the step does not change later draws."""
        return BatchSeed(*self._key, self._framework, (*self._branches, number))

    def next(self, ordered: bool = True) -> Any:
        """Return the seed of the next draw, (2,) integers of the framework."""
        self._draws += 1
        seed, epoch, batch = self._key
        if self._framework == "tensorflow":
            import tensorflow as tf

            key = tf.constant([seed & 0x7FFFFFFF, 0x5EED], tf.int32)
            for part in (tf.cast(epoch, tf.int64), tf.cast(batch, tf.int64), *self._branches, self._draws):
                key = tf.random.experimental.stateless_fold_in(key, part)
            return key
        words = (
            np.random.SeedSequence([seed, int(epoch), int(batch), *self._branches, self._draws]).generate_state(2)
            & 0x7FFFFFFF
        )
        return keras.ops.convert_to_tensor(words, dtype="uint32" if self._framework == "jax" else "int32")

    def uniform(self, shape: tuple[Any, ...], low: float = 0.0, high: float = 1.0) -> Any:
        """Draw float32 from [low, high)."""
        if self._framework == "tensorflow":
            import tensorflow as tf

            return tf.random.stateless_uniform(shape, self.next(), low, high)
        return keras.random.uniform(shape, low, high, seed=self)


class Augmenter:
    """The augmentation of a recipe.

    Args:
        recipe: Fields ``flip`` to ``erase``.
        crop: Whether random resized crops are made here, from images of the network's size. A streaming source makes
            them earlier, from the whole image.
        framework: Of the tensors, see ``BatchSeed``.

    Call with images float32 (B, H, W, C) in [0, 1], labels float32 (B, K) that sum to 1, and a ``BatchSeed``; returns
    the same, augmented.
    """

    def __init__(self, recipe: Recipe, crop: bool = True, framework: str = "tensorflow") -> None:
        height, width, _ = recipe.image_shape
        layers = keras.layers
        self._framework = framework
        self._crop_area = recipe.crop_area if crop else None
        self._images: list[Any] = []
        if recipe.rotation:
            self._images.append(layers.RandomRotation(recipe.rotation / 360.0, **BLACK))
        if recipe.zoom:
            self._images.append(layers.RandomZoom(recipe.zoom, **BLACK))
        if recipe.shift:
            # "nearest" shifts by whole pixels, which equals pad and crop without blurring.
            shift = (recipe.shift / height, recipe.shift / width)
            self._images.append(layers.RandomTranslation(*shift, interpolation="nearest", **BLACK))
        if recipe.flip:
            self._images.append(layers.RandomFlip("horizontal"))
        self._images += _color_layers(recipe)
        self._policy = Policy(recipe, framework) if recipe.policy else None
        # CutMix draws alpha from its factor's range; a range of one value is the paper's fixed alpha.
        self._mixers: list[Any] = [layers.MixUp(recipe.mixup)] if recipe.mixup else []
        if recipe.cutmix:
            self._mixers.append(layers.CutMix((recipe.cutmix, recipe.cutmix)))
        self._erase = None
        if recipe.erase:
            self._erase = layers.RandomErasing((0.5, 0.5), scale=(0.0, recipe.erase), fill_value=0.0, **UNIT)

    def __call__(self, images: Any, labels: Any, seed: BatchSeed) -> tuple[Any, Any]:
        if self._crop_area is not None:
            images = _crop(images, self._crop_area, seed, self._framework)
        for layer in self._images:
            images = transform(layer, images, seed, self._framework)
        if self._policy is not None:
            images = self._policy(images, seed)
        if self._mixers:
            mixed = [self._mix(layer, images, labels, seed) for layer in self._mixers]
            images, labels = mixed[0]
            if len(mixed) == 2:
                where = _tensorflow().where if self._framework == "tensorflow" else keras.ops.where
                choose = seed.uniform(()) < 0.5
                images, labels = (where(choose, a, b) for a, b in zip(*mixed, strict=True))
        if self._erase is not None:
            images = transform(self._erase, images, seed, self._framework)
        return images, labels

    def _mix(self, layer: Any, images: Any, labels: Any, seed: BatchSeed) -> tuple[Any, Any]:
        _choose_backend(layer, self._framework)
        drawn = layer.get_random_transformation(images, training=True, seed=seed)
        return layer.transform_images(images, drawn), layer.transform_labels(labels, drawn)


class MaskAugmenter:
    """Augmentation that moves an image and its mask together; colors change only in the image.

    Args:
        recipe: Fields ``flip``, ``smallest_scale``, ``largest_scale``, ``brightness``, ``contrast``, ``saturation``.
        framework: Of the tensors, see ``BatchSeed``.

    Call with images float32 (B, H, W, C) in [0, 1], masks integer (B, H, W), and a ``BatchSeed``; returns the same,
    augmented. The border around a reduced image is black, and ``ignore_index`` in the mask (without one: class 0).
    """

    def __init__(self, recipe: Recipe, framework: str = "tensorflow") -> None:
        self._flip = recipe.flip
        self._scales = (recipe.smallest_scale, recipe.largest_scale)
        self._void = recipe.void or 0
        self._colors = _color_layers(recipe)
        self._framework = framework

    def __call__(self, images: Any, masks: Any, seed: BatchSeed) -> tuple[Any, Any]:
        ops: Any = _tensorflow() if self._framework == "tensorflow" else keras.ops
        if self._flip or self._scales != (1.0, 1.0):
            # One resampling for all. Masks use the nearest pixel: class numbers must not be interpolated.
            void, dtype = float(self._void), masks.dtype
            masks = ops.cast(masks, "float32")[..., None] - void  # the outside is filled with 0
            boxes = self._boxes(images, seed, ops)
            images = _cut(images, boxes, "bilinear", self._framework)
            masks = ops.cast(_cut(masks, boxes, "nearest", self._framework)[..., 0] + void, dtype)
        for layer in self._colors:
            images = transform(layer, images, seed, self._framework)
        return images, masks

    def _boxes(self, images: Any, seed: BatchSeed, ops: Any) -> Any:
        """(B, 4) top, left, bottom, right as shares of the image; mirrored where left is larger than right."""
        count = images.shape[0] or ops.shape(images)[0]
        side = 1.0 / ops.exp(seed.uniform((count,), *map(math.log, self._scales)))
        top, left = seed.uniform((count,)) * (1.0 - side), seed.uniform((count,)) * (1.0 - side)
        bottom, right = top + side, left + side
        mirrored = seed.uniform((count,)) < (0.5 if self._flip else 0.0)
        return ops.stack([top, ops.where(mirrored, right, left), bottom, ops.where(mirrored, left, right)], axis=1)


class PairAugmenter:
    """Mirrors and rotates an image and its enlarged version in the same way, if the recipe sets ``flip``.

    Args:
        recipe: Field ``flip``.
        framework: Of the tensors, see ``BatchSeed``.

    Call with images float32 (B, H, W, C), their enlarged versions, and a ``BatchSeed``; returns the same, augmented.
    """

    def __init__(self, recipe: Recipe, framework: str = "tensorflow") -> None:
        self._flip, self._square = recipe.flip, recipe.image_shape[0] == recipe.image_shape[1]
        self._framework = framework

    def __call__(self, images: Any, targets: Any, seed: BatchSeed) -> tuple[Any, Any]:
        if not self._flip:
            return images, targets
        tensorflow = self._framework == "tensorflow"
        ops: Any = _tensorflow() if tensorflow else keras.ops
        reverse = _tensorflow().reverse if tensorflow else keras.ops.flip
        count = images.shape[0] or ops.shape(images)[0]
        for axis in (1, 2, None):
            chosen = seed.uniform((count, 1, 1, 1)) < 0.5
            if axis is not None:
                images, targets = (
                    ops.where(chosen, reverse(part, [axis] if tensorflow else axis), part) for part in (images, targets)
                )
            elif self._square:
                images, targets = (
                    ops.where(chosen, ops.transpose(part, (0, 2, 1, 3)), part) for part in (images, targets)
                )
        return images, targets


def _color_layers(recipe: Recipe) -> list[Any]:
    layers, found = keras.layers, []
    if recipe.brightness:
        found.append(layers.RandomBrightness(recipe.brightness, **UNIT))
    if recipe.contrast:
        found.append(layers.RandomContrast(recipe.contrast, **UNIT))
    if recipe.saturation and recipe.image_shape[2] == 3:  # Keras's factor 0.5 leaves the image unchanged
        half = recipe.saturation / 2
        found.append(layers.RandomSaturation((0.5 - half, 0.5 + half), **UNIT))
    return found


def transform(layer: Any, images: Any, seed: BatchSeed, framework: str) -> Any:
    """Apply a Keras augmentation layer with values drawn from `seed` instead of from the layer's own generator."""
    _choose_backend(layer, framework)
    drawn = layer.get_random_transformation(images, training=True, seed=seed)
    return layer.transform_images(images, drawn, training=True)


def _choose_backend(layer: Any, framework: str) -> None:
    # In a tf.data pipeline that feeds JAX or PyTorch, Keras's layers must compute with TensorFlow. Calling the layer
    # would switch its backend; its methods do not.
    if framework != keras.backend.backend():
        layer.backend.set_backend(framework)


def _tensorflow() -> Any:
    import tensorflow as tf

    return tf


class Policy:
    """TrivialAugment (arXiv 2103.10158) or RandAugment (arXiv 1909.13719) with Keras layers, drawn per image.

    ``keras.layers.RandAugment`` draws the operations once for a whole batch and computes all eleven to keep two. Here
    each image draws its own operations, and an operation is computed only for the images that drew it. Magnitudes are
    those of the papers' wide spaces: TrivialAugment draws them uniformly up to the full range, RandAugment up to
    ``rand_augment_strength`` of it.
    """

    def __init__(self, recipe: Recipe, framework: str) -> None:
        trivial = recipe.policy == "trivial_augment"
        self.draws = 1 if trivial else recipe.rand_augment_ops
        self._framework = framework
        strength = 1.0 if trivial else max(recipe.rand_augment_strength, 1e-3)
        height, width, _ = recipe.image_shape
        layers = keras.layers
        move = (strength * min(32.0, height / 2) / height, strength * min(32.0, width / 2) / width)
        self.operations: list[Any] = [
            None,  # identity
            layers.RandomShear(x_factor=0.99 * strength, **BLACK),
            layers.RandomShear(y_factor=0.99 * strength, **BLACK),
            layers.RandomTranslation(move[0], 0.0, interpolation="nearest", **BLACK),
            layers.RandomTranslation(0.0, move[1], interpolation="nearest", **BLACK),
            layers.RandomRotation(135.0 / 360.0 * strength, **BLACK),
            layers.RandomBrightness(0.5 * strength, **UNIT),
            layers.RandomColorDegeneration(0.99 * strength, **UNIT),
            layers.RandomContrast(0.99 * strength, **UNIT),
            layers.RandomSharpness(0.99 * strength, **UNIT),
            layers.RandomPosterization((max(2, round(8 - 6 * strength)), 8), **UNIT),
            layers.Solarization(threshold_factor=(1.0 - strength, 1.0), **UNIT),
            layers.AutoContrast(**UNIT),
            layers.Equalization(**UNIT),
        ]
        if recipe.image_shape[2] == 1:  # these two need colors
            self.operations = [op for op in self.operations if not isinstance(op, layers.RandomColorDegeneration)]

    def __call__(self, images: Any, seed: BatchSeed) -> Any:
        for draw in range(self.draws):
            images = self._once(images, seed.branch(draw))
        return images

    def _once(self, images: Any, seed: BatchSeed) -> Any:
        apply = _divided_tensorflow if self._framework == "tensorflow" else _divided_eagerly
        choice = seed.uniform((images.shape[0] or _tensorflow().shape(images)[0],), 0.0, float(len(self.operations)))
        computations = [
            None if operation is None else self._one(operation, seed.branch(index))
            for index, operation in enumerate(self.operations)
        ]
        return apply(images, choice, computations)

    def _one(self, operation: Any, seed: BatchSeed) -> Callable[[Any], Any]:
        def compute(images: Any) -> Any:
            return transform(operation, images, seed, self._framework)

        if not isinstance(operation, keras.layers.Equalization):
            return compute

        # Keras's Equalization computes one histogram over the whole batch.
        def compute_each(images: Any) -> Any:
            if self._framework == "tensorflow":
                return _tensorflow().map_fn(lambda image: compute(image[None])[0], images)
            return keras.ops.stack([compute(image[None])[0] for image in images])

        return compute_each


def _divided_tensorflow(images: Any, choice: Any, computations: list[Any]) -> Any:
    """Give each image of a batch to one of `computations` (None: unchanged) and put the parts together again.

    The batch is copied twice. Writing every part into a copy of the batch would copy it once per computation, which
    takes as long as the computations.
    """
    tf = _tensorflow()
    rows = tf.dynamic_partition(tf.range(tf.shape(images)[0]), tf.cast(choice, tf.int32), len(computations))
    parts = []
    for mine, compute in zip(rows, computations, strict=True):
        part = tf.ensure_shape(tf.gather(images, mine), [None, *images.shape[1:]])
        if compute is not None:  # an operation without images is not computed
            part = tf.cond(tf.size(mine) > 0, functools.partial(compute, part), functools.partial(tf.identity, part))
        parts.append(tf.ensure_shape(part, [None, *images.shape[1:]]))
    return tf.ensure_shape(tf.dynamic_stitch(rows, parts), images.shape)


def _divided_eagerly(images: Any, choice: Any, computations: list[Any]) -> Any:
    numbers = keras.ops.convert_to_numpy(choice).astype(int)
    for index, compute in enumerate(computations):
        rows = np.flatnonzero(numbers == index)
        if compute is not None and rows.size:
            images = keras.ops.scatter_update(images, rows[:, None], compute(keras.ops.take(images, rows, axis=0)))
    return images


def _crop(images: Any, smallest_area: float, seed: BatchSeed, framework: str) -> Any:
    """Random resized crop: a box of `smallest_area` to 1 of the area and aspect 3:4 to 4:3, scaled to the full size."""
    tensorflow = framework == "tensorflow"
    ops: Any = _tensorflow() if tensorflow else keras.ops
    count = images.shape[0] or ops.shape(images)[0]
    area = seed.uniform((count,), smallest_area, 1.0)
    stretch = ops.exp(seed.uniform((count,), -0.2877, 0.2877) / 2)  # half the logarithm of 4/3
    tall, wide = ops.minimum(ops.sqrt(area) * stretch, 1.0), ops.minimum(ops.sqrt(area) / stretch, 1.0)
    top, left = seed.uniform((count,)) * (1.0 - tall), seed.uniform((count,)) * (1.0 - wide)
    boxes = ops.stack([top, left, top + tall, left + wide], axis=1)
    return _cut(images, boxes, "bilinear", framework)


def _cut(images: Any, boxes: Any, interpolation: str, framework: str) -> Any:
    """Cut out boxes (B, 4) of top, left, bottom, right, as shares of the image, and resize each to the image's size.

    A box whose left is larger than its right is mirrored. Pixels outside the image are 0.
    """
    _, height, width, _ = images.shape
    if framework == "tensorflow":
        tf = _tensorflow()
        return tf.image.crop_and_resize(images, boxes, tf.range(tf.shape(images)[0]), (height, width), interpolation)
    ops = keras.ops
    top, left, bottom, right = ops.unstack(boxes, axis=1)
    zero = ops.zeros_like(top)
    matrix = [right - left, zero, left * (width - 1), zero, bottom - top, top * (height - 1), zero, zero]
    return ops.image.affine_transform(images, ops.stack(matrix, axis=1), interpolation, fill_mode="constant")
