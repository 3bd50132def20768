"""Transposed convolution -> one of the equivalent forms of ``UPSAMPLE_FORMS``."""

from __future__ import annotations

import numpy as np
from keras import layers

from wavemix_tf.checks import check_option
from wavemix_tf.layers.pixel_shuffle import PixelShuffle

from ...layers.deployed import GridConv2D
from ..graph import Graph, Node
from ..weights import bias_of, conv2d, kernel_of, with_weights

# Forms of a transposed convolution of stride s, all with the same function:
UPSAMPLE_FORMS = (
    "transposed_conv",  # unchanged TRANSPOSE_CONV
    "subpixel_crop",  # pad, convolution of kernel/s taps to s*s*C channels, depth to space, crop: the same weight count
    "subpixel_3x3",  # 3x3 convolution to 4C, depth to space: 4x4 kernels of stride 2 only, 2.25 times the weights
    "transposed_crop",  # TRANSPOSE_CONV without padding, crop: for kernels with wrong padding
)


def write_transposed(graph: Graph, form: str) -> None:
    """Write every transposed convolution in ``form``, one of ``UPSAMPLE_FORMS``, if it has that form."""
    check_option("upsample_form", form, UPSAMPLE_FORMS)
    for node in graph.nodes():
        if node.kind != "Conv2DTranspose" or form == "transposed_conv" or node.layer.dilation_rate != (1, 1):
            continue
        if form == "transposed_crop":
            _write_cropped(graph, node)
        elif node.layer.strides[0] == node.layer.strides[1]:  # depth to space supports only squares
            _write_subpixel(graph, node, form)


def _crops(node: Node) -> list[tuple[int, int]]:
    """Pixels that the layer drops before the first and after the last of each axis; negative: lines of bias only.

    They are dropped from the reach of its kernel over all input pixels, ``(side - 1) * stride + kernel``.
    """
    layer, found = node.layer, []
    for axis in range(2):
        kernel, stride = layer.kernel_size[axis], layer.strides[axis]
        reach = (int(node.inputs[0].shape[axis + 1] or 0) - 1) * stride + kernel
        spare = reach - int(node.output.shape[axis + 1] or 0)
        first = max(spare, 0) // 2 if layer.padding == "same" else 0
        found.append((first, spare - first))
    return found


def _write_subpixel(graph: Graph, node: Node, form: str) -> None:
    """Output pixel s*j + p of a transposed convolution is sum_m x[j - m] w[p + s*m]: a convolution per phase.

    All s*s phases together are one convolution to s*s*C channels over the input padded by taps - 1, whose depth to
    space covers the uncropped output; "same" then drops (kernel - s) / 2 pixels at the start. Each phase keeps its
    output channel's step, so a quantized kernel contains the same integers as before. With stride 1, the crop becomes
    less padding.
    """
    layer, value = node.layer, node.inputs[0]
    kernel, bias = kernel_of(layer), bias_of(layer)  # (k, k, out, in)
    stride, out, inner = layer.strides[0], kernel.shape[2], kernel.shape[3]
    size = [-(-k // stride) for k in layer.kernel_size]  # taps of each phase
    padded = np.zeros((size[0] * stride, size[1] * stride, out, inner), np.float32)
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    # (m, p, n, q, out, in) -> reversed taps, because the convolution starts at the oldest pixel
    phases = padded.reshape(size[0], stride, size[1], stride, out, inner)[::-1, :, ::-1]
    weights = phases.transpose(0, 2, 5, 1, 3, 4).reshape(size[0], size[1], inner, stride * stride * out)
    crops = _crops(node)
    same_4x4 = layer.kernel_size == (4, 4) and stride == 2 and crops == [(1, 1), (1, 1)]
    compact = form == "subpixel_3x3" and same_4x4
    if compact:
        weights = _centred_3x3(kernel)
    biases = np.tile(np.zeros(out, np.float32) if bias is None else bias, stride * stride)
    grid = None if node.grid is None else np.tile(node.grid, stride * stride)
    cls = layers.Conv2D if grid is None else GridConv2D
    conv = conv2d(weights, biases, node.name, cls, padding="same" if compact else "valid")
    if grid is not None:
        conv.set_grid(grid)
    if not compact:
        pads = []
        for taps, sides, want, (first, _) in zip(size, value.shape[1:3], node.output.shape[1:3], crops, strict=True):
            if stride == 1:
                pads.append((taps - 1 - first, int(want) + first - int(sides)))  # type: ignore[arg-type]
            else:  # additional lines if the output extends beyond the kernel's reach
                missing = first + int(want) - (int(sides) + taps - 1) * stride  # type: ignore[arg-type]
                pads.append((taps - 1, taps - 1 + max(0, -(-missing // stride))))
        if any(map(any, pads)):
            value = graph.add(layers.ZeroPadding2D(pads, name=f"{node.name}_pad", dtype="float32"), value)
    value = graph.add(conv, value, grid=grid)
    if stride > 1:
        value = graph.add(PixelShuffle(stride, name=f"{node.name}_shuffle", dtype="float32"), value)
    if not compact and stride > 1:
        ends = zip(crops, value.shape[1:3], node.output.shape[1:3], strict=True)
        crop = [(first, have - want - first) for (first, _), have, want in ends]  # type: ignore[operator]
        if any(map(any, crop)):
            value = graph.add(layers.Cropping2D(crop, name=f"{node.name}_crop", dtype="float32"), value)
    graph.replace(node.output, value)


def _write_cropped(graph: Graph, node: Node) -> None:
    """Write the whole reach of the kernel, then a crop: no padding that a runtime could get wrong.

    A kernel smaller than its stride gets zero taps, because some runtimes assume that it is not smaller.
    """
    layer = node.layer
    kernel, bias = kernel_of(layer), bias_of(layer)
    size = [max(k, stride) for k, stride in zip(layer.kernel_size, layer.strides, strict=True)]
    padded = np.zeros((*size, *kernel.shape[2:]), np.float32)
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    crops = _crops(node)
    grown = [(first, last + have - k) for (first, last), have, k in zip(crops, size, layer.kernel_size, strict=True)]
    if (size == [*layer.kernel_size] and not any(map(any, grown))) or any(last < 0 for _, last in grown):
        return  # no change needed; or lines of bias only, which the audit checks
    config = {**layer.get_config(), "kernel_size": size, "padding": "valid", "output_padding": None}
    unpadded = with_weights(type(layer).from_config(config), padded, bias)
    value = graph.add(unpadded, node.inputs[0], grid=node.grid)
    if any(map(any, grown)):
        value = graph.add(layers.Cropping2D(grown, name=f"{node.name}_crop", dtype="float32"), value)
    graph.replace(node.output, value)


def _centred_3x3(kernel: np.ndarray) -> np.ndarray:
    """(4, 4, out, in) of a stride-2 transposed convolution -> (3, 3, in, 4 * out), zeros where a phase has no tap.

    Cropped by one, output pixel 2j + p reads x[j - 1 + p] and x[j + p]: taps w[3 - p - ...], see ``_write_subpixel``.
    """
    out, inner = kernel.shape[2:]
    weights = np.zeros((3, 3, inner, 2, 2, out), np.float32)
    for p in range(2):
        for q in range(2):
            for a in range(3):
                for b in range(3):
                    row, column = p + 1 + 2 * (1 - a), q + 1 + 2 * (1 - b)  # y[2j + p] reads x[j + a - 1] w[row]
                    if 0 <= row < 4 and 0 <= column < 4:
                        weights[a, b, :, p, q] = kernel[row, column].T
    return weights.reshape(3, 3, inner, 4 * out)
