"""One image: read from a file or encoded bytes, and converted to the size and channels of the network."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
EXIF_ORIENTATION, EXIF_TURNED = 0x0112, (5, 6, 7, 8)  # rotated by 90 degrees
DEEPEST = 65_535  # largest value of 16 bits; 257 of its steps are one step of 8 bits
NEARLY_BLACK = 15  # of 255 levels: the largest value of 12-bit pixels that were not scaled to 16 bits
DEEP_RAW = re.compile(r"\b(I|LA?|RGB[AXa]?|CMYK);16")  # Pillow's names of the stored pixel format contain it


class PixelError(ValueError):
    """An image whose pixel scale cannot be determined; the message names the file."""


class Header(NamedTuple):
    """The header of an image file, after its EXIF orientation is applied.

    Attributes:
        height, width: In pixels.
        mode: Pillow's mode.
        deep: Whether a channel has more than 8 bits in the file, even if Pillow reduces it to 8.
    """

    height: int
    width: int
    mode: str
    deep: bool


def read_image(path: str | os.PathLike[str], channels: int = 3, deep: dict[str, int] | None = None) -> np.ndarray:
    """Read an image file.

    Args:
        path: JPEG, PNG, BMP, GIF (first frame), WebP, TIFF, PPM or PGM. The EXIF orientation is applied.
        channels: 3 for RGB, 1 for gray; other color spaces are converted, transparency is composited onto white.
        deep: If the file has more than 8 bits per channel, its largest value (of 65535) is stored here under ``path``.

    Returns:
        uint8 (height, width, channels). The scale does not depend on the image's values: integers of more than 8 bits,
        which Pillow converts to 16 (PGM by its maxval), have the range 0 to 65535.

    Raises:
        ValueError: the file is empty, truncated or not an image, has floating-point pixels or integers outside 16 bits.
        FileNotFoundError: there is no such file.
    """
    from PIL import Image, ImageOps

    path = os.fspath(path)
    if os.path.getsize(path) == 0:
        raise ValueError(f"An image file must not be empty. Received: {path} (0 bytes)")
    try:
        with Image.open(path) as file:
            is_deep = _is_deep(file)
            ImageOps.exif_transpose(file, in_place=True)
            image: Image.Image = file
            _check_mode(path, image.mode)
            if is_deep and deep is not None:
                deep[path] = _peak(image)
            if image.mode.startswith("I"):  # "I;16", or "I" of 32 bits: Pillow would clip both at 255
                image = Image.fromarray(_eight_bits(path, np.asarray(image)))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            wanted = "RGB" if channels == 3 else "L"
            if image.mode != wanted:  # `convert` would copy the image
                image = image.convert(wanted)
            return np.asarray(image).reshape(image.height, image.width, channels)
    except PixelError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError for a broken PNG.
        what = _describe_file(path, error)
        raise ValueError(f"An image file must be complete, of a supported format ({what}). Received: {path}") from None


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read an image file's header; ValueError if it cannot be read."""
    from PIL import Image

    path = os.fspath(path)
    if os.path.getsize(path) == 0:
        raise ValueError(f"An image file must not be empty. Received: {path} (0 bytes)")
    try:
        with Image.open(path) as file:
            _check_mode(path, file.mode)
            # Only if the header announces EXIF: for a PNG without, Pillow would read all pixels to search after them.
            exif = file.getexif() if "exif" in file.info or file.format == "TIFF" else {}
            turned = exif.get(EXIF_ORIENTATION, 1) in EXIF_TURNED
            size = (file.width, file.height) if turned else (file.height, file.width)
            return Header(*size, file.mode, _is_deep(file))
    except PixelError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"An image file must be of a supported format ({_describe_file(path, error)}). Received: {path}"
        ) from None


def read_peak(path: str) -> int | None:
    """Largest value, of 65535, of an image file with more than 8 bits per channel; None if it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as file:
            return _peak(file)
    except Exception:  # reading the image itself reports the error
        return None


def nearly_black_text(deep: Mapping[str, int | None]) -> str:
    """Return a warning about images whose scale is probably not 0 to 65535; "" if there are none.

    Args:
        deep: Name of each inspected image of more than 8 bits -> its largest value.
    """
    dark = {name: peak for name, peak in deep.items() if peak is not None and 0 <= peak // 257 <= NEARLY_BLACK}
    if not dark:
        return ""
    return (
        f"{len(dark):,} of {len(deep):,} images of more than 8 bits have no value above {max(dark.values()):,}: they "
        f"are read as nearly black. Save them with 8 bits, or scale them to 0..{DEEPEST}. The first: {min(dark)}"
    )


def _is_deep(file: Any) -> bool:
    """Whether the file of a Pillow image that is not loaded yet has more than 8 bits per channel."""
    stored = [tile[3] for tile in file.tile]
    scaled = any(isinstance(one, tuple) and file.format == "PPM" and one[-1] > 255 for one in stored)
    return file.mode.startswith("I") or scaled or any(DEEP_RAW.search(str(one)) for one in stored)


def _peak(image: Any) -> int:
    """Largest color value of an image, of 65535; an upper bound if Pillow reduced the image to 8 bits."""
    if image.mode.startswith("I"):
        return int(np.asarray(image).max())
    colors = np.asarray(image.convert("RGB"))
    return int(colors.max()) * 257 + 256


def _check_mode(path: str, mode: str) -> None:
    if mode.startswith("F"):
        raise PixelError(
            "An image file must have integer pixels: the scale of floating-point pixels is unknown, save it with "
            f"8 or 16 bits per channel. Received: {path} (Pillow mode {mode})"
        )


def _eight_bits(path: str, pixels: np.ndarray) -> np.ndarray:
    """Gray pixels of 16 bits, of any integer dtype, as uint8."""
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > DEEPEST:
        raise PixelError(
            f"An image file's pixels must be in 0 to {DEEPEST}: save it with 8 or 16 bits per channel, unsigned. "
            f"Received: {path} with pixels from {low} to {high}"
        )
    return (pixels.astype(np.int64) // (DEEPEST // 255)).astype(np.uint8)


def _describe_file(path: str, error: Exception) -> str:
    """Describe the error of a file, or its actual format."""
    with open(path, "rb") as file:
        start = file.read(12)
    if start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS:
        return "it is HEIC or AVIF: save it as JPEG or PNG"
    return str(error)


def fit_image(image: Any, image_shape: tuple[int, int, int], crop_to_aspect_ratio: bool = False) -> Any:
    """uint8 (h, w, c) tensor -> uint8 `image_shape`: resized with antialiasing, gray to RGB or RGB to gray.

    Args:
        image: Of any size, 1 or 3 channels.
        image_shape: (height, width, channels).
        crop_to_aspect_ratio: Keep the aspect ratio and crop the center, instead of stretching.
    """
    import tensorflow as tf

    height, width, channels = image_shape
    if image.shape[-1] != channels:
        image = tf.image.grayscale_to_rgb(image) if channels == 3 else tf.image.rgb_to_grayscale(image)
    if tuple(image.shape[:2]) != (height, width):
        if crop_to_aspect_ratio:
            image = _center(image, height, width)
        image = _resized(image, height, width)
    return tf.ensure_shape(image, image_shape)


def fit_mask(mask: Any, image_shape: tuple[int, int, int], crop_to_aspect_ratio: bool = False) -> Any:
    """uint8 (h, w) tensor -> uint8 (height, width): the geometry of ``fit_image``, with nearest-neighbor sampling."""
    import tensorflow as tf

    height, width, _ = image_shape
    if tuple(mask.shape) != (height, width):
        if crop_to_aspect_ratio:
            mask = _center(mask, height, width)
        mask = tf.image.resize(mask[..., None], (height, width), "nearest")[..., 0]
    return tf.ensure_shape(mask, (height, width))


def random_resized_crop(image: Any, image_shape: tuple[int, int, int], smallest_area: float, seed: Any) -> Any:
    """uint8 (h, w, c) tensor -> uint8 `image_shape`: a box of `smallest_area` to 1 of the area, aspect 3:4 to 4:3.

    Args:
        image: The whole image, before any resizing.
        image_shape: (height, width, channels).
        smallest_area: Share of the image's area.
        seed: int32 (2,) tensor; the same seed gives the same crop.
    """
    import tensorflow as tf

    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.shape(image),
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        seed,
        min_object_covered=0.0,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(smallest_area, 1.0),
        max_attempts=10,
    )
    size = tf.concat([size[:2], [-1]], 0)
    cropped = tf.ensure_shape(tf.slice(image, begin, size), [None, None, image.shape[-1]])
    return fit_image(cropped, image_shape)


def _center(image: Any, height: int, width: int) -> Any:
    """The largest centered part with the aspect ratio of height and width, equal to ``preprocessing.centre``.

    Computed with integers: in floating point a graph and eager code may round differently, and an image would be
    cropped one pixel smaller in training than in ``predict``.
    """
    import tensorflow as tf

    def kept(side: Any, other: Any, wanted: int, wanted_other: int) -> Any:
        whole, rest = other * wanted // wanted_other, other * wanted % wanted_other
        up = (2 * rest > wanted_other) | ((2 * rest == wanted_other) & (whole % 2 == 1))  # round half to even
        return tf.minimum(side, tf.maximum(whole + tf.cast(up, tf.int64), 1))

    size = tf.cast(tf.shape(image)[:2], tf.int64)
    kept_height, kept_width = kept(size[0], size[1], height, width), kept(size[1], size[0], width, height)
    top, left = (size[0] - kept_height) // 2, (size[1] - kept_width) // 2
    return image[top : top + kept_height, left : left + kept_width]


def _resized(image: Any, height: int, width: int) -> Any:
    """Resize uint8 (h, w, c) with antialiasing: first the rows, then the columns.

    The values are bit for bit those of one call of ``tf.image.resize``, which also takes the rows first. Two calls take
    half of its time: with one column and many channels the inner loop of TensorFlow's kernel is long, not 3.
    """
    import tensorflow as tf

    channels = image.shape[-1]
    shape = tf.shape(image)

    def resized() -> Any:
        rows = tf.reshape(tf.cast(image, tf.float32), [shape[0], 1, shape[1] * channels])
        rows = tf.reshape(tf.image.resize(rows, (height, 1), antialias=True), [height, shape[1], channels])
        columns = tf.reshape(tf.transpose(rows, (1, 0, 2)), [shape[1], 1, height * channels])
        columns = tf.reshape(tf.image.resize(columns, (width, 1), antialias=True), [width, height, channels])
        # Weighted means of 0 to 255: nothing to clip.
        return tf.cast(tf.round(tf.transpose(columns, (1, 0, 2))), tf.uint8)

    return tf.cond(tf.reduce_all(shape[:2] == (height, width)), lambda: image, resized)
