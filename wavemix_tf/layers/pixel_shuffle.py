"""``PixelShuffle``: depth to space."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from ..checks import check_positive


@keras.saving.register_keras_serializable(package="wavemix_tf")
class PixelShuffle(layers.Layer):
    """Depth to space: (B, H, W, r*r*C) -> (B, r*H, r*W, C), channel ``(i*r + j)*C + c`` to pixel (i, j) of its cell.

    The rearrangement of sub-pixel convolution (Shi et al., arXiv 1609.05158, eq. 4) in TensorFlow's channel order.

    Args:
        factor: r, the upsampling factor.

    Raises:
        ValueError: ``factor`` < 1, or channels that are not a multiple of ``factor**2``.
    """

    def __init__(self, factor: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = check_positive("factor", factor)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4 or input_shape[-1] is None or input_shape[-1] % self.factor**2:
            raise ValueError(
                f"PixelShuffle takes (B, H, W, C) with C a multiple of factor**2 = {self.factor**2}. "
                f"Received: input_shape={tuple(input_shape)}"
            )

    def call(self, x: Any) -> Any:
        return ops.depth_to_space(x, self.factor, data_format="channels_last")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        r = self.factor
        return (batch, height and r * height, width and r * width, channels // r**2)  # type: ignore[operator]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}
