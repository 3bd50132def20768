"""The block of MobileNetV2."""

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
class InvertedBottleneckBlock(ResidualBlock):
    """Inverted bottleneck of MobileNetV2: expand the channels, mix positions by a depthwise convolution, project back.

    MobileNetV2 (Sandler et al., arXiv 1801.04381, table 1, stride 1)::

        y = activation(batch norm(1x1 conv(x)))               # C -> expansion * C
        y = activation(batch norm(depthwise k x k(y)))
        output = x + dropout(batch norm(1x1 conv(y)))         # -> C

    Args:
        width: C, channels of input and output.
        kernel_size: k, side of the depthwise convolution in pixels.
        expansion: Hidden channels as a multiple of ``width``; published: 6.
        dropout: Rate in [0, 1) before the sum; the published networks have none.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu"; published: "relu6".

    Input shape:
        (B, H, W, C) floating point; H and W may be unknown.

    Output shape:
        As the input.

    Raises:
        ValueError: An option out of its range, or input whose channels are not ``width``.

    Example:
    >>> y = wm.InvertedBottleneckBlock(24, expansion=6)(x)   # (B, 32, 32, 24) -> (B, 32, 32, 24)
    """

    def __init__(
        self,
        width: int,
        kernel_size: int = 3,
        expansion: int = 6,
        dropout: float = 0.0,
        activation: str = "relu6",
        **kwargs: Any,
    ) -> None:
        super().__init__(width, dropout, activation, **kwargs)
        self.kernel_size = check_positive("kernel_size", kernel_size)
        self.expansion = check_positive("expansion", expansion)
        named, function = self._named, ACTIVATIONS[activation]
        self.expand = [
            named(layers.Conv2D, "expand", expansion * width, 1, use_bias=False),
            named(FusedBatchNormalization, "expand_norm", **BATCH_NORM),
            named(layers.Activation, "expand_activation", function),
        ]
        self.depthwise = [
            named(layers.DepthwiseConv2D, "depthwise", kernel_size, padding="same", use_bias=False),
            named(FusedBatchNormalization, "depthwise_norm", **BATCH_NORM),
            named(layers.Activation, "depthwise_activation", function),
        ]
        self.project = [
            named(layers.Conv2D, "project", width, 1, use_bias=False),
            named(FusedBatchNormalization, "project_norm", **BATCH_NORM),
            named(ByteDropout, "dropout", dropout),
        ]
        self.residual = named(layers.Add, "residual")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_input(input_shape)
        hidden = (*input_shape[:-1], self.expansion * self.width)
        self.expand[0].build(input_shape)
        for layer in (*self.expand[1:], *self.depthwise, self.project[0]):
            layer.build(hidden)
        for layer in self.project[1:]:
            layer.build(input_shape)

    def inline(self, x: Any, training: bool | None = None) -> Any:
        return self.residual([x, self._run((*self.expand, *self.depthwise, *self.project), x, training)])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size, "expansion": self.expansion}
