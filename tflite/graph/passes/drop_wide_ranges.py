"""FakeQuant of 16 bits (x) -> x. Not exact: the rounding to 16 bits is removed."""

from __future__ import annotations

from ..graph import Graph


def drop_wide_ranges(graph: Graph) -> None:
    """Remove the quantizers of an int16x8 model.

    The converter measures these ranges on images: its 16-bit kernels refuse the grids that it derives from fake-quant
    nodes.
    """
    for node in graph.nodes():
        if node.kind == "FakeQuant" and node.layer.bits == 16:
            graph.replace(node.output, node.inputs[0])
