"""DWT2D(x) -> concatenation of one depthwise convolution per band."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from ..graph import Graph
from ..haar import check_wavelet
from ..layer_kinds import WAVELETS
from ..weights import conv2d


def lower_wavelets(graph: Graph) -> None:
    """DWT2D and LowPass2D that no convolution absorbed -> depthwise convolutions (and a concatenation).

    Four depthwise convolutions, because the GPU delegate refuses a depth multiplier, and strided slices are slower
    everywhere.
    """
    for node in graph.nodes():
        if node.kind not in WAVELETS:
            continue
        check_wavelet(node)
        layer, source = node.layer, node.inputs[0]
        filters = np.asarray(keras.ops.convert_to_numpy(layer.filters), np.float32)  # (bands, L, L)
        side = filters.shape[1] - 2
        if side:
            extra = [(side, side + size % 2) for size in source.shape[1:3]]  # type: ignore[operator]
            source = graph.add(layers.ZeroPadding2D(extra, name=f"{node.name}_pad", dtype="float32"), source)
        bands = []
        for band, taps in enumerate(filters):
            kernel = np.repeat(taps[:, :, None, None], source.shape[-1], axis=2)  # type: ignore[arg-type]
            band_layer = conv2d(
                kernel,
                np.zeros(kernel.shape[2], np.float32),  # XNNPACK and TF Lite Micro need a bias
                f"{node.name}_band{band}",
                layers.DepthwiseConv2D,
                strides=2,
                padding="valid" if side else "same",
            )
            bands.append(graph.add(band_layer, source))
        join = layers.Concatenate(name=f"{node.name}_bands", dtype="float32")
        graph.replace(node.output, bands[0] if len(bands) == 1 else graph.add(join, *bands))
