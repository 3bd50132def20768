"""The JSON card beside every exported file: what it must hold, and whether it is that file's. Loads no Keras."""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import Any

from wavemix_tf.state_files import Fields, check_fields, read_json, reading

FIELDS: Fields = {
    **dict.fromkeys(("target", "dtype", "io_dtype", "model", "model_sha256", "sha256"), str),
    **dict.fromkeys(("op_sequence", "class_names", "substituted_activations", "input_ranges", "float_layers"), list),
    "upsample_form": (str, type(None)),
    "arena_bytes": (int, type(None)),
    "verification": dict,
}
VERIFICATION: Fields = {"fidelity": dict, "error_bound_steps": dict}


def card_path(path: Path) -> Path:
    """Of the card of the file at ``path``."""
    return path.with_suffix(".json")


def remedy(path: Path) -> str:
    """What to do about a damaged file or card."""
    target, _, dtype = path.stem.rpartition("-")
    if path.parent.name != "exports" or not target:  # nobody knows where it came from
        return (
            f"Copy {path.name} again from where it was made, or write it anew: `wavemix-tf export --out RUN --target "
            "TARGET --overwrite`, or Artifact.save."
        )
    words = ["--out", str(path.parent.parent), "--target", target, "--dtype", dtype, "--overwrite"]
    return f"To write {path.name} anew: `{shlex.join(['wavemix-tf', 'export', *words])}`, or Artifact.save."


def read_card(path: Path) -> dict[str, Any]:
    """The card of the file at ``path``.

    Raises:
        FileNotFoundError: there is none.
        DamagedFileError: the card is cut off or no card.
    """
    card = card_path(path)
    with reading(card, remedy(path)):
        found = read_json(card, remedy(path), FIELDS)
        check_fields(found["verification"], VERIFICATION)
        for name in ("op_sequence", "class_names", "substituted_activations", "float_layers"):
            if not all(isinstance(item, str) for item in found[name]):
                raise ValueError(f"the field {name!r} must be a list of texts")
        return dict(found)


def read_content(path: Path, card: dict[str, Any]) -> bytes:
    """The file at ``path``, if it is the one that its card describes.

    Raises:
        DamagedFileError: its digest is another.
    """
    content = path.read_bytes()
    with reading(path, remedy(path)):
        if hashlib.sha256(content).hexdigest() != card["sha256"]:
            raise ValueError(f"it is not the file that its model card {card_path(path).name} describes")
    return content
