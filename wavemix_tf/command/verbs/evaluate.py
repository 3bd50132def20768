"""``wavemix-tf evaluate``: a network on a folder of labeled images, alone or against a shipped one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from ..arguments import reading_settings
from ..evaluation_folder import check_folder
from ..options import Debug, Settings
from ..pages.terminal_tables import class_table, evaluation_table, gate_text
from ..run_folder import check_model_file
from ..terminal import announce_loading, console, print_to_stderr, styled
from ..verdict import VerdictError


def evaluate(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Images: one sub-folder per class.")],
    model: Annotated[Path, typer.Option("--model", metavar="FILE", help="A .keras or .tflite file.")],
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="SHIPPED", help="The file in use: fail if the new one must not replace it."),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0, help="Largest fall of the accuracy in percentage points (default: no significant fall)"),
    ] = None,
    max_changed: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="SHARE", help="Largest share of images that change class.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder (default: evaluation/ beside the model)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
    settings: Settings = None,
    debug: Debug = False,
) -> None:
    """Evaluate a file on labeled images: report, predictions and errors; with --against as a release gate."""
    if not folder.is_dir():
        raise FileNotFoundError(f"FOLDER must be a folder of images. Received: {folder}")
    check_model_file(None, model)
    if against is not None:
        check_model_file(None, against, "--against")
    for option, limit in (("--max-drop", max_drop), ("--max-changed", max_changed)):
        if limit is not None and against is None:
            raise ValueError(
                f"{option} compares with a shipped file: name it with --against. Received: {option} {limit:g}"
            )
        if limit is not None and not math.isfinite(limit):
            raise ValueError(f"{option} must be finite. Received: {limit}")
    given = reading_settings(settings)
    out = out or model.parent / "evaluation"
    check_folder(out, model, folder)
    announce_loading()
    from .. import evaluating
    from ..evaluated_files import open_file

    file = open_file(model, folder, given)
    shipped = None if against is None else open_file(against, folder, given)
    found = evaluating.evaluate(file, shipped, str(ctx.obj), max_drop, max_changed)
    found.write(out)
    if as_json:
        print(json.dumps(found.summary(), ensure_ascii=True, allow_nan=False))
    else:
        console.print(evaluation_table(found.report))
        if "classes" in found.report:
            console.print()
            console.print(class_table(found.report))
        console.print(styled((str(out / "report.html"), "bold")))
    if found.failures:
        raise VerdictError(f"{model} must not replace {against}: {'; '.join(found.failures)}")
    if shipped is not None:
        text = f"{model} may replace {against}: {gate_text(found.report)}"
        print_to_stderr(text) if as_json else console.print(text)
