"""Operations of ``keras.ops`` -> layers that compute the same."""

from __future__ import annotations

import keras

from ..graph import Graph
from ..operations.elementwise import layer_for
from ..operations.forms_by_name import token_operation


def operations_to_layers(graph: Graph) -> None:
    """``x + y``, ``x * 0.5``, ``ops.relu6(x)``, ``ops.mean(x, (1, 2))`` etc. -> the layers that compute them.

    Operations without such a layer stay; a later pass that does not support them names them.
    """
    for node in graph.nodes():
        if node.layer is None or isinstance(node.layer, keras.Layer):
            continue
        if not all(value.is_float for value in (*node.inputs, *node.outputs)):
            continue  # indices and masks
        layer = layer_for(node)
        value = graph.add(layer, *node.inputs) if layer is not None else token_operation(graph, node)
        if value is not None:
            graph.replace(node.output, value)
