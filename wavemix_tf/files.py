"""Write files and folders atomically."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# .<name>.<process>@<machine>.tmp<ending>, and .old for a folder being replaced. No machine means this machine.
_TEMPORARY = re.compile(
    r"\.(?P<name>.+)\.(?P<process>\d+)(?:@(?P<machine>[\w-]+))?\.(?P<kind>tmp|old)(?P<ending>\..*)?"
)
ABANDONED_S = 3600.0  # another machine's temporary file is abandoned after this time without a write


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; at the end it is flushed to disk and replaces ``path``.

    A reader sees the old file or the complete new one. After an error inside the block nothing has changed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The extension stays, because some writers choose a format by it.
    temporary = path.with_name(f".{path.stem}.{_process()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` atomically in UTF-8, with unchanged line ends."""
    write_bytes(path, text.encode())


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Raise an OSError unless files can be written to a folder, which need not exist; create nothing."""
    folder = Path(folder).absolute()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    if not made and not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # another process may have begun to use it
                path.rmdir()


@contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` to fill; at the end it replaces ``path``.

    A reader sees the old folder or the complete new one, and for an instant between them none. After an error inside
    the block nothing has changed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_process()}.tmp")
    displaced = path.with_name(f".{path.name}.{_process()}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        for file in filter(Path.is_file, temporary.rglob("*")):
            with file.open("rb") as written:
                os.fsync(written.fileno())
        if path.exists():  # a non-empty folder cannot be replaced by a rename
            os.replace(path, displaced)
        try:
            os.replace(temporary, path)
        except OSError:
            if displaced.exists():
                os.replace(displaced, path)
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if path.exists():
            shutil.rmtree(displaced, ignore_errors=True)


def is_temporary(path: Path) -> bool:
    """Return whether a name was created by ``replacing`` or ``replacing_folder``."""
    return _TEMPORARY.fullmatch(path.name) is not None


def remove_abandoned(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove incomplete files and folders of killed processes anywhere below ``folder``; keep finished ones.

    A folder that was being replaced is restored if the new one had not replaced it yet.

    Returns:
        The paths that were removed or restored.
    """
    found = []
    for place, folders, names in os.walk(folder):
        found += [path for name in [*folders, *names] if _remove_if_abandoned(path := Path(place, name))]
        folders[:] = [name for name in folders if _TEMPORARY.fullmatch(name) is None]
    return found


def remove_abandoned_beside(path: str | os.PathLike[str]) -> list[Path]:
    """As ``remove_abandoned``, for the incomplete versions of one file or folder, which are beside it."""
    path = Path(path).absolute()
    if not path.parent.is_dir():
        return []
    matches = filter(None, map(_TEMPORARY.fullmatch, sorted(os.listdir(path.parent))))
    beside = [path.with_name(match[0]) for match in matches if match["name"] == path.name]
    return [place for place in beside if _remove_if_abandoned(place)]


def _remove_if_abandoned(path: Path) -> bool:
    """Remove a temporary file or folder whose process is gone, or restore what it was replacing."""
    match = _TEMPORARY.fullmatch(path.name)
    if match is None or not _abandoned(path, match):
        return False
    target = path.with_name(match["name"])
    with contextlib.suppress(OSError):
        if match["kind"] == "old" and not target.exists():
            os.replace(path, target)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return True


def _abandoned(path: Path, match: re.Match[str]) -> bool:
    """Return whether the process of a temporary file is gone; on another machine, judge by the file's age."""
    try:
        changed = path.lstat().st_mtime
    except OSError:
        return False
    if match["machine"] not in (None, _machine()):
        return time.time() - changed > ABANDONED_S
    try:
        os.kill(int(match["process"]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # another user's process
        pass
    begun = Path("/proc", match["process"])  # a later process may have the same number
    return begun.exists() and begun.stat().st_mtime > changed + 1


def _process() -> str:
    return f"{os.getpid()}@{_machine()}"


def _machine() -> str:
    return re.sub(r"\W", "-", socket.gethostname()) or "-"
