"""2D discrete wavelet transforms as fixed-weight Keras layers, exact against PyWavelets.

Bands are stored band-major, ``[LL | LH | HL | HH]``, each with the channels of the input; they are ``pywt.dwt2``'s
``[cA | cH | cV | cD]``: the first letter is the filter along the width, the second along the height.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pywt
from keras import ops

from ..checks import check_option, check_positive

MODES = ("zero", "periodization")


def orthogonal_wavelet(name: str) -> pywt.Wavelet:
    """Return PyWavelets' discrete wavelet of this name.

    Raises:
        ValueError: PyWavelets has no such wavelet, or it is not orthogonal (so that the transposed analysis filters
            would not invert it).
    """
    try:
        wavelet = pywt.Wavelet(name)
    except (ValueError, TypeError, AttributeError):
        known = ", ".join(n for n in pywt.wavelist(kind="discrete") if pywt.Wavelet(n).orthogonal)
        raise ValueError(f"wavelet must name an orthogonal wavelet: {known}. Received: wavelet={name!r}") from None
    if not wavelet.orthogonal:
        raise ValueError(f"wavelet must be orthogonal (haar, dbN, symN, coifN, dmey). Received: wavelet={name!r}")
    return wavelet


def analysis_kernels(wavelet: str) -> np.ndarray:
    """Return the four separable analysis filters as correlation kernels.

    Returns:
        float64 array (4, L, L), bands LL, LH, HL, HH; axis 1 is along the height, axis 2 along the width.
    """
    filters = orthogonal_wavelet(wavelet)
    low, high = np.array(filters.dec_lo[::-1]), np.array(filters.dec_hi[::-1])  # convolution -> correlation
    return np.stack([np.outer(along_h, along_w) for along_w in (low, high) for along_h in (low, high)])


HAAR_KERNELS = analysis_kernels("haar")  # (4, 2, 2), entries +-1/2


def fold_dwt(kernel: Any, filters: Any = None) -> Any:
    """Fold a one-level Haar DWT and the following 1x1 convolution into one 2x2 convolution of stride 2.

    Both are linear and the Haar windows do not overlap, so this is exact, with the same number of weights and
    multiplications: ``conv2x2_s2(x, fold_dwt(k)) == conv1x1(DWT2D()(x), k)`` for even sides.

    Args:
        kernel: (1, 1, 4C, F) kernel of the 1x1 convolution, band-major; a tensor (differentiable) or an array.
        filters: (4, 2, 2), the filters of the four bands; None: Haar's. An array if ``kernel`` is one.

    Returns:
        (2, 2, C, F) tensor of the kernel's dtype; a NumPy array if ``kernel`` is one.
    """
    filters = HAAR_KERNELS if filters is None else filters
    if len(kernel.shape) != 4 or tuple(kernel.shape[:2]) != (1, 1) or kernel.shape[2] % 4:
        raise ValueError(f"kernel must have shape (1, 1, 4C, F). Received: kernel.shape={tuple(kernel.shape)}")
    channels, outputs = kernel.shape[2] // 4, kernel.shape[3]
    if isinstance(kernel, np.ndarray):
        bands = kernel.reshape(4, channels, outputs)
        return np.einsum("bij,bcf->ijcf", filters, bands).astype(kernel.dtype)
    bands = ops.reshape(kernel, (4, channels * outputs))
    if isinstance(filters, np.ndarray):
        filters = ops.convert_to_tensor(filters, dtype=kernel.dtype)
    taps = ops.transpose(ops.reshape(filters, (4, 4)))  # (taps, bands)
    return ops.reshape(ops.matmul(taps, bands), (2, 2, channels, outputs))


def _wrap_index(length: Any, before: int, after: int) -> Any:
    """Return indices that extend an axis periodically; an odd axis first repeats its last sample (periodization)."""
    even = length + length % 2
    return ops.minimum(ops.mod(ops.arange(-before, even + after), even), length - 1)


def _filter_bands(x: Any, kernels: Any) -> Any:
    """Filter (B, H, W, C) with each of ``kernels`` (N, L, L), stride 2, no padding -> (B, H', W', N*C), band-major."""
    bands = []
    for band in range(kernels.shape[0]):
        # Four depthwise convolutions and a concatenation are faster than one with depth multiplier 4, and the GPU
        # delegate supports only the former.
        kernel = ops.tile(kernels[band][:, :, None, None], (1, 1, x.shape[-1], 1))
        bands.append(ops.depthwise_conv(x, kernel, strides=2, padding="valid", data_format="channels_last"))
    return ops.concatenate(bands, axis=-1) if len(bands) > 1 else bands[0]


class _FixedFilters(keras.layers.Layer):
    """Base class of the wavelet layers: options, and filters that optimizers cannot change.

    The filters are one weight with ``trainable=False`` and a constant initializer. Keras keeps such a weight
    non-trainable; a frozen *layer* would become trainable with ``model.trainable = True``.
    """

    def __init__(self, wavelet: str = "haar", mode: str = "zero", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.taps = orthogonal_wavelet(wavelet).dec_len
        self.wavelet = wavelet
        self.mode = check_option("mode", mode, MODES)

    def _add_filters(self, values: np.ndarray) -> None:
        self.filters = self.add_weight(
            shape=values.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(values, dtype=dtype),
            trainable=False,
            name="filters",
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "wavelet": self.wavelet, "mode": self.mode}

    def _coefficients(self, side: int | None) -> int | None:
        if side is None:
            return None
        return (side + self.taps - 1) // 2 if self.mode == "zero" else (side + 1) // 2

    def _analyse(self, x: Any, kernels: Any) -> Any:
        """Filter (B, H, W, C) with each of ``kernels`` (N, L, L) at stride 2 -> (B, H', W', N*C), band-major."""
        if self.mode == "periodization":
            side = self.taps // 2 - 1
            for axis in (1, 2):
                length = x.shape[axis] if x.shape[axis] is not None else ops.shape(x)[axis]
                if side or not isinstance(length, int) or length % 2:
                    x = ops.take(x, _wrap_index(length, side, side), axis=axis)
        else:
            side = self.taps - 2
            # One more zero at the end for odd sides; on an even side no window of stride 2 reaches it.
            spare = [0 if x.shape[axis] is not None and x.shape[axis] % 2 == 0 else 1 for axis in (1, 2)]
            if side or any(spare):
                x = ops.pad(x, [[0, 0], [side, side + spare[0]], [side, side + spare[1]], [0, 0]])
        return _filter_bands(x, kernels)


@keras.saving.register_keras_serializable(package="wavemix_tf")
class DWT2D(_FixedFilters):
    """2D discrete wavelet transform with fixed filters, one or more levels.

    Haar is the token mixer of WaveMix (Jeevan & Sethi, arXiv 2205.14375, section 3.1). The coefficients of each channel
    equal ``pywt.dwt2(x, wavelet, mode)``, in the order ``[cA | cH | cV | cD]``.

    Args:
        wavelet: Name of any orthogonal wavelet of PyWavelets: "haar", "db2", "sym4", "coif1", ...
        levels: Number of levels; level k+1 transforms the LL band of level k.
        mode: "zero" (zeros beyond the border) or "periodization" (the smallest number of coefficients), as in
            PyWavelets.

    Input shape:
        (B, H, W, C) floating point; H and W may be odd or unknown.

    Output shape:
        (B, H', W', 4C), bands ``[LL | LH | HL | HH]`` each C wide. For filters of L taps H' = floor((H + L - 1) / 2)
        with "zero" (H / 2 for Haar and even H) and ceil(H / 2) with "periodization".
        With ``levels`` > 1 a list of such tensors, finest level first.

    Raises:
        ValueError: Unknown or non-orthogonal wavelet, unknown mode, ``levels`` < 1, input that is not 4D.

    Example:
    >>> bands = wm.DWT2D("haar")(images)              # (B, 32, 32, 3) -> (B, 16, 16, 12)
    >>> fine, coarse = wm.DWT2D("db2", levels=2)(images)
    """

    def __init__(self, wavelet: str = "haar", levels: int = 1, mode: str = "zero", **kwargs: Any) -> None:
        super().__init__(wavelet, mode, **kwargs)
        self.levels = check_positive("levels", levels)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_image_tensor(self.name, input_shape)
        self._add_filters(analysis_kernels(self.wavelet))

    def call(self, x: Any) -> Any:
        kernels = ops.convert_to_tensor(self.filters)  # (4, L, L)
        outputs = [self._analyse(x, kernels)]
        for _ in range(1, self.levels):
            outputs.append(self._analyse(outputs[-1][..., : x.shape[-1]], kernels))
        return outputs[0] if self.levels == 1 else outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        batch, height, width, channels = input_shape
        shapes = []
        for _ in range(self.levels):
            height, width = self._coefficients(height), self._coefficients(width)
            shapes.append((batch, height, width, 4 * channels))  # type: ignore[operator]
        return shapes[0] if self.levels == 1 else shapes

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "levels": self.levels}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class LowPass2D(_FixedFilters):
    """Only the LL band of a one-level ``DWT2D``, the input of the next level of a multi-level transform.

    Args:
        wavelet: As in ``DWT2D``.
        mode: As in ``DWT2D``.

    Input shape:
        (B, H, W, C) floating point.

    Output shape:
        (B, H', W', C), H' and W' as in ``DWT2D``.

    Raises:
        ValueError: As in ``DWT2D``.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_image_tensor(self.name, input_shape)
        self._add_filters(analysis_kernels(self.wavelet)[:1])

    def call(self, x: Any) -> Any:
        return self._analyse(x, ops.convert_to_tensor(self.filters))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        return (batch, self._coefficients(height), self._coefficients(width), channels)


BASES = ("dct", "random", "learned")


def dct_kernels(side: int = 4) -> np.ndarray:
    """Return the four lowest frequencies of the orthonormal 2D DCT-II over windows of ``side`` x ``side`` pixels.

    For 2x2 pixels they are Haar's four filters.

    Returns:
        float64 array (4, side, side): frequencies (0, 0), (1, 0), (0, 1), (1, 1) of (height, width).
    """
    places = np.arange(side) + 0.5
    low = np.full(side, side**-0.5)
    high = (2 / side) ** 0.5 * np.cos(np.pi * places / side)
    return np.stack([np.outer(along_h, along_w) for along_w in (low, high) for along_h in (low, high)])


@keras.saving.register_keras_serializable(package="wavemix_tf")
class FilterBank2D(keras.layers.Layer):
    """Four filters of stride 2 in place of a DWT's, the same for every channel, for ablations.

    WaveMix (arXiv 2205.14375) measures the benefit of the Haar filters by replacing them.

    Args:
        basis: "dct": the four lowest frequencies of the 4x4 DCT-II, in overlapping windows (for 2x2 pixels the DCT
            and the discrete Fourier transform *are* Haar's filters up to sign); "random": four random 2x2 filters of
            norm one, drawn when the layer is built and never trained; "learned": the same, trained.

    Input shape:
        (B, H, W, C) floating point, H and W even.

    Output shape:
        (B, H / 2, W / 2, 4C), band-major.

    Raises:
        ValueError: Unknown basis, input that is not 4D or has an odd side.
    """

    def __init__(self, basis: str = "dct", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.basis = check_option("basis", basis, BASES)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_image_tensor(self.name, input_shape)
        if any(side is not None and side % 2 for side in input_shape[1:3]):
            raise ValueError(f"{self.name} takes even sides. Received: input_shape={tuple(input_shape)}")
        fixed = dct_kernels()

        def draw(shape: Any, dtype: Any = None) -> Any:
            if self.basis == "dct":
                return ops.convert_to_tensor(fixed, dtype=dtype)
            drawn = keras.initializers.RandomNormal(stddev=1.0)(shape, dtype=dtype)
            return drawn / ops.sqrt(ops.sum(ops.square(drawn), axis=(1, 2), keepdims=True))

        self.filters = self.add_weight(
            shape=fixed.shape if self.basis == "dct" else (4, 2, 2),
            initializer=draw,
            trainable=self.basis == "learned",
            name="filters",
        )

    def call(self, x: Any) -> Any:
        if self.basis == "dct":
            x = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])  # windows of 4 around cells of 2
        return _filter_bands(x, ops.convert_to_tensor(self.filters))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        return (batch, height and height // 2, width and width // 2, 4 * channels)  # type: ignore[operator]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "basis": self.basis}


@keras.saving.register_keras_serializable(package="wavemix_tf")
class IDWT2D(_FixedFilters):
    """Inverse of one level of ``DWT2D``; equals ``pywt.idwt2`` for the same wavelet and mode.

    Args:
        wavelet: As in ``DWT2D``.
        mode: As in ``DWT2D``.
        output_size: (height, width) in pixels to crop to; needed if the transformed image had an odd side. None keeps
            every reconstructed pixel.

    Input shape:
        (B, H', W', 4C) floating point, bands ``[LL | LH | HL | HH]``.

    Output shape:
        (B, 2H' - L + 2, 2W' - L + 2, C) with "zero", (B, 2H', 2W', C) with "periodization", or ``output_size``.

    Raises:
        ValueError: Options as in ``DWT2D``; channels that are not a multiple of four; ``output_size`` larger than the
            reconstruction.
    """

    def __init__(
        self,
        wavelet: str = "haar",
        mode: str = "zero",
        output_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(wavelet, mode, **kwargs)
        if output_size is not None:
            if len(output_size) != 2:
                raise ValueError(f"output_size must be (height, width). Received: output_size={output_size!r}")
            output_size = (check_positive("output_size", output_size[0]), check_positive("output_size", output_size[1]))
        self.output_size = output_size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_image_tensor(self.name, input_shape)
        if input_shape[-1] % 4:  # type: ignore[operator]
            raise ValueError(f"IDWT2D takes four bands of C channels. Received: input_shape={tuple(input_shape)}")
        full = self._full_size(input_shape)
        if self.output_size is not None:
            if any(side is not None and wanted > side for wanted, side in zip(self.output_size, full, strict=True)):
                raise ValueError(
                    f"output_size must not exceed the reconstruction {full}. Received: output_size={self.output_size}"
                )
        filters = orthogonal_wavelet(self.wavelet)
        # The wavelet is orthogonal, so the transposed analysis filters are the inverse: reversed taps again.
        self._add_filters(np.stack([filters.dec_lo[::-1], filters.dec_hi[::-1]]))

    def _full_size(self, input_shape: tuple[int | None, ...]) -> list[int | None]:
        trim = self.taps - 2 if self.mode == "zero" else 0
        return [None if side is None else 2 * side - trim for side in input_shape[1:3]]

    def _synthesise(self, low: Any, high: Any, filters: Any, axis: int) -> Any:
        """Merge two bands along ``axis`` with the polyphase form of a transposed convolution of stride 2."""
        half = self.taps // 2
        count = low.shape[axis] if low.shape[axis] is not None else ops.shape(low)[axis]
        if self.mode == "periodization":
            lead, pairs = half - 1, count + self.taps // 4
            index = ops.mod(ops.arange(-lead, pairs), count)
            low, high = ops.take(low, index, axis=axis), ops.take(high, index, axis=axis)
        else:
            pairs = count - (half - 1)
        even, odd = 0.0, 0.0
        for shift in range(half):
            window = [slice(None)] * 4
            window[axis] = slice(half - 1 - shift, half - 1 - shift + pairs)
            low_part, high_part = low[tuple(window)], high[tuple(window)]
            even = even + filters[0, 2 * shift] * low_part + filters[1, 2 * shift] * high_part
            odd = odd + filters[0, 2 * shift + 1] * low_part + filters[1, 2 * shift + 1] * high_part
        shape = [-1, *[low.shape[a] if low.shape[a] is not None else ops.shape(low)[a] for a in (1, 2, 3)]]
        shape[axis] = 2 * pairs
        merged = ops.reshape(ops.stack([even, odd], axis=axis + 1), shape)
        if self.mode == "periodization":
            window = [slice(None)] * 4
            window[axis] = slice(half - 1, half - 1 + 2 * count)
            merged = merged[tuple(window)]
        return merged

    def call(self, bands: Any) -> Any:
        filters = ops.convert_to_tensor(self.filters)  # (2, L)
        ll, lh, hl, hh = ops.split(bands, 4, axis=-1)
        low, high = self._synthesise(ll, lh, filters, axis=1), self._synthesise(hl, hh, filters, axis=1)
        x = self._synthesise(low, high, filters, axis=2)
        return x if self.output_size is None else x[:, : self.output_size[0], : self.output_size[1], :]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        size = self.output_size or self._full_size(input_shape)
        return (input_shape[0], size[0], size[1], input_shape[-1] // 4)  # type: ignore[operator]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "output_size": self.output_size}


def check_image_tensor(name: str, shape: tuple[int | None, ...]) -> None:
    if len(shape) != 4 or shape[-1] is None:
        raise ValueError(f"{name} takes images (B, H, W, C) with known C. Received: input_shape={tuple(shape)}")
