"""The token mixers that WaveMix is compared with, as residual blocks of one contract: (B, H, W, C) -> (B, H, W, C).

``MIXERS`` names them all, WaveMix and its ablations included; ``TokenMixerClassifier`` puts any of them between the
same stem and head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from .blocks import ACTIVATIONS, BATCH_NORM, ResidualBlock, WaveMixBlock
from .checks import check_option, check_positive, check_rate
from .elementwise import ByteDropout
from .normalization import FusedBatchNormalization


@keras.saving.register_keras_serializable(package="wavemix_tf")
class LayerScale(layers.Layer):
    """One trained factor a channel (Touvron et al., CaiT, arXiv 2103.17239, eq. 6).

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


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FourierMatrix(layers.Layer):
    """The real or the imaginary part of the orthonormal discrete Fourier transform along the last axis, as a product.

    Args:
        part: "cos" or "sin": entry (j, k) of the matrix is the cosine or the sine of 2 pi j k / n, over the square root
            of n.
        sides: Lengths of the axes that the last one was flattened from: the transform runs over all of them, and their
            angles add up. None: one axis.

    Input shape:
        (B, ..., N) floating point, N the product of ``sides``.

    Output shape:
        As the input.

    Raises:
        ValueError: unknown part; a last axis that is not the product of ``sides``.
    """

    def __init__(self, part: str = "cos", sides: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.part = check_option("part", part, ("cos", "sin"))
        self.sides = None if sides is None else tuple(check_positive("sides", side) for side in sides)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        sides: Any = self.sides or (input_shape[-1],)
        if None in sides or math.prod(sides) != input_shape[-1]:
            raise ValueError(f"The last axis must be {sides} flattened. Received: input_shape={tuple(input_shape)}")
        turns = np.zeros((1, 1))
        for side in sides:
            grid = np.outer(np.arange(side), np.arange(side)) / side
            size = len(turns) * side
            turns = (turns[:, None, :, None] + grid[None, :, None, :]).reshape(size, size)
        values = {"cos": np.cos, "sin": np.sin}[self.part](2 * np.pi * turns) / len(turns) ** 0.5
        self.matrix = self.add_weight(
            shape=values.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(values, dtype=dtype),
            trainable=False,
            name="matrix",
        )

    def call(self, x: Any) -> Any:
        return ops.matmul(x, ops.cast(self.matrix, x.dtype))

    def inline(self, x: Any) -> Any:
        """``call`` for graph passes, which know a product with a weight."""
        return ops.matmul(x, self.matrix)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "part": self.part, "sides": self.sides}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class ConvMixerBlock(ResidualBlock):
    """ConvMixer block: a depthwise convolution with a residual around it, then a 1x1 convolution.

    ConvMixer (Trockman & Kolter, arXiv 2201.09792, equations 1 and 2)::

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
        ValueError: an option out of its range, or input whose channels are not ``width``.

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
            named(layers.DepthwiseConv2D, "depthwise", kernel_size, padding="same"),
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

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_input(input_shape)
        for layer in (*self.depthwise, *self.pointwise):
            layer.build(input_shape)

    def inline(self, x: Any, training: bool | None = None) -> Any:
        x = self.residual([self._run(self.depthwise, x, training), x])
        return self._run(self.pointwise, x, training)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size}


class _TwoStepBlock(ResidualBlock):
    """x + mix(norm(x)), then y + feed-forward(norm(y)): what Transformers and MLP-Mixers agree on.

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
        """What stands before a sum."""
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
        """Layers of the mixing with the shapes they are built for."""
        return []

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


class _TokenBlock(_TwoStepBlock):
    """A block that mixes along the flattened places of images of one size."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_input(input_shape)
        _, height, width, channels = input_shape
        if height is None or width is None:
            raise ValueError(
                f"{self.name} mixes between fixed places: the sides must be known. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        named = self._named
        self.places = (int(height), int(width))
        self.flatten = named(layers.Reshape, "flatten", (height * width, channels))
        self.swap = named(layers.Permute, "swap", (2, 1))
        self.swap_back = named(layers.Permute, "swap_back", (2, 1))
        self.unflatten = named(layers.Reshape, "unflatten", (height, width, channels))
        super().build(input_shape)

    def _to_tokens(self, x: Any) -> Any:
        return self.swap(self.flatten(x))  # (B, C, H * W)

    def _from_tokens(self, x: Any) -> Any:
        return self.unflatten(self.swap_back(x))  # (B, H, W, C)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class MLPMixerBlock(_TokenBlock):
    """MLP-Mixer block: one MLP between the places of each channel, one between the channels of each place.

    MLP-Mixer (Tolstikhin et al., arXiv 2105.01601, equation 1)::

        y = x + MLP over places(norm(x))
        output = y + MLP over channels(norm(y))

    Args:
        width: C, channels of input and output.
        token_dim: Hidden units of the MLP over places; None: half of ``width``, as in the published networks.
        expansion: Hidden units of the MLP over channels as a multiple of ``width``.
        dropout: Rate in [0, 1) after each step of the MLPs.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu".
        norm: "layer" (as published, epsilon 1e-6) or "batch": statistics that are constants on the device.
        layer_scale: None, or the initial value of a ``LayerScale`` before each sum.
        stochastic_depth: Rate at which a whole image skips the mixing or the feed-forward in training.

    Input shape:
        (B, H, W, C) floating point; H and W must be known.

    Output shape:
        As the input.

    Raises:
        ValueError: an option out of its range; input whose channels are not ``width`` or whose sides are unknown.

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
        places = self.places[0] * self.places[1]
        self.token_project = self._named(layers.Dense, "token_project", places)
        batch, channels = input_shape[0], input_shape[-1]
        return [
            (self.token_expand, (batch, channels, places)),
            (self.token_project, (batch, channels, self._token_dim)),
        ]

    def _mix(self, x: Any, training: bool | None) -> Any:
        parts = [
            self.token_expand,
            self.token_activation,
            self.token_dropout,
            self.token_project,
            self.token_project_dropout,
        ]
        return self._from_tokens(self._run(parts, self._to_tokens(x), training))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "token_dim": self.token_dim}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FourierBlock(_TokenBlock):
    """Fourier mixing: the real part of the discrete Fourier transform over height, width and channels, then an MLP.

    FNet (Lee-Thorp et al., arXiv 2105.03824, equation 3) takes the transform over the sequence and the channels; of an
    image the sequence has two axes. The transform has no weights. It is orthonormal here, and the norm stands before
    each step, as in the other blocks; FNet leaves the transform unscaled and normalises behind it. Written as products
    with fixed cosine and sine matrices, since few runtimes on devices have a Fourier transform.

    Args:
        width: C, channels of input and output.
        expansion: Hidden units of the MLP over channels as a multiple of ``width``.
        dropout: Rate in [0, 1) after each step of the MLP.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu".
        norm: "layer" (epsilon 1e-6) or "batch".
        layer_scale: None, or the initial value of a ``LayerScale`` before each sum.
        stochastic_depth: Rate at which a whole image skips the mixing or the feed-forward in training.

    Input shape:
        (B, H, W, C) floating point; H and W must be known.

    Output shape:
        As the input.

    Raises:
        ValueError: an option out of its range; input whose channels are not ``width`` or whose sides are unknown.

    Example:
    >>> y = wm.FourierBlock(64)(x)                    # (B, 16, 16, 64) -> (B, 16, 16, 64)
    """

    def _make_mix(self) -> None:
        self.difference = self._named(layers.Subtract, "difference")

    def _mix_layers(self, input_shape: tuple[int | None, ...]) -> list[tuple[Any, tuple[int | None, ...]]]:
        batch, height, width, channels = input_shape
        self.transforms = {}
        found: list[Any] = []
        for part in ("cos", "sin"):
            over_places = self._named(FourierMatrix, f"places_{part}", part, sides=self.places)
            over_channels = self._named(FourierMatrix, f"channels_{part}", part)
            self.transforms[part] = [over_places, over_channels]
            found.append((over_places, (batch, channels, self.places[0] * self.places[1])))
            found.append((over_channels, (batch, height, width, channels)))
        return found

    def _mix(self, x: Any, training: bool | None) -> Any:
        tokens = self._to_tokens(x)
        # cos(a + b) = cos a cos b - sin a sin b, a the angle over places and b the one over channels.
        parts = []
        for over_places, over_channels in self.transforms.values():
            parts.append(over_channels(self._from_tokens(over_places(tokens))))
        return self.difference(parts)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class PoolFormerBlock(_TwoStepBlock):
    """PoolFormer block: the mean over a pixel's neighbours less the pixel itself, then an MLP over channels.

    PoolFormer (Yu et al., MetaFormer, arXiv 2111.11418, equations 1, 2 and 4)::

        y = x + scale * (average pool(norm(x)) - norm(x))
        output = y + scale * MLP(norm(y))

    Args:
        width: C, channels of input and output.
        pool_size: Side of the pooling window in pixels, odd; places beyond the border do not count.
        expansion: Hidden units of the MLP over channels as a multiple of ``width``.
        dropout: Rate in [0, 1) after each step of the MLP.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu".
        norm: "group": group normalisation with one group (as published, epsilon 1e-5); or "batch".
        layer_scale: None, or the initial value of a ``LayerScale`` before each sum; published: 1e-5.
        stochastic_depth: Rate at which a whole image skips the mixing or the feed-forward in training.

    Input shape:
        (B, H, W, C) floating point; H and W may be unknown.

    Output shape:
        As the input.

    Raises:
        ValueError: an option out of its range, or input whose channels are not ``width``.

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
            raise ValueError(f"pool_size must be odd: a window has a middle. Received: pool_size={pool_size}")
        self.pool_size = pool_size
        super().__init__(width, expansion, dropout, activation, norm, layer_scale, stochastic_depth, **kwargs)

    def _make_mix(self) -> None:
        self.pool = self._named(layers.AveragePooling2D, "pool", self.pool_size, strides=1, padding="same")
        self.difference = self._named(layers.Subtract, "difference")

    def _mix(self, x: Any, training: bool | None) -> Any:
        return self.difference([self.pool(x), x])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_size": self.pool_size}


# name -> (block, arguments that make it what the name says).
MIXERS: dict[str, tuple[type[ResidualBlock], dict[str, Any]]] = {
    "wavemix": (WaveMixBlock, {}),
    # Something else where WaveMix has the Haar transform.
    "random_filters": (WaveMixBlock, {"transform": "random"}),
    "learned_filters": (WaveMixBlock, {"transform": "learned"}),
    "dct": (WaveMixBlock, {"transform": "dct"}),
    "no_transform": (WaveMixBlock, {"transform": "none"}),
    # Other token mixers.
    "convmixer": (ConvMixerBlock, {"kernel_size": 5}),
    "mlp_mixer": (MLPMixerBlock, {"expansion": 2}),
    "poolformer": (PoolFormerBlock, {"expansion": 2, "layer_scale": None}),
    "fourier": (FourierBlock, {"expansion": 2}),
}
