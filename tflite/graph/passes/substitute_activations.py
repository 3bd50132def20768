"""gelu -> quick_gelu, and other replacements of activations that a target has no op for. Not exact."""

from __future__ import annotations

import re

from keras import layers

from wavemix_tf.checks import check_option
from wavemix_tf.layers.activations import ACTIVATIONS

from ..activation_names import activation_name
from ..graph import Graph

# Suffix in the name of a layer with a replaced activation, which an export reads.
STAND_IN = re.compile(f"_for_({'|'.join(ACTIVATIONS)})")


def substitute_activations(graph: Graph, substitutes: dict[str, str]) -> list[str]:
    """Replace each activation named in ``substitutes``; returns the names of the layers that changed.

    Raises:
        ValueError: a replacement is not one of ``ACTIVATIONS``.
    """
    changed = []
    for stand_in in substitutes.values():
        check_option("substitutes", stand_in, tuple(ACTIVATIONS))
    for node in graph.nodes():
        name = activation_name(node)
        if name is None or name not in substitutes:
            continue
        changed.append(node.name)
        activation, policy = ACTIVATIONS[substitutes[name]], node.layer.dtype_policy
        node.layer = layers.Activation(activation, name=f"{node.name}_for_{name}", dtype=policy)
    return changed
