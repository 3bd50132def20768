"""GlobalMaxPooling2D -> MaxPooling2D over the whole image, then a reshape."""

from __future__ import annotations

from keras import layers

from ..graph import Graph


def pool_globally(graph: Graph) -> None:
    """GlobalMaxPooling2D -> MaxPooling2D over the whole image, which every runtime supports."""
    for node in graph.nodes():
        if node.kind != "GlobalMaxPooling2D":
            continue
        layer, shape = node.layer, node.inputs[0].shape
        pool = layers.MaxPooling2D(
            shape[1:3], data_format=layer.data_format, name=f"{node.name}_pool", dtype=layer.dtype_policy
        )
        value = graph.add(pool, node.inputs[0])
        if not layer.keepdims:
            flat = layers.Reshape((shape[-1],), name=node.name, dtype=layer.dtype_policy)
            value = graph.add(flat, value)
        graph.replace(node.output, value)
