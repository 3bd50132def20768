"""Where a preset lies: a name, a folder, a ``file://`` or an ``hf://`` URL to a checked folder. Loads no Keras."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .authors_table import AUTHORS
from .folder import METADATA, PresetFolder, open_folder

SHIPPED = Path(__file__).parent / "shipped"
REINSTALL = "To restore it: `pip install --force-reinstall --no-deps wavemix-tf`."
FORMS = "a name of list_presets(), a folder, file:///FOLDER or hf://OWNER/REPOSITORY[@REVISION][/FOLDER]"
HF = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?:/(?P<folder>[\w./-]+?))?/?")


def shipped_names() -> list[str]:
    """Names of the presets that the package holds."""
    return sorted(path.name for path in SHIPPED.glob("*") if (path / METADATA).is_file())


def shipped(name: str) -> PresetFolder:
    """Open a preset of the package."""
    return open_folder(SHIPPED / name, REINSTALL)


def find(preset: str | os.PathLike[str]) -> PresetFolder:
    """Open the folder of a preset; one of Hugging Face is downloaded.

    Args:
        preset: See ``from_preset``.

    Raises:
        ValueError: an unknown name or URL.
        FileNotFoundError: no such folder.
    """
    text = os.fspath(preset)
    if text in shipped_names():
        return shipped(text)
    if text.startswith("hf:"):
        match = HF.fullmatch(text)
        if match is None or ".." in text:
            raise ValueError(f"An hf:// URL must be hf://OWNER/REPOSITORY[@REVISION][/FOLDER]. Received: {text!r}")
        from .hub import download_preset

        return download_preset(match["repo"], match["revision"], match["folder"] or "")
    if text.startswith("file:"):
        url = urlsplit(text)
        if url.netloc not in ("", "localhost") or not url.path.startswith("/"):
            raise ValueError(f"A file URL must be file:///FOLDER, of this machine. Received: {text!r}")
        return _local(Path(url2pathname(url.path)))
    if re.match(r"[a-z][a-z0-9+.-]+://", text):
        raise ValueError(f"A preset is {FORMS}. Received: {text!r}")
    path = Path(text).expanduser()
    if not path.is_dir() and (isinstance(preset, str) and not re.search(r"[/\\]", text)):
        names = ", ".join([*shipped_names(), *AUTHORS])
        raise ValueError(f"A preset is {FORMS}. Received: {text!r}; names: {names}")
    return _local(path)


def _local(path: Path) -> PresetFolder:
    if not path.is_dir():
        raise FileNotFoundError(f"A preset is {FORMS}. Received: {path}, which is no folder")
    return open_folder(path, "Copy it again from its source, or write it again with `wm.save_to_preset`.")
