"""The block of ResNet."""

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
class ResidualConvBlock(ResidualBlock):
    """Basic block of ResNet with an identity shortcut: two convolutions that mix positions and channels together.

    ResNet (He et al., arXiv 1512.03385, figure 5, left)::

        y = batch norm(conv k x k(activation(batch norm(conv k x k(x)))))
        output = activation(x + dropout(y))

    Args:
        width: C, channels of input and output.
        kernel_size: k, side of the convolutions in pixels.
        dropout: Rate in [0, 1) before the sum; the published networks have none.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu"; published: "relu".

    Input shape:
        (B, H, W, C) floating point; H and W may be unknown.

    Output shape:
        As the input.

    Raises:
        ValueError: An option out of its range, or input whose channels are not ``width``.

    Example:
    >>> y = wm.ResidualConvBlock(64)(x)   # (B, 32, 32, 64) -> (B, 32, 32, 64)
    """

    def __init__(
        self, width: int, kernel_size: int = 3, dropout: float = 0.0, activation: str = "relu", **kwargs: Any
    ) -> None:
        super().__init__(width, dropout, activation, **kwargs)
        self.kernel_size = check_positive("kernel_size", kernel_size)
        named, function = self._named, ACTIVATIONS[activation]
        options: dict[str, Any] = {"padding": "same", "use_bias": False}
        self.parts = [
            named(layers.Conv2D, "conv1", width, kernel_size, **options),
            named(FusedBatchNormalization, "norm1", **BATCH_NORM),
            named(layers.Activation, "activation1", function),
            named(layers.Conv2D, "conv2", width, kernel_size, **options),
            named(FusedBatchNormalization, "norm2", **BATCH_NORM),
            named(ByteDropout, "dropout", dropout),
        ]
        self.residual = named(layers.Add, "residual")
        self.last = named(layers.Activation, "activation2", function)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_input(input_shape)
        for layer in self.parts:
            layer.build(input_shape)

    def inline(self, x: Any, training: bool | None = None) -> Any:
        return self.last(self.residual([x, self._run(self.parts, x, training)]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size}
