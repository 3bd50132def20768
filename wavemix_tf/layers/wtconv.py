"""``WTConv2D``: a depthwise convolution in the wavelet domain, with a large receptive field and few weights."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from ..checks import check_positive
from .residual_block import sublayer
from .two_step_block import LayerScale
from .wavelets import DWT2D, IDWT2D, check_image_tensor


@keras.saving.register_keras_serializable(package="wavemix_tf")
class WTConv2D(layers.Layer):
    """Wavelet convolution: a depthwise k x k convolution of the input and one of its Haar bands at each level.

    WTConv (Finder, Amoyal, Treister & Freifeld, "Wavelet Convolutions for Large Receptive Fields", arXiv 2407.05848,
    section 3). With LL_0 = x and s, s_i one trained factor per channel::

        bands_i = DWT(LL_{i-1})                        LL_i is its first band, i = 1 .. levels
        [Y_LL | Y_H]_i = s_i * depthwise(bands_i)      4C channels, no bias
        Z_i = IDWT([Y_LL + Z_{i+1} | Y_H])             Z_{levels+1} = 0
        y = s * depthwise(x) + Z_1

    The receptive field is ``2**levels * k`` pixels wide; the weights grow with ``levels``, not with its area. As in
    the authors' code (BGU-CS-VIL/WTConv), only the convolution of the input has a bias, and a side that is odd at some
    level is padded there with one zero at the end and cropped behind the inverse.

    All is linear, so ``call`` multiplies the factors into the kernels, which are small. ``inline`` is the same
    computation with the sublayers, for graph passes (quantization, export).

    Args:
        kernel_size: k, side of every depthwise kernel in pixels.
        levels: Levels of the transform, >= 1.
        use_bias: Whether the convolution of the input has a bias.

    Input shape:
        (B, H, W, C) floating point; H and W may be odd or unknown.

    Output shape:
        As the input.

    Raises:
        ValueError: ``kernel_size`` or ``levels`` < 1, input that is not 4D.

    Example:
    >>> y = wm.WTConv2D(kernel_size=5, levels=2)(x)   # (B, 32, 32, 64) -> (B, 32, 32, 64), 20 x 20 pixels
    """

    def __init__(self, kernel_size: int = 5, levels: int = 1, use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel_size = check_positive("kernel_size", kernel_size)
        self.levels = check_positive("levels", levels)
        self.use_bias = use_bias

        def conv(role: str, bias: bool) -> Any:
            return sublayer(self, layers.DepthwiseConv2D, role, kernel_size, padding="same", use_bias=bias)

        depth = range(1, levels + 1)
        self.base = conv("base", use_bias)
        self.base_scale = sublayer(self, LayerScale, "base_scale", 1.0)
        self.dwts = [sublayer(self, DWT2D, f"dwt{level}") for level in depth]
        self.convs = [conv(f"conv{level}", False) for level in depth]
        self.scales = [sublayer(self, LayerScale, f"scale{level}", 0.1) for level in depth]
        self.idwts = [sublayer(self, IDWT2D, f"idwt{level}") for level in depth]
        # Of the inlined form.
        self.halves = [sublayer(self, layers.Rescaling, f"half{level}", 0.5 ** (level - 1)) for level in depth[1:]]
        self.ups = [sublayer(self, layers.UpSampling2D, f"up{level}") for level in depth[1:]]
        self.sums = [sublayer(self, layers.Add, f"sum{level}") for level in depth]
        self.crops: list[Any] = []

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_image_tensor(self.name, input_shape)
        self.base.build(input_shape)
        self.base_scale.build(input_shape)
        shape: Any = tuple(input_shape)
        for level, dwt in enumerate(self.dwts):
            dwt.build(shape)
            bands = dwt.compute_output_shape(shape)
            for layer in (self.convs[level], self.scales[level], self.idwts[level]):
                layer.build(bands)
            extra = [0 if side is None else side % 2 for side in shape[1:3]]
            crop = sublayer(self, layers.Cropping2D, f"crop{level + 1}", [(0, side) for side in extra])
            self.crops.append(crop if any(extra) else None)
            shape = (*bands[:3], shape[3])

    def call(self, x: Any) -> Any:
        channels = x.shape[-1]
        lows, mixed = [x], []
        for dwt, conv, scale in zip(self.dwts, self.convs, self.scales, strict=True):
            bands = dwt(lows[-1])
            lows.append(bands[..., :channels])
            mixed.append(_scaled_conv(bands, conv, scale))
        z: Any = None
        for low, bands, idwt in reversed(list(zip(lows[:-1], mixed, self.idwts, strict=True))):
            if z is not None:
                bands = ops.concatenate([bands[..., :channels] + z, bands[..., channels:]], axis=-1)
            z = idwt(bands)[:, : ops.shape(low)[1], : ops.shape(low)[2]]
        y = _scaled_conv(x, self.base, self.base_scale) + z
        if self.use_bias:
            y = y + ops.cast(self.base.bias, y.dtype) * ops.cast(self.base_scale.gamma, y.dtype)
        return y

    def inline(self, x: Any) -> Any:
        """``call`` as a graph of the sublayers.

        The inverse is linear, and that of an LL band alone repeats every pixel of half its value. So Z_{i+1} is halved
        before its own inverse, repeated and added behind the inverse of level i: no band is cut off and joined again.

        Args:
            x: (B, H, W, C) tensor or KerasTensor with known H and W.

        Returns:
            The same values as ``call`` (up to rounding), same shape and dtype.
        """
        low, transforms = x, []
        for dwt in self.dwts:
            transforms.append(dwt(low))
            low = transforms[-1][..., : x.shape[-1]]
        z: Any = None
        for level in reversed(range(self.levels)):
            bands = self.scales[level](self.convs[level](transforms[level]))
            if level:
                bands = self.halves[level - 1](bands)
            inverse = self.idwts[level](bands)
            z = inverse if z is None else self.sums[level + 1]([inverse, self.ups[level](z)])
            if self.crops[level] is not None:
                z = self.crops[level](z)
        return self.sums[0]([self.base_scale(self.base(x)), z])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        names = ("kernel_size", "levels", "use_bias")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _scaled_conv(x: Any, conv: Any, scale: Any) -> Any:
    """Return ``scale(conv(x))`` without its bias, with one product per weight instead of one per value."""
    kernel = ops.cast(conv.kernel, x.dtype) * ops.cast(scale.gamma, x.dtype)[:, None]  # (k, k, C, 1)
    return ops.depthwise_conv(x, kernel, padding="same", data_format="channels_last")
