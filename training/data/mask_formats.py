"""The pixel values of mask files and their classes: class numbers, or a table of numbers or colors."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..images import read_header
from ..recipe import Recipe

VOID = 255  # class number of a pixel without class, if there is a table
UNLISTED = 254  # class number of values that are not in a table, for masks that cannot be refused one by one
MOST_VALUES = 254  # classes of a table
MOST_COLORS = 256  # most colors of one mask; a photograph, or colors mixed by JPEG or smoothing, has more
MOST_PROPOSED = 64
NUMBERS = ("L", "P", "1", "I", "I;16", "I;16L", "I;16B")
RULE = "A mask must be a gray or palette image whose pixels are class numbers, or colors of mask_values"

Value = int | str


@dataclasses.dataclass(frozen=True)
class MaskFormat:
    """How masks are read.

    Attributes:
        values: As ``Recipe.mask_values``; empty: a pixel's number is its class.
        void: Values without a class.
        resize: Resize a mask to its image's size (nearest neighbor); otherwise another size is an error.
    """

    values: tuple[Value, ...] = ()
    void: tuple[Value, ...] = ()
    resize: bool = False

    @classmethod
    def of(cls, recipe: Recipe) -> MaskFormat:
        """The format of a recipe's masks. ``ignore_index`` is void, unless it is one of ``mask_values``."""
        void = recipe.mask_void
        if recipe.ignore_index is not None and recipe.ignore_index not in recipe.mask_values:
            void = (*void, recipe.ignore_index)
        return cls(recipe.mask_values, void, recipe.mask_resize)

    @property
    def colored(self) -> bool:
        """Whether the table has colors."""
        return any(isinstance(value, str) for value in self.values)

    def read(self, path: str, image: str | None = None) -> np.ndarray:
        """Read a mask as class numbers.

        Args:
            path: Path of the mask.
            image: Path of its image, which gives the size if masks are to be resized.

        Returns:
            uint8 (height, width); void pixels are ``VOID`` if there is a table.

        Raises:
            ValueError: the file is damaged, or has a value without a class.
        """
        pixels = read_pixels(path, self.colored).values
        mask = self.classes(pixels, path)
        if not self.resize or image is None:
            return mask
        return nearest(mask, read_header(image)[:2])

    def classes(self, pixels: np.ndarray, name: str) -> np.ndarray:
        """uint8 class numbers of pixels from ``read_pixels`` or of an array of numbers; ``name`` is for the message."""
        if not self.values:
            if pixels.max(initial=0) > 255:
                raise ValueError(f"{RULE}, at most 255. Received: {name} with {pixels.max()}")
            return pixels.astype(np.uint8)
        table = self.table
        found = _values_in(pixels)[0]
        strange = [int(key) for key in found if int(key) not in table]
        if strange:
            share = float(np.isin(pixels, strange).mean())
            raise ValueError(
                f"A mask's pixels must be in mask_values, mask_void or ignore_index. Received: {name} with "
                f"{', '.join(self.text(key) for key in strange[:8])}, {share:.2%} of its pixels"
            )
        return np.array([table[int(key)] for key in found], np.uint8)[np.searchsorted(found, pixels)]

    @property
    def table(self) -> dict[int, int]:
        """Pixel value of ``read_pixels`` -> class number."""
        as_pixel = code_of if self.colored else int
        void = [value for value in self.void if isinstance(value, str) == self.colored]
        return {as_pixel(value): VOID for value in void} | {
            as_pixel(value): index for index, value in enumerate(self.values)
        }

    def text(self, pixel: int) -> str:
        """A pixel value in the notation of ``Recipe.mask_values``."""
        return color_of(pixel) if self.colored else str(pixel)


AS_NUMBERED = MaskFormat()


@dataclasses.dataclass(frozen=True)
class Pixels:
    """The content of a mask file.

    Attributes:
        values: int64 (H, W): numbers, or colors as codes of ``code_of``.
        colored: Whether they are colors.
        mode: Pillow's mode.
        palette: Number -> color of the numbers that occur, for a palette image that was read as numbers.
    """

    values: np.ndarray
    colored: bool
    mode: str
    palette: Mapping[int, int]


def read_pixels(path: str | os.PathLike[str], as_colors: bool = False) -> Pixels:
    """Read the pixel values of a mask file, without their classes.

    Args:
        path: A lossless image file. A color image whose three channels are equal everywhere holds numbers.
        as_colors: Read numbers and palettes as the colors that they show.

    Raises:
        ValueError: the file is damaged, or not a mask.
        FileNotFoundError: the file does not exist.
    """
    from PIL import Image

    path = os.fspath(path)
    if os.path.getsize(path) == 0:
        raise ValueError(f"{RULE}. Received: {path} (0 bytes)")
    try:
        with Image.open(path) as file:
            file.load()
            if file.mode in NUMBERS and not as_colors:
                values = np.asarray(file).astype(np.int64)
                shown = _palette(file, values) if file.mode == "P" else {}
                return Pixels(values, False, file.mode, shown)
            if file.mode not in (*NUMBERS, "RGB", "RGBA", "LA", "PA"):
                raise ValueError(f"mode {file.mode}")
            channels = np.asarray(file.convert("RGBA")).astype(np.int64)
            mode = file.mode
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{RULE} ({error}). Received: {path}") from None
    red, green, blue, alpha = np.moveaxis(channels, -1, 0)
    if not as_colors and (red == green).all() and (red == blue).all() and (alpha == 255).all():
        return Pixels(red, False, mode, {})
    codes = np.where(alpha == 0, 0, red << 24 | green << 16 | blue << 8 | alpha)
    return Pixels(codes, True, mode, {})


def _palette(file: Any, values: np.ndarray) -> dict[int, int]:
    colors = np.array(file.getpalette("RGB") or [], np.int64).reshape(-1, 3)
    used = [int(value) for value in np.unique(values) if value < len(colors)]
    return {value: code_of(f"#{bytes(colors[value].astype(np.uint8)).hex()}") for value in used}


def code_of(color: Value) -> int:
    """A color "#rrggbb" or "#rrggbbaa" as one number; fully transparent colors are 0."""
    digits = str(color).removeprefix("#")
    red, green, blue, alpha = bytes.fromhex(digits if len(digits) == 8 else f"{digits}ff")
    return 0 if alpha == 0 else red << 24 | green << 16 | blue << 8 | alpha


def color_of(code: int) -> str:
    """The inverse of ``code_of``."""
    text = f"#{code:08x}"
    return text[:7] if text.endswith("ff") else text


def nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) -> ``size`` by nearest neighbor, measured between pixel centers."""
    if mask.shape == size:
        return mask
    rows, columns = (
        np.minimum((2 * np.arange(to) + 1) * before // (2 * to), before - 1)
        for before, to in zip(mask.shape, size, strict=True)
    )
    return mask[rows[:, None], columns[None, :]]


def count_values(pixels: Pixels, path: str) -> dict[int, int]:
    """Number of pixels with each value; ValueError if there are too many values to be classes."""
    if pixels.values.min(initial=0) < 0:
        raise ValueError(f"{RULE}, 0 or more. Received: {path} with {pixels.values.min()}")
    found, counts = _values_in(pixels.values)
    if pixels.colored and len(found) > MOST_COLORS:
        raise ValueError(
            f"{RULE}. Received: {path} with {len(found):,} colors: it is a photograph, or was smoothed or saved with "
            "lossy compression"
        )
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _values_in(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sorted values, number of pixels with each); small numbers are counted without sorting all pixels."""
    if pixels.min(initial=0) >= 0 and pixels.max(initial=0) < 1 << 16:
        counts = np.bincount(pixels.reshape(-1))
        return np.flatnonzero(counts), counts[counts > 0]
    return np.unique(pixels, return_counts=True)


def palettes_differ(palettes: Iterable[Mapping[int, int]]) -> bool:
    """Whether one number has two colors: then each file has its own palette order, and the color is the class."""
    seen: dict[int, int] = {}
    return any(seen.setdefault(value, color) != color for palette in palettes for value, color in palette.items())


def setting(values: Iterable[int], colored: bool = False) -> str:
    """The option that makes each value a class, in this order."""
    texts = [color_of(value) if colored else str(value) for value in values]
    return f"`--set mask_values={','.join(texts)}`"


def proposal(counts: Mapping[int, int], recipe: Recipe, classes: int | None = None) -> str:
    """The option for numbers that are not 0, 1, 2, ..., as the end of a message; "" if no option fits.

    Args:
        counts: Number -> pixels that have it.
        recipe: Its ``ignore_index`` is no class, unless so few numbers are left that it must be the foreground.
        classes: Number of classes, if known.
    """
    every = sorted(value for value, count in counts.items() if count)
    kept = [value for value in every if value != recipe.ignore_index]

    def fits(found: Sequence[int]) -> bool:
        return len(found) == classes if classes else 2 <= len(found) <= MOST_PROPOSED

    texts = []
    for found in (kept, every):
        if fits(found) and found != list(range(len(found))) and setting(found) not in texts:
            texts.append(setting(found))
    if not texts:
        return ""
    void = kept != every and not (len(texts) == 1 and texts[0] == setting(every))
    also = f" ({recipe.ignore_index} has no class; {texts[1]} makes it one)" if void and len(texts) == 2 else ""
    return f"; {texts[0]} makes each number a class, in this order{also}"


def color_proposal(counts: collections.Counter[int]) -> str:
    """The option for color masks, as the end of a message."""
    if len(counts) > MOST_PROPOSED:
        return f"; {len(counts)} colors are too many to propose a table: set mask_values=#rrggbb,#rrggbb,..."
    return (
        f"; {setting(sorted(counts), colored=True)} makes each color a class, in this order (`--set mask_void=...` "
        "takes colors without a class)"
    )
