"""The blocks of WaveMix: ``WaveMixBlock`` with any number of wavelet levels, ``WaveMixV1Block`` of the first paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from ..checks import check_option, check_positive
from .activations import ACTIVATIONS
from .elementwise import ByteDropout, gelu_dropout
from .normalization import FusedBatchNormalization
from .pixel_shuffle import PixelShuffle
from .recompute import RECOMPUTE, recomputed
from .residual_block import BATCH_NORM, ChannelParts, ResidualBlock
from .wavelets import BASES, DWT2D, FilterBank2D, LowPass2D, fold_dwt

TRANSFORMS = ("haar", *BASES, "none")
UPSAMPLERS = ("deconv", "bilinear", "nearest", "pixel_shuffle", "pixel_shuffle_conv")


class _WaveletBlock(ResidualBlock):
    """Base class of the wavelet blocks: the multi-level transform, padding, the residual sum.

    A subclass creates its other sublayers in its constructor, and defines ``_build_mix`` and ``_mix``.
    """

    def __init__(
        self,
        width: int,
        levels: int,
        expansion: int,
        ff_dim: int | None,
        dropout: float,
        activation: str,
        transform: str = "haar",
        **kwargs: Any,
    ) -> None:
        super().__init__(width, dropout, activation, **kwargs)
        if width % 4:
            raise ValueError(f"width must be a multiple of 4 (the transform has four bands). Received: width={width}")
        self.levels = check_positive("levels", levels)
        self.expansion = check_positive("expansion", expansion)
        self.ff_dim = None if ff_dim is None else check_positive("ff_dim", ff_dim)
        self.transform = check_option("transform", transform, TRANSFORMS)
        if levels > 1 and transform != "haar":
            raise ValueError(f"levels must be 1 with transform={transform!r}. Received: levels={levels}")

        if transform == "none":
            self.reduce = self._named(layers.Conv2D, "reduce", width, 1, strides=2)
            self.dwts: list[Any] = []
        else:
            self.reduce = self._named(layers.Conv2D, "reduce", width // 4, 1)
            bank = {"haar": (DWT2D,)}.get(transform, (FilterBank2D, transform))
            self.dwts = [self._named(bank[0], f"dwt{level}", *bank[1:]) for level in range(1, levels + 1)]
        self.low_passes = [self._named(LowPass2D, f"low_pass{level}") for level in range(1, levels)]
        self.residual = self._named(layers.Add, "residual")
        self.pad: Any = None
        self.crop: Any = None
        self.built_size: tuple[int | None, ...] = (None, None)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check_input(input_shape)
        batch, height, width, channels = input_shape
        self.built_size = (height, width)
        if height is not None and width is not None:
            extra = ((0, -height % 2**self.levels), (0, -width % 2**self.levels))
            if extra != ((0, 0), (0, 0)):
                last = {"data_format": "channels_last", "dtype": self.dtype_policy}
                self.pad = layers.ZeroPadding2D(extra, name=f"{self.name}_pad", **last)
                self.crop = layers.Cropping2D(extra, name=f"{self.name}_crop", **last)
                height, width = height + extra[0][1], width + extra[1][1]
        else:
            height = width = None  # both are padded at run time

        self.reduce.build((batch, height, width, channels))
        half: Any = (batch, height and height // 2, width and width // 2)
        for level in range(1, self.levels + 1):
            source: Any = (batch, half[1] and 2 * half[1], half[2] and 2 * half[2], self.width // 4)
            if self.dwts:
                self.dwts[level - 1].build(source)
            if level < self.levels:
                self.low_passes[level - 1].build(source)
            self._build_mix(level, half)
            half = (batch, half[1] and half[1] // 2, half[2] and half[2] // 2)

    def _build_mix(self, level: int, half: tuple[int | None, ...]) -> None:
        r"""Build the layers of ``_mix`` at a level, whose bands are (\*half, width)."""
        raise NotImplementedError

    def _mix(self, x: Any, training: bool | None, contract: bool) -> Any:
        """Return what the last norm normalizes; the sides of ``x`` are multiples of ``2**levels``.

        ``contract``: fold layers to save memory; otherwise call the sublayers one by one.
        """
        raise NotImplementedError

    def last_norm(self) -> FusedBatchNormalization:
        """The norm of the term that is added to the input."""
        raise NotImplementedError

    recomputes = RECOMPUTE

    def _compute(self, x: Any, training: bool | None) -> Any:
        if None in self.built_size or tuple(x.shape[1:3]) != tuple(self.built_size):
            y = self._mix(pad_to_multiple(x, 2**self.levels), training, contract=True)
            return x + crop_to(self.last_norm()(y, training=training), x)
        return self._mix_static(x, training, contract=True)

    def inline(self, x: Any, training: bool | None = None) -> Any:
        """``call`` as a graph of the sublayers: the transform and its 1x1 convolution are separate nodes.

        Args:
            x: (B, H, W, C) tensor or KerasTensor with known H and W.
            training: As in ``call``.

        Returns:
            The same values as ``call`` (up to rounding), same shape and dtype.
        """
        return self._mix_static(x, training, contract=False)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "levels": self.levels, "expansion": self.expansion, "ff_dim": self.ff_dim}

    def _mix_static(self, x: Any, training: bool | None, contract: bool) -> Any:
        y = self._mix(x if self.pad is None else self.pad(x), training, contract)
        if self.pad is None and self._recomputes_elementwise(training, contract):
            return self.last_norm().add_to(x, y)
        y = self.last_norm()(y, training=training)
        return self.residual([x, y if self.crop is None else self.crop(y)])

    def _recomputes_elementwise(self, training: bool | None, contract: bool) -> bool:
        return bool(training) and contract and self.recompute == "elementwise"

    def _approximations(self, x: Any, contract: bool) -> list[Any]:
        """Return the input of each level's transform: the reduced input, then LL of each level except the last."""
        found = [self.reduce(x)]  # (B, H / 2**k, W / 2**k, C/4)
        for low_pass in self.low_passes:
            found.append(_haar_low_pass(found[-1]) if contract else low_pass(found[-1]))
        return found

    def _expand(self, conv: Any, level: int, x: Any, joined: Any, join: Any, contract: bool) -> Any:
        """Apply the 1x1 convolution ``conv`` to ``x``'s bands and, if not None, ``joined`` after them."""
        if not self.dwts:
            return conv(x)
        if not contract or self.transform == "dct":  # DCT windows overlap: folding would cost more
            bands = self.dwts[level - 1](x)
            return conv(bands if joined is None else join([bands, joined]))
        kernel = ops.convert_to_tensor(conv.kernel, dtype=self.compute_dtype)
        bias = ops.convert_to_tensor(conv.bias, dtype=self.compute_dtype)
        bank = None if self.transform == "haar" else ops.cast(self.dwts[level - 1].filters, self.compute_dtype)
        y = ops.conv(x, fold_dwt(kernel[:, :, : self.width], bank), strides=2, data_format="channels_last")
        if joined is not None:
            y = y + ops.conv(joined, kernel[:, :, self.width :], data_format="channels_last")
        return y + bias

    def _feed_forward(self, x: Any, parts: Sequence[Any], training: bool | None, contract: bool) -> Any:
        """Apply activation, dropout and the first convolution after them: the first three of ``parts``, and the rest.

        The convolution is in the part that is computed again because its gradient needs the activations, which are
        kept otherwise; its own output is not computed again, because no gradient needs it.
        """
        activation, dropout, *rest = parts
        end = 1 + next(place for place, layer in enumerate(rest) if isinstance(layer, layers.Conv2D))

        def activated(x: Any) -> Any:
            return self._run(rest[:end], self._activate(x, activation, dropout, training, contract), training)

        if self._recomputes_elementwise(training, contract):
            x = recomputed(activated, [dropout, *rest[:end]], x)
        else:
            x = activated(x)
        return self._run(rest[end:], x, training)

    def _activate(self, x: Any, activation: Any, dropout: Any, training: bool | None, contract: bool) -> Any:
        """Apply the activation and dropout."""
        if not (contract and self.activation == "gelu"):
            return dropout(activation(x), training=training)
        # Channels are a multiple of 4, so random bytes always fit.
        keep = dropout.draw(x) if training and self.dropout > 0 else None
        return gelu_dropout(x, keep, dropout.scale if keep is not None else 1.0)


def _haar_low_pass(x: Any) -> Any:
    """Return Haar's LL as twice the 2x2 mean, whose gradient is much cheaper on CPUs than a depthwise convolution's."""
    return 2.0 * ops.average_pool(x, 2, strides=2, data_format="channels_last")


def pad_to_multiple(x: Any, multiple: int) -> Any:
    """Pad (B, H, W, C) with zeros at the bottom and right to multiples; the sides may be known only at run time."""
    padded = ops.pad(x, [[0, 0], [0, multiple - 1], [0, multiple - 1], [0, 0]])
    height, width = ((ops.shape(x)[axis] + multiple - 1) // multiple * multiple for axis in (1, 2))
    return padded[:, :height, :width, :]


def crop_to(y: Any, x: Any) -> Any:
    """Crop (B, H', W', C) at the bottom and right to the sides of ``x``."""
    return y[:, : ops.shape(x)[1], : ops.shape(x)[2], :]


@keras.saving.register_keras_serializable(package="wavemix_tf")
class WaveMixBlock(_WaveletBlock):
    """WaveMix block: tokens mixed by a multi-level 2D Haar transform, including the residual.

    WaveMix (Jeevan, Viswanathan, Anandu & Sethi, arXiv 2205.14375, section 3.2); with ``levels=1`` it is the
    WaveMix-Lite block. Width C, expansion m, feed-forward width F::

        x -- 1x1 conv C -> C/4 -- DWT --> bands_1 (C, half size)            bands_k, k = 1 .. levels
                                   `LL -- DWT --> bands_2 (C, quarter) ...
        up_k = upsample(1x1 conv -> F(dropout(activation(1x1 conv -> m*C([bands_k | up_{k+1}])))), batch norm
        y = x + up_1            up_1 has C channels, deeper levels C/2; the deepest level has no up_{k+1}

    The transform and the following 1x1 convolution are both linear, so ``call`` folds their weights and runs one 2x2
    convolution of stride 2 instead. ``inline`` is the same computation with the sublayers, for graph passes
    (quantization, export).

    Args:
        width: C, channels of input and output; a multiple of 4.
        levels: Levels of the transform, >= 1. The published networks use 1 to 4.
        expansion: m, hidden channels of each feed-forward as a multiple of ``width``.
        ff_dim: F, channels between the feed-forward and the upsampling; None: ``width``, or no second 1x1 convolution
            with "pixel_shuffle_conv".
        dropout: Rate in [0, 1) after each activation.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu".
        upsample: "deconv" (transposed 4x4 convolution of stride 2, as published), "bilinear" or "nearest" (no weights;
            the published small networks use bilinear), "pixel_shuffle" (1x1 convolution to 4x the channels, then
            depth to space) or "pixel_shuffle_conv" (depth to space of the m*C, or F, channels, then a 3x3
            convolution: the third published version, and with ``ff_dim`` that of WaveMixSR-V2, arXiv 2409.10582).
            With "bilinear" and "nearest" the feed-forward ends in the upsampled width instead of ``ff_dim``.
        transform: "haar"; or, with one level, an ablation: "dct", "random" or "learned" (see ``FilterBank2D``), or
            "none", where the preceding 1x1 convolution keeps C channels and has stride 2.

    Input shape:
        (B, H, W, C) floating point. A side not divisible by ``2**levels`` is padded with zeros at the bottom or right
        at the entry and cropped at the exit. H and W may be unknown.

    Output shape:
        As the input.

    Raises:
        ValueError: an option out of its range, or input whose channels are not ``width``.

    Example:
    >>> y = wm.WaveMixBlock(64, levels=3)(x)          # (B, 32, 32, 64) -> (B, 32, 32, 64)
    """

    def __init__(
        self,
        width: int,
        levels: int = 1,
        expansion: int = 2,
        ff_dim: int | None = None,
        dropout: float = 0.0,
        activation: str = "gelu",
        upsample: str = "deconv",
        transform: str = "haar",
        **kwargs: Any,
    ) -> None:
        super().__init__(width, levels, expansion, ff_dim, dropout, activation, transform, **kwargs)
        self.upsample = check_option("upsample", upsample, UPSAMPLERS)

        named = self._named
        self.joins = [named(layers.Concatenate, f"concat{level}") for level in range(1, levels)]
        self.feed_forwards = []
        for level in range(1, levels + 1):
            out_dim = width if level == 1 else width // 2
            ff_out: int | None = ff_dim or width
            if upsample == "deconv":
                up = [named(layers.Conv2DTranspose, f"upsample{level}", out_dim, 4, strides=2, padding="same")]
            elif upsample == "pixel_shuffle":
                up = [
                    named(layers.Conv2D, f"upsample{level}", 4 * out_dim, 1),
                    named(PixelShuffle, f"shuffle{level}", 2),
                ]
            elif upsample == "pixel_shuffle_conv":
                if (ff_dim or 0) % 4:
                    raise ValueError(
                        f"ff_dim must be a multiple of 4 with upsample={upsample!r}. Received: ff_dim={ff_dim}"
                    )
                ff_out = ff_dim
                up = [
                    named(PixelShuffle, f"shuffle{level}", 2),
                    named(layers.Conv2D, f"upsample{level}", out_dim, 3, padding="same"),
                ]
            else:
                ff_out = out_dim
                up = [named(layers.UpSampling2D, f"upsample{level}", 2, interpolation=upsample)]
            self.feed_forwards.append(
                [
                    named(layers.Conv2D, f"expand{level}", expansion * width, 1),
                    named(layers.Activation, f"activation{level}", ACTIVATIONS[activation]),
                    named(ByteDropout, f"dropout{level}", dropout),
                    *([] if ff_out is None else [named(layers.Conv2D, f"project{level}", ff_out, 1)]),
                    *up,
                    named(FusedBatchNormalization, f"norm{level}", **BATCH_NORM),
                ]
            )

    def _build_mix(self, level: int, half: tuple[int | None, ...]) -> None:
        shape: Any = (*half, self.width + (self.width // 2 if level < self.levels else 0))
        for layer in self.feed_forwards[level - 1]:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def channel_parts(self) -> dict[str, ChannelParts]:
        """As in ``ResidualBlock``: the four bands with the next level's output, and the pixels of a shuffle."""
        bands, above = (self.width // 4,) * 4, (self.width // 2,)
        found = {}
        for level, parts in enumerate(self.feed_forwards, 1):
            found[parts[0].name] = ChannelParts(read=bands if level == self.levels else bands + above)
            if self.upsample == "pixel_shuffle":
                found[f"{self.name}_upsample{level}"] = ChannelParts(written=(self.width // min(level, 2),) * 4)
        return found

    def _mix(self, x: Any, training: bool | None, contract: bool) -> Any:
        approximations = self._approximations(x, contract)
        up = None
        for level in range(self.levels, 0, -1):
            conv, *rest, norm = self.feed_forwards[level - 1]
            join = self.joins[level - 1] if level < self.levels else None
            up = self._expand(conv, level, approximations[level - 1], up, join, contract)  # (B, H/2**k, W/2**k, m*C)
            up = self._feed_forward(up, rest, training, contract)
            if level > 1:
                up = norm(up, training=training)
        return up

    def last_norm(self) -> FusedBatchNormalization:
        return self.feed_forwards[0][-1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "upsample": self.upsample, "transform": self.transform}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class WaveMixV1Block(_WaveletBlock):
    """The first paper's block: the levels of the transform are parallel and share one feed-forward.

    WaveMix (Jeevan & Sethi, arXiv 2203.03689, section 3.2). Width C, expansion m, feed-forward width F, L levels::

        x -- 1x1 conv C -> C/4 -- DWT --> bands_1 (C, half size)            bands_k, k = 1 .. L
                                   `LL -- DWT --> bands_2 (C, quarter) ...
        up_k = transposed conv F -> C/L of stride 2**k(dropout(1x1 conv -> F(dropout(activation(1x1 conv -> m*C)))))
        y = x + batch norm(activation(depthwise 5x5 conv([up_1 | ... | up_L])))

    The two 1x1 convolutions are the same for every level. A transposed convolution's kernel is two pixels wider than
    its stride: 4, 6, 10, 18. As in ``WaveMixBlock``, ``call`` folds the transform into the following 1x1 convolution,
    and ``inline`` is the same computation with the sublayers.

    Args:
        width: C, channels of input and output; a multiple of 4 and of ``levels``.
        levels: L, levels of the transform; the published networks use 4.
        expansion: m, hidden channels of the feed-forward as a multiple of ``width``.
        ff_dim: F, channels between the feed-forward and the transposed convolutions; None: ``width``.
        dropout: Rate in [0, 1) after each 1x1 convolution of the feed-forward.
        activation: "gelu" (exact), "relu", "relu6", "hard_swish" or "quick_gelu".

    Input shape:
        (B, H, W, C) floating point. A side not divisible by ``2**levels`` is padded with zeros at the bottom and right
        at the entry and cropped at the exit. H and W may be unknown.

    Output shape:
        As the input.

    Raises:
        ValueError: an option out of its range, or input whose channels are not ``width``.

    Example:
    >>> y = wm.WaveMixV1Block(64)(x)                  # (B, 32, 32, 64) -> (B, 32, 32, 64)
    """

    def __init__(
        self,
        width: int,
        levels: int = 4,
        expansion: int = 2,
        ff_dim: int | None = None,
        dropout: float = 0.0,
        activation: str = "gelu",
        **kwargs: Any,
    ) -> None:
        super().__init__(width, levels, expansion, ff_dim, dropout, activation, **kwargs)
        if width % levels:
            raise ValueError(f"width must be a multiple of levels. Received: width={width}, levels={levels}")
        named = self._named
        self.feed_forward = [
            named(layers.Conv2D, "expand", expansion * width, 1),
            named(layers.Activation, "activation", ACTIVATIONS[activation]),
            named(ByteDropout, "dropout", dropout),
            named(layers.Conv2D, "project", ff_dim or width, 1),
            named(ByteDropout, "project_dropout", dropout),
        ]
        self.upsamples = [
            named(
                layers.Conv2DTranspose,
                f"upsample{level}",
                width // levels,
                2**level + 2,
                strides=2**level,
                padding="same",
            )
            for level in range(1, levels + 1)
        ]
        self.join = named(layers.Concatenate, "concat") if levels > 1 else None
        self.depthwise = named(layers.DepthwiseConv2D, "depthwise", 5, padding="same")
        self.mixed_activation = named(layers.Activation, "depthwise_activation", ACTIVATIONS[activation])
        self.norm = named(FusedBatchNormalization, "norm", **BATCH_NORM)

    def _build_mix(self, level: int, half: tuple[int | None, ...]) -> None:
        shape: Any = (*half, self.width)
        for layer in (*self.feed_forward, self.upsamples[level - 1]):
            if not layer.built:
                layer.build(shape)
            shape = layer.compute_output_shape(shape)
        if level == 1:
            for layer in (self.depthwise, self.mixed_activation, self.norm):
                layer.build((*shape[:3], self.width))

    def _mix(self, x: Any, training: bool | None, contract: bool) -> Any:
        conv, *feed_forward = self.feed_forward
        parts = []
        for level, source in enumerate(self._approximations(x, contract), 1):
            y = self._expand(conv, level, source, None, None, contract)  # (B, H / 2**k, W / 2**k, m*C)
            y = self._feed_forward(y, feed_forward, training, contract)
            parts.append(self.upsamples[level - 1](y))  # (B, H, W, C/L)
        y = parts[0] if self.join is None else self.join(parts)
        return self.mixed_activation(self.depthwise(y))

    def last_norm(self) -> FusedBatchNormalization:
        return self.norm
