"""The IMAGE arguments of `predict` and `explain`, and the paths of the output pictures. Loads no Keras."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..files import replacing
from ..training.data.listing import EXTENSIONS, first_names, list_files
from .run_folder import check_model_file, check_out, saved_recipe
from .terminal import note

if TYPE_CHECKING:
    import numpy as np

STDIN = "-"
# First bytes of the formats that `read_image` supports.
MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n",
    b"GIF8",
    b"BM",
    b"RIFF",
    b"II*\0",
    b"MM\0*",
    b"P2\n",
    b"P3\n",
    b"P5\n",
    b"P6\n",
)


@dataclass(frozen=True)
class ImageFile:
    """One image to read.

    Args:
        name: Name in the output: its path, or "-" for bytes of standard input.
        stem: Name of pictures made from it: its path relative to the given folder, without the extension.
        content: The bytes; None: read from the file ``name``.
    """

    name: str
    stem: str
    content: bytes | None = field(default=None, repr=False)

    def read(self, channels: int, deep: dict[str, int]) -> np.ndarray:
        """Read the image as uint8 (H, W, channels); ValueError or OSError if that fails.

        Args:
            channels: 1 or 3.
            deep: The image's largest value is added under its name, see ``read_image``.
        """
        from ..training.images import read_image  # it needs NumPy

        if self.content is None:
            if Path(self.name).is_dir():
                raise IsADirectoryError(f"An image must be a file. Received: the folder {self.name}")
            if not Path(self.name).exists():
                raise FileNotFoundError(f"There is no file {self.name}")
            return read_image(self.name, channels, deep)
        with tempfile.TemporaryDirectory() as folder:  # `read_image` takes files
            path = Path(folder) / "stdin"
            path.write_bytes(self.content)
            found: dict[str, int] = {}
            pixels = read_image(path, channels, found)
            deep.update((self.name, peak) for peak in found.values())
            return pixels


def network_and_images(
    words: Sequence[str], out: Path | None, model: Path | None, save: Path | None, settings: Sequence[str] | None
) -> tuple[Path, PictureFolder, list[ImageFile]]:
    """Return the model file, the folder for pictures, and the images of a `predict` or `explain` command."""
    if out is None and model is None:
        raise typer.BadParameter("name a run folder with --out, or a file with --model.")
    if out is not None:
        saved_recipe(out, settings)
    elif settings:
        raise ValueError("--set needs a run folder: give it with --out. Received: --set without --out")
    path = check_model_file(out, model)
    if save is not None:
        check_out(save, "--save")
    save = save or (out or Path()) / "predictions"
    found = find_images(words, save)
    return path, PictureFolder(save, found), found


def find_images(words: Sequence[str], save: Path) -> list[ImageFile]:
    """Find the images of IMAGE...

    Args:
        words: Files; folders, whose images are taken recursively in the order of their paths; "-" for standard input,
            which holds the bytes of one image or a list of paths, one per line.
        save: Folder for pictures; skipped if it is inside a folder of ``words``.

    Raises:
        FileNotFoundError: A path does not exist, or a folder has no image. Paths from standard input are checked later,
            when they are read.
    """
    found: list[ImageFile] = []
    for word in words:
        path = Path(word)
        if word == STDIN:
            found += _from_stdin(sys.stdin.buffer.read())
        elif path.is_dir():
            inside = _below(path, save)
            if not inside:
                raise FileNotFoundError(f"There are no images ({', '.join(EXTENSIONS)}) below {path}")
            found += inside
        elif path.is_file() or path.is_fifo():
            found.append(ImageFile(word, path.stem))
        else:
            raise FileNotFoundError(f"There is no file {word}")
    return found


def _below(folder: Path, save: Path) -> list[ImageFile]:
    (listing,) = list_files([folder])
    own = save.resolve()
    if listing.unread:
        note(f"HEIC and AVIF are not supported, save them as JPEG or PNG: {first_names(listing.unread)}")
    below = folder.resolve() in own.parents  # skip pictures made from the folder's images
    paths = [path for path in map(Path, listing.images) if not (below and own in path.resolve().parents)]
    return [ImageFile(str(path), path.relative_to(folder).with_suffix("").as_posix()) for path in sorted(paths)]


def _from_stdin(content: bytes) -> list[ImageFile]:
    if content.startswith(MAGIC):
        return [ImageFile(STDIN, "stdin", content)]
    separator = b"\0" if b"\0" in content else b"\n"  # `find -print0` ends paths with a zero
    names = [os.fsdecode(line.strip(b"\r\n")) for line in content.split(separator)]
    found = [ImageFile(name, Path(name).stem) for name in names if name.strip()]
    if not found:
        raise ValueError("Standard input must hold an image or paths, one per line. Received: nothing")
    return found


class PictureFolder:
    """Assign every picture a unique path in one folder, different from all inputs.

    Args:
        folder: Created when the first picture is written.
        inputs: Images that must not be overwritten.
    """

    def __init__(self, folder: Path, inputs: Iterable[ImageFile]) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--save must be a folder. Received: {folder}")
        self.folder = folder
        self.written = 0
        self._taken = {Path(image.name).resolve() for image in inputs if image.content is None}

    def places(self, stem: str, forms: Sequence[str]) -> list[Path]:
        """Return a free path for each of ``forms``, such as "{}_mask.png", with the same stem in place of "{}".

        Files of an earlier call are overwritten: the same call again writes the same pictures.
        """
        number, parent, name = 1, Path(stem).parent, Path(stem).name
        while True:
            numbered = name if number == 1 else f"{name}_{number}"
            paths = [self.folder / parent / form.format(numbered) for form in forms]
            if not any(path.resolve() in self._taken for path in paths):
                self._taken.update(path.resolve() for path in paths)
                return paths
            number += 1

    def save(self, path: Path, picture: Any) -> str:
        """Write a Pillow image or a uint8 array as PNG; return the path as text."""
        from PIL import Image

        with replacing(path) as temporary:
            (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(temporary, format="PNG")
        self.written += 1
        return str(path)
