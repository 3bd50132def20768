"""``TwoStepBlock``: a mixing step and a feed-forward, each after a normalization and before a sum."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from ..checks import check_option, check_positive, check_rate
from .activations import ACTIVATIONS
from .elementwise import ByteDropout
from .normalization import FusedBatchNormalization
from .residual_block import BATCH_NORM, ResidualBlock


@keras.saving.register_keras_serializable(package="wavemix_tf")
class LayerScale(layers.Layer):
    """One trained factor per channel (Touvron et al., CaiT, arXiv 2103.17239, section 2).

    Args:
        initial: Value of every factor before training.

    Input shape:
        (B, ..., C) floating point.

    Output shape:
        As the input.
    """

    def __init__(self, initial: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        initializer = keras.initializers.Constant(self.initial)
        self.gamma = self.add_weight(shape=(input_shape[-1],), initializer=initializer, name="gamma")

    def call(self, x: Any) -> Any:
        return x * ops.cast(self.gamma, x.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial": self.initial}


class TwoStepBlock(ResidualBlock):
    """x + mix(norm(x)), then y + feed-forward(norm(y)), the common structure of Transformers and MLP-Mixers.

    A subclass defines ``_make_mix`` and ``_mix``.
    """

    NORMS: tuple[str, ...] = ("layer", "batch")

    def __init__(
        self,
        width: int,
        expansion: int = 4,
        dropout: float = 0.0,
        activation: str = "gelu",
        norm: str = "layer",
        layer_scale: float | None = None,
        stochastic_depth: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(width, dropout, activation, **kwargs)
        self.expansion = check_positive("expansion", expansion)
        self.norm = check_option("norm", norm, self.NORMS)
        self.layer_scale = layer_scale
        self.stochastic_depth = check_rate("stochastic_depth", stochastic_depth)
        named = self._named
        self.mix_norm = self._norm("mix_norm")
        self._make_mix()
        self.mix_end = self._ending("mix")
        self.mix_residual = named(layers.Add, "mix_residual")
        self.feed_forward = [
            self._norm("norm"),
            named(layers.Conv2D, "expand", expansion * width, 1),
            named(layers.Activation, "activation", ACTIVATIONS[activation]),
            named(ByteDropout, "dropout", dropout),
            named(layers.Conv2D, "project", width, 1),
            named(ByteDropout, "project_dropout", dropout),
            *self._ending("feed_forward"),
        ]
        self.residual = named(layers.Add, "residual")

    def _norm(self, role: str) -> Any:
        if self.norm == "batch":
            return self._named(FusedBatchNormalization, role, **BATCH_NORM)
        if self.norm == "group":
            return self._named(layers.GroupNormalization, role, groups=1, epsilon=1e-5)
        return self._named(layers.LayerNormalization, role, epsilon=1e-6)

    def _ending(self, role: str) -> list[Any]:
        """Return the layers before a sum."""
        ending = []
        if self.layer_scale is not None:
            ending.append(self._named(LayerScale, f"{role}_scale", self.layer_scale))
        if self.stochastic_depth:
            drop = {"noise_shape": (None, 1, 1, 1)}
            ending.append(self._named(layers.Dropout, f"{role}_drop", self.stochastic_depth, **drop))
        return ending

    def _make_mix(self) -> None:
        raise NotImplementedError

    def _mix(self, x: Any, training: bool | None) -> Any:
        raise NotImplementedError

    def _mix_layers(self, input_shape: tuple[int | None, ...]) -> list[tuple[Any, tuple[int | None, ...]]]:
        """Return the layers of the mixing with their input shapes."""
        return []

    def _known_sides(self, input_shape: tuple[int | None, ...]) -> tuple[int, int]:
        """Return (H, W), for a block that mixes images of one size."""
        height, width = input_shape[1:3]
        if height is None or width is None:
            raise ValueError(
                f"{self.name} mixes between fixed positions: the sides must be known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        return height, width

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_input(input_shape)
        shape: Any = tuple(input_shape)
        for layer in (self.mix_norm, *self.mix_end):
            layer.build(shape)
        for layer, inner in self._mix_layers(shape):
            layer.build(inner)
        for layer in self.feed_forward:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def inline(self, x: Any, training: bool | None = None) -> Any:
        y = self._mix(self._run([self.mix_norm], x, training), training)
        x = self.mix_residual([x, self._run(self.mix_end, y, training)])
        return self.residual([x, self._run(self.feed_forward, x, training)])

    def get_config(self) -> dict[str, Any]:
        names = ("expansion", "norm", "layer_scale", "stochastic_depth")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
