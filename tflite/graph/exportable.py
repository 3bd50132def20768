"""Errors of ``export`` that can be raised before a graph is trained."""

from __future__ import annotations

from ..errors import UnsupportedLayerError
from .affines import affine_of
from .graph import Graph, Node
from .haar import check_wavelet, is_plain_inverse
from .layer_kinds import FIXED_AFFINES, RESIZES, WAVELETS
from .passes.write_resizes import check_resize, keeps_aspect


def check_exportable(graph: Graph, kept: set[Node], keep_unsupported: bool = False) -> set[Node]:
    """Raise an UnsupportedLayerError for layers that ``export`` would refuse, in a graph that is about to be trained.

    Args:
        graph: In canonical form.
        kept: Nodes that stay float; the converter may convert Keras's own computation of them.
        keep_unsupported: Whether other nodes without a form also stay float, and are returned.

    Returns:
        The nodes that stay float only for this reason.
    """
    found = set()
    for node in graph.nodes():
        if node.layer is not None and getattr(node.layer, "data_format", "channels_last") != "channels_last":
            raise UnsupportedLayerError(
                f"Layers must be channels_last. Received: layer={node.name!r} of type {node.kind}"
            )
        if node.kind in WAVELETS:
            check_wavelet(node)
        reason = _no_form(node)
        if reason is not None and keep_unsupported:
            found.add(node)
        elif reason is not None and node not in kept:
            raise UnsupportedLayerError(
                f"{reason}, or skip={[node.name]!r} keeps it float. Received: layer={node.name!r}"
            )
        if node.kind in RESIZES:
            check_resize(node)
    return found


def _no_form(node: Node) -> str | None:
    """Reason why a layer has no dedicated form in a file, though Keras's computation may convert; None if it has."""
    if node.kind in ("BatchNormalization", *FIXED_AFFINES) and affine_of(node) is None:
        if getattr(node.layer, "invert", False):
            return f"{node.kind} {node.name!r} must normalize, not invert: build it without invert=True"
        return f"{node.kind} {node.name!r} must act only on the last axis: build it with axis=-1"
    if node.kind == "IDWT2D" and not is_plain_inverse(node):
        return f"IDWT2D {node.name!r} must have mode='zero' or Haar's filters: transform with mode='zero'"
    if keeps_aspect(node):
        return f"Resizing {node.name!r} must not keep the aspect ratio: use CenterCrop or ZeroPadding2D"
    return None
