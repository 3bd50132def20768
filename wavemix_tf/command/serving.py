"""A static server on this machine for the page of a run. Loads no Keras."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import shlex
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..state_files import DamagedFileError
from ..tflite.file.model_cards import read_card
from ..tflite.kit.existing import kit_digest
from ..tflite.kit.npm import CORE, LITERT_FILES, LITERT_JS_VERSION
from .terminal import note

HOST = "127.0.0.1"
OWN_NAMES = re.compile(r"(127\.0\.0\.1|localhost)(:\d+)?", re.IGNORECASE)  # in the header Host
MODULES = "WAVEMIX_TF_NODE_MODULES"  # environment variable: a node_modules folder
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}


def page_folder(out: Path, dtype: str) -> Path:
    """Folder of the page of a run's file for browsers."""
    return out / "exports" / f"web-{dtype}_kit" / "web"


def page_is_current(out: Path, dtype: str) -> bool:
    """Whether a run has the page of its file for browsers."""
    path = out / "exports" / f"web-{dtype}.tflite"
    try:
        digest = read_card(path)["sha256"] if path.is_file() else None
    except (OSError, DamagedFileError):  # `export` reports it
        return False
    folder = page_folder(out, dtype)
    return digest is not None and kit_digest(folder.parent) == digest and (folder / "index.html").is_file()


def litert_folder(assets: Path | None) -> Path:
    """Return the folder ``node_modules`` that has LiteRT.js.

    Args:
        assets: --assets: such a folder, or one that contains it; None: that of the environment variable ``MODULES``, or
            of the user's cache.

    Raises:
        FileNotFoundError: A file of LiteRT.js is missing.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wavemix-tf"
    given = assets or (Path(os.environ[MODULES]) if os.environ.get(MODULES) else None)
    wanted = given or cache
    for folder in (wanted, wanted / "node_modules"):
        if all((folder / file).is_file() for file in LITERT_FILES.values()):
            _check_version(folder)
            return folder
    command = shlex.join(["npm", "install", "--prefix", str(cache), f"{CORE}@{LITERT_JS_VERSION}"])
    raise FileNotFoundError(
        f"The page needs LiteRT.js once: `{command}` installs it for every run; --assets names another folder "
        f"node_modules. Received: {wanted} without {CORE}"
    )


def _check_version(folder: Path) -> None:
    try:
        found = json.loads((folder / CORE / "package.json").read_bytes())["version"]
    except (OSError, ValueError, KeyError, TypeError):
        found = "of an unknown version"
    if found != LITERT_JS_VERSION:
        note(f"LiteRT.js {found} runs the page; {LITERT_JS_VERSION} was tested")


class PageHandler(SimpleHTTPRequestHandler):
    """Serve the files of a page, and LiteRT.js below ``litert/``."""

    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}  # not those of the system

    def __init__(self, *arguments: Any, litert: Path, **options: Any) -> None:
        self.litert = litert
        super().__init__(*arguments, **options)

    def translate_path(self, path: str) -> str:
        """Return the file of a URL's path."""
        name = unquote(urlsplit(path).path).removeprefix("/litert/")
        return str(self.litert / LITERT_FILES[name]) if name in LITERT_FILES else super().translate_path(path)

    def send_head(self) -> Any:
        """Refuse another name of this machine: a foreign site whose name leads here could read the model."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not OWN_NAMES.fullmatch(hosts[0].strip()):
            self.send_error(403, "This server answers only to 127.0.0.1 and localhost")
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        """Refuse to list a folder."""
        self.send_error(404)

    def end_headers(self) -> None:
        """Forbid copies: the next run has a page at the same address."""
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def open_server(folder: Path, litert: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of a page on ``HOST``, which does not answer before ``serve_forever``.

    Args:
        folder: Folder of the page.
        litert: From ``litert_folder``.
        port: 0: any free one.

    Raises:
        OSError: The port is in use.
    """
    handler = functools.partial(PageHandler, litert=litert, directory=str(folder))
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise OSError(
            f"--port must be a free port: use another, or 0 for any. Received: --port {port} ({error.strerror})"
        ) from error
