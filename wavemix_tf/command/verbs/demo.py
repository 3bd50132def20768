"""``wavemix-tf demo``: a run's own model in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import serving
from ..arguments import check_export
from ..options import Debug, DtypeOption, MaybeRun, Settings
from ..run_folder import saved_recipe
from ..terminal import console
from .export import export

LARGEST_PORT = 65535


def demo(
    ctx: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run folder, instead of --out.")] = None,
    out: MaybeRun = None,
    dtype: DtypeOption = None,
    port: Annotated[int, typer.Option(min=0, max=LARGEST_PORT, help="Port on 127.0.0.1; 0: any free one.")] = 8000,
    assets: Annotated[
        Path | None,
        typer.Option(
            "--assets", metavar="DIR", help="A node_modules folder with LiteRT.js (default: the user's cache)"
        ),
    ] = None,
    settings: Settings = None,
    debug: Debug = False,
) -> None:
    """Serve a page on 127.0.0.1 that runs the run's model in the browser; pictures stay in the page."""
    if (folder is None) == (out is None):
        raise typer.BadParameter("name one run folder: wavemix-tf demo RUN, or demo --out RUN.")
    out = out or folder or Path()
    saved_recipe(out, settings)
    ((target, kind),) = check_export("web", dtype)
    litert = serving.litert_folder(assets)
    page = serving.page_folder(out, kind)
    with serving.open_server(page, litert, port) as server:
        if not serving.page_is_current(out, kind):
            export(ctx, out=out, target=target, dtype=kind, kit=True, settings=settings)
        if not (page / "index.html").is_file():
            raise ValueError(
                "The page takes one picture and shows classes, a mask or an enlarged picture. Received: "
                f"{page.parent.name.removesuffix('_kit')}.tflite, which has another input or output"
            )
        console.print(f"http://{serving.HOST}:{server.server_port}/  (Ctrl-C stops)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            console.print("Stopped.")
