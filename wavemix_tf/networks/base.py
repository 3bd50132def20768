"""Common parts of the networks: arguments as attributes and config keys, stems, the standardized input."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers

from ..checks import check_option, check_positive, check_rate
from ..keras_internals import calls_in_order
from ..layers.activations import ACTIVATIONS
from ..layers.normalization import FusedBatchNormalization
from ..layers.recompute import RECOMPUTE
from ..layers.residual_block import BATCH_NORM, ResidualBlock
from .segments import divide, has_mask, run_segments

STEMS = ("strided", "patchify")


class Network(keras.Model):
    """Base class of the networks: the constructor's arguments are attributes and config keys.

    A subclass builds its graph of layers with the policy of ``_policy`` and passes it to ``_init_functional``.

    Every network takes ``recompute`` beside ``name`` and ``trainable``, for training in less memory with the same
    gradients, up to rounding, and the same dropout and statistics: "block" keeps only the input of each block and
    computes the stem and the blocks again in the backward pass, except for the last block, whose activations that pass
    needs first. "elementwise", for WaveMix blocks, computes only GELU and dropout again, and (TensorFlow, float32, on a
    CPU) the input of the last batch norm from its output. "none" keeps all.
    """

    def _policy(self, arguments: dict[str, Any]) -> Any:
        """Return the layers' dtype policy; refuse arguments that the class does not have."""
        unknown, dtype = sorted(set(arguments["kwargs"]) - {"name", "trainable", "recompute"}), arguments["dtype"]
        if unknown:
            known = ", ".join(list(inspect.signature(type(self)).parameters)[:-1])
            raise ValueError(f"The arguments are {known}. Received: {', '.join(unknown)}")
        # Resolved here, so that a saved file does not depend on the global policy at loading.
        return keras.dtype_policies.get(dtype if dtype is not None else keras.config.dtype_policy())

    def _init_functional(self, inputs: Any, outputs: Any, arguments: dict[str, Any], policy: Any) -> None:
        """Initialize as a functional model, and keep the constructor's arguments."""
        options = dict(arguments["kwargs"])
        self.recompute = options.pop("recompute", "none")
        super().__init__(inputs=inputs, outputs=outputs, **options)
        blocks = [layer for layer in self.layers if isinstance(layer, ResidualBlock)]
        known: tuple[str, ...] = ("none",)
        if blocks:
            known = tuple(value for value in RECOMPUTE if all(value in block.recomputes for block in blocks))
        check_option("recompute", self.recompute, known)
        for block in blocks:
            block.recompute = self.recompute
        if blocks and self.recompute == "block":
            blocks[-1].recompute = "none"  # the backward pass begins with it: it would be computed twice at once
        self.layer_policy = policy
        # Keras's `compile` scales the loss by this policy, as float16 gradients need.
        self.dtype_policy = policy
        for name in self._argument_names():
            value = arguments[name]
            setattr(self, name, tuple(value) if name == "image_shape" else value)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """As ``keras.Model``; if blocks are computed again, so is the stem, whose input is there in any case."""
        if not (training and self.recompute == "block") or has_mask(mask):
            return super().call(inputs, training=training, mask=mask)
        stem = next(
            index for index, call in enumerate(calls_in_order(self)) if isinstance(call.operation, ResidualBlock)
        )
        parts = divide(self, [stem] if stem else [])
        return run_segments(self, inputs, parts, lambda index: index < len(parts) - 1)

    def save_to_preset(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write the network as a preset: ``wm.save_to_preset(self, path, **options)``."""
        import wavemix_tf  # presets are above the networks

        return wavemix_tf.save_to_preset(self, path, **options)

    @classmethod
    def _argument_names(cls) -> list[str]:
        parameters = inspect.signature(cls.__init__).parameters
        return [name for name in parameters if name not in ("self", "dtype", "kwargs")]

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "trainable": self.trainable,
            **{name: _plain(getattr(self, name)) for name in self._argument_names()},
            **({} if self.recompute == "none" else {"recompute": self.recompute}),
            "dtype": keras.dtype_policies.serialize(self.layer_policy),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        return cls(**config)


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def exact_policy(policy: Any) -> Any:
    """Return the policy of a network's last layers: a softmax of half-precision logits loses small probabilities."""
    return "float32" if policy.compute_dtype != policy.variable_dtype else policy


def rising_rates(last: float, count: int) -> list[float]:
    """Return ``count`` rates of stochastic depth, linear from 0 to ``last`` (Huang et al., arXiv 1603.09382)."""
    check_rate("stochastic_depth", last)
    return [last * index / max(count - 1, 1) for index in range(count)]


def stem_reduction(stem: str, stride: int, patch_size: int) -> int:
    """Return the factor by which a stem divides the sides."""
    check_positive("stride", stride)
    check_positive("patch_size", patch_size)
    return stride**2 if check_option("stem", stem, STEMS) == "strided" else patch_size


def check_image_shape(image_shape: Sequence[int | None], reduction: int) -> None:
    rule = "image_shape must be (height, width, channels), sides None or at least the stem's reduction"
    if len(image_shape) != 3 or not isinstance(image_shape[2], int) or image_shape[2] < 1:
        raise ValueError(f"{rule}, channels at least 1. Received: image_shape={tuple(image_shape)}")
    if any(side is not None and side < reduction for side in image_shape[:2]):
        raise ValueError(f"{rule} ({reduction} pixels). Received: image_shape={tuple(image_shape)}")


def standardised_input(
    image_shape: Sequence[int | None], normalize: tuple[Sequence[float], Sequence[float]] | None, policy: Any
) -> tuple[Any, Any]:
    """Return (the network's input, the same standardized by ``normalize`` if given)."""
    inputs, channels = keras.Input(tuple(image_shape), name="image"), image_shape[-1]
    if normalize is None:
        return inputs, inputs
    if len(normalize) != 2 or any(len(part) != channels for part in normalize) or any(s <= 0 for s in normalize[1]):
        raise ValueError(
            f"normalize must be (mean, std) with {channels} values each, std positive. Received: normalize={normalize}"
        )
    mean, std = normalize
    layer = layers.Normalization(mean=list(mean), variance=[s * s for s in std], name="normalize", dtype=policy)
    return inputs, layer(inputs)


def mean_head(x: Any, num_classes: int, policy: Any) -> Any:
    """(B, H, W, C) -> logits (B, num_classes): global mean and a linear layer."""
    x = layers.GlobalAveragePooling2D(data_format="channels_last", name="pool", dtype=policy)(x)
    return layers.Dense(num_classes, name="head", dtype=exact_policy(policy))(x)


def convolutional_stem(
    x: Any, stem: str, width: int, stride: int, patch_size: int, activation: str, policy: Any, prefix: str = ""
) -> Any:
    check_option("activation", activation, tuple(ACTIVATIONS))
    if stem == "strided":
        x = conv3x3(x, width // 2, stride, f"{prefix}stem_conv1", policy)
        return conv3x3(x, width, stride, f"{prefix}stem_conv2", policy)
    x = conv3x3(x, width // 4, 1, f"{prefix}stem_conv1", policy)
    x = conv3x3(x, width // 2, 1, f"{prefix}stem_conv2", policy)
    last = {"data_format": "channels_last", "name": f"{prefix}stem_conv3", "dtype": policy}
    x = layers.Conv2D(width, patch_size, strides=patch_size, **last)(x)
    x = layers.Activation(ACTIVATIONS[activation], name=f"{prefix}stem_activation", dtype=policy)(x)
    return FusedBatchNormalization(**BATCH_NORM, name=f"{prefix}stem_norm", dtype=policy)(x)


def conv3x3(x: Any, filters: int, stride: int, name: str, policy: Any) -> Any:
    """3x3 convolution with one pixel of zeros on every side; Keras's "same" pads differently with a stride."""
    if stride > 1:
        x = layers.ZeroPadding2D(1, data_format="channels_last", name=f"{name}_pad", dtype=policy)(x)
    padding = "same" if stride == 1 else "valid"
    conv = layers.Conv2D(
        filters, 3, strides=stride, padding=padding, data_format="channels_last", name=name, dtype=policy
    )
    return conv(x)
