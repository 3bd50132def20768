"""Fixed image operations as layers: bicubic upsampling and the luma-chroma color space, for super-resolution."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from ..checks import check_positive
from .pixel_shuffle import PixelShuffle

# ITU-R BT.601 in full range, as in JPEG and kornia.color.rgb_to_ycbcr: luma weights of R, G and B, the factors of
# (B - Y) and (R - Y), and the offset of these two.
LUMA = (0.299, 0.587, 0.114)
CHROMA = (0.564, 0.713)
CHROMA_OFFSET = 0.5


@keras.saving.register_keras_serializable(package="wavemix_tf")
class ReplicatePadding2D(keras.layers.Layer):
    """Repeat the border pixels ``padding`` times on every side.

    Implemented as symmetric padding by one pixel, ``padding`` times, which every runtime supports.

    Args:
        padding: Pixels on each side, >= 1.

    Input shape:
        (B, H, W, C).

    Output shape:
        (B, H + 2 padding, W + 2 padding, C).

    Raises:
        ValueError: padding < 1.
    """

    def __init__(self, padding: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding = check_positive("padding", padding)

    def call(self, x: Any) -> Any:
        for _ in range(self.padding):
            x = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="symmetric")
        return x

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        grown = 2 * self.padding
        return (batch, height and height + grown, width and width + grown, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": self.padding}


class _FixedConvolution(keras.layers.Layer):
    """A convolution with filters that optimizers cannot change, see ``wavelets._FixedFilters``.

    A subclass defines the values in ``convolution``, which graph passes use as well.
    """

    def convolution(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the kernel (h, w, in, out) and bias (out,) for an input of ``channels``, as float64."""
        raise NotImplementedError

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self._check(input_shape)
        kernel, self.offset = self.convolution(input_shape[-1])  # type: ignore[arg-type]
        self.filters = self.add_weight(
            shape=kernel.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(kernel, dtype=dtype),
            trainable=False,
            name="filters",
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config()}  # Keras refuses a policy object as dtype otherwise

    def _check(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4 or input_shape[-1] is None:
            raise ValueError(
                f"{self.name} takes images (B, H, W, C) with known C. Received: input_shape={tuple(input_shape)}"
            )

    def _convolve(self, x: Any) -> Any:
        y = ops.conv(x, ops.convert_to_tensor(self.filters, dtype=self.compute_dtype), data_format="channels_last")
        return y + ops.convert_to_tensor(self.offset, dtype=self.compute_dtype) if self.offset.any() else y


@keras.saving.register_keras_serializable(package="wavemix_tf")
class BicubicUpsampling2D(_FixedConvolution):
    """Bicubic upsampling with fixed filters (Keys, "Cubic convolution interpolation", 1981, with a = -0.75).

    Equals ``torch.nn.functional.interpolate(mode="bicubic", align_corners=False)``. An output pixel has one of
    ``factor**2`` fixed positions between input pixels. So the upsampling is one 5x5 convolution to ``factor**2 * C``
    channels, on the input with its border repeated, and depth to space.

    Args:
        factor: Upsampling factor, >= 2.

    Input shape:
        (B, H, W, C) floating point; for few channels, since the convolution costs ``25 C**2`` products per pixel.

    Output shape:
        (B, factor * H, factor * W, C).

    Raises:
        ValueError: ``factor`` < 2, or input that is not 4D.

    Example:
    >>> large = BicubicUpsampling2D(2)(small)         # (B, 32, 32, 3) -> (B, 64, 64, 3)
    """

    def __init__(self, factor: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if check_positive("factor", factor) < 2:
            raise ValueError(f"factor must be at least 2. Received: factor={factor}")
        self.factor = factor
        self.pad = ReplicatePadding2D(2, name=f"{self.name}_pad", dtype=self.dtype_policy)
        self.shuffle = PixelShuffle(factor, name=f"{self.name}_shuffle", dtype=self.dtype_policy)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        self.pad.build(input_shape)
        self.shuffle.build((*input_shape[:3], self.filters.shape[-1]))

    def convolution(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        phases = np.stack([_cubic_taps((phase + 0.5) / self.factor - 0.5) for phase in range(self.factor)])
        kernel = np.einsum("ph,qw,cd->hwcpqd", phases, phases, np.eye(channels))  # d: channel c of phase (p, q)
        kernel = kernel.reshape(5, 5, channels, self.factor**2 * channels)
        return kernel, np.zeros(kernel.shape[-1])

    def call(self, x: Any) -> Any:
        return self.shuffle(self._convolve(self.pad(x)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        return (batch, height and height * self.factor, width and width * self.factor, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


def _cubic_taps(place: float) -> np.ndarray:
    """Return the weights of the pixels at -2 .. 2 for a value at distance ``place`` from the middle, |place| <= 1/2."""
    a, distance = -0.75, np.abs(np.arange(-2, 3) - place)
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


class _ColorConversion(_FixedConvolution):
    """A 1x1 convolution of three channels."""

    def _check(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4 or input_shape[-1] != 3:
            raise ValueError(f"{self.name} takes (B, H, W, 3). Received: input_shape={tuple(input_shape)}")

    def call(self, x: Any) -> Any:
        return self._convolve(x)


def _rgb_to_ycbcr() -> tuple[np.ndarray, np.ndarray]:
    """Return matrix (3, 3) and offset (3,) of YCbCr = RGB @ matrix + offset."""
    red, _, blue = np.eye(3)
    luma = np.array(LUMA)
    matrix = np.stack([luma, CHROMA[0] * (blue - luma), CHROMA[1] * (red - luma)], axis=1)
    return matrix, np.array([0.0, CHROMA_OFFSET, CHROMA_OFFSET])


@keras.saving.register_keras_serializable(package="wavemix_tf")
class RGBToYCbCr(_ColorConversion):
    """RGB -> luma Y and chroma Cb, Cr (ITU-R BT.601, full range, chroma around 0.5): ``kornia.color.rgb_to_ycbcr``.

    Args:
        channels: Range of the channels to return: (0, 3) for all, (0, 1) for the luma, (1, 3) for the chroma. This
            saves a slice operation.

    Input shape:
        (B, H, W, 3) floating point in [0, 1].

    Output shape:
        (B, H, W, last - first).

    Raises:
        ValueError: No such channels, or input without three channels.
    """

    def __init__(self, channels: tuple[int, int] = (0, 3), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if len(channels) != 2 or not 0 <= channels[0] < channels[1] <= 3:
            raise ValueError(f"channels must be (first, last) of 0 .. 3. Received: channels={channels!r}")
        self.channels = tuple(channels)

    def convolution(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        matrix, offset = _rgb_to_ycbcr()
        first, last = self.channels
        return matrix[None, None, :, first:last], offset[first:last]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:3], self.channels[1] - self.channels[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class YCbCrToRGB(_ColorConversion):
    """The exact inverse of ``RGBToYCbCr``.

    Input shape:
        (B, H, W, 3) floating point: Y, Cb, Cr.

    Output shape:
        As the input.

    Raises:
        ValueError: Input without three channels.
    """

    def convolution(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        matrix, offset = _rgb_to_ycbcr()
        inverse = np.linalg.inv(matrix)
        return inverse[None, None], -offset @ inverse

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)
