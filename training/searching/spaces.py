"""Search spaces: functions that read hyperparameters and return the recipe of one candidate.

A space is ``space(hp, recipe) -> Recipe`` with a ``keras_tuner.HyperParameters`` and the recipe that the search starts
from. Ranges are relative to that recipe: the search explores around a network that is known to train. To make another
space, call one of these and change the result::

    def with_activation(hp, recipe):
        recipe = wm.training.SPACES["depth-width"](hp, recipe)
        activation = hp.Choice("activation", ["gelu", "relu6"])
        return dataclasses.replace(recipe, model_args={**recipe.model_args, "activation": activation})
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from wavemix_tf.variants import NETWORKS, VARIANTS

from ..recipe import Recipe
from ..tasks import task_type

Space = Callable[[Any, Recipe], Recipe]

WIDTH_FACTORS = (1 / 4, 3 / 8, 1 / 2, 3 / 4, 1, 3 / 2, 2)
WIDTH_MULTIPLE = 4  # a block's transform splits its channels into four
AUGMENTATION = ("shift", "rotation", "zoom", "erase", "mixup", "cutmix")  # `full` varies their strength
SMALLEST_SIDE = 4  # smallest side of the feature maps that the blocks mix


def depth_width(hp: Any, recipe: Recipe) -> Recipe:
    """Depth from 1 to twice the recipe's; width from a quarter to twice, in multiples of 4, or of a ViT's heads."""
    base = _varied(recipe, "depth", "width")
    widths = _multiples((base["width"] * factor for factor in WIDTH_FACTORS), base.get("heads") or WIDTH_MULTIPLE)
    return _with(
        recipe,
        depth=hp.Int("depth", 1, 2 * base["depth"], default=base["depth"]),
        width=hp.Choice("width", widths, ordered=True, default=_nearest(widths, base["width"])),
    )


def small(hp: Any, recipe: Recipe) -> Recipe:
    """Depth, width, the blocks' upsampling, and the learning rate within a factor of four."""
    base = _varied(recipe, "upsample")
    upsamplers = _first(base["upsample"], ("deconv", "bilinear"))
    recipe = _with(depth_width(hp, recipe), upsample=hp.Choice("upsample", upsamplers))
    return _with_learning_rate(hp, recipe)


def full(hp: Any, recipe: Recipe) -> Recipe:
    """Also levels, expansion, feed-forward width, stem, activation, resolution and strength of the augmentation."""
    if set(AUGMENTATION) & set(task_type(recipe).excluded_fields):
        raise ValueError(f"space='full' requires a classifier: use another space. Received: task={recipe.task!r}")
    base = _varied(recipe, "levels", "upsample")
    side = min(recipe.image_shape[:2])
    most_levels = max(1, min(4, int(math.log2(side)) - 1))
    recipe = _with(
        depth_width(hp, recipe),
        levels=hp.Int("levels", 1, most_levels, default=min(base["levels"], most_levels)),
        expansion=hp.Choice("expansion", _first(base["expansion"], (1, 2, 3))),
        upsample=hp.Choice("upsample", _first(base["upsample"], ("deconv", "bilinear", "nearest"))),
        activation=hp.Choice("activation", _first(base["activation"], ("gelu", "quick_gelu", "relu6", "hard_swish"))),
    )
    own_share = 1.0 if base["ff_dim"] is None else base["ff_dim"] / base["width"]
    share = hp.Choice("ff_share", _first(own_share, (0.5, 1.0, 2.0)))  # share of the width
    width = recipe.model_args["width"]
    recipe = _with(recipe, ff_dim=_multiples([share * width], WIDTH_MULTIPLE)[0])
    recipe = _with_resolution(hp, recipe)
    recipe = _with_stem(hp, recipe, base, side)
    return _with_augmentation(hp, _with_learning_rate(hp, recipe))


SPACES: Mapping[str, Space] = MappingProxyType({"depth-width": depth_width, "small": small, "full": full})


def network_class(recipe: Recipe) -> Any:
    """The class of a recipe's network."""
    import wavemix_tf  # imported here: listing the spaces needs no Keras

    row = VARIANTS.get(recipe.model or "", {})
    name = row.get("model") or (recipe.model if recipe.model in NETWORKS else None)
    return getattr(wavemix_tf, name) if name else getattr(wavemix_tf, task_type(recipe).network_name)


def network_arguments(recipe: Recipe) -> dict[str, Any]:
    """Every argument of a recipe's network: defaults of the class, of its published variant, and of the recipe."""
    parameters = inspect.signature(network_class(recipe)).parameters.values()
    defaults = {
        parameter.name: parameter.default for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD
    }
    variant = VARIANTS.get(recipe.model or "", {})
    return {**defaults, **variant, **recipe.model_args}


def _varied(recipe: Recipe, *names: str) -> dict[str, Any]:
    """The arguments of a recipe's network; ValueError if it lacks an argument that a space varies."""
    base = network_arguments(recipe)
    if not set(names) <= set(base):
        raise ValueError(
            f"The space varies {', '.join(names)}, which {network_class(recipe).__name__} does not have. "
            f"Received: model={recipe.model!r}"
        )
    return base


def _with(recipe: Recipe, **arguments: Any) -> Recipe:
    return dataclasses.replace(recipe, model_args={**recipe.model_args, **arguments})


def _with_learning_rate(hp: Any, recipe: Recipe) -> Recipe:
    rate = recipe.learning_rate
    return dataclasses.replace(
        recipe, learning_rate=hp.Float("learning_rate", rate / 4, rate * 4, sampling="log", default=rate)
    )


def _with_resolution(hp: Any, recipe: Recipe) -> Recipe:
    """Multiply the image's sides by a half, three quarters or one, to even numbers of pixels."""
    height, width, channels = recipe.image_shape
    shares = [share for share in (0.5, 0.75, 1.0) if min(height, width) * share >= 2 * SMALLEST_SIDE]
    share = hp.Choice("resolution", shares or [1.0], default=1.0)
    if share == 1:
        return recipe
    sides = [2 * round(side * share / 2) for side in (height, width)]
    return dataclasses.replace(recipe, image_shape=(*sides, channels))


def _with_stem(hp: Any, recipe: Recipe, base: Mapping[str, Any], side: int) -> Recipe:
    smallest = min(min(recipe.image_shape[:2]), side // 2)  # the features keep a few pixels at any resolution
    strides = [stride for stride in (1, 2, 3) if stride**2 * SMALLEST_SIDE <= max(smallest, SMALLEST_SIDE)]
    patches = [patch for patch in (2, 4, 8) if patch * SMALLEST_SIDE <= max(smallest, 2 * SMALLEST_SIDE)]
    stem = hp.Choice("stem", _first(base["stem"], ("strided", "patchify")))
    arguments: dict[str, Any] = {"stem": stem}
    with hp.conditional_scope("stem", ["strided"]):
        stride = hp.Choice("stride", strides, default=_nearest(strides, base["stride"]))
        if stem == "strided":
            arguments["stride"] = stride
    with hp.conditional_scope("stem", ["patchify"]):
        patch = hp.Choice("patch_size", patches, default=_nearest(patches, base["patch_size"]))
        if stem == "patchify":
            arguments["patch_size"] = patch
    return _with(recipe, **arguments)


def _with_augmentation(hp: Any, recipe: Recipe) -> Recipe:
    """Scale the recipe's augmentation from none (0) to 1.5 times."""
    if recipe.policy is None and not any(getattr(recipe, name) for name in AUGMENTATION):
        return recipe
    strength = hp.Float("augmentation", 0.0, 1.5, step=0.25, default=1.0)
    changes: dict[str, Any] = {name: strength * getattr(recipe, name) for name in AUGMENTATION}
    changes["shift"] = round(changes["shift"])
    changes |= {name: min(changes[name], 0.9) for name in ("zoom", "erase")}
    changes["cutmix"] = min(changes["cutmix"], 1.0)
    changes["rand_augment_strength"] = min(strength * recipe.rand_augment_strength, 1.0)
    return dataclasses.replace(recipe, **changes, policy=recipe.policy if strength else None)


def _multiples(values: Iterable[float], of: int) -> list[int]:
    return sorted({max(of, of * round(value / of)) for value in values})


def _nearest(choices: list[int], value: float) -> int:
    return min(choices, key=lambda choice: abs(choice - value))


def _first(own: Any, others: Iterable[Any]) -> list[Any]:
    """The recipe's value, which is the default, then the others."""
    return [own, *(other for other in others if other != own)]
