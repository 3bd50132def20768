"""Filters of wavelets -> the nearest values on the file's int8 grid. Not exact."""

from __future__ import annotations

import numpy as np
from keras import ops

from ...layers.fake_quant import round_weights
from ..graph import Graph
from ..layer_kinds import WAVELETS


def round_taps(graph: Graph) -> None:
    """Round the taps of remaining wavelets, which never train, to the grid of the file."""
    for node in graph.nodes():
        if node.kind in WAVELETS:
            filters = np.asarray(ops.convert_to_numpy(node.layer.filters), np.float32)
            node.layer.filters.assign(round_weights(filters, (1, 2)))
