"""WaveMix networks: a convolutional stem, a stack of blocks, a head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from ..checks import check_option, check_positive
from ..layers.imaging import BicubicUpsampling2D, RGBToYCbCr, YCbCrToRGB
from ..layers.wavemix_blocks import UPSAMPLERS, WaveMixBlock, WaveMixV1Block, crop_to, pad_to_multiple
from .base import (
    Network,
    check_image_shape,
    conv3x3,
    convolutional_stem,
    exact_policy,
    mean_head,
    standardised_input,
    stem_reduction,
)

BLOCKS = ("wavemix", "v1")
SR_VARIANTS = ("sisr", "wavemixsr", "wavemixsr_v2")


@keras.saving.register_keras_serializable(package="wavemix_tf")
class WaveMixClassifier(Network):
    """WaveMix image classifier: stem, ``depth`` blocks of one resolution, global mean, linear head.

    WaveMix (arXiv 2205.14375, figure 2). With the weights of the official PyTorch network the logits are the same;
    ``build_model`` has the published sizes.

    Args:
        num_classes: Number of classes.
        image_shape: (height, width, channels) of the input in pixels; height and width may be None.
        width: C, channels of every block; a multiple of 4.
        depth: Number of blocks.
        levels: Levels of the wavelet transform in each block.
        ff_dim: Feed-forward output channels; None: see the block.
        expansion: Hidden channels of the feed-forward as a multiple of ``width``.
        dropout: Rate in each feed-forward.
        activation: "gelu", "relu", "relu6", "hard_swish" or "quick_gelu"; in the blocks and in the patchify stem.
        upsample: "deconv", "bilinear", "nearest", "pixel_shuffle" or "pixel_shuffle_conv", see ``WaveMixBlock``.
        stem: "strided": 3x3 convolution to C/2, 3x3 to C, both of stride ``stride``; or "patchify": 3x3 to C/4, 3x3 to
            C/2, ``patch_size`` x ``patch_size`` of that stride to C, activation, batch norm.
        stride: Stride in pixels of each convolution of the strided stem.
        patch_size: Side in pixels of a patch of the patchify stem.
        normalize: None, or (mean, std), each one value per channel in the input's [0, 1] units: the network then
            standardizes its input.
        dtype: dtype policy of the layers, for example "mixed_bfloat16"; None: Keras's global policy. Under a mixed
            policy the head computes in float32.
        block: "wavemix" (``WaveMixBlock``) or "v1" (``WaveMixV1Block``, which upsamples only by "deconv").

    Input shape:
        (B, H, W, channels) floating point in [0, 1] (pixel / 255), RGB.

    Output shape:
        (B, num_classes) logits.

    Raises:
        ValueError: An option out of its range.

    Example:
    >>> model = wm.WaveMixClassifier(num_classes=10, image_shape=(32, 32, 3), width=64, depth=6, dropout=0.1)
    """

    def __init__(
        self,
        num_classes: int = 10,
        image_shape: Sequence[int | None] = (32, 32, 3),
        width: int = 144,
        depth: int = 7,
        levels: int = 1,
        ff_dim: int | None = None,
        expansion: int = 2,
        dropout: float = 0.5,
        activation: str = "gelu",
        upsample: str = "deconv",
        stem: str = "strided",
        stride: int = 1,
        patch_size: int = 4,
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        dtype: Any = None,
        block: str = "wavemix",
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        policy = self._policy(arguments)
        check_positive("num_classes", num_classes)
        check_image_shape(image_shape, stem_reduction(stem, stride, patch_size))

        inputs, x = standardised_input(image_shape, normalize, policy)
        x = convolutional_stem(x, stem, width, stride, patch_size, activation, policy)
        x = _blocks(x, arguments, policy)
        self._init_functional(inputs, mean_head(x, num_classes, policy), arguments, policy)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class WaveMixSegmenter(Network):
    """WaveMix for semantic segmentation: stem, ``depth`` blocks, transposed convolutions to logits of every pixel.

    WaveMix (arXiv 2205.14375, section 4.3): 4x4 transposed convolutions of stride 2 double the resolution, followed by
    a 1x1 convolution to the classes, without activations. With the weights of the official PyTorch network, and sides
    that its stem divides, the logits are the same.

    Args:
        num_classes: Number of classes.
        image_shape: (height, width, channels) of the input in pixels; height and width may be None.
        width: C, channels of every block; a multiple of 4.
        depth: Number of blocks.
        levels: Levels of the wavelet transform in each block.
        ff_dim: Feed-forward output channels; None: see the block.
        expansion: Hidden channels of the feed-forward as a multiple of ``width``.
        dropout: Rate in each feed-forward.
        activation: "gelu", "relu", "relu6", "hard_swish" or "quick_gelu"; in the blocks and in the patchify stem.
        upsample: "deconv", "bilinear", "nearest", "pixel_shuffle" or "pixel_shuffle_conv", see ``WaveMixBlock``; the
            head keeps its transposed convolutions.
        stem: "strided" or "patchify", see ``WaveMixClassifier``. It reduces the sides by ``stride**2`` or by
            ``patch_size``, which must be a power of two.
        stride: Stride in pixels of each convolution of the strided stem.
        patch_size: Side in pixels of a patch of the patchify stem.
        head_dims: Channels of the head's transposed convolutions, one per halving in the stem; None: C/2, C/4, ... The
            Cityscapes network of width 192 has (128, 64).
        normalize: None, or (mean, std), each one value per channel in the input's [0, 1] units: the network then
            standardizes its input.
        dtype: dtype policy of the layers, for example "mixed_bfloat16"; None: Keras's global policy. Under a mixed
            policy the logits are computed in float32.

    Input shape:
        (B, H, W, channels) floating point in [0, 1] (pixel / 255), RGB. A side that the stem's reduction does not
        divide is padded with zeros at the bottom or right, after ``normalize``, and the logits are cropped.

    Output shape:
        (B, H, W, num_classes) logits.

    Raises:
        ValueError: An option out of its range; a stem whose reduction is not ``2**len(head_dims)``.

    Example:
    >>> model = wm.WaveMixSegmenter(num_classes=21, image_shape=(128, 128, 3), width=64, depth=4, levels=3)
    """

    def __init__(
        self,
        num_classes: int = 20,
        image_shape: Sequence[int | None] = (256, 256, 3),
        width: int = 256,
        depth: int = 16,
        levels: int = 4,
        ff_dim: int | None = None,
        expansion: int = 2,
        dropout: float = 0.0,
        activation: str = "gelu",
        upsample: str = "deconv",
        stem: str = "strided",
        stride: int = 2,
        patch_size: int = 4,
        head_dims: Sequence[int] | None = None,
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        policy = self._policy(arguments)
        check_positive("num_classes", num_classes)
        reduction = stem_reduction(stem, stride, patch_size)
        check_image_shape(image_shape, 1)
        doublings = _doublings(reduction)
        if doublings is None or (head_dims is not None and len(head_dims) != doublings):
            wanted = "a power of two" if head_dims is None else "2**len(head_dims)"
            raise ValueError(
                "The stem's reduction (stride**2 of a strided stem, patch_size of a patchify stem) must be "
                f"{wanted}. Received: reduction={reduction}, head_dims={head_dims}"
            )
        dims = [width // 2**index for index in range(1, doublings + 1)] if head_dims is None else head_dims

        inputs, x = standardised_input(image_shape, normalize, policy)
        height, breadth = image_shape[:2]
        unknown = height is None or breadth is None
        extra = None if unknown else ((0, -height % reduction), (0, -breadth % reduction))  # type: ignore[operator]
        padded = reduction > 1 and extra != ((0, 0), (0, 0))
        if padded and unknown:
            x = PadToMultiple2D(reduction, name="pad", dtype=policy)(x)
        elif padded:
            x = layers.ZeroPadding2D(extra, data_format="channels_last", name="pad", dtype=policy)(x)
        x = convolutional_stem(x, stem, width, stride, patch_size, activation, policy)
        x = _blocks(x, arguments, policy)
        for index, dim in enumerate(dims, 1):
            x = _deconv(x, check_positive("head_dims", dim), f"head_deconv{index}", policy)
        exact = exact_policy(policy)
        x = layers.Conv2D(num_classes, 1, data_format="channels_last", name="head", dtype=exact)(x)
        if padded and unknown:
            x = CropTo2D(name="crop", dtype=exact)([x, inputs])
        elif padded:
            x = layers.Cropping2D(extra, data_format="channels_last", name="crop", dtype=exact)(x)
        self._init_functional(inputs, x, arguments, policy)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class WaveMixSuperResolver(Network):
    """WaveMix for single-image super-resolution, RGB to RGB.

    Three published networks:

    - "sisr" (the official package's): two 3x3 convolutions, ``depth`` blocks at the input's resolution, a 4x4
      transposed convolution of stride 2 to C/2 channels, a 1x1 convolution to RGB. The published network doubles; for
      ``scale`` 4, 8, ... the transposed convolution is repeated, each time to half the channels.
    - "wavemixsr" (Jeevan, Srinidhi, Prathiba & Sethi, arXiv 2307.00430, figure 1): the image is split into luma and
      chroma. The luma is upsampled bicubically by ``scale``, then two 3x3 convolutions, ``depth`` blocks, a 3x3
      convolution to C/2 and a 1x1 convolution compute the new luma; the chroma is upsampled bicubically.
    - "wavemixsr_v2" (Jeevan, Nixon & Sethi, arXiv 2409.10582): stages of "wavemixsr" for scale 2 in sequence, whose
      blocks upsample by a pixel shuffle and a 3x3 convolution. ``depth`` counts the blocks of each stage.

    With the weights of the official PyTorch networks the outputs are the same, except that the official ones of the
    latter two are YCbCr. The luma before the conversion to RGB is the output of the layer "luma", or of "stage{n}_luma"
    with "wavemixsr_v2".

    Args:
        variant: "sisr", "wavemixsr" or "wavemixsr_v2".
        scale: Upsampling factor, at least 2; except for "wavemixsr" a power of two.
        image_shape: (height, width, 3) of the small image in pixels; height and width may be None.
        width: C, channels of every block; a multiple of 4.
        depth: Number of blocks.
        levels: Levels of the wavelet transform in each block.
        ff_dim: Feed-forward output channels; None: as published, 4C for "wavemixsr_v2" and C for the others.
        expansion: Hidden channels of the feed-forward as a multiple of ``width``; None: as published, 2 for "sisr" and
            1 for the others.
        dropout: Rate in each feed-forward; None: as published, 0 for "sisr" and 0.3 for the others.
        activation: "gelu", "relu", "relu6", "hard_swish" or "quick_gelu".
        upsample: Upsampling in the blocks, see ``WaveMixBlock``; None: as published, "pixel_shuffle_conv" for
            "wavemixsr_v2" and "deconv" for the others.
        dtype: dtype policy of the layers, for example "mixed_bfloat16"; None: Keras's global policy. Under a mixed
            policy color conversion, bicubic upsampling and the last convolution compute in float32.

    Input shape:
        (B, H, W, 3) floating point in [0, 1] (pixel / 255), RGB.

    Output shape:
        (B, scale * H, scale * W, 3) in the input's units, not clipped.

    Raises:
        ValueError: An option out of its range.

    Example:
    >>> model = wm.WaveMixSuperResolver("wavemixsr", scale=2, image_shape=(64, 64, 3), width=32, depth=2)
    """

    def __init__(
        self,
        variant: str = "sisr",
        scale: int = 2,
        image_shape: Sequence[int | None] = (None, None, 3),
        width: int = 144,
        depth: int = 4,
        levels: int = 1,
        ff_dim: int | None = None,
        expansion: int | None = None,
        dropout: float | None = None,
        activation: str = "gelu",
        upsample: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        policy = self._policy(arguments)
        check_option("variant", variant, SR_VARIANTS)
        check_positive("width", width)
        check_image_shape(image_shape, 1)
        if image_shape[2] != 3:
            raise ValueError(f"image_shape must have 3 channels, RGB. Received: image_shape={tuple(image_shape)}")
        doublings = _doublings(check_positive("scale", scale))
        if scale < 2 or (doublings is None and variant != "wavemixsr"):
            rule = "at least 2" if variant == "wavemixsr" else "a power of two of at least 2"
            raise ValueError(f"scale must be {rule} with variant={variant!r}. Received: scale={scale}")
        published: dict[str, Any] = {
            "ff_dim": 4 * width if variant == "wavemixsr_v2" else None,
            "expansion": 2 if variant == "sisr" else 1,
            "dropout": 0.0 if variant == "sisr" else 0.3,
            "upsample": "pixel_shuffle_conv" if variant == "wavemixsr_v2" else "deconv",
        }
        chosen = {**arguments, **{name: value for name, value in published.items() if arguments[name] is None}}

        inputs = keras.Input(tuple(image_shape), name="image")
        if variant == "sisr":
            outputs = convolutional_stem(inputs, "strided", width, 1, 1, activation, policy)
            outputs = _blocks(outputs, chosen, policy)
            for index in range(1, (doublings or 0) + 1):
                outputs = _deconv(outputs, width // 2**index, f"head_deconv{index}", policy)
            outputs = layers.Conv2D(3, 1, data_format="channels_last", name="head", dtype=exact_policy(policy))(outputs)
        else:
            factors = [scale] if variant == "wavemixsr" else [2] * (doublings or 0)
            outputs = _luma_and_chroma(inputs, factors, chosen, policy, staged=variant == "wavemixsr_v2")
        self._init_functional(inputs, outputs, arguments, policy)


def _luma_and_chroma(inputs: Any, factors: Sequence[int], arguments: dict[str, Any], policy: Any, staged: bool) -> Any:
    """Upsample the luma with one network per factor, and the chroma only bicubically."""
    exact = exact_policy(policy)
    luma = RGBToYCbCr((0, 1), name="rgb_to_luma", dtype=exact)(inputs)
    chroma = RGBToYCbCr((1, 3), name="rgb_to_chroma", dtype=exact)(inputs)
    for number, factor in enumerate(factors, 1):
        prefix = f"stage{number}_" if staged else ""
        width = arguments["width"]
        luma = BicubicUpsampling2D(factor, name=f"{prefix}luma_upsample", dtype=exact)(luma)
        luma = convolutional_stem(luma, "strided", width, 1, 1, arguments["activation"], policy, prefix)
        luma = _blocks(luma, arguments, policy, prefix)
        luma = conv3x3(luma, width // 2, 1, f"{prefix}head_conv", policy)
        luma = layers.Conv2D(1, 1, data_format="channels_last", name=f"{prefix}luma", dtype=exact)(luma)
        chroma = BicubicUpsampling2D(factor, name=f"{prefix}chroma_upsample", dtype=exact)(chroma)
    ycbcr = layers.Concatenate(name="ycbcr", dtype=exact)([luma, chroma])
    return YCbCrToRGB(name="rgb", dtype=exact)(ycbcr)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class PadToMultiple2D(layers.Layer):
    """Pad sides known only at run time to the next multiple with zeros at the bottom and right.

    Args:
        multiple: Divisor of the padded sides.

    Input shape:
        (B, H, W, C).

    Output shape:
        (B, H', W', C).

    Raises:
        ValueError: ``multiple`` < 1.
    """

    def __init__(self, multiple: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multiple = check_positive("multiple", multiple)

    def call(self, x: Any) -> Any:
        return pad_to_multiple(x, self.multiple)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        sides = [None if side is None else side + -side % self.multiple for side in (height, width)]
        return (batch, *sides, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class CropTo2D(layers.Layer):
    """Crop the first of two images at the bottom and right to the sides of the second.

    Input shape:
        A list of (B, H', W', C) and (B, H, W, anything), H' >= H and W' >= W.

    Output shape:
        (B, H, W, C).
    """

    def call(self, images: Any) -> Any:
        return crop_to(*images)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        image, like = input_shape
        return (image[0], *like[1:3], image[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config()}  # Keras refuses a policy object as dtype otherwise


def _doublings(factor: int) -> int | None:
    """Return n with ``factor == 2**n``; None if there is none."""
    return int(math.log2(factor)) if factor & (factor - 1) == 0 else None


def _blocks(x: Any, arguments: dict[str, Any], policy: Any, prefix: str = "") -> Any:
    """Append ``depth`` blocks with the network's arguments of the same names."""
    upsample = check_option("upsample", arguments["upsample"], UPSAMPLERS)
    block = check_option("block", arguments.get("block", "wavemix"), BLOCKS)
    names = ("width", "levels", "expansion", "ff_dim", "dropout", "activation")
    options = {name: arguments[name] for name in names}
    if block == "wavemix":
        options["upsample"] = upsample
    elif upsample != "deconv":
        raise ValueError(f"upsample must be 'deconv' with block={block!r}. Received: upsample={upsample!r}")
    cls = {"wavemix": WaveMixBlock, "v1": WaveMixV1Block}[block]
    for index in range(1, check_positive("depth", arguments["depth"]) + 1):
        x = cls(**options, name=f"{prefix}block{index}", dtype=policy)(x)
    return x


def _deconv(x: Any, filters: int, name: str, policy: Any) -> Any:
    """Append a transposed 4x4 convolution of stride 2, which doubles the sides."""
    last = {"data_format": "channels_last", "name": name, "dtype": policy}
    return layers.Conv2DTranspose(filters, 4, strides=2, padding="same", **last)(x)
