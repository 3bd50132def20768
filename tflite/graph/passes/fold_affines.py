"""s * (W x + b) + t -> (s W) x + (s b + t): merge an affine map of the channels into the weights before it."""

from __future__ import annotations

import numpy as np

from ..affines import affine_of, affine_source
from ..graph import Graph
from ..layer_kinds import AFFINES
from ..weights import bias_of, is_restrained, kernel_of, per_output, with_weights


def fold_affines(graph: Graph, kinds: tuple[str, ...] = AFFINES, unshare: bool = True) -> None:
    """Merge batch norms and fixed or trained scalings into the weighted layer before them; grids scale with it.

    This works through upsampling, pixel shuffle and crop, see ``affine_source``. A layer with several calls becomes a
    separate layer for each call whose output is scaled.

    Args:
        graph: Changed in place.
        kinds: Kinds of layers to fold.
        unshare: Whether a layer with several calls may become several layers.
    """
    consumers, shared = graph.consumers(), graph.shared()
    for node in graph.nodes():
        affine = affine_of(node) if node.kind in kinds else None
        found = affine_source(graph, node, consumers) if affine is not None else None
        if affine is None or found is None:
            continue
        if not unshare and (id(found[0].layer) in shared or is_restrained(found[0].layer)):
            continue
        source, between = found
        scale, shift = affine
        for shuffle in (n for n in between if n.kind == "PixelShuffle"):
            scale, shift = (np.tile(part, shuffle.layer.factor**2) for part in (scale, shift))
        kernel, bias = kernel_of(source.layer).astype(np.float64), bias_of(source.layer)
        bias = shift if bias is None else bias * scale + shift
        kernel = kernel * per_output(source.kind, kernel, scale)
        source.layer = with_weights(source.layer, kernel.astype(np.float32), bias.astype(np.float32))
        if source.grid is not None:
            source.grid = (source.grid * np.abs(scale)).astype(np.float32)
        graph.replace(node.output, node.inputs[0])
        consumers = graph.consumers()
