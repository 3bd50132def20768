"""``wavemix-tf tune``: search for the best network within a device's budget."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from ...training.searching.spaces import SPACES
from ..arguments import choose_recipe
from ..command_line import shell
from ..options import Data, Debug, Overwrite, RecipeName, Settings, alternatives
from ..run_folder import check_out
from ..terminal import announce_loading, console, styled


def tune(
    ctx: typer.Context,
    recipe: RecipeName = None,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder (default: runs/RECIPE_search)")
    ] = None,
    settings: Settings = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="[TARGET:]LIMITS",
            help="E.g. mcu:64KB-ram,100KB-flash (of the file only; 256KB-firmware also counts the program that runs "
            "it), android-cpu:5ms or 12k-parameters.",
        ),
    ] = None,
    board: Annotated[
        str | None, typer.Option(metavar="NAME", help="A board's RAM and flash as the budget; check lists the names.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="With --board: mcu (the default, TensorFlow Lite Micro) or c (the program in C)."),
    ] = None,
    space: Annotated[str, typer.Option(help=alternatives(SPACES))] = "depth-width",
    tuner: Annotated[str, typer.Option(help="bayesian, hyperband, random or grid")] = "bayesian",
    max_trials: Annotated[int, typer.Option(min=1, help="Trials, including those of earlier calls.")] = 20,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of each trial (default: half of the recipe's)")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="A metric such as val_accuracy (the default), or val_loss")
    ] = None,
    minimize: Annotated[
        str | None,
        typer.Option(
            metavar="[TARGET:]KIND",
            help="With --min-score: search for the cheapest network that keeps the score, e.g. mcu:instructions, "
            "mcu:ram, android-cpu:latency or parameters.",
        ),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(metavar="SCORE", help="Least value of the objective, e.g. 0.97 of accuracy, 33.5 of dB."),
    ] = None,
    qat: Annotated[bool, typer.Option("--qat", help="Score each trial in int8, after a short fine-tuning.")] = False,
    median_stopping: Annotated[
        bool,
        typer.Option("--median-stopping", help="End trials whose learning curve is below the median of the others."),
    ] = False,
    warm_start: Annotated[
        bool,
        typer.Option("--warm-start", help="Begin a trial with the weights of the best smaller network found so far."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the choice of candidates.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Training processes to start on this machine.")] = 1,
    role: Annotated[str | None, typer.Option(help="chief or worker, for a search on several machines")] = None,
    address: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Address of the chief, with --role.")] = None,
    name: Annotated[str | None, typer.Option(help="Unique name of this worker (default: random)")] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Search for the best network (depth, width and more) within a device's budget. Called again, it resumes."""
    from ..budgets import board_budget, core_note, flash_note, parse_budget, parse_cost

    if budget is not None and board is not None:
        raise ValueError(f"--budget and --board exclude each other. Received: --budget {budget}, --board {board}")
    if target is not None and board is None:
        raise ValueError(f"--target needs --board; a --budget begins with its target. Received: --target {target}")
    given = board_budget(board, target) if board else parse_budget(budget) if budget else None
    chosen = choose_recipe(recipe, data, settings, None if overwrite else out)
    out = out or Path("runs") / f"{chosen.name}_search"
    check_out(out)
    measured_on, limits = given or (None, {})
    cost = None
    if minimize is not None:
        measured_on, cost = parse_cost(minimize, measured_on)
    if note := flash_note(measured_on, limits):
        console.print(f"  {note}")
    if board and (note := core_note(board)):
        console.print(f"  {note}")
    if qat and objective is not None:
        raise ValueError("--qat sets the objective itself. Received: --qat and --objective")
    if (role is None) != (address is None):
        raise ValueError(f"--role and --address must be given together. Received: --role {role}, --address {address}")
    if role is not None or workers > 1:
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # several processes may share a GPU
    announce_loading()
    from ...training.searching import cluster
    from ...training.searching.search_result import SearchResult
    from ...training.searching.tuner import search
    from .. import steps, tuning

    steps.check_network(chosen)
    local, part = None, cast(Any, contextlib.nullcontext())
    if role is None and workers > 1:
        address = tuning.free_address()
        local = tuning.LocalWorkers(ctx.obj.without("--overwrite").words, workers, address, out)
        part = cluster.process_environment("chief", address, "")
    elif role == "worker" and workers > 1:
        local = tuning.LocalWorkers(ctx.obj.words, workers, address or "", out)
        with contextlib.closing(local):
            raise typer.Exit(local.wait())
    elif role is not None:
        part = cluster.process_environment(role, address or "", name or f"{os.getpid()}-{secrets.token_hex(4)}")
    with (
        part,
        tuning.device_costs(measured_on, [*limits, cost]) as costs,
        contextlib.closing(local or contextlib.ExitStack()),
    ):
        search(
            chosen,
            space=space,
            tuner=tuner,
            max_trials=max_trials,
            epochs=epochs,
            objective=objective or (tuning.int8_objective(chosen) if qat else None),
            minimize=cost,
            min_score=min_score,
            budget=limits,
            costs=costs,
            score=tuning.int8_score if qat else None,
            median_stopping=median_stopping,
            warm_start=warm_start,
            out=out,
            seed=seed,
            watch=local.watch if local else None,
            overwrite=overwrite,
        )
    if role == "worker":
        return
    result = SearchResult.load(out)
    console.print()
    console.print(tuning.front_table(result))
    rest = f", trials.csv, front.csv; recipes of the front in {out / 'recipes'}"
    console.print(styled((str(out / "front.png"), "bold"), rest))
    console.print(f"Next: {shell('run', out / 'best.json')}")
