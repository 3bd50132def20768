"""Wavelet transforms with an exact form as convolutions."""

from __future__ import annotations

from ..errors import UnsupportedLayerError
from .graph import Node
from .layer_kinds import WAVELETS


def is_plain_haar(node: Node) -> bool:
    """Whether a node is a one-level Haar transform without border effects: "zero", or even sides."""
    if node.kind not in WAVELETS or node.layer.wavelet not in ("haar", "db1"):
        return False
    even = all(side is not None and side % 2 == 0 for side in node.inputs[0].shape[1:3])
    return getattr(node.layer, "levels", 1) == 1 and (node.layer.mode == "zero" or even)


def is_plain_inverse(node: Node) -> bool:
    """Whether a node is an IDWT2D that no periodic border changes: "zero", or filters of two taps."""
    return node.kind == "IDWT2D" and (node.layer.mode == "zero" or node.layer.taps == 2)


def check_wavelet(node: Node) -> None:
    """Raise an UnsupportedLayerError if a DWT2D or LowPass2D has no form as depthwise convolutions."""
    layer = node.layer
    if getattr(layer, "levels", 1) != 1 or not (layer.mode == "zero" or is_plain_haar(node)):
        raise UnsupportedLayerError(
            "DWT2D exports with levels=1 and mode='zero' (or Haar on even sides): chain one-level layers. "
            f"Received: layer={node.name!r} with levels={getattr(layer, 'levels', 1)}, mode={layer.mode!r}, "
            f"wavelet={layer.wavelet!r}"
        )
