"""A kit that is on the disk already: which file it was made for."""

from __future__ import annotations

import json
from pathlib import Path

VECTORS_JSON = "vectors.json"  # lies in test_vectors/<name>/, so that several kits of one app do not collide


def kit_digest(folder: Path) -> str | None:
    """sha256 of the file that a kit in ``folder`` was made for; None if there is no kit."""
    path = vectors_json(folder)
    try:
        return None if path is None else str(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def vectors_json(folder: Path) -> Path | None:
    """Path of a kit's ``vectors.json``; earlier versions wrote it into test_vectors/ itself."""
    found = (folder / "test_vectors").glob(f"*/{VECTORS_JSON}")
    return next((path for path in (*found, folder / "test_vectors" / VECTORS_JSON) if path.is_file()), None)
