"""The block of ConvMixer."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from ..checks import check_positive
from .activations import ACTIVATIONS
from .elementwise import ByteDropout
from .normalization import FusedBatchNormalization
from .residual_block import BATCH_NORM, ResidualBlock


@keras.saving.register_keras_serializable(package="wavemix_tf")
class ConvMixerBlock(ResidualBlock):
    """ConvMixer block: a depthwise convolution with a residual around it, then a 1x1 convolution.

    ConvMixer (Trockman & Kolter, arXiv 2201.09792, equations 2 and 3)::

        y = batch norm(activation(depthwise k x k(x))) + x
        output = batch norm(dropout(activation(1x1 conv(y))))

    Args:
        width: C, channels of input and output.
        kernel_size: k, side of the depthwise convolution in pixels.
        dropout: Rate in [0, 1) after the second activation; the published networks have none.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu".

    Input shape:
        (B, H, W, C) floating point; H and W may be unknown.

    Output shape:
        As the input.

    Raises:
        ValueError: An option out of its range, or input whose channels are not ``width``.

    Example:
    >>> y = wm.ConvMixerBlock(64, kernel_size=5)(x)   # (B, 32, 32, 64) -> (B, 32, 32, 64)
    """

    def __init__(
        self, width: int, kernel_size: int = 9, dropout: float = 0.0, activation: str = "gelu", **kwargs: Any
    ) -> None:
        super().__init__(width, dropout, activation, **kwargs)
        self.kernel_size = check_positive("kernel_size", kernel_size)
        named, function = self._named, ACTIVATIONS[activation]
        self.depthwise = [
            self._mixing(),
            named(layers.Activation, "depthwise_activation", function),
            named(FusedBatchNormalization, "depthwise_norm", **BATCH_NORM),
        ]
        self.residual = named(layers.Add, "residual")
        self.pointwise = [
            named(layers.Conv2D, "pointwise", width, 1),
            named(layers.Activation, "pointwise_activation", function),
            named(ByteDropout, "dropout", dropout),
            named(FusedBatchNormalization, "pointwise_norm", **BATCH_NORM),
        ]

    def _mixing(self) -> Any:
        """Return the layer that mixes pixels."""
        return self._named(layers.DepthwiseConv2D, "depthwise", self.kernel_size, padding="same")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_input(input_shape)
        for layer in (*self.depthwise, *self.pointwise):
            layer.build(input_shape)

    def inline(self, x: Any, training: bool | None = None) -> Any:
        x = self.residual([self._run(self.depthwise, x, training), x])
        return self._run(self.pointwise, x, training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size}
