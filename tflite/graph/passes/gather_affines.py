"""Chains of fixed affine maps -> one map, which merges into the weights before it, if there are any."""

from __future__ import annotations

from ..affines import affine_of, rescaling
from ..graph import Graph
from ..layer_kinds import FIXED_AFFINES, TRAINED_AFFINES
from .fold_affines import fold_affines


def gather_affines(graph: Graph) -> None:
    """Merge Rescaling and Normalization into the weights before them, if any; merge chains into one Rescaling."""
    for node in graph.nodes():
        affine = affine_of(node) if node.kind in FIXED_AFFINES else None
        if affine is None:
            continue
        before = node.inputs[0].node
        inner = affine_of(before) if before.kind in FIXED_AFFINES else None
        if inner is not None and graph.sole_consumer(node.inputs[0], graph.consumers()) is not None:
            affine = inner[0] * affine[0], inner[1] * affine[0] + affine[1]
            merged = rescaling(*affine, node.name, node.layer.dtype_policy)
            graph.replace(node.output, graph.add(merged, before.inputs[0]))
    fold_affines(graph, (*FIXED_AFFINES, *TRAINED_AFFINES), unshare=False)
