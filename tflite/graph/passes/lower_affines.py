"""s * x + t that no weights absorb -> a 1x1 depthwise convolution."""

from __future__ import annotations

import numpy as np
from keras import layers

from ..affines import affine_of
from ..graph import Graph
from ..layer_kinds import AFFINES, FIXED_AFFINES
from ..weights import conv2d


def lower_affines(graph: Graph, kinds: tuple[str, ...] = AFFINES) -> None:
    """Affine maps that ``fold_affines`` left (after GELU, an add, the input) -> a 1x1 depthwise convolution.

    They never merge into the convolution after them: its zero padding would have to be mapped too. A fixed map does not
    train. A tensor that is not an image becomes an image of a single row, (B, ..., C) -> (B, 1, N, C).
    """
    for node in graph.nodes():
        affine = affine_of(node) if node.kind in kinds else None
        if affine is None:
            continue
        scale, shift = (part.astype(np.float32) for part in affine)
        value, shape, dtype = node.inputs[0], node.output.shape, node.layer.dtype_policy
        layer = conv2d(scale.reshape(1, 1, -1, 1), shift, node.name, layers.DepthwiseConv2D, dtype=dtype)
        layer.trainable = node.kind not in FIXED_AFFINES
        if len(shape) != 4:
            image = (1, int(np.prod([int(side or 0) for side in shape[1:-1]])), int(shape[-1] or 0))
            value = graph.add(layers.Reshape(image, name=f"{node.name}_image", dtype=dtype), value)
        value = graph.add(layer, value)
        if len(shape) != 4:
            value = graph.add(layers.Reshape(shape[1:], name=f"{node.name}_shape", dtype=dtype), value)
        graph.replace(node.output, value)
