"""``wavemix-tf predict``: classify, segment or enlarge images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..image_files import network_and_images
from ..options import Debug, Images, MaybeRun, SaveOption, Settings
from ..terminal import announce_loading


def predict(
    images: Images,
    out: MaybeRun = None,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="FILE", help="A .keras or .tflite file (default: the run's model.keras)"),
    ] = None,
    save: SaveOption = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also save the image with its mask over it.")] = False,
    tile: Annotated[
        bool, typer.Option("--tile", help="Run a large image in overlapping tiles instead of shrinking it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    top: Annotated[
        int | None, typer.Option(min=1, help="Classes to show (default: 3; all of a mask)", show_default=False)
    ] = None,
    settings: Settings = None,
    debug: Debug = False,
) -> None:
    """Classify, segment or enlarge images with a Keras model or an exported file."""
    path, pictures, found = network_and_images(images, out, model, save, settings)
    announce_loading()
    from .. import networks, predicting

    network = networks.load_network(path, out, len(found))
    failed = predicting.predict_images(found, network, pictures, top=top, tile=tile, overlays=overlay, as_json=as_json)
    if failed:
        raise ValueError(f"{failed} of {len(found)} files gave no result")
