"""The folder that `evaluate` writes: its files, and whether it may be replaced. Loads no Keras."""

from __future__ import annotations

from pathlib import Path

from ..escaping import printable
from ..files import remove_abandoned_beside
from ..state_files import read_json
from ..training.data.listing import first_names
from .run_folder import PREDICTIONS_FILE, check_out

KIND = "evaluation"  # this field of report.json tells it from other reports
CHANGED_FILE = "changed.csv"
FILES = ("report.json", "report.html", PREDICTIONS_FILE, CHANGED_FILE)


def check_folder(out: Path, model: Path, images: Path) -> None:
    """Raise ValueError unless ``out`` is new, empty, or holds an evaluation of the same file, which is replaced.

    Args:
        out: The folder to write.
        model: The file to evaluate.
        images: The folder of images, which must not contain ``out``.
    """
    check_out(out)
    if images.resolve() in (out.resolve(), *out.resolve().parents):
        raise ValueError(f"--out must not be in the folder of images, where it would be a class. Received: {out}")
    remove_abandoned_beside(out)
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if not there:
        return
    other = [name for name in there if name not in FILES]
    of = None
    if not other and "report.json" in there:
        found = read_json(out / "report.json", "Use another --out, or delete it.")
        if isinstance(found, dict) and found.get("kind") == KIND:
            of = found.get("name")
    if of is None:
        raise ValueError(
            f"--out must be a new folder, or one with an evaluation of {model.name}: use another. Received: {out} with "
            f"{first_names(other or there)}"
        )
    if of != printable(model.name):
        raise ValueError(
            f"{out} holds the evaluation of another file: use another --out. Received: that of {of}, --model {model}"
        )
