"""List the image files of a folder, and identify each by its name and a digest of its content.

NumPy is loaded only where it is needed: the command starts faster.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from wavemix_tf.warning import warn_user

if TYPE_CHECKING:
    import numpy as np

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
UNREAD_EXTENSIONS = (".heic", ".heif", ".avif")  # images that Pillow, or some of its builds, cannot read
DIGEST_BLOCK = 4096  # bytes
READ_BYTES = 1 << 20  # per read of a file that is read completely
DIGEST_BLOCKS = 16  # equally spaced blocks of a longer JPEG or PNG: a dataset is not read twice before training
SAMPLED = (b"\xff\xd8\xff", b"\x89PNG")  # first bytes of JPEG and PNG
NAMES_SHOWN = 3


class Notes(list[str]):
    """Notes about a dataset: lines of text, and the skipped images.

    Attributes:
        left_out: (path, reason) of each skipped image.
        deep: Path of an image of more than 8 bits -> its largest value, or None if it cannot be read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left_out: list[tuple[str, str]] = []
        self.deep: dict[str, int | None] = {}

    def warn(self, text: str) -> None:
        """Add a line and also issue it as a warning, for callers without a terminal."""
        self.append(text)
        warn_user(text)

    def leave_out(self, bad: Sequence[tuple[str, str]], what: str) -> None:
        """Record skipped images, (path, reason) each, and warn about them; ``what`` describes them together."""
        if bad:
            self.left_out += bad
            self.warn(f"{len(bad)} {what}, the first: {bad[0][1]}")


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of the rows of a source.

    Args:
        names: Name of each, relative to the data folder, with "/".
        digests: Digest of the content of each.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]

    def take(self, rows: np.ndarray) -> Files:
        """Select rows."""
        return Files(tuple(self.names[row] for row in rows), tuple(self.digests[row] for row in rows))

    def hashes(self, salt: str) -> np.ndarray:
        """Hashes of the names, uint64 (N,); each depends only on its own name."""
        import numpy as np

        return np.array([name_hash(name, salt) for name in self.names], np.uint64)

    def order(self, salt: str) -> np.ndarray:
        """The rows in the order of their hashes: an added file does not change the order of the others."""
        return self.hashes(salt).argsort(kind="stable")

    def checksum(self) -> str:
        """Checksum of names and contents."""
        text = "\n".join(f"{name}\0{digest}" for name, digest in zip(self.names, self.digests, strict=True))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def name_hash(name: str, salt: str) -> int:
    """64-bit hash of a file's name; equal on all systems, whatever Unicode form they use for accents."""
    text = f"{salt}\0{unicodedata.normalize('NFC', name)}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def relative_name(path: str, root: Path) -> str:
    """A file's name relative to its data folder, with "/"."""
    return Path(path).relative_to(root).as_posix()


def describe(paths: Sequence[str], root: Path, also: Sequence[str] = ()) -> Files:
    """Describe paths below a data folder as ``Files``.

    Args:
        paths: Paths of the images.
        root: The data folder.
        also: Paths of one further file per image, such as its mask, which becomes part of the digest.
    """
    with ThreadPoolExecutor(max_workers=8) as pool:
        digests = list(pool.map(digest, paths, chunksize=64))
        if also:
            digests = [a + b for a, b in zip(digests, pool.map(digest, also, chunksize=64), strict=True)]
    return Files(tuple(relative_name(path, root) for path in paths), tuple(digests))


def digest(path: str) -> str:
    """Digest of a file's length and content; for a JPEG or PNG above 64 KiB, of 16 blocks at equal distances.

    A PNG ends with a checksum of its pixels, and an edit of a JPEG moves the bytes after it. An edit that changes
    neither the length nor a sampled block is not detected. Files of other formats are read completely, because an edit
    may change bytes in place.
    """
    size = os.path.getsize(path)
    found = hashlib.blake2b(str(size).encode(), digest_size=8)
    with open(path, "rb") as file:
        start = file.read(DIGEST_BLOCK)
        if size <= DIGEST_BLOCK * DIGEST_BLOCKS or not start.startswith(SAMPLED):
            found.update(start)
            while part := file.read(READ_BYTES):
                found.update(part)
        else:
            import numpy as np

            for place in np.linspace(0, size - DIGEST_BLOCK, DIGEST_BLOCKS).astype(np.int64):
                file.seek(int(place))
                found.update(file.read(DIGEST_BLOCK))
    return found.hexdigest()


@dataclasses.dataclass
class Listing:
    """Files below a folder.

    Attributes:
        images: Paths with an image extension, sorted.
        unread: Paths of images in an unsupported format (HEIC, AVIF), sorted.
        others: Paths of the other files, without hidden ones.
        repeated: Paths that link to a file or folder that is already listed, sorted.
    """

    images: list[str] = dataclasses.field(default_factory=list)
    unread: list[str] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)
    repeated: list[str] = dataclasses.field(default_factory=list)


def hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or metadata of another program."""
    return name.startswith((".", "__MACOSX"))


def folders_in(root: Path) -> list[Path]:
    """The subfolders of a folder, sorted; without hidden ones and without links to the folder or its parents."""
    above = {os.path.realpath(folder) for folder in (root, *Path(os.path.realpath(root)).parents)}
    return sorted(
        path
        for path in root.iterdir()
        if path.is_dir()
        and not path.name.startswith((".", "__"))
        and not (path.is_symlink() and os.path.realpath(path) in above)
    )


def list_files(roots: Sequence[Path], once: bool = True) -> list[Listing]:
    """List every file below some folders once, even if several links lead to it; one listing per folder.

    Links are followed after all regular files. A link to its own folder would never end, and an image that is listed
    twice could be both trained on and tested. Hidden files and folders, such as macOS's "._1.jpg" and "__MACOSX", are
    skipped.

    Args:
        roots: The folders.
        once: False: also list links to files that are already listed, such as a mask that many images share.
    """
    found, seen = [Listing() for _ in roots], set[str]()
    waiting = collections.deque[tuple[str, str, Listing]]()  # path, real path of a folder
    links = collections.deque[tuple[str, Listing]]()

    def add_path(path: str, real: str, is_folder: bool, listing: Listing) -> None:
        if real in seen and (once or is_folder):
            listing.repeated.append(path)
            return
        seen.add(real)
        if is_folder:
            waiting.append((path, real, listing))
        else:
            _classify_file(path, listing)

    for root, listing in zip(roots, found, strict=True):
        if root.is_symlink():
            links.append((str(root), listing))
        else:
            add_path(str(root), os.path.realpath(root), True, listing)
    while waiting or links:
        if not waiting:  # no folder is left: follow the links
            path, listing = links.popleft()
            add_path(path, os.path.realpath(path), os.path.isdir(path), listing)
            continue
        folder, real, listing = waiting.popleft()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                if hidden(entry.name):
                    continue
                if entry.is_symlink():
                    links.append((entry.path, listing))
                else:
                    add_path(entry.path, os.path.join(real, entry.name), entry.is_dir(), listing)
    for listing in found:
        for paths in (listing.images, listing.unread, listing.others, listing.repeated):
            paths.sort()
    return found


def _classify_file(path: str, found: Listing) -> None:
    ending = os.path.splitext(path)[1].lower()
    if ending in EXTENSIONS:
        found.images.append(path)
    elif ending in UNREAD_EXTENSIONS:
        found.unread.append(path)
    else:
        found.others.append(path)


def note_other_files(listings: Sequence[Listing], root: Path, notes: Notes, stop: bool) -> None:
    """Note the files of a folder's listings that are not images, or not in a supported format.

    Args:
        listings: The listings of the folder.
        root: The folder.
        notes: Gains the notes.
        stop: Whether images in an unsupported format raise ValueError; otherwise they are skipped.
    """
    others, unread, repeated = (
        [path for one in listings for path in getattr(one, kind)] for kind in ("others", "unread", "repeated")
    )
    if others:
        notes.append(f"{root}: {len(others)} files without an image extension ignored")
    bad = [(path, f"{_format(path)} is not supported: save it as JPEG or PNG. Received: {path}") for path in unread]
    if bad and stop:
        raise ValueError(bad_images_text(bad))
    notes.leave_out(bad, "HEIC or AVIF images skipped")
    rule = "A file must be listed once; this is a link to a listed file"
    notes.leave_out([(path, f"{rule}. Received: {path}") for path in repeated], "links skipped")


def _format(path: str) -> str:
    return "AVIF" if path.lower().endswith(".avif") else "HEIC"


def bad_images_text(bad: list[tuple[str, str]]) -> str:
    """Error message for unreadable images, (path, reason) each, if they are not skipped."""
    more = f"; and {len(bad) - 1:,} more: {first_names(path for path, _ in bad[1:])}" if len(bad) > 1 else ""
    return f"{bad[0][1]}{more}; on_bad_image='skip' skips such files"


def first_names(names: Iterable[str]) -> str:
    """The first few names, and the number of the others."""
    listed = sorted(names)
    more = f" and {len(listed) - NAMES_SHOWN:,} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(listed[:NAMES_SHOWN]) + more
