"""``wavemix-tf predict``: classes, masks or enlarged pictures of images."""

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
        typer.Option("--model", metavar="FILE", help="A .keras or .tflite file  [default: the run's model.keras]"),
    ] = None,
    save: SaveOption = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Of a mask also the image with the mask over it.")] = False,
    tile: Annotated[
        bool, typer.Option("--tile", help="Run overlapping tiles of a large image instead of making it small.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    top: Annotated[
        int | None, typer.Option(min=1, help="Classes to show  [default: 3; of a mask all]", show_default=False)
    ] = None,
    settings: Settings = None,
    debug: Debug = False,
) -> None:
    """Classify, segment or enlarge images with a Keras model or an exported file, as its shapes tell."""
    path, pictures, found = network_and_images(images, out, model, save, settings)
    announce_loading()
    from .. import networks, predicting

    network = networks.load_network(path, out, len(found))
    failed = predicting.predict_images(found, network, pictures, top=top, tile=tile, overlays=overlay, as_json=as_json)
    if failed:
        raise ValueError(f"{failed} of {len(found)} files gave no result")
