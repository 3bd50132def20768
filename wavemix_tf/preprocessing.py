"""The rules by which images were resized to a network's input size, which models and exported files state.

``training.images`` applies them in training, ``resizing`` in integers.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from typing import Any

KERAS_ENTRY = "wavemix_tf.json"  # entry of a .keras file, which is a zip archive
TRIANGLE, NONE = RESIZES = ("triangle", "none")


@dataclass(frozen=True)
class Preprocessing:
    """How images were resized to a network's input size.

    Args:
        resize: "triangle": bilinear, with a wider filter when reducing ("antialiased"); "none": unchanged images, in
            tiles of the network's size.
        crop_to_aspect_ratio: Whether the center was first cropped to the network's proportions; False: stretched.
    """

    resize: str = TRIANGLE
    crop_to_aspect_ratio: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict, including the rules common to all networks of this package."""
        return {
            "resize": self.resize,
            "crop_to_aspect_ratio": self.crop_to_aspect_ratio,
            "transparency": "white",
            "orientation": "upright",
            "colour_profile": "ignored",
        }

    @property
    def words(self) -> str:
        """The rules as a phrase."""
        if self.resize == NONE:
            return "unchanged tiles of the input's size"
        crop = "the center cropped to the input's proportions, then " if self.crop_to_aspect_ratio else ""
        return f"{crop}resized with a triangle filter (bilinear, antialiased)"

    @classmethod
    def from_dict(cls, found: Any) -> Preprocessing | None:
        """Read the result of ``to_dict``; None if ``found`` has another form."""
        if not isinstance(found, dict) or found.get("resize") not in RESIZES:
            return None
        crop = found.get("crop_to_aspect_ratio")
        return cls(found["resize"], crop) if isinstance(crop, bool) else None


def write_to_keras_file(path: str | os.PathLike[str], preprocessing: Preprocessing) -> None:
    """Add the rules to a .keras file without them."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(KERAS_ENTRY, json.dumps({"preprocessing": preprocessing.to_dict()}))


def read_from_keras_file(path: str | os.PathLike[str]) -> Preprocessing | None:
    """Read the rules from a .keras file; None if it has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read(KERAS_ENTRY))
    except (KeyError, ValueError):  # no such entry, or not JSON
        return None
    return Preprocessing.from_dict(found.get("preprocessing")) if isinstance(found, dict) else None
