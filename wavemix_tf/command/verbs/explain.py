"""``wavemix-tf explain``: pictures of a network's wavelet bands and class evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..image_files import network_and_images
from ..options import Debug, Images, MaybeRun, SaveOption, Settings
from ..terminal import announce_loading


def explain(
    images: Images,
    out: MaybeRun = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FILE", help="A .keras file (default: the run's model.keras)")
    ] = None,
    save: SaveOption = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="Class to explain (default: the prediction)"),
    ] = None,
    settings: Settings = None,
    debug: Debug = False,
) -> None:
    """Draw the wavelet bands of the network's blocks and, for a classifier, the evidence map of a class."""
    if model is not None and model.suffix != ".keras":
        raise ValueError(f"--model must be a .keras file: an exported file has no blocks. Received: {model}")
    path, pictures, found = network_and_images(images, out, model, save, settings)
    announce_loading()
    from .. import explaining

    failed = explaining.explain_images(found, path, out, pictures, class_name)
    if failed:
        raise ValueError(f"{failed} of {len(found)} files gave no result")
