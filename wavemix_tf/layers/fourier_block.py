"""Fourier mixing: the transform as products with fixed matrices, and the block around it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from .two_step_block import TwoStepBlock


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FourierMatrix(layers.Layer):
    """The orthonormal discrete Fourier transform along the last axis, as one product with a fixed real matrix.

    A complex number is stored as its real and imaginary parts: in the output as pairs (re, im, re, im, ...), in the
    input as two halves (all re, all im). A transform over another axis can then follow after one transpose and one
    reshape without a copy: (H, W, [C, 2]) -> (H, [C, 2], W) is (H, C, [2, W]) in memory; see ``FourierBlock``.

    Args:
        complex_input: Whether the input is complex; False: real.
        complex_output: Whether the output is complex; False: the real part only.

    Input shape:
        (B, ..., N) floating point; (B, ..., 2 N) if complex.

    Output shape:
        (B, ..., N); (B, ..., 2 N) if complex.

    Raises:
        ValueError: The last axis is unknown, or of odd length for complex input.
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
        whole = np.concatenate(rows)  # (inputs, N): the transforms of 1 and of i at each position
        parts = [whole.real, whole.imag] if self.complex_output else [whole.real]
        return np.stack(parts, axis=-1).reshape(len(whole), -1)

    def call(self, x: Any) -> Any:
        return ops.matmul(x, ops.cast(self.matrix, x.dtype))

    def inline(self, x: Any) -> Any:
        """``call`` for graph passes, which support a product with a weight."""
        return ops.matmul(x, self.matrix)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self._size(input_shape) * (2 if self.complex_output else 1))

    def get_config(self) -> dict[str, Any]:
        options = {"complex_input": self.complex_input, "complex_output": self.complex_output}
        return {**super().get_config(), **options}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FourierBlock(TwoStepBlock):
    """Fourier mixing: the real part of the discrete Fourier transform over height, width and channels, then an MLP.

    FNet (Lee-Thorp et al., arXiv 2105.03824, equation 3) transforms the sequence and the channels; the sequence of an
    image has two axes. The transform has no weights. Here it is orthonormal, and normalization comes before each step,
    as in the other blocks; FNet does not scale the transform and normalizes after it. It is computed as three products
    with fixed matrices (``FourierMatrix``), one per axis, since few device runtimes have a Fourier transform:
    2 C + 4 W + 2 H products per value.

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
        ValueError: An option out of its range; input whose channels are not ``width`` or whose sides are unknown.

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
