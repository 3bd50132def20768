"""Weights of examples: each image's own, and each class's, as the losses take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from ..recipe import Recipe
from ..tasks import task_type


def check_class_weight(class_weight: Mapping[Any, float] | None, recipe: Recipe) -> None:
    """ValueError if class weights cannot be, whatever the names of the classes: before the data is read."""
    if class_weight is None:
        return
    if not isinstance(class_weight, Mapping) or not task_type(recipe).has_classes:
        raise ValueError(
            "class_weight must map classes to weights, of a task that has classes. Received: "
            f"class_weight={class_weight!r}, task={recipe.task!r}"
        )
    classes = task_type(recipe).known_classes(recipe)
    for key, weight in class_weight.items():
        is_number = isinstance(key, (int, np.integer))
        inside = not is_number or (key >= 0 and (classes is None or key < classes))
        if not inside or not _is_weight(weight):
            raise ValueError(_rule(f"[0, {classes or 'number of classes'})", key, weight))


def _is_weight(weight: Any) -> bool:
    return isinstance(weight, (int, float, np.number)) and bool(np.isfinite(weight) and weight >= 0)


def _rule(numbers: str, key: Any, weight: Any) -> str:
    return (
        f"class_weight must map numbers in {numbers}, or names, of classes to weights from 0 on. "
        f"Received: {key!r}: {weight!r}"
    )


def class_table(
    class_weight: Mapping[Any, float] | None, class_names: tuple[str, ...], recipe: Recipe
) -> tuple[float, ...] | None:
    """The weight of each class, or None where none is weighed.

    Args:
        class_weight: Number or name of a class -> weight; 1 for a class that is not in it.
        class_names: Of the data.
        recipe: Its task must have classes.

    Raises:
        ValueError: no such class, or a weight that is none.
    """
    check_class_weight(class_weight, recipe)
    if class_weight is None:
        return None
    table = [1.0] * len(class_names)
    for key, weight in class_weight.items():
        index = class_names.index(key) if key in class_names else key
        known = isinstance(index, (int, np.integer)) and 0 <= index < len(table)
        if not known:
            raise ValueError(_rule(f"[0, {len(table)})", key, weight))
        table[int(index)] = float(weight)
    if not any(table):
        raise ValueError(f"Some class must weigh more than 0. Received: class_weight={class_weight!r}")
    return tuple(table)


def plain_weights(class_weight: Mapping[Any, float] | None) -> dict[str, float] | None:
    """As a run's files keep it, by which other weights are known."""
    return None if class_weight is None else {str(key): float(weight) for key, weight in class_weight.items()}


@dataclasses.dataclass(frozen=True)
class Weighting:
    """How a batch's losses are weighed.

    Attributes:
        recipe: Of the run.
        classes: Weight of each class, see ``class_table``; None: classes are alike.
    """

    recipe: Recipe
    classes: tuple[float, ...] | None = None

    def weigh_targets(self, targets: Any, weights: Any, framework: str) -> Any:
        """Soft labels (B, K) times their images' weights, so that what mixes images mixes weights; others as they are.

        Args:
            targets: As the augmenter takes them: tensors of TensorFlow, or of Keras's back end.
            weights: float32 (B,), or None.
            framework: "tensorflow" for tensors of a tf.data pipeline.
        """
        convert = (lambda values: values) if framework == "tensorflow" else ops.convert_to_tensor
        if not task_type(self.recipe).soft_targets:
            return targets
        if weights is not None:
            targets = targets * convert(weights)[:, None]
        return targets if self.classes is None else targets * convert(np.array(self.classes, np.float32))

    def split_weights(self, targets: Any, weights: Any, framework: str) -> tuple[Any, Any]:
        """(targets, weights for the loss, None where nothing is weighed) behind the augmenter.

        Args:
            targets: Of the augmenter.
            weights: float32 (B,), or None.
            framework: "tensorflow" for tensors of a tf.data pipeline; otherwise they are arrays.
        """
        if weights is None and self.classes is None:
            return targets, None
        if framework == "tensorflow":
            import tensorflow as tf

            total, safe, take = tf.reduce_sum, tf.maximum, tf.gather
        else:
            total, safe, take = np.sum, np.maximum, lambda table, index: np.asarray(table)[index]
        if task_type(self.recipe).soft_targets:
            shares = total(targets, axis=-1)
            return targets / safe(shares, 1e-12)[:, None], shares
        if self.classes is None:
            return targets, weights[:, None, None]  # of every pixel
        # A number without a class is masked by the loss itself.
        table = np.ones(max(256, len(self.classes)), np.float32)
        table[: len(self.classes)] = self.classes
        found = take(table, targets)
        return targets, found if weights is None else found * weights[:, None, None]
