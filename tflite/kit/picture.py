"""Pictures in a deployment kit: code that makes the input from them, and the pictures of the test vectors."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from wavemix_tf.preprocessing import NONE, Preprocessing
from wavemix_tf.resizing import fit_picture

from ..file.flatbuffer import FileInfo, TensorInfo, to_input
from ..graph.inputs import generated_images
from . import picture_templates as templates
from .tensors import c_float, is_image

LARGEST_SIDE = 640  # pixels, of a picture in a kit; a larger one is reduced first
C_TYPES = {"float32": "float", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t"}
KOTLIN_ARRAYS = {"float32": "FloatArray", "int8": "ByteArray", "uint8": "ByteArray"}


@dataclass(frozen=True)
class PictureInput:
    """The only input of a file that takes pictures.

    Args:
        tensor: The input.
        limits: Range of the model's values.
        values: Input value for each level of 0 to 255, of its dtype.
        preprocessing: The rules; if ``known`` is False they are assumed.
        known: Whether the artifact states them.
    """

    tensor: TensorInfo
    limits: tuple[float, float]
    values: np.ndarray
    preprocessing: Preprocessing
    known: bool

    @classmethod
    def of(cls, artifact: Any, info: FileInfo) -> PictureInput | None:
        """None if the input is not one picture, or if the meaning of its levels is unknown."""
        tensor, limits = info.inputs[0], artifact.input_ranges[0]
        if len(info.inputs) != 1 or not is_image(tensor) or limits is None or tensor.dtype not in C_TYPES:
            return None
        found = artifact.preprocessing
        low, high = map(np.float32, limits)
        values = to_input(tensor, np.arange(256, dtype=np.float32) / 255 * (high - low) + low)
        return cls(tensor, limits, values, found or Preprocessing(), found is not None)

    @property
    def words(self) -> str:
        """The rules as a phrase."""
        _, height, width, _ = self.tensor.shape
        return f"{self.preprocessing.words}, {height} x {width} (height x width){self.doubt}"

    @property
    def doubt(self) -> str:
        """What to add to the rules where the artifact does not state them."""
        return "" if self.known else "; this is assumed: the rule of training is unknown"

    @property
    def same_size(self) -> bool:
        """Whether a picture must have the input's size: nothing is resized."""
        return self.preprocessing.resize == NONE

    @property
    def level(self) -> float:
        """The largest difference between the values of neighboring levels."""
        return float(np.diff(self.values.astype(np.float64)).max())

    def levels(self, picture: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 1, 3 or 4) -> uint8 (H, W, C), by the same computation as the kit's code."""
        _, height, width, channels = self.tensor.shape
        picture = np.asarray(_image(picture).convert("RGB" if channels == 3 else "L")).reshape(*picture.shape[:2], -1)
        if self.same_size:
            return picture
        return fit_picture(picture, height, width, self.preprocessing.crop_to_aspect_ratio)

    def picture(self, image: np.ndarray) -> np.ndarray:
        """Float (H, W, C) as the model takes it -> uint8 (H, W, C), the picture that becomes this input."""
        low, high = self.limits
        return np.clip(np.round(255 * ((image.astype(np.float64) - low) / (high - low))), 0, 255).astype(np.uint8)

    def generated(self, largest_bytes: int) -> np.ndarray:
        """uint8 (h, w, 4): a picture of another size and other proportions, partly transparent."""
        _, height, width, _ = self.tensor.shape
        if not self.same_size:
            height, width = 2 * height + 3, width + width // 2 + 2
            if 4 * height * width > largest_bytes:
                height, width = 43, 61
        colours = np.round(255 * generated_images((height, width, 3), 1, seed=5)[0])
        alpha = np.clip(np.linspace(-60, 420, width)[None] + 60 * np.cos(np.linspace(0, 7, height))[:, None], 0, 255)
        return np.concatenate([colours, np.round(alpha)[..., None]], -1).astype(np.uint8)


def _image(picture: np.ndarray) -> Any:
    """A Pillow image without transparency, as ``training.images.read_image`` makes it."""
    from PIL import Image

    if picture.shape[2] != 4:
        return Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    whole = Image.fromarray(picture)
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole)


def check_picture(picture: Any) -> np.ndarray:
    """uint8 (h, w, 1, 3 or 4) with at most ``LARGEST_SIDE`` pixels per side; a ValueError for an invalid picture."""
    from PIL import Image

    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise ValueError(
            "pictures must be uint8 arrays (height, width, 1, 3 or 4). "
            f"Received: an array of {array.dtype}, shape {array.shape}"
        )
    scale = LARGEST_SIDE / max(array.shape[:2])
    if scale >= 1:
        return array
    size = max(1, round(array.shape[1] * scale)), max(1, round(array.shape[0] * scale))
    plain = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    return np.asarray(plain.resize(size, Image.Resampling.BOX)).reshape(size[1], size[0], -1)


def png(picture: np.ndarray) -> bytes:
    """A picture as a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(file, format="PNG")
    return file.getvalue()


def picture_h(taken: PictureInput, c_name: str) -> str:
    """A C header that makes the input from a picture."""
    name = f"{c_name}_picture_values"
    crop = taken.preprocessing.crop_to_aspect_ratio
    same = taken.same_size
    forms = {"level": "level", "float": "(float)level", "share": "(float)level / 255.0f", "looked up": f"{name}[level]"}
    value, table = _value(taken, {**forms, "narrowed": f"({C_TYPES[taken.tensor.dtype]})({{}})"})
    if table:
        rows = _rows(table)
        table_text = f"\n// For each level.\nstatic const {C_TYPES[taken.tensor.dtype]} {name}[256] = {{\n{rows}}};\n"
    fit = (templates.C_SAME_SIZE if same else templates.C_SIZES).substitute(name=c_name)
    return templates.PICTURE_H.substitute(
        **_common(taken),
        name=c_name,
        guard=f"{c_name.upper()}_PICTURE_H_",
        table=table_text if table else "",
        levels=templates.C_RGB if taken.tensor.shape[-1] == 3 else templates.C_GREY,
        sizes="height and width are not the network's" if same else "a side is not in 1 to 65535 pixels",
        fit=fit + (templates.C_CROP.substitute(name=c_name) if crop and not same else ""),
        ctype=C_TYPES[taken.tensor.dtype],
        value=value,
    )


def picture_check(artifact: Any, info: FileInfo, c_name: str) -> str:
    """Statements of ``main.cc`` that make the last vector's input from its picture again; "" if there is none."""
    taken = PictureInput.of(artifact, info)
    if taken is None:
        return ""
    return templates.PICTURE_CHECK.substitute(name=c_name, ctype=C_TYPES[taken.tensor.dtype])


def picture_kt(taken: PictureInput, file: str, class_name: str) -> str:
    """A Kotlin object that makes the input from a picture, without Android classes."""
    crop, same = taken.preprocessing.crop_to_aspect_ratio, taken.preprocessing.resize == NONE
    array = KOTLIN_ARRAYS[taken.tensor.dtype]
    forms = {"level": "levels[i]", "float": "levels[i].toFloat()", "share": "levels[i] / 255f"}
    value, table = _value(taken, {**forms, "looked up": "VALUES[levels[i]]", "narrowed": "({}).toByte()"})
    text = ""
    if table:
        kind = "floatArrayOf" if array == "FloatArray" else "byteArrayOf"
        if taken.tensor.dtype == "uint8":  # Kotlin's bytes have a sign
            table = [str(int(value) - 256 if int(value) > 127 else int(value)) for value in table]
        text = f"    private val VALUES = {kind}( // of each level\n{_rows(table, 8)},\n    )\n".replace(
            ",\n    )", "\n    )"
        )
    return templates.PICTURE_KT.substitute(
        **_common(taken),
        file=file,
        class_name=class_name,
        table=text,
        levels=templates.KT_RGB if taken.tensor.shape[-1] == 3 else templates.KT_GREY,
        fit=templates.KT_SAME_SIZE if same else templates.KT_CROP if crop else templates.KT_WHOLE,
        input_array=array,
        value=value,
    )


def _common(taken: PictureInput) -> dict[str, Any]:
    _, height, width, channels = taken.tensor.shape
    return {
        "words": taken.words,
        "height": height,
        "width": width,
        "channels": channels,
        "channel_words": "red, green, blue" if channels == 3 else "gray",
    }


def _value(taken: PictureInput, forms: dict[str, str]) -> tuple[str, list[str]]:
    """(expression of the input's value for a level, its lookup table, or an empty list)."""
    values, levels = taken.values, np.arange(256)
    if values.dtype == np.float32:
        if np.array_equal(values, levels.astype(np.float32) / 255):
            return forms["share"], []
        if np.array_equal(values, levels):
            return forms["float"], []
        return forms["looked up"], [c_float(value) for value in values]
    for zero, expression in ((0, forms["level"]), (128, f"{forms['level']} - 128")):
        if np.array_equal(values.astype(np.int64), levels - zero):
            return forms["narrowed"].format(expression), []
    return forms["looked up"], [str(int(value)) for value in values]


def _rows(texts: list[str], indent: int = 4) -> str:
    return ",\n".join(" " * indent + ", ".join(texts[i : i + 12]) for i in range(0, len(texts), 12))
