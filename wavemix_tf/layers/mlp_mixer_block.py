"""The block of MLP-Mixer."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from ..checks import check_positive
from .activations import ACTIVATIONS
from .elementwise import ByteDropout
from .two_step_block import TwoStepBlock


@keras.saving.register_keras_serializable(package="wavemix_tf")
class MLPMixerBlock(TwoStepBlock):
    """MLP-Mixer block: one MLP over the positions of each channel, one over the channels of each position.

    MLP-Mixer (Tolstikhin et al., arXiv 2105.01601, equation 1)::

        y = x + MLP over positions(norm(x))
        output = y + MLP over channels(norm(y))

    Args:
        width: C, channels of input and output.
        token_dim: Hidden units of the MLP over positions; None: half of ``width``, as in the published networks.
        expansion: Hidden units of the MLP over channels as a multiple of ``width``.
        dropout: Rate in [0, 1) after each step of the MLPs.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu".
        norm: "layer" (as published, epsilon 1e-6) or "batch", whose statistics are constants on the device.
        layer_scale: None, or the initial value of a ``LayerScale`` before each sum.
        stochastic_depth: Rate at which a whole image skips the mixing or the feed-forward in training.

    Input shape:
        (B, H, W, C) floating point; H and W must be known.

    Output shape:
        As the input.

    Raises:
        ValueError: An option out of its range; input whose channels are not ``width`` or whose sides are unknown.

    Example:
    >>> y = wm.MLPMixerBlock(64)(x)                   # (B, 16, 16, 64) -> (B, 16, 16, 64)
    """

    def __init__(
        self,
        width: int,
        token_dim: int | None = None,
        expansion: int = 4,
        dropout: float = 0.0,
        activation: str = "gelu",
        norm: str = "layer",
        layer_scale: float | None = None,
        stochastic_depth: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self._token_dim = max(width // 2, 1) if token_dim is None else check_positive("token_dim", token_dim)
        super().__init__(width, expansion, dropout, activation, norm, layer_scale, stochastic_depth, **kwargs)
        self.token_dim = token_dim

    def _make_mix(self) -> None:
        named = self._named
        self.token_expand = named(layers.Dense, "token_expand", self._token_dim)
        self.token_activation = named(layers.Activation, "token_activation", ACTIVATIONS[self.activation])
        self.token_dropout = named(ByteDropout, "token_dropout", self.dropout)
        self.token_project_dropout = named(ByteDropout, "token_project_dropout", self.dropout)

    def _mix_layers(self, input_shape: tuple[int | None, ...]) -> list[tuple[Any, tuple[int | None, ...]]]:
        height, width = self._known_sides(input_shape)
        batch, channels, places = input_shape[0], self.width, height * width
        named = self._named
        self.flatten = named(layers.Reshape, "flatten", (places, channels))
        self.swap = named(layers.Permute, "swap", (2, 1))
        self.token_project = named(layers.Dense, "token_project", places)
        self.swap_back = named(layers.Permute, "swap_back", (2, 1))
        self.unflatten = named(layers.Reshape, "unflatten", (height, width, channels))
        return [
            (self.token_expand, (batch, channels, places)),
            (self.token_project, (batch, channels, self._token_dim)),
        ]

    def _mix(self, x: Any, training: bool | None) -> Any:
        parts = [
            self.flatten,
            self.swap,
            self.token_expand,
            self.token_activation,
            self.token_dropout,
            self.token_project,
            self.token_project_dropout,
            self.swap_back,
            self.unflatten,
        ]
        return self._run(parts, x, training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "token_dim": self.token_dim}
