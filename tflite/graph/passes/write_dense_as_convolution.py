"""Dense on (B, N, C) -> reshape to (B, 1, N, C), 1x1 convolution, reshape back."""

from __future__ import annotations

import numpy as np
from keras import layers

from ..graph import Graph
from ..weights import bias_of, conv2d, kernel_of
from .split_strides import to_quantizer


def write_dense_as_convolution(graph: Graph) -> None:
    """A dense layer on (B, ..., C) -> a 1x1 convolution over one row of pixels: the same integers.

    The quantizer after it moves after the reshape, which keeps the grid.
    """
    for node in graph.nodes():
        if node.kind != "Dense" or len(node.output.shape) < 3:
            continue
        sides: list[int] = [int(side or 0) for side in node.output.shape[1:]]
        row = (1, int(np.prod(sides[:-1])))
        kernel, bias = kernel_of(node.layer), bias_of(node.layer)
        image = layers.Reshape((*row, kernel.shape[0]), name=f"{node.name}_image", dtype="float32")
        conv = conv2d(kernel[None, None], bias, node.name)
        value = graph.add(conv, graph.add(image, node.inputs[0]), grid=node.grid)
        chain = to_quantizer(graph, node) or []
        for follower in chain:
            value = graph.add(follower.layer, value)
        shape = layers.Reshape(sides, name=f"{node.name}_shape", dtype="float32")
        graph.replace(chain[-1].output if chain else node.output, graph.add(shape, value))
