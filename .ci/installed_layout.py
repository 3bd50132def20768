"""A folder of links that has the layout of the installed package, for tools that read source text.

``training/`` and ``tflite/`` are installed as ``wavemix_tf.training`` and ``wavemix_tf.tflite``. mypy and mkdocstrings
do not read ``package-dir`` of pyproject.toml, so they need folders of these names.
"""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def link_installed_layout() -> Path:
    """Make or update the links. Returns the folder that contains ``wavemix_tf``, as site-packages does."""
    folder = ROOT / "build" / "installed_layout"
    package = folder / "wavemix_tf"
    package.mkdir(parents=True, exist_ok=True)
    wanted = {source.name: source for source in (ROOT / "wavemix_tf").iterdir() if source.name != "__pycache__"}
    mapped = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-dir"]
    wanted |= {name.removeprefix("wavemix_tf."): ROOT / place for name, place in mapped.items() if "." in name}
    for link in package.iterdir():
        if link.name not in wanted:
            link.unlink()
    for name, source in wanted.items():
        link = package / name
        if not link.is_symlink():
            link.symlink_to(source)
    return folder
