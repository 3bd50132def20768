"""The systems that ``compare`` sets side by side: a family of networks each, of which a budget picks the widest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from wavemix_tf.checks import check_option
from wavemix_tf.variants import VARIANTS

from .budgets import Candidates
from .recipe import Recipe

WIDEST = 2048  # no search beyond

# Arguments of a recipe's network that every system shares with it: what is compared is the rest.
COMMON = ("depth", "dropout", "activation", "normalize")
STEM = ("stem", "stride", "patch_size")


def _width(width: int, _: Mapping[str, Any]) -> dict[str, Any]:
    return {"width": width}


@dataclasses.dataclass(frozen=True)
class System:
    """A family of networks that differ in width.

    Args:
        title: As tables name it.
        model: Class of ``wm.NETWORKS``.
        arguments: Of the class, the same for every width.
        shared: Arguments that are taken from the recipe's network where it has them.
        step: The widths are its multiples.
        at: (width, shared arguments) -> the arguments that depend on the width.
    """

    title: str
    model: str
    arguments: Mapping[str, Any]
    shared: tuple[str, ...] = (*COMMON, *STEM)
    step: int = 4
    at: Callable[[int, Mapping[str, Any]], dict[str, Any]] = _width


def _mixer(title: str, mixer: str) -> System:
    return System(title, "TokenMixerClassifier", MappingProxyType({"mixer": mixer}))


SYSTEMS: Mapping[str, System] = MappingProxyType(
    {
        "wavemix": _mixer("WaveMix", "wavemix"),
        "dct": _mixer("4x4 DCT for the DWT", "dct"),
        "random_filters": _mixer("random filters for the DWT", "random_filters"),
        "learned_filters": _mixer("learned filters for the DWT", "learned_filters"),
        "no_transform": _mixer("no transform", "no_transform"),
        "convmixer": _mixer("ConvMixer", "convmixer"),
        "mlp_mixer": _mixer("MLP-Mixer", "mlp_mixer"),
        "poolformer": _mixer("PoolFormer", "poolformer"),
        "fourier": _mixer("Fourier (FNet)", "fourier"),
    }
)


def check_systems(names: Iterable[str]) -> list[str]:
    """The names, each once; a ValueError if one is neither a system nor a published network that classifies."""
    found = list(dict.fromkeys(names))
    for name in found:
        check_option("system", name, (*SYSTEMS, *VARIANTS))
        if VARIANTS.get(name, {}).get("model") in ("WaveMixSegmenter", "WaveMixSuperResolver"):
            raise ValueError(f"A system must classify images. Received: system={name!r}")
    return found


def system_recipe(recipe: Recipe, name: str, width: int | None = None, seed: int | None = None) -> Recipe:
    """A recipe with its network replaced by a system's.

    Args:
        recipe: Data, schedule and augmentation; of its network the depth, dropout, activation and stem are kept.
        name: A key of ``SYSTEMS``, or of ``VARIANTS``: a published network as it is.
        width: Of the network; None for a published one.
        seed: None: the recipe's.

    Raises:
        ValueError: unknown name.
    """
    check_systems([name])
    changes: dict[str, Any] = {"seed": recipe.seed if seed is None else seed, "description": ""}
    if name not in SYSTEMS:
        return dataclasses.replace(recipe, model=name, model_args={}, **changes)
    system = SYSTEMS[name]
    base = {**VARIANTS.get(recipe.model or "", {}), **recipe.model_args}
    shared = {key: base[key] for key in system.shared if key in base}
    arguments = {**system.arguments, **shared}
    if width is not None:
        arguments |= system.at(width, arguments)
    return dataclasses.replace(recipe, model=system.model, model_args=arguments, **changes)


def widest(recipe: Recipe, name: str, candidates: Candidates) -> int | None:
    """The largest width with which a system is within the budget.

    Costs are taken to rise with the width.

    Args:
        recipe: As for ``system_recipe``.
        name: A key of ``SYSTEMS``, or of ``VARIANTS``.
        candidates: Knows the budget.

    Returns:
        The width, a multiple of the system's ``step``; None for a published network, which has one size.

    Raises:
        ValueError: even the narrowest is over budget, or the network cannot be built; says by how much or why.
    """

    def excess(width: int | None) -> dict[str, float]:
        return candidates.excess(system_recipe(recipe, name, width))

    if name not in SYSTEMS:
        _refuse(name, excess(None), "the published network", candidates, system_recipe(recipe, name))
        return None
    step = SYSTEMS[name].step
    _refuse(name, excess(step), f"width {step}", candidates, system_recipe(recipe, name, step))
    low, high = 1, 2  # in steps; low fits
    while high * step <= WIDEST and not excess(high * step):
        low, high = high, 2 * high
    if high * step > WIDEST:
        return low * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if excess(middle * step) else (middle, high)
    return low * step


def _refuse(name: str, over: Mapping[str, float], what: str, candidates: Candidates, recipe: Recipe) -> None:
    if not over:
        return
    reason = candidates.refusal(recipe)
    found = ", ".join(f"{cost} {factor:.2f} times its limit" for cost, factor in over.items())
    raise ValueError(reason or f"The budget must leave room for {what} of {name}. Received: {found}")
