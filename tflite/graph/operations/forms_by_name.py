"""Operation of ``keras.ops`` -> the function that writes it as layers."""

from __future__ import annotations

from typing import Any

from ..graph import Graph, Node, Value
from .axes import mean, softmax, stack, transpose
from .products import einsum, matmul
from .slices import get_item, split, take
from .sums import add_constant, pad_tokens, square

FORMS: dict[str, Any] = {
    "Add": add_constant,
    "Einsum": einsum,
    "GetItem": get_item,
    "Matmul": matmul,
    "Mean": mean,
    "Moveaxis": transpose,
    "Pad": pad_tokens,
    "Softmax": softmax,
    "Split": split,
    "Square": square,
    "Stack": stack,
    "Swapaxes": transpose,
    "Take": take,
    "Transpose": transpose,
    "Unstack": split,
}


def token_operation(graph: Graph, node: Node) -> Value | None:
    """Canonical form of the operation of ``node``; None if there is none."""
    kind = node.kind.removeprefix("ops.")
    if kind not in FORMS or node.output.shape[0] is not None:
        return None
    return FORMS[kind](graph, node)
