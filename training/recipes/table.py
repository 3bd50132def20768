"""`RECIPES`: the named recipes; this folder has one module per dataset.

A recipe names only its differences from `Recipe`'s defaults; its docstring gives command, cost and result. To add one,
write a function in the module of its dataset, document in its docstring what was run and measured, and list it in
``RECIPES``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ..recipe import Recipe
from .camvid import camvid
from .cifar import cifar10, cifar10_official, cifar10_tiny, cifar100
from .cityscapes import cityscapes
from .digits import digits
from .emnist import emnist_balanced, emnist_byclass
from .fashion_mnist import fashion_mnist
from .galaxy10 import galaxy10
from .imagenet import dynamixer_s, imagenet2012, tiny_imagenet
from .inaturalist import inat_mini
from .mnist import mnist
from .places365 import places365
from .super_resolution import div2k, super_resolution_x2


def _named(*functions: Callable[[], Recipe]) -> Mapping[str, Recipe]:
    """Name -> Recipe; each has its function's docstring as its description."""
    recipes = (dataclasses.replace(function(), description=inspect.getdoc(function) or "") for function in functions)
    return MappingProxyType({recipe.name: recipe for recipe in recipes})


RECIPES: Mapping[str, Recipe] = _named(
    digits,
    mnist,
    fashion_mnist,
    cifar10,
    cifar10_tiny,
    cifar10_official,
    cifar100,
    emnist_balanced,
    emnist_byclass,
    imagenet2012,
    dynamixer_s,
    places365,
    inat_mini,
    tiny_imagenet,
    galaxy10,
    camvid,
    cityscapes,
    super_resolution_x2,
    div2k,
)
