"""The network of an official WaveMix checkpoint, inferred from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .torch_files import network_state

# Tensors of every official classifier, by which it is found inside wrappers.
COMMON = ("conv.0.weight", "conv.1.weight", "layers.0.reduction.weight", "layers.0.reduction.bias")


def infer_arguments(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the ``WaveMixClassifier`` that a checkpoint of the official package is from.

    Args:
        source: Content of a checkpoint, see ``load_torch_weights``.

    Returns:
        width, depth, levels, expansion, ff_dim, upsample, stem, patch_size and num_classes.

    Raises:
        ValueError: The tensors are no such network's, or do not determine it: a strided stem's stride is in no tensor.
    """
    state = network_state(source, lambda _: COMMON)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    try:
        blocks = {int(found[1]) for key in shapes if (found := re.match(r"layers\.(\d+)\.", key))}
        width = shapes["layers.0.reduction.weight"][1]
        levels = max(1, sum(f"layers.0.feedforward{level}.0.weight" in shapes for level in range(1, 9)))
        ff = "layers.0.feedforward" + ("1" if levels > 1 else "")
        head = next(name for name in ("pool.2", "head.2") if f"{name}.weight" in shapes)
        stem = shapes["conv.2.weight"]
        return {
            "width": width,
            "depth": len(blocks),
            "levels": levels,
            "expansion": shapes[f"{ff}.0.weight"][0] // width,
            "ff_dim": shapes[f"{ff}.3.weight"][0],
            "upsample": "deconv" if f"{ff}.4.weight" in shapes else "bilinear",
            "stem": "patchify",
            "patch_size": stem[-1],
            "num_classes": shapes[f"{head}.weight"][0],
        }
    except (KeyError, StopIteration, IndexError, ZeroDivisionError) as error:
        raise ValueError(
            "A checkpoint whose network is inferred must be an official classifier with a patchify stem. Received: no "
            f"{error.args[0] if error.args else 'head'} among {len(shapes)} tensors"
        ) from None
