"""`ImagePreprocessor`: pictures of any size to the input of a preset's network.

Loads neither Keras nor, before it is called, NumPy: the command lists presets without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..preprocessing import NONE, Preprocessing
from ..state_files import check_fields

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int | None, int | None, int]


@dataclass(frozen=True)
class ImagePreprocessor:
    """Convert pictures to a network's input, by the rules of its training.

    Args:
        image_shape: (height, width, channels) of the input; a side of None keeps the picture's size.
        rules: How pictures were resized; ``resize="none"``: not at all.
        value_range: (low, high): the input of a black and of a white pixel.

    Example:
    >>> logits = model.predict(model.preprocessing(pictures))
    """

    image_shape: Shape
    rules: Preprocessing = Preprocessing()  # noqa: RUF009 - it is frozen
    value_range: tuple[float, float] = (0.0, 1.0)

    def __call__(self, pictures: Any) -> np.ndarray:
        """Resize and scale pictures.

        Args:
            pictures: uint8 (h, w, c) or (h, w) of any size, an array (N, h, w, c) of them, or a list of pictures of
                different sizes; c is the network's number of channels. A ``PIL.Image`` is one too.

        Returns:
            float32 (N, H, W, C) in ``value_range``; N is 1 for a single picture. A resized pixel is within one level of
            the training's.

        Raises:
            ValueError: another dtype, another number of channels, or pictures that stay of different sizes.
        """
        import numpy as np

        found = [self._one(picture) for picture in _pictures(pictures)]
        if not found or len({picture.shape for picture in found}) > 1:
            raise ValueError(
                "Pictures must have one size where the network does not resize them, and there must be at least one. "
                f"Received: {sorted({picture.shape for picture in found})}"
            )
        low, high = self.value_range
        pixels = np.stack(found).astype(np.float32) / np.float32(255)
        return pixels if (low, high) == (0.0, 1.0) else (low + pixels * (high - low)).astype(np.float32)

    def _one(self, picture: Any) -> np.ndarray:
        import numpy as np

        from ..resizing import fit_picture

        pixels = np.asarray(picture)
        height, width, channels = self.image_shape
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != channels or 0 in pixels.shape:
            raise ValueError(
                f"A picture must be uint8 (height, width, {channels}). Received: {pixels.dtype} {pixels.shape}; "
                "PIL's Image.convert('RGB') or ('L') gives the channels"
            )
        if self.rules.resize == NONE or height is None or width is None or pixels.shape[:2] == (height, width):
            return pixels
        return fit_picture(pixels, height, width, self.rules.crop_to_aspect_ratio)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dict."""
        return {
            "image_shape": list(self.image_shape),
            "value_range": list(self.value_range),
            "preprocessing": self.rules.to_dict(),
        }

    @classmethod
    def from_dict(cls, found: Any) -> ImagePreprocessor:
        """Read the result of ``to_dict``; ValueError if it has another form."""
        check_fields(found, {"image_shape": list, "value_range": list, "preprocessing": dict})
        rules = Preprocessing.from_dict(found["preprocessing"])
        shape, limits = found["image_shape"], found["value_range"]
        whole = [side is None or (isinstance(side, int) and not isinstance(side, bool) and side > 0) for side in shape]
        numbers = [isinstance(value, (int, float)) and not isinstance(value, bool) for value in limits]
        if (
            rules is None
            or len(shape) != 3
            or shape[2] is None
            or not all(whole)
            or len(limits) != 2
            or not all(numbers)
        ):
            raise ValueError("image_shape, value_range and preprocessing must be of the form that is written")
        return cls((shape[0], shape[1], shape[2]), rules, (float(limits[0]), float(limits[1])))


def _pictures(pictures: Any) -> Sequence[Any]:
    if isinstance(pictures, (list, tuple)):
        return pictures
    import numpy as np

    pixels = np.asarray(pictures)
    return list(pixels) if pixels.ndim == 4 else [pixels]
