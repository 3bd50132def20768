"""FilterBank2D -> one depthwise convolution per band, or one 2x2 convolution with the 1x1 convolution after it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from wavemix_tf.layers.wavelets import fold_dwt

from ..graph import Graph
from ..weights import bias_of, conv2d, is_pointwise, kernel_of, with_weights


def write_filter_banks(graph: Graph) -> None:
    """FilterBank2D -> one 2x2 convolution with the 1x1 convolution after it, or one depthwise convolution per band."""
    for node in graph.nodes():
        if node.kind != "FilterBank2D":
            continue
        layer, value, reader = node.layer, node.inputs[0], graph.sole_consumer(node.output, graph.consumers())
        filters = np.asarray(keras.ops.convert_to_numpy(layer.filters), np.float32)
        options = {"dtype": layer.dtype_policy}
        if layer.basis != "dct" and reader is not None and reader.kind == "Conv2D" and is_pointwise(reader.layer):
            kernel = np.asarray(fold_dwt(kernel_of(reader.layer), filters))
            window: dict[str, Any] = {"kernel_size": (2, 2), "strides": (2, 2)}
            conv = with_weights(reader.layer, kernel, bias_of(reader.layer), **window)
            graph.replace(reader.output, graph.add(conv, value))
            continue
        if layer.basis == "dct":
            value = graph.add(layers.ZeroPadding2D(1, name=f"{node.name}_pad", **options), value)
        bands = []
        for band, taps in enumerate(filters):
            kernel = np.tile(taps[:, :, None, None], (1, 1, int(value.shape[-1] or 0), 1))
            name = f"{node.name}_band{band}"
            conv = conv2d(kernel, None, name, layers.DepthwiseConv2D, strides=2, **options)
            conv.trainable = layer.basis == "learned"
            bands.append(graph.add(conv, value))
        graph.replace(node.output, graph.add(layers.Concatenate(name=node.name, **options), *bands))
