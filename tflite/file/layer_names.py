"""Names of Keras layers in the names of a file's tensors: which layer an op belongs to."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping

from .flatbuffer import FileInfo, OpInfo
from .op_costs import count_macs

QUANT_PREFIX = "quant_"  # that tensorflow-model-optimization's wrappers put before a layer's name


def layer_of(path: str, layers: Collection[str]) -> str | None:
    """The layer of a TensorFlow op's path: "functional_1/codes_1/bincount/DenseBincount" -> "codes".

    Args:
        path: Scopes, separated by "/"; TensorFlow may have added a number to a scope.
        layers: Names of the layers of the model, a set or a dict.
    """
    found = []
    for scope in path.split("/"):
        names = (scope, re.sub(r"_\d+$", "", scope))
        found += [name for name in dict.fromkeys(names) if name in layers]
    return max(found, key=len, default=None)


def op_layers(info: FileInfo, layers: Mapping[str, str]) -> tuple[str, ...]:
    """For each op of a file the layer that it computes, or computes part of; "" where its tensors do not tell.

    Args:
        info: The file, with the names of its inner tensors.
        layers: Name of a layer of the converted model -> name to return.
    """
    found = []
    for op in info.ops:
        layer = next((name for path in _paths(op) if (name := layer_of(path, layers)) is not None), None)
        found.append("" if layer is None else layers[layer])
    return tuple(found)


def _paths(op: OpInfo) -> list[str]:
    """Paths that may contain the layer's name, the likeliest first.

    A convolution's output is named after the activation that was fused with it, its weights after the convolution.
    """
    weights = [t.name for t in op.inputs if t.constant and len(t.shape) > 1] if count_macs(op) else []
    names = [*weights, *(t.name for t in op.outputs)]
    paths = [path for name in names for path in name.split(";") if path]
    return [part for path in paths for part in (path, path.replace(f"/{QUANT_PREFIX}", "/"))]


def user_layer(names: tuple[str, ...]) -> str:
    """One name for a layer and its owners: ("backbone", "block1", "block1_reduce") -> "backbone/block1_reduce".

    Args:
        names: From the outermost model or composite layer to the layer itself.
    """
    kept = [one for one, part in itertools.pairwise(names) if not part.startswith(one)]
    return "/".join([*kept, *names[-1:]])
