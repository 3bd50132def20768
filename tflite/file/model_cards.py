"""The JSON card beside every exported file: checks of its content, and that it is the file's. Loads no Keras."""

from __future__ import annotations

import hashlib
import math
import re
import shlex
from pathlib import Path
from typing import Any

from wavemix_tf.state_files import Fields, check_fields, read_json, reading

from ..names import DTYPES, IO_DTYPES

FIELDS: Fields = {
    **dict.fromkeys(("target", "dtype", "io_dtype", "model", "model_sha256", "sha256"), str),
    **dict.fromkeys(("op_sequence", "class_names", "substituted_activations", "input_ranges", "float_layers"), list),
    "upsample_form": (str, type(None)),
    "arena_bytes": (int, type(None)),
    "verification": dict,
}
VERIFICATION: Fields = {"fidelity": dict, "error_bound_steps": dict}


def card_path(path: Path) -> Path:
    """Path of the card of the file at ``path``."""
    return path.with_suffix(".json")


def remedy(path: Path) -> str:
    """Instructions for a damaged file or card."""
    target, _, dtype = path.stem.rpartition("-")
    if path.parent.name != "exports" or not target:  # its origin is unknown
        return (
            f"Copy {path.name} again from its source, or write it again: `wavemix-tf export --out RUN --target "
            "TARGET --overwrite`, or Artifact.save."
        )
    words = ["--out", str(path.parent.parent), "--target", target, "--dtype", dtype, "--overwrite"]
    return f"To write {path.name} again: `{shlex.join(['wavemix-tf', 'export', *words])}`, or Artifact.save."


def read_card(path: Path) -> dict[str, Any]:
    """The card of the file at ``path``.

    Raises:
        FileNotFoundError: there is none.
        DamagedFileError: the card is truncated or not a card.
    """
    card = card_path(path)
    with reading(card, remedy(path)):
        found = read_json(card, remedy(path), FIELDS)
        check_fields(found["verification"], VERIFICATION)
        _check_values(found)
        for name in ("op_sequence", "class_names", "substituted_activations", "float_layers"):
            if not all(isinstance(item, str) for item in found[name]):
                raise ValueError(f"the field {name!r} must be a list of strings")
        layers = found.get("op_layers", [])  # cards of 1.0 had none
        if not isinstance(layers, list) or not all(isinstance(item, str) for item in layers):
            raise ValueError("the field 'op_layers' must be a list of strings")
        labels = path.with_suffix(".labels.txt")
        names = "".join(f"{name}\n" for name in found["class_names"])
        if labels.is_file() and labels.read_bytes().decode("utf-8").replace("\r\n", "\n") != names:
            raise ValueError(f"the classes of {card.name} and {labels.name} differ")
        return dict(found)


def _check_values(found: dict[str, Any]) -> None:
    """Raise a ValueError if a field has a value that no version writes."""
    for name, known in (("dtype", DTYPES), ("io_dtype", IO_DTYPES)):
        if found[name] not in known:
            raise ValueError(f"the field {name!r} must be one of {', '.join(known)}. Received: {found[name]!r}")
    for name in ("sha256", "model_sha256"):
        if not re.fullmatch(r"[0-9a-f]{64}", found[name]):
            raise ValueError(f"the field {name!r} must be a SHA-256 digest in hexadecimal digits")
    for limits in found["input_ranges"]:
        if limits is not None and not (
            isinstance(limits, list)
            and len(limits) == 2
            and all(isinstance(limit, int | float) and math.isfinite(limit) for limit in limits)
            and limits[0] < limits[1]
        ):
            raise ValueError(f"the field 'input_ranges' must contain pairs (low, high) or null. Received: {limits!r}")


def read_content(path: Path, card: dict[str, Any]) -> bytes:
    """The file at ``path``, if it is the one that its card describes.

    Raises:
        DamagedFileError: its digest differs.
    """
    content = path.read_bytes()
    with reading(path, remedy(path)):
        if hashlib.sha256(content).hexdigest() != card["sha256"]:
            raise ValueError(f"it is not the file that its model card {card_path(path).name} describes")
    return content
