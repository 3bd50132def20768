"""Weights of examples: per image and per class, converted for the losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from ..recipe import Recipe
from ..tasks import task_type


def check_class_weight(class_weight: Mapping[Any, float] | None, recipe: Recipe) -> None:
    """Raise ValueError if class weights are invalid for any class names; called before the data is read."""
    if class_weight is None:
        return
    if not isinstance(class_weight, Mapping) or not task_type(recipe).has_classes:
        raise ValueError(
            "class_weight must map classes to weights, for a task that has classes. Received: "
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
        f"class_weight must map class numbers in {numbers}, or class names, to weights of 0 or more. "
        f"Received: {key!r}: {weight!r}"
    )


def class_table(
    class_weight: Mapping[Any, float] | None, class_names: tuple[str, ...], recipe: Recipe
) -> tuple[float, ...] | None:
    """The weight of each class, or None without class weights.

    Args:
        class_weight: Number or name of a class -> weight; a missing class has weight 1.
        class_names: The class names of the data.
        recipe: The recipe; its task must have classes.

    Raises:
        ValueError: unknown class, or invalid weight.
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
        raise ValueError(f"A class must have a weight above 0. Received: class_weight={class_weight!r}")
    return tuple(table)


def plain_weights(class_weight: Mapping[Any, float] | None) -> dict[str, float] | None:
    """Class weights as a run's files store them, to compare them later."""
    return None if class_weight is None else {str(key): float(weight) for key, weight in class_weight.items()}


@dataclasses.dataclass(frozen=True)
class Weighting:
    """The weighting of a batch's losses.

    Attributes:
        recipe: The recipe of the run.
        classes: Weight of each class, see ``class_table``; None: equal weights.
    """

    recipe: Recipe
    classes: tuple[float, ...] | None = None

    def weigh_targets(self, targets: Any, weights: Any, framework: str) -> Any:
        """Multiply soft labels (B, K) by the weights, so that mixed images get mixed weights; return others unchanged.

        Args:
            targets: The targets for the augmenter: tensors of TensorFlow, or of Keras's backend.
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
        """Return (targets, weights for the loss or None if there are none) after the augmenter.

        Args:
            targets: The targets that the augmenter returned.
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
            return targets, weights[:, None, None]  # one weight for all pixels
        # The loss masks void pixels itself.
        table = np.ones(max(256, len(self.classes)), np.float32)
        table[: len(self.classes)] = self.classes
        found = take(table, targets)
        return targets, found if weights is None else found * weights[:, None, None]
