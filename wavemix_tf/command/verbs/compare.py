"""``wavemix-tf compare``: train and measure several systems of one budget in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..arguments import choose_recipe
from ..options import Data, Debug, Overwrite, RecipeName, Settings
from ..run_folder import check_out
from ..terminal import announce_loading, console, styled


def compare(
    ctx: typer.Context,
    recipe: RecipeName = None,
    data: Data = None,
    systems: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Systems, or unchanged published networks (default: all)"),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="[TARGET:]LIMITS", help="Budget of each system, e.g. 50k-parameters, 3M-macs, android-cpu:1ms."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Training runs of each system.")] = 3,
    qat: Annotated[bool, typer.Option("--qat", help="Fine-tune before writing the int8 files.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder (default: runs/RECIPE_comparison)")
    ] = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train and measure several systems of one budget in the same way. Called again, it resumes."""
    from ...training.searching.systems import SYSTEMS, check_recipe, check_systems
    from ..budgets import flash_note, parse_budget

    chosen = choose_recipe(recipe, data, settings, None if overwrite else out)
    check_recipe(chosen)
    names = check_systems(SYSTEMS if systems is None else [name.strip() for name in systems.split(",")])
    out = out or Path("runs") / f"{chosen.name}_comparison"
    check_out(out)
    target, limits = parse_budget(budget) if budget else (None, {})
    if note := flash_note(target, limits):
        console.print(f"  {note}")
    announce_loading()
    from .. import tuning
    from ..comparing import Comparison
    from ..pages import comparison as comparison_page

    with tuning.device_costs(target, limits) as costs:
        command = str(ctx.obj.without("--overwrite"))
        comparison = Comparison(chosen, names, limits, target, costs, seeds, out, qat, command, overwrite)
        page = comparison.compare()
    console.print()
    console.print(comparison_page.to_table(comparison.record))
    console.print(styled((str(page), "bold"), ", comparison.csv, comparison.md"))
    failed = [name for name in names if "failed" in comparison.row(name)]
    if failed:
        raise ValueError(f"{len(failed)} of {len(names)} systems failed, see their rows: {', '.join(failed)}")
