"""Whole networks: a convolutional stem, a stack of blocks, a head."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from .blocks import ACTIVATIONS, BATCH_NORM, UPSAMPLERS, WaveMixBlock
from .checks import check_option, check_positive
from .normalization import FusedBatchNormalization

STEMS = ("strided", "patchify")


@keras.saving.register_keras_serializable(package="wavemix_tf")
class WaveMixClassifier(keras.Model):
    """WaveMix image classifier: stem, ``depth`` blocks of one resolution, global mean, linear head.

    WaveMix (arXiv 2205.14375, figure 2). With the weights of the official PyTorch network the logits are the same;
    ``build_model`` knows the published sizes.

    Args:
        num_classes: Number of classes.
        image_shape: (height, width, channels) of the input in pixels; height and width may be None.
        width: C, channels of every block; a multiple of 4.
        depth: Number of blocks.
        levels: Levels of the wavelet transform in each block.
        ff_dim: Feed-forward output channels; None: ``width``.
        expansion: Hidden channels of the feed-forward as a multiple of ``width``.
        dropout: Rate in each feed-forward.
        activation: "gelu", "relu6", "hard_swish" or "quick_gelu"; in the blocks and in the patchify stem.
        upsample: "deconv", "bilinear", "nearest" or "pixel_shuffle", see ``WaveMixBlock``.
        stem: "strided": 3x3 convolution to C/2, 3x3 to C, both of stride ``stride``; or "patchify": 3x3 to C/4, 3x3 to
            C/2, ``patch_size`` x ``patch_size`` of that stride to C, activation, batch norm.
        stride: Stride in pixels of each convolution of the strided stem.
        patch_size: Side in pixels of a patch of the patchify stem.
        normalize: None, or (mean, std), each one value per channel in the input's [0, 1] units: the network then
            standardises its input itself.
        dtype: dtype policy of the layers, for example "mixed_bfloat16"; None: Keras's global one. Under a mixed policy
            the head computes in float32.

    Input shape:
        (B, H, W, channels) floating point in [0, 1] (pixel / 255), RGB.

    Output shape:
        (B, num_classes) logits.

    Raises:
        ValueError: an option out of its range.

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
        **kwargs: Any,
    ) -> None:
        unknown = sorted(set(kwargs) - {"name", "trainable"})
        if unknown:
            known = ", ".join(list(inspect.signature(WaveMixClassifier).parameters)[:-1])
            raise ValueError(f"The arguments are {known}. Received: {', '.join(unknown)}")
        check_positive("num_classes", num_classes)
        check_positive("depth", depth)
        check_positive("stride", stride)
        check_positive("patch_size", patch_size)
        check_option("stem", stem, STEMS)
        check_option("activation", activation, tuple(ACTIVATIONS))
        check_option("upsample", upsample, UPSAMPLERS)
        _check_image_shape(image_shape, (stride**2 if stem == "strided" else patch_size))
        # Settled here, so that a saved file does not depend on the global policy of whoever loads it.
        policy = keras.dtype_policies.get(dtype if dtype is not None else keras.config.dtype_policy())

        inputs = keras.Input(tuple(image_shape), name="image")
        x = inputs
        if normalize is not None:
            x = _normalization(normalize, image_shape[-1], policy)(x)
        if stem == "strided":
            x = _conv3x3(x, width // 2, stride, "stem_conv1", policy)
            x = _conv3x3(x, width, stride, "stem_conv2", policy)
        else:
            x = _conv3x3(x, width // 4, 1, "stem_conv1", policy)
            x = _conv3x3(x, width // 2, 1, "stem_conv2", policy)
            x = layers.Conv2D(
                width, patch_size, strides=patch_size, data_format="channels_last", name="stem_conv3", dtype=policy
            )(x)
            x = layers.Activation(ACTIVATIONS[activation], name="stem_activation", dtype=policy)(x)
            x = FusedBatchNormalization(**BATCH_NORM, name="stem_norm", dtype=policy)(x)
        for index in range(1, depth + 1):
            x = WaveMixBlock(
                width,
                levels=levels,
                expansion=expansion,
                ff_dim=ff_dim,
                dropout=dropout,
                activation=activation,
                upsample=upsample,
                name=f"block{index}",
                dtype=policy,
            )(x)
        x = layers.GlobalAveragePooling2D(data_format="channels_last", name="pool", dtype=policy)(x)
        # A softmax over half-precision logits loses small probabilities.
        mixed = policy.compute_dtype != policy.variable_dtype
        logits = layers.Dense(num_classes, name="head", dtype="float32" if mixed else policy)(x)
        super().__init__(inputs=inputs, outputs=logits, **kwargs)

        self.num_classes = num_classes
        self.image_shape = tuple(image_shape)
        self.width = width
        self.depth = depth
        self.levels = levels
        self.ff_dim = ff_dim
        self.expansion = expansion
        self.dropout = dropout
        self.activation = activation
        self.upsample = upsample
        self.stem = stem
        self.stride = stride
        self.patch_size = patch_size
        self.normalize = normalize
        self.layer_policy = policy

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "trainable": self.trainable,
            "num_classes": self.num_classes,
            "image_shape": tuple(self.image_shape),
            "width": self.width,
            "depth": self.depth,
            "levels": self.levels,
            "ff_dim": self.ff_dim,
            "expansion": self.expansion,
            "dropout": self.dropout,
            "activation": self.activation,
            "upsample": self.upsample,
            "stem": self.stem,
            "stride": self.stride,
            "patch_size": self.patch_size,
            "normalize": self.normalize and tuple(tuple(part) for part in self.normalize),
            "dtype": keras.dtype_policies.serialize(self.layer_policy),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> WaveMixClassifier:
        return cls(**config)


def _check_image_shape(image_shape: Sequence[int | None], reduction: int) -> None:
    rule = "image_shape must be (height, width, channels), sides None or at least the stem's reduction"
    if len(image_shape) != 3 or not isinstance(image_shape[2], int) or image_shape[2] < 1:
        raise ValueError(f"{rule}, channels at least 1. Received: image_shape={tuple(image_shape)}")
    if any(side is not None and side < reduction for side in image_shape[:2]):
        raise ValueError(f"{rule} ({reduction} pixels). Received: image_shape={tuple(image_shape)}")


def _normalization(normalize: tuple[Sequence[float], Sequence[float]], channels: Any, policy: Any) -> Any:
    if len(normalize) != 2 or any(len(part) != channels for part in normalize) or any(s <= 0 for s in normalize[1]):
        raise ValueError(
            f"normalize must be (mean, std) with {channels} values each, std positive. Received: normalize={normalize}"
        )
    mean, std = normalize
    return layers.Normalization(mean=list(mean), variance=[s * s for s in std], name="normalize", dtype=policy)


def _conv3x3(x: Any, filters: int, stride: int, name: str, policy: Any) -> Any:
    """3x3 convolution with one pixel of zeros on every side; Keras's "same" pads otherwise where it strides."""
    if stride > 1:
        x = layers.ZeroPadding2D(1, data_format="channels_last", name=f"{name}_pad", dtype=policy)(x)
    padding = "same" if stride == 1 else "valid"
    conv = layers.Conv2D(
        filters, 3, strides=stride, padding=padding, data_format="channels_last", name=name, dtype=policy
    )
    return conv(x)
