"""UpSampling2D, Resizing -> one RESIZE op each."""

from __future__ import annotations

from typing import Any

from ...errors import UnsupportedLayerError
from ...layers.deployed import Resize2D
from ..graph import Graph, Node
from ..layer_kinds import RESIZES


def write_resizes(graph: Graph) -> None:
    """Write every UpSampling2D and Resizing as one image resize, which TensorFlow writes as one op."""
    for node in graph.nodes():
        if node.kind in RESIZES and not keeps_aspect(node):
            check_resize(node)
            sides: Any = node.output.shape[1:3]
            resize = Resize2D(sides, node.layer.interpolation, name=node.name, dtype="float32")
            graph.replace(node.output, graph.add(resize, node.inputs[0]))


def check_resize(node: Node) -> None:
    """UnsupportedLayerError for an UpSampling2D or Resizing without a RESIZE op."""
    layer = node.layer
    if layer.interpolation not in ("nearest", "bilinear"):
        raise UnsupportedLayerError(
            f"{node.kind} supports export only with interpolation 'nearest' or 'bilinear'. "
            f"Received: layer={node.name!r} with interpolation={layer.interpolation!r}"
        )
    if getattr(layer, "antialias", False):
        raise UnsupportedLayerError(
            f"Resizing supports export only without antialias, for which the file format has no op. "
            f"Received: layer={node.name!r} with antialias=True"
        )


def keeps_aspect(node: Node) -> bool:
    """Whether a Resizing also crops or pads."""
    options = ("crop_to_aspect_ratio", "pad_to_aspect_ratio")
    return node.kind == "Resizing" and any(getattr(node.layer, option, False) for option in options)
