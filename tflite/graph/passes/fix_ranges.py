"""FakeQuant(range variables) -> FixedQuant(numbers), from which the converter takes scale and zero point."""

from __future__ import annotations

import numpy as np
from keras import ops

from ...layers.deployed import FixedConstant, FixedQuant
from ...layers.token_layers import Rsqrt
from ..graph import Graph


def fix_ranges(graph: Graph) -> None:
    """Replace the grids of 8-bit quantizers and rounded constants by numbers."""
    for node in graph.nodes():
        if node.kind == "FakeQuant" and node.layer.bits == 8:
            node.layer = FixedQuant(*node.layer.get_range(), name=node.name, dtype="float32")
            node.kwargs = {}  # the converter does not support ties_up
        elif node.kind == "AddConstant" and node.layer.rounded:
            values = np.asarray(ops.convert_to_numpy(node.layer.constant), np.float32)
            node.layer = FixedConstant(values, name=node.name, dtype="float32")
        elif node.kind == "Rsqrt":
            node.layer = Rsqrt(0.0, name=node.name, dtype="float32")  # an int8 op has no floor
