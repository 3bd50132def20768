"""Bicubic upsampling -> pad, convolution, depth to space; RGB <-> YCbCr -> a 1x1 convolution."""

from __future__ import annotations

import keras
import numpy as np

from wavemix_tf.layers.imaging import ReplicatePadding2D
from wavemix_tf.layers.pixel_shuffle import PixelShuffle

from ..graph import Graph
from ..weights import conv2d

FIXED_CONVOLUTIONS = ("BicubicUpsampling2D", "RGBToYCbCr", "YCbCrToRGB")


def write_fixed_convolutions(graph: Graph) -> None:
    """Bicubic upsampling and color conversions -> equivalent convolutions, which never train."""
    for node in graph.nodes():
        if node.kind not in FIXED_CONVOLUTIONS:
            continue
        layer, value = node.layer, node.inputs[0]
        options = {"dtype": layer.dtype_policy}
        kernel = np.asarray(keras.ops.convert_to_numpy(layer.filters), np.float32)
        bicubic = node.kind == "BicubicUpsampling2D"
        if bicubic:
            value = graph.add(ReplicatePadding2D(2, name=f"{node.name}_pad", **options), value)
        name = f"{node.name}_filters" if bicubic else node.name
        conv = conv2d(kernel, layer.offset.astype(np.float32), name, **options)
        conv.trainable = False
        value = graph.add(conv, value)
        if bicubic:
            value = graph.add(PixelShuffle(layer.factor, name=node.name, **options), value)
        graph.replace(node.output, value)
