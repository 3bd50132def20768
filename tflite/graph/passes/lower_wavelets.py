"""DWT2D(x), IDWT2D(x) -> depthwise convolutions of stride 2, one for each band or each of the four pixels of a cell."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from ...layers.token_layers import Cut
from ..graph import Graph, Node, Value
from ..haar import check_wavelet, is_plain_inverse
from ..layer_kinds import WAVELETS
from ..weights import conv2d


def lower_wavelets(graph: Graph) -> None:
    """DWT2D and LowPass2D that no convolution absorbed, and IDWT2D -> depthwise convolutions and what joins them.

    Four depthwise convolutions, because the GPU delegate refuses a depth multiplier, and strided slices are slower
    everywhere.
    """
    for node in graph.nodes():
        if node.kind in WAVELETS:
            check_wavelet(node)
            graph.replace(node.output, _write_bands(graph, node))
        elif is_plain_inverse(node):
            graph.replace(node.output, _write_inverse(graph, node))


def _write_bands(graph: Graph, node: Node) -> Value:
    """Write a transform: a convolution for each band, and a concatenation."""
    filters = np.asarray(keras.ops.convert_to_numpy(node.layer.filters), np.float32)  # (bands, L, L)
    source = node.inputs[0]
    side = filters.shape[1] - 2
    if side:
        extra = [(side, side + size % 2) for size in source.shape[1:3]]  # type: ignore[operator]
        source = graph.add(layers.ZeroPadding2D(extra, name=f"{node.name}_pad", dtype="float32"), source)
    padding = "valid" if side else "same"
    bands = [
        _filtered(graph, source, taps, f"{node.name}_band{band}", padding=padding) for band, taps in enumerate(filters)
    ]
    return bands[0] if len(bands) == 1 else _join(graph, bands, -1, f"{node.name}_bands")


def _write_inverse(graph: Graph, node: Node) -> Value:
    """Write an inverse with filters of L taps.

    The four bands of a place become the four pixels of a cell: (B, H, W, 4C) -> (B, 2H, 2W, C). Output pixel (p, q) of
    every cell is then one convolution of stride 2 whose window is L / 2 by L / 2 cells. A transposed convolution from
    4C to C channels would take C times as many products, because a file has no grouped one.
    """
    filters = np.asarray(keras.ops.convert_to_numpy(node.layer.filters), np.float32)  # (2, L)
    bands, name, taps = node.inputs[0], node.name, filters.shape[1]
    cells = filters.reshape(2, taps // 2, 2)[:, ::-1]  # band, cell of the window, pixel of the output's cell
    # A cell holds [LL LH; HL HH]: its row is the filter along the width, its column that along the height.
    kernels = np.einsum("sap,rbq->pqarbs", cells, cells).reshape(4, taps, taps)
    height, width, channels = (int(side or 0) for side in bands.shape[1:])
    half = channels // 2
    rows = []
    for row in range(2):
        piece = (0, 0, row * half), (height, width, (row + 1) * half)
        rows.append(graph.add(Cut(*piece, name=f"{name}_row{row}", dtype="float32"), bands))
    image = _write_cells(graph, rows, f"{name}_cells")
    pixels = [
        _filtered(graph, image, kernel, f"{name}_pixel{place}", padding="valid") for place, kernel in enumerate(kernels)
    ]
    rows = [_join(graph, pixels[2 * row : 2 * row + 2], -1, f"{name}_pixels{row}") for row in range(2)]
    image = _write_cells(graph, rows, f"{name}_image")
    sides = zip(image.shape[1:3], node.output.shape[1:3], strict=True)
    extra = [(0, int(have or 0) - int(want or 0)) for have, want in sides]
    if any(map(any, extra)):
        image = graph.add(layers.Cropping2D(extra, name=f"{name}_crop", dtype="float32"), image)
    return image


def _write_cells(graph: Graph, rows: Sequence[Value], name: str) -> Value:
    """Write (B, H, W, 2C) for the upper and the lower pixels of all cells as the image (B, 2H, 2W, C).

    As a concatenation and a reshape, which all devices have; DEPTH_TO_SPACE does the same on fewer.
    """
    height, width, channels = (int(side or 0) for side in rows[0].shape[1:])
    shape = (2 * height, 2 * width, channels // 2)
    return graph.add(layers.Reshape(shape, name=name, dtype="float32"), _join(graph, rows, 2, f"{name}_rows"))


def _filtered(graph: Graph, source: Value, taps: np.ndarray, name: str, padding: str) -> Value:
    """Filter every channel with ``taps`` (L, L) at stride 2."""
    kernel = np.repeat(taps[:, :, None, None], int(source.shape[-1] or 0), axis=2)
    bias = np.zeros(kernel.shape[2], np.float32)  # XNNPACK and TF Lite Micro need one
    return graph.add(conv2d(kernel, bias, name, layers.DepthwiseConv2D, strides=2, padding=padding), source)


def _join(graph: Graph, parts: Sequence[Value], axis: int, name: str) -> Value:
    return graph.add(layers.Concatenate(axis, name=name, dtype="float32"), *parts)
