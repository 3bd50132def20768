"""The token mixers that WaveMix is compared with, as residual blocks of one contract: (B, H, W, C) -> (B, H, W, C).

``MIXERS`` names them all, WaveMix and its ablations included; ``TokenMixerClassifier`` puts any of them between the
same stem and head.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ..checks import check_option, check_positive, check_rate
from .blocks import ACTIVATIONS, BATCH_NORM, ResidualBlock, WaveMixBlock
from .elementwise import ByteDropout
from .normalization import FusedBatchNormalization


@keras.saving.register_keras_serializable(package="wavemix_tf")
class LayerScale(layers.Layer):
    """One trained factor a channel (Touvron et al., CaiT, arXiv 2103.17239, section 2).

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
    """The orthonormal discrete Fourier transform along the last axis, as one product with a fixed real matrix.

    A complex number is two real ones, its real and its imaginary part. The output has them in pairs (re, im, re, im,
    ...), the input one half after the other (all re, all im). So a transform over another axis follows by one transpose
    and one reshape, which moves nothing: (H, W, [C, 2]) -> (H, [C, 2], W) is (H, C, [2, W]) in memory; see
    ``FourierBlock``.

    Args:
        complex_input: False: the input is real.
        complex_output: False: the output is the real part alone.

    Input shape:
        (B, ..., N) floating point; (B, ..., 2 N) if complex.

    Output shape:
        (B, ..., N); (B, ..., 2 N) if complex.

    Raises:
        ValueError: a last axis that is unknown, or of odd length though complex.
    """

    def __init__(self, complex_input: bool = False, complex_output: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.complex_input = complex_input
        self.complex_output = complex_output

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        values = self._values(self._size(input_shape))
        self.matrix = self.add_weight(
            shape=values.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(values, dtype=dtype),
            trainable=False,
            name="matrix",
        )

    def _size(self, input_shape: tuple[int | None, ...]) -> int:
        last = input_shape[-1]
        if last is None or (self.complex_input and last % 2):
            rule = "even, for real and imaginary parts" if self.complex_input else "known"
            raise ValueError(f"The last axis must be {rule}. Received: input_shape={tuple(input_shape)}")
        return int(last) // (2 if self.complex_input else 1)

    def _values(self, size: int) -> np.ndarray:
        transform = np.fft.fft(np.eye(size), norm="ortho")
        rows = [transform, 1j * transform] if self.complex_input else [transform]
        whole = np.concatenate(rows)  # (inputs, N): what 1 and what i at each place becomes
        parts = [whole.real, whole.imag] if self.complex_output else [whole.real]
        return np.stack(parts, axis=-1).reshape(len(whole), -1)

    def call(self, x: Any) -> Any:
        return ops.matmul(x, ops.cast(self.matrix, x.dtype))

    def inline(self, x: Any) -> Any:
        """``call`` for graph passes, which know a product with a weight."""
        return ops.matmul(x, self.matrix)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self._size(input_shape) * (2 if self.complex_output else 1))

    def get_config(self) -> dict[str, Any]:
        options = {"complex_input": self.complex_input, "complex_output": self.complex_output}
        return {**super().get_config(), **options}


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

    def _known_sides(self, input_shape: tuple[int | None, ...]) -> tuple[int, int]:
        """(H, W), for a block that mixes images of one size."""
        height, width = input_shape[1:3]
        if height is None or width is None:
            raise ValueError(
                f"{self.name} mixes between fixed places: the sides must be known. "
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


@keras.saving.register_keras_serializable(package="wavemix_tf")
class MLPMixerBlock(_TwoStepBlock):
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


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FourierBlock(_TwoStepBlock):
    """Fourier mixing: the real part of the discrete Fourier transform over height, width and channels, then an MLP.

    FNet (Lee-Thorp et al., arXiv 2105.03824, equation 3) takes the transform over the sequence and the channels; of an
    image the sequence has two axes. The transform has no weights. It is orthonormal here, and the norm stands before
    each step, as in the other blocks; FNet leaves the transform unscaled and normalises behind it. Written as three
    products with fixed matrices (``FourierMatrix``), one an axis, since few runtimes on devices have a Fourier
    transform: 2 C + 4 W + 2 H products a value.

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
        named = self._named
        self.over_channels = named(FourierMatrix, "channels", complex_output=True)
        self.over_width = named(FourierMatrix, "width", complex_input=True, complex_output=True)
        self.over_height = named(FourierMatrix, "height", complex_input=True)
        self.width_last = named(layers.Permute, "width_last", (1, 3, 2))
        self.height_last = named(layers.Permute, "height_last", (2, 3, 1))
        self.channels_last = named(layers.Permute, "channels_last", (3, 2, 1))

    def _mix_layers(self, input_shape: tuple[int | None, ...]) -> list[tuple[Any, tuple[int | None, ...]]]:
        height, width = self._known_sides(input_shape)
        batch, channels = input_shape[0], self.width
        # (H, W, 2 C) -> (H, 2 C, W), which in memory is (H, C, 2 W); (H, C, 2 W) -> (C, 2 W, H), which is (C, W, 2 H).
        self.pair_width = self._named(layers.Reshape, "pair_width", (height, channels, 2 * width))
        self.pair_height = self._named(layers.Reshape, "pair_height", (channels, width, 2 * height))
        return [
            (self.over_channels, input_shape),
            (self.over_width, (batch, height, channels, 2 * width)),
            (self.over_height, (batch, channels, width, 2 * height)),
        ]

    def _mix(self, x: Any, training: bool | None) -> Any:
        x = self.pair_width(self.width_last(self.over_channels(x)))
        x = self.pair_height(self.height_last(self.over_width(x)))
        return self.channels_last(self.over_height(x))


@keras.saving.register_keras_serializable(package="wavemix_tf")
class PoolFormerBlock(_TwoStepBlock):
    """PoolFormer block: the mean over a pixel's neighbours less the pixel itself, then an MLP over channels.

    PoolFormer (Yu et al., MetaFormer, arXiv 2111.11418, equations 2, 3 and 4)::

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


# name -> (block, its arguments). All have WaveMix's expansion of 2, so that they differ in the mixing alone: published
# MLP-Mixer and PoolFormer have 4, PoolFormer a layer scale, ConvMixer kernels of 7 or 9.
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
