"""Files of ``benchmark --save``: pictures of an exported file, and node data for Model Explorer."""

from __future__ import annotations

from pathlib import Path

from ..files import write_bytes
from ..tflite.per_op.layer_costs import OpReport


def write(folder: Path, name: str, report: OpReport) -> list[Path]:
    """Write the pictures and node data of one file; existing ones are replaced.

    Args:
        folder: Made if it does not exist.
        name: Beginning of the file names.
        report: What is drawn.

    Returns:
        The paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for path, content in report.files().items():
        paths.append(folder / f"{name}_{path}")
        write_bytes(paths[-1], content)
    return paths
