"""Networks of other token mixers: any mixer between WaveMix's stem and head, and the published networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers

from ..checks import check_option, check_positive
from ..layers.activations import ACTIVATIONS
from ..layers.convmixer_block import ConvMixerBlock
from ..layers.mixers import MIXERS
from ..layers.mlp_mixer_block import MLPMixerBlock
from ..layers.normalization import FusedBatchNormalization
from ..layers.poolformer_block import PoolFormerBlock
from ..layers.residual_block import BATCH_NORM, ResidualBlock
from .base import (
    Network,
    check_image_shape,
    convolutional_stem,
    mean_head,
    rising_rates,
    standardised_input,
    stem_reduction,
)


def mixer_block(
    mixer: str, options: Mapping[str, Any], mixer_args: Mapping[str, Any] | None, name: str, policy: Any
) -> ResidualBlock:
    """Make one block of a mixer.

    Args:
        mixer: A name of ``MIXERS``.
        options: Width, dropout and activation.
        mixer_args: Further arguments of the block, as the caller gave them.
        name: Name of the block.
        policy: dtype policy.

    Raises:
        ValueError: the block has no such argument.
    """
    block, defaults = MIXERS[mixer]
    if not isinstance(mixer_args, (Mapping, type(None))):
        raise ValueError(f"mixer_args must be a dict or None. Received: mixer_args={mixer_args!r}")
    try:
        return block(**{**options, **defaults, **(mixer_args or {})}, name=name, dtype=policy)
    except (TypeError, ValueError) as error:
        if "keyword" not in str(error):
            raise
        raise ValueError(
            f"mixer_args must be arguments of {block.__name__}. Received: mixer_args={mixer_args}"
        ) from None


@keras.saving.register_keras_serializable(package="wavemix_tf")
class TokenMixerClassifier(Network):
    """Any token mixer between WaveMix's stem and head, so that networks differ only in the mixing.

    Args:
        mixer: A name of ``wm.MIXERS``: "wavemix"; WaveMix with another transform: "dct", "random_filters",
            "learned_filters", "no_transform"; or another mixer: "convmixer", "wtconv", "inverted_bottleneck", "resnet",
            "mlp_mixer", "poolformer", "fourier".
        num_classes: Number of classes.
        image_shape: (height, width, channels) of the input in pixels. Height and width may be None, except for
            "mlp_mixer" and "fourier", whose matrices have fixed sides.
        width: C, channels of every block; WaveMix and its ablations need a multiple of 4.
        depth: Number of blocks.
        dropout: Rate in each block.
        activation: "gelu", "relu", "relu6", "hard_swish" or "quick_gelu"; in the blocks and in the patchify stem.
        mixer_args: Further arguments of the block, for example ``{"kernel_size": 7}`` or ``{"norm": "batch"}``.
        stem: "strided" or "patchify", see ``WaveMixClassifier``.
        stride: Stride in pixels of each convolution of the strided stem.
        patch_size: Side in pixels of a patch of the patchify stem.
        normalize: None, or (mean, std), each one value per channel in the input's [0, 1] units.
        dtype: dtype policy of the layers; None: Keras's global one. Under a mixed policy the head computes in float32.

    Input shape:
        (B, H, W, channels) floating point in [0, 1] (pixel / 255), RGB.

    Output shape:
        (B, num_classes) logits.

    Raises:
        ValueError: An option out of its range, or one that the block does not have.

    Example:
    >>> model = wm.TokenMixerClassifier("convmixer", 10, (32, 32, 3), width=64, depth=6, patch_size=2)
    """

    def __init__(
        self,
        mixer: str = "wavemix",
        num_classes: int = 10,
        image_shape: Sequence[int | None] = (32, 32, 3),
        width: int = 64,
        depth: int = 4,
        dropout: float = 0.0,
        activation: str = "gelu",
        mixer_args: Mapping[str, Any] | None = None,
        stem: str = "patchify",
        stride: int = 1,
        patch_size: int = 4,
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        policy = self._policy(arguments)
        check_option("mixer", mixer, tuple(MIXERS))
        check_positive("num_classes", num_classes)
        check_image_shape(image_shape, stem_reduction(stem, stride, patch_size))
        options = {"width": width, "dropout": dropout, "activation": activation}

        inputs, x = standardised_input(image_shape, normalize, policy)
        x = convolutional_stem(x, stem, width, stride, patch_size, activation, policy)
        for index in range(1, check_positive("depth", depth) + 1):
            x = mixer_block(mixer, options, mixer_args, f"block{index}", policy)(x)
        self._init_functional(inputs, mean_head(x, num_classes, policy), arguments, policy)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class ConvMixer(Network):
    """ConvMixer: a patch convolution, ``depth`` blocks of one resolution, global mean, linear head.

    ConvMixer (Trockman & Kolter, arXiv 2201.09792, section 2).

    Args:
        num_classes: Number of classes.
        image_shape: (height, width, channels) of the input in pixels; height and width may be None.
        width: Channels of every block.
        depth: Number of blocks.
        kernel_size: Side of the depthwise convolutions in pixels.
        patch_size: Side of a patch in pixels.
        activation: "gelu", "relu", "relu6", "hard_swish" or "quick_gelu".
        dropout: Rate in each block; published: 0.
        normalize: None, or (mean, std), each one value per channel in the input's [0, 1] units.
        dtype: dtype policy of the layers; None: Keras's global one. Under a mixed policy the head computes in float32.

    Input shape:
        (B, H, W, channels) floating point in [0, 1] (pixel / 255), RGB. Pixels beyond the last whole patch at the
        bottom and right are ignored.

    Output shape:
        (B, num_classes) logits.

    Raises:
        ValueError: An option out of its range.

    Example:
    >>> model = wm.ConvMixer(10, (32, 32, 3), width=64, depth=4, kernel_size=5, patch_size=2)
    """

    def __init__(
        self,
        num_classes: int = 1000,
        image_shape: Sequence[int | None] = (224, 224, 3),
        width: int = 768,
        depth: int = 32,
        kernel_size: int = 7,
        patch_size: int = 7,
        activation: str = "gelu",
        dropout: float = 0.0,
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        policy = self._policy(arguments)
        check_positive("num_classes", num_classes)
        check_image_shape(image_shape, check_positive("patch_size", patch_size))
        check_option("activation", activation, tuple(ACTIVATIONS))
        inputs, x = standardised_input(image_shape, normalize, policy)
        x = _patches(x, check_positive("width", width), patch_size, "stem_conv", policy)
        x = layers.Activation(ACTIVATIONS[activation], name="stem_activation", dtype=policy)(x)
        x = FusedBatchNormalization(**BATCH_NORM, name="stem_norm", dtype=policy)(x)
        for index in range(1, check_positive("depth", depth) + 1):
            x = ConvMixerBlock(width, kernel_size, dropout, activation, name=f"block{index}", dtype=policy)(x)
        self._init_functional(inputs, mean_head(x, num_classes, policy), arguments, policy)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class MLPMixer(Network):
    """MLP-Mixer: patches, ``depth`` blocks, layer norm, mean over the positions, linear head.

    MLP-Mixer (Tolstikhin et al., arXiv 2105.01601, section 2 and table 1).

    Args:
        num_classes: Number of classes.
        image_shape: (height, width, channels) of the input in pixels; the sides fix the sizes of the token MLPs.
        patch_size: Side of a patch in pixels.
        width: Channels of every position (the paper's C).
        depth: Number of blocks.
        token_dim: Hidden units of the MLP over positions (D_S); None: half of ``width``.
        expansion: Hidden units of the MLP over channels (D_C) as a multiple of ``width``.
        activation: "gelu", "relu", "relu6", "hard_swish" or "quick_gelu".
        dropout: Rate after each step of the MLPs.
        stochastic_depth: Rate of the last block; it rises linearly from 0 at the first.
        normalize: None, or (mean, std), each one value per channel in the input's [0, 1] units.
        dtype: dtype policy of the layers; None: Keras's global one. Under a mixed policy the head computes in float32.

    Input shape:
        (B, H, W, channels) floating point in [0, 1] (pixel / 255), RGB; sides that ``patch_size`` divides.

    Output shape:
        (B, num_classes) logits.

    Raises:
        ValueError: An option out of its range.

    Example:
    >>> model = wm.MLPMixer(10, (32, 32, 3), patch_size=4, width=64, depth=4)
    """

    def __init__(
        self,
        num_classes: int = 1000,
        image_shape: Sequence[int] = (224, 224, 3),
        patch_size: int = 16,
        width: int = 512,
        depth: int = 8,
        token_dim: int | None = None,
        expansion: int = 4,
        activation: str = "gelu",
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        policy = self._policy(arguments)
        check_positive("num_classes", num_classes)
        check_image_shape(image_shape, check_positive("patch_size", patch_size))
        if any(side is None or side % patch_size for side in image_shape[:2]):
            raise ValueError(
                f"The sides of image_shape must be multiples of patch_size={patch_size}. "
                f"Received: image_shape={tuple(image_shape)}"
            )
        inputs, x = standardised_input(image_shape, normalize, policy)
        x = _patches(x, check_positive("width", width), patch_size, "stem_conv", policy)
        options: dict[str, Any] = {
            "token_dim": token_dim,
            "expansion": expansion,
            "dropout": dropout,
            "activation": activation,
        }
        for index, rate in enumerate(rising_rates(stochastic_depth, check_positive("depth", depth)), 1):
            x = MLPMixerBlock(width, **options, stochastic_depth=rate, name=f"block{index}", dtype=policy)(x)
        x = layers.LayerNormalization(epsilon=1e-6, name="norm", dtype=policy)(x)
        self._init_functional(inputs, mean_head(x, num_classes, policy), arguments, policy)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class PoolFormer(Network):
    """PoolFormer: four stages of blocks that mix by average pooling, each at half the sides of the previous one.

    PoolFormer (Yu et al., MetaFormer, arXiv 2111.11418, section 3.2 and table 1).

    Args:
        num_classes: Number of classes.
        image_shape: (height, width, channels) of the input in pixels; height and width may be None.
        depths: Blocks of each stage.
        widths: Channels of each stage.
        expansion: Hidden units of the MLPs as a multiple of the width.
        pool_size: Side of the pooling window in pixels.
        layer_scale: Initial value of the factors before each sum; None: no factors. Published: 1e-5 up to 24 blocks.
        activation: "gelu", "relu", "relu6", "hard_swish" or "quick_gelu".
        dropout: Rate after each step of the MLPs.
        stochastic_depth: Rate of the last block; it rises linearly from 0 at the first.
        normalize: None, or (mean, std), each one value per channel in the input's [0, 1] units.
        dtype: dtype policy of the layers; None: Keras's global one. Under a mixed policy the head computes in float32.

    Input shape:
        (B, H, W, channels) floating point in [0, 1] (pixel / 255), RGB.

    Output shape:
        (B, num_classes) logits.

    Raises:
        ValueError: An option out of its range; ``depths`` and ``widths`` of different lengths.

    Example:
    >>> model = wm.PoolFormer(10, (64, 64, 3), depths=(1, 1, 2, 1), widths=(16, 32, 64, 128))
    """

    def __init__(
        self,
        num_classes: int = 1000,
        image_shape: Sequence[int | None] = (224, 224, 3),
        depths: Sequence[int] = (2, 2, 6, 2),
        widths: Sequence[int] = (64, 128, 320, 512),
        expansion: int = 4,
        pool_size: int = 3,
        layer_scale: float | None = 1e-5,
        activation: str = "gelu",
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        policy = self._policy(arguments)
        check_positive("num_classes", num_classes)
        check_image_shape(image_shape, 1)
        if len(depths) != len(widths) or not depths:
            raise ValueError(
                f"depths and widths must have one value per stage. Received: depths={depths}, widths={widths}"
            )
        inputs, x = standardised_input(image_shape, normalize, policy)
        options: dict[str, Any] = {"pool_size": pool_size, "expansion": expansion, "layer_scale": layer_scale}
        options |= {"dropout": dropout, "activation": activation}
        rates = iter(rising_rates(stochastic_depth, sum(check_positive("depths", depth) for depth in depths)))
        for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
            side, stride, padding = (7, 4, 2) if stage == 1 else (3, 2, 1)
            last: dict[str, Any] = {"data_format": "channels_last", "dtype": policy}
            x = layers.ZeroPadding2D(padding, name=f"stage{stage}_pad", **last)(x)
            conv = layers.Conv2D(
                check_positive("widths", width), side, strides=stride, name=f"stage{stage}_conv", **last
            )
            x = conv(x)
            for index in range(1, depth + 1):
                name = f"stage{stage}_block{index}"
                x = PoolFormerBlock(width, **options, stochastic_depth=next(rates), name=name, dtype=policy)(x)
        x = layers.GroupNormalization(1, epsilon=1e-5, name="norm", dtype=policy)(x)
        self._init_functional(inputs, mean_head(x, num_classes, policy), arguments, policy)


def _patches(x: Any, width: int, patch_size: int, name: str, policy: Any) -> Any:
    """(B, H, W, C) -> (B, H / p, W / p, width): a linear map of every patch."""
    last = {"data_format": "channels_last", "name": name, "dtype": policy}
    return layers.Conv2D(width, patch_size, strides=patch_size, **last)(x)
