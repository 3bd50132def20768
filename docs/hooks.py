"""Let mkdocstrings read the packages under their installed names.

``training/`` and ``tflite/`` are installed as ``wavemix_tf.training`` and ``wavemix_tf.tflite``. The reference pages
are generated from source text, without imports, so a folder of links must have the layout of the installed package.
"""

from pathlib import Path
from typing import Any


def on_startup(**_: Any) -> None:
    root = Path(__file__).resolve().parents[1]
    package = root / "build" / "docs_source" / "wavemix_tf"
    package.mkdir(parents=True, exist_ok=True)
    sources = [*(root / "wavemix_tf").iterdir(), root / "training", root / "tflite"]
    wanted = {source.name: source for source in sources if source.name != "__pycache__"}
    for link in package.iterdir():
        if link.name not in wanted:
            link.unlink()
    for name, source in wanted.items():
        link = package / name
        if not link.is_symlink():
            link.symlink_to(source)
