"""s * ((x W) y) -> (x (s W)) y."""

from __future__ import annotations

import numpy as np

from ..graph import Graph
from ..layer_kinds import WEIGHTED
from ..weights import bias_of, is_restrained, kernel_of, with_weights


def push_scales(graph: Graph) -> None:
    """Move a factor common to all channels after a matrix product (1 / sqrt(d)) into the weights before it."""
    shared = graph.shared()
    for node in graph.nodes():
        if node.kind != "Rescaling" or np.size(node.layer.scale) != 1 or np.any(node.layer.offset):
            continue
        scale = float(np.ravel(node.layer.scale)[0])
        consumers, value, token = graph.consumers(), node.inputs[0], False
        while graph.sole_consumer(value, consumers) is not None and value.node.kind in (
            "MatMul", "Permute", "Reshape", "Cut"
        ):  # fmt: skip
            token = token or value.node.kind != "Reshape"
            value = value.node.inputs[0]
        source = value.node
        alone = graph.sole_consumer(value, consumers) is not None and id(source.layer) not in shared
        if not token or not alone or source.kind not in WEIGHTED or is_restrained(source.layer):
            continue
        kernel, bias = kernel_of(source.layer) * np.float32(scale), bias_of(source.layer)
        trains = source.layer.trainable
        source.layer = with_weights(source.layer, kernel, None if bias is None else bias * np.float32(scale))
        source.layer.trainable = trains
        graph.replace(node.output, node.inputs[0])
