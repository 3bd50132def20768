"""cut(permute(x)) -> permute(cut(x))."""

from __future__ import annotations

from keras import layers

from ...layers.token_layers import Cut
from ..graph import Graph


def cut_before_permuting(graph: Graph) -> None:
    """A piece of a transposed tensor -> the transposed piece."""
    for node in graph.nodes():
        above = node.inputs[0].node if node.kind == "Cut" else None
        if above is None or above.kind != "Permute":
            continue
        places = [axis - 1 for axis in above.layer.dims]
        starts, stops = [0] * len(places), [0] * len(places)
        for place, start, stop in zip(places, node.layer.starts, node.layer.stops, strict=True):
            starts[place], stops[place] = start, stop
        value = graph.add(Cut(starts, stops, name=node.name), above.inputs[0])
        graph.replace(node.output, graph.add(layers.Permute(above.layer.dims, name=f"{node.name}_order"), value))
