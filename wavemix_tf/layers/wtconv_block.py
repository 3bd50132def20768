"""The block of ConvMixer with a wavelet convolution."""

from __future__ import annotations

from typing import Any

import keras

from ..checks import check_positive
from .convmixer_block import ConvMixerBlock
from .wtconv import WTConv2D


@keras.saving.register_keras_serializable(package="wavemix_tf")
class WTConvBlock(ConvMixerBlock):
    """``ConvMixerBlock`` whose depthwise convolution is a ``WTConv2D``.

    ConvMixer (Trockman & Kolter, arXiv 2201.09792, equations 2 and 3) with WTConv (Finder et al., arXiv 2407.05848,
    section 3), which that paper proposes as a replacement of depthwise convolutions::

        y = batch norm(activation(WTConv2D(x))) + x
        output = batch norm(dropout(activation(1x1 conv(y))))

    Args:
        width: C, channels of input and output.
        kernel_size: k, side of every depthwise kernel in pixels.
        levels: Levels of the wavelet transform, >= 1.
        dropout: Rate in [0, 1) after the second activation.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu".

    Input shape:
        (B, H, W, C) floating point; H and W may be odd or unknown.

    Output shape:
        As the input.

    Raises:
        ValueError: An option out of its range, or input whose channels are not ``width``.

    Example:
    >>> y = wm.WTConvBlock(64, levels=2)(x)           # (B, 32, 32, 64) -> (B, 32, 32, 64)
    """

    def __init__(
        self,
        width: int,
        kernel_size: int = 5,
        levels: int = 1,
        dropout: float = 0.0,
        activation: str = "gelu",
        **kwargs: Any,
    ) -> None:
        self.levels = check_positive("levels", levels)
        super().__init__(width, kernel_size, dropout, activation, **kwargs)

    def _mixing(self) -> Any:
        return self._named(WTConv2D, "wtconv", self.kernel_size, self.levels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "levels": self.levels}
