"""The block of PoolFormer."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from ..checks import check_positive
from .two_step_block import TwoStepBlock


@keras.saving.register_keras_serializable(package="wavemix_tf")
class PoolFormerBlock(TwoStepBlock):
    """PoolFormer block: the mean over a pixel's neighborhood minus the pixel, then an MLP over channels.

    PoolFormer (Yu et al., MetaFormer, arXiv 2111.11418, equations 2, 3 and 4)::

        y = x + scale * (average pool(norm(x)) - norm(x))
        output = y + scale * MLP(norm(y))

    Args:
        width: C, channels of input and output.
        pool_size: Side of the pooling window in pixels, odd; positions beyond the border do not count.
        expansion: Hidden units of the MLP over channels as a multiple of ``width``.
        dropout: Rate in [0, 1) after each step of the MLP.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu".
        norm: "group": group normalization with one group (as published, epsilon 1e-5); or "batch".
        layer_scale: None, or the initial value of a ``LayerScale`` before each sum; published: 1e-5.
        stochastic_depth: Rate at which a whole image skips the mixing or the feed-forward in training.

    Input shape:
        (B, H, W, C) floating point; H and W may be unknown.

    Output shape:
        As the input.

    Raises:
        ValueError: An option out of its range, or input whose channels are not ``width``.

    Example:
    >>> y = wm.PoolFormerBlock(64)(x)                 # (B, 16, 16, 64) -> (B, 16, 16, 64)
    """

    NORMS = ("group", "batch")

    def __init__(
        self,
        width: int,
        pool_size: int = 3,
        expansion: int = 4,
        dropout: float = 0.0,
        activation: str = "gelu",
        norm: str = "group",
        layer_scale: float | None = 1e-5,
        stochastic_depth: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if check_positive("pool_size", pool_size) % 2 == 0:
            raise ValueError(f"pool_size must be odd, so that the window has a center. Received: pool_size={pool_size}")
        self.pool_size = pool_size
        super().__init__(width, expansion, dropout, activation, norm, layer_scale, stochastic_depth, **kwargs)

    def _make_mix(self) -> None:
        self.pool = self._named(layers.AveragePooling2D, "pool", self.pool_size, strides=1, padding="same")
        self.difference = self._named(layers.Subtract, "difference")

    def _mix(self, x: Any, training: bool | None) -> Any:
        return self.difference([self.pool(x), x])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_size": self.pool_size}
