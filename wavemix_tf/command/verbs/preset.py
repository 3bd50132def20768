"""``wavemix-tf preset``: a finished run folder as a preset, for ``wavemix_tf.from_preset``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...presets.folder import check_replaceable
from ..options import TEST_IMAGES, Debug, RunFolder, Settings, TestImages
from ..preset_options import PresetOptions, card_line, data_facts, files_of, place_of
from ..run_folder import check_out, check_state, saved_recipe
from ..terminal import announce_loading


def preset(
    ctx: typer.Context,
    out: RunFolder,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="The preset (default: preset/ in the run folder)")
    ] = None,
    ship: Annotated[bool, typer.Option("--ship", help="Write it into the package of this checkout.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the preset (default: the recipe's)")] = None,
    description: Annotated[str, typer.Option(help="A sentence for the card.")] = "",
    license: Annotated[str, typer.Option(help="License of the weights, as SPDX names it.")] = "Apache-2.0",
    data_source: Annotated[str | None, typer.Option(help="Where the data is from (default: known datasets')")] = None,
    data_license: Annotated[str | None, typer.Option(help="License of the data (default: known datasets')")] = None,
    add_note: Annotated[list[str] | None, typer.Option(help="A sentence for the card; repeatable.")] = None,
    without_quantized: Annotated[
        bool, typer.Option("--without-quantized", help="Omit the quantized model; its files stay.")
    ] = False,
    sample: Annotated[int, typer.Option(min=0, help="Test images that the preset stores for later checks.")] = 64,
    test_images: TestImages = TEST_IMAGES,
    settings: Settings = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a preset that exists.")] = False,
    debug: Debug = False,
) -> None:
    """Write a finished run as a preset: float16 weights, quantized model, verified files, measured card."""
    recipe = saved_recipe(out, settings)
    chosen = name or recipe.name
    if not chosen.isidentifier():
        raise ValueError(f"The name of a preset must consist of letters, digits and _. Received: {chosen}")
    folder = place_of(out, to, ship, chosen)
    check_out(folder.parent, "--to")
    try:
        check_replaceable(folder, overwrite)
    except FileExistsError:
        raise FileExistsError(
            f"--to must be free, or a preset and --overwrite given. Received: {folder}, which exists"
        ) from None
    source, terms = data_facts(recipe, data_source, data_license)
    files = files_of(out, recipe)
    check_state(out, exports=True)
    options = PresetOptions(
        line=card_line(ctx.obj.without("--overwrite"), out, to, chosen),
        run=out,
        to=folder,
        name=chosen,
        description=description,
        license=license,
        data_source=source,
        data_license=terms,
        notes=tuple(add_note or ()),
        files=files,
        quantized=not without_quantized,
        sample=sample,
        test_images=test_images,
        ship=ship,
        overwrite=overwrite,
    )
    announce_loading()
    from .. import steps
    from ..preset_making import make_preset, report

    report(make_preset(options, recipe, steps.load_images(recipe, out)))
