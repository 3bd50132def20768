"""Convolution of stride s = a * b -> one of stride a, then a pool of one pixel of stride b."""

from __future__ import annotations

from keras import layers

from ..activation_names import activation_name
from ..graph import Graph, Node
from ..layer_kinds import CLAMPS
from ..weights import bias_of, kernel_of, with_weights


def split_strides(graph: Graph, largest: int) -> None:
    """Convolution of a large stride (of a patchify stem) -> one of a smaller stride, and pools that drop pixels.

    A pool of one pixel copies, so the function is the same, also in integers. Vela splits a stride above 3 into one
    convolution per output pixel, each of which fetches the weights again.
    """
    quantized = any(node.kind == "FakeQuant" for node in graph.nodes())
    for node in graph.nodes():
        layer = node.layer
        if node.kind not in ("Conv2D", "GridConv2D") or layer.padding != "valid" or max(layer.strides) <= largest:
            continue
        factors = stride_factors(layer.strides[0], largest)
        chain = to_quantizer(graph, node) if quantized else []
        if layer.strides[0] != layer.strides[1] or not factors or chain is None:
            continue  # the target's rules decide
        changed = with_weights(layer, kernel_of(layer), bias_of(layer), strides=factors[0])
        value = graph.add(changed, node.inputs[0], grid=node.grid)
        for follower in chain:
            value = graph.add(follower.layer, value)
        for index, factor in enumerate(factors[1:]):
            pool = layers.MaxPooling2D(1, strides=factor, name=f"{node.name}_keep{index}", dtype="float32")
            value = graph.add(pool, value)
        graph.replace(chain[-1].output if chain else node.output, value)


def stride_factors(stride: int, largest: int) -> list[int]:
    """``stride`` as a product of numbers up to ``largest``, the largest first; empty if there is no such product."""
    factors = []
    for factor in range(largest, 1, -1):
        while stride % factor == 0:
            factors.append(factor)
            stride //= factor
    return factors if stride == 1 else []


def to_quantizer(graph: Graph, node: Node) -> list[Node] | None:
    """The nodes after ``node`` up to its quantizer, whose grid a pool keeps; None if another node reads it first."""
    consumers, chain, value = graph.consumers(), [], node.output
    while True:
        reader = graph.sole_consumer(value, consumers)
        if reader is None:
            return None
        chain.append(reader)
        if reader.kind == "FakeQuant":
            return chain
        if activation_name(reader) not in CLAMPS:
            return None
        value = reader.output
