"""The systems of ``compare``: each is a family of networks, of which the widest within a budget is chosen.

WaveMix, and the variants that replace its transform, use the block as published (one level, transposed convolution,
expansion 2), not the options of the recipe's network: the other systems have no such options.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from wavemix_tf.checks import check_option
from wavemix_tf.variants import VARIANTS

from ..recipe import Recipe
from ..recipe_fields import AUTO
from ..tasks import TASKS, Classification, task_type
from .candidates import Candidates
from .spaces import network_arguments

WIDEST = 2048  # upper limit of the search
HEAD_WIDTH = 8  # channels of a head of the small vision transformers
Arguments = Callable[[int, Mapping[str, Any]], dict[str, Any]]

# Arguments of the recipe's network that every system takes over if it has them: only the rest is compared.
COMMON = ("depth", "dropout", "activation", "normalize")
STEM = ("stem", "stride", "patch_size")


def _common(base: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: base[name] for name in names if name in base}


def _patch(base: Mapping[str, Any]) -> int:
    """Patch side in pixels with which a one-layer stem has the same output resolution as the recipe's stem."""
    return base.get("stride", 1) ** 2 if base.get("stem", "patchify") == "strided" else base.get("patch_size", 4)


def _mixer(mixer: str) -> Arguments:
    return lambda width, base: {"mixer": mixer, **_common(base, *COMMON, *STEM), "width": width}


def _stages(mixer: str) -> Arguments:
    """Two stages, the second twice as wide; the blocks of the recipe's depth are shared out among them."""

    def arguments(width: int, base: Mapping[str, Any]) -> dict[str, Any]:
        depth = base.get("depth", 4)
        sizes = {"widths": (width, 2 * width), "depths": (depth - depth // 2, depth // 2)}
        return {"mixer": mixer, **_common(base, "dropout", "activation", "normalize"), **sizes}

    return arguments


def _vit(width: int, base: Mapping[str, Any]) -> dict[str, Any]:
    found = _common(base, "depth", "dropout", "normalize")
    heads = max(1, width // HEAD_WIDTH)
    return {**found, "patch_size": _patch(base), "width": width, "heads": heads, "mlp_ratio": 2}


def _dynamixer(width: int, base: Mapping[str, Any]) -> dict[str, Any]:
    stages = {"depths": (base.get("depth", 4),), "widths": (width,), "segments": (4,), "strides": ()}
    found = _common(base, "dropout", "activation", "normalize")
    return {**found, **stages, "patch_size": _patch(base), "mlp_ratio": 2}


@dataclasses.dataclass(frozen=True)
class System:
    """A family of networks that differ in width.

    Args:
        title: Name in tables.
        model: Class of ``wm.NETWORKS``.
        arguments: (width, arguments of the recipe's network) -> arguments of the class.
        step: Widths are multiples of it.
    """

    title: str
    model: str
    arguments: Arguments
    step: int = 4


SYSTEMS: Mapping[str, System] = MappingProxyType(
    {
        "wavemix": System("WaveMix", "TokenMixerClassifier", _mixer("wavemix")),
        "dct": System("4x4 DCT for the DWT", "TokenMixerClassifier", _mixer("dct")),
        "random_filters": System("random filters for the DWT", "TokenMixerClassifier", _mixer("random_filters")),
        "learned_filters": System("learned filters for the DWT", "TokenMixerClassifier", _mixer("learned_filters")),
        "no_transform": System("no transform", "TokenMixerClassifier", _mixer("no_transform")),
        "convmixer": System("ConvMixer", "TokenMixerClassifier", _mixer("convmixer")),
        "wtconv": System("WTConv", "TokenMixerClassifier", _mixer("wtconv")),
        "inverted_bottleneck": System(
            "inverted bottleneck (MobileNetV2)", "TokenMixerClassifier", _mixer("inverted_bottleneck")
        ),
        "resnet": System("ResNet", "TokenMixerClassifier", _mixer("resnet")),
        "mlp_mixer": System("MLP-Mixer", "TokenMixerClassifier", _mixer("mlp_mixer")),
        "poolformer": System("PoolFormer", "TokenMixerClassifier", _mixer("poolformer")),
        "fourier": System("Fourier (FNet)", "TokenMixerClassifier", _mixer("fourier")),
        "staged_resnet": System("stages of ResNet blocks, Haar between", "StagedClassifier", _stages("resnet"), step=2),
        "staged_wtconv": System("stages of WTConv blocks, Haar between", "StagedClassifier", _stages("wtconv"), step=2),
        "vit": System("ViT", "ViT", _vit, step=HEAD_WIDTH),
        "dynamixer": System("DynaMixer", "DynaMixer", _dynamixer),
    }
)


def check_recipe(recipe: Recipe) -> None:
    """Raise ValueError unless all systems can be trained by a recipe: classification, with a number as batch_size."""
    if not issubclass(task_type(recipe), Classification):
        raise ValueError(f"compare requires a recipe for classification. Received: task={recipe.task!r}")
    if recipe.batch_size == AUTO:
        raise ValueError("compare trains all systems with one batch_size: give a number. Received: batch_size='auto'")


def check_systems(names: Iterable[str]) -> list[str]:
    """The names without repetition; ValueError if one is neither a system nor a published classifier."""
    networks = {task.network_name for task in TASKS.values()} - {Classification.network_name}
    others = {name for name, row in VARIANTS.items() if row.get("model") in networks}
    found = list(dict.fromkeys(names))
    for name in found:
        if name in others:
            raise ValueError(f"A system must classify images. Received: system={name!r}")
        check_option("system", name, (*SYSTEMS, *(key for key in VARIANTS if key not in others)))
    return found


def system_recipe(recipe: Recipe, name: str, width: int | None = None, seed: int | None = None) -> Recipe:
    """A recipe with its network replaced by a system's.

    Args:
        recipe: Data, schedule and augmentation; depth, dropout, activation and stem (or its resolution) of its network
            are kept.
        name: A key of ``SYSTEMS``, or of ``VARIANTS``: a published network, unchanged.
        width: Width of the network; None: the recipe's. Must be None for a published network.
        seed: None: the recipe's seed.

    Raises:
        ValueError: unknown name.
    """
    check_systems([name])
    changes: dict[str, Any] = {"seed": recipe.seed if seed is None else seed, "description": ""}
    if name not in SYSTEMS:
        return dataclasses.replace(recipe, model=name, model_args={}, **changes)
    system = SYSTEMS[name]
    base = network_arguments(recipe)
    arguments = system.arguments(width or base.get("width", 8 * system.step), base)
    return dataclasses.replace(recipe, model=system.model, model_args=arguments, **changes)


def widest(recipe: Recipe, name: str, candidates: Candidates) -> int | None:
    """The largest width with which a system is within the budget.

    Costs are assumed to increase with the width.

    Args:
        recipe: As for ``system_recipe``.
        name: A key of ``SYSTEMS``, or of ``VARIANTS``.
        candidates: Has the budget.

    Returns:
        The width, a multiple of the system's ``step``; None for a published network, which has one size.

    Raises:
        ValueError: even the narrowest is over budget, or the network cannot be built; the message states the reason.
    """

    def excess(width: int | None) -> dict[str, float]:
        return candidates.excess(system_recipe(recipe, name, width))

    if name not in SYSTEMS:
        _check_within_budget(name, excess(None), "the published network", candidates, system_recipe(recipe, name))
        return None
    step = SYSTEMS[name].step
    _check_within_budget(name, excess(step), f"width {step}", candidates, system_recipe(recipe, name, step))
    low, high = 1, 2  # widths in steps; low fits
    while high * step <= WIDEST and not excess(high * step):
        low, high = high, 2 * high
    if high * step > WIDEST:
        return low * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if excess(middle * step) else (middle, high)
    return low * step


def _check_within_budget(
    name: str, over: Mapping[str, float], what: str, candidates: Candidates, recipe: Recipe
) -> None:
    if not over:
        return
    reason = candidates.refusal(recipe)
    found = ", ".join(f"{cost} {factor:.2f} times its limit" for cost, factor in over.items())
    raise ValueError(reason or f"The budget must allow {what} of {name}. Received: {found}")
