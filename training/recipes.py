"""The named recipes: each shows only its differences from `Recipe`'s defaults, and says command, cost and result.

Add one: write a function whose docstring says what was run and measured, and list it in ``RECIPES``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType

from .recipe import Recipe


def digits() -> Recipe:
    """scikit-learn's 1,797 scans of handwritten digits, 8x8 grey; embedded, no download.

    Command: wavemix-tf run digits
    """
    return Recipe(
        name="digits",
        dataset="digits",
        image_shape=(8, 8, 1),
        num_classes=10,
        model_args=dict(width=16, depth=4, dropout=0.0, upsample="deconv"),
        calibration_images=100,
        batch_size=32,
        epochs=40,
        learning_rate=5e-3,
        warmup_epochs=2,
        weight_decay=0.02,
        label_smoothing=0.05,
        ema=0.99,
        shift=1,
        rotation=8,
        qat_epochs=8,
        qat_learning_rate=2e-4,
    )


def mnist() -> Recipe:
    """MNIST with 3,566 parameters (official README: 99 %).

    Command: wavemix-tf run mnist
    """
    return Recipe(
        name="mnist",
        dataset="mnist",
        image_shape=(28, 28, 1),
        num_classes=10,
        model="wavemix_lite_8_10_up",
        model_args=dict(dropout=0.0),
        calibration_images=512,
        epochs=40,
        learning_rate=1e-2,
        warmup_epochs=2,
        weight_decay=1e-3,
        ema=0.995,
        shift=2,
        rotation=8,
    )


def fashion_mnist() -> Recipe:
    """Fashion-MNIST with 7,156 parameters (official README: 90 %).

    Command: wavemix-tf run fashion_mnist
    """
    return Recipe(
        name="fashion_mnist",
        dataset="fashion_mnist",
        image_shape=(28, 28, 1),
        num_classes=10,
        model="wavemix_lite_8_5",
        model_args=dict(dropout=0.0),
        calibration_images=512,
        epochs=50,
        learning_rate=8e-3,
        warmup_epochs=2,
        weight_decay=1e-3,
        ema=0.995,
        flip=True,
        shift=2,
    )


def cifar10() -> Recipe:
    """CIFAR-10 with 37,058 parameters (official README: 80 %).

    Command: wavemix-tf run cifar10
    """
    return Recipe(
        name="cifar10",
        dataset="cifar10",
        image_shape=(32, 32, 3),
        num_classes=10,
        model="wavemix_lite_32_7_up",
        model_args=dict(dropout=0.0),
        calibration_images=512,
        epochs=40,
        learning_rate=6e-3,
        warmup_epochs=2,
        weight_decay=5e-3,
        ema=0.995,
        flip=True,
        shift=4,
    )


def _named(*functions: Callable[[], Recipe]) -> Mapping[str, Recipe]:
    """Name -> Recipe, each carrying its function's docstring as its description."""
    recipes = (dataclasses.replace(function(), description=inspect.getdoc(function) or "") for function in functions)
    return MappingProxyType({recipe.name: recipe for recipe in recipes})


RECIPES: Mapping[str, Recipe] = _named(digits, mnist, fashion_mnist, cifar10)
