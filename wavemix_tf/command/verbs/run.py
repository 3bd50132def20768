"""``wavemix-tf run``: all steps from images to verified files and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..arguments import start_weights
from ..options import TEST_IMAGES, Data, Debug, From, OldSplit, Overwrite, RecipeName, RecipeOut, Settings, TestImages
from ..pages.terminal_tables import results_table
from ..run_folder import check_finished_data, check_state, choose_exports, choose_run, finished_report, save_targets
from ..terminal import announce_loading, console, step, styled


def run(
    ctx: typer.Context,
    recipe: RecipeName = None,
    data: Data = None,
    out: RecipeOut = None,
    start: From = None,
    settings: Settings = None,
    targets: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET,...",
            help="Targets to export to, see `wavemix-tf list` (default: the task's); the folder keeps them.",
        ),
    ] = None,
    test_images: TestImages = TEST_IMAGES,
    old_split: OldSplit = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train, quantize, fine-tune, export, verify, measure and report. Called again, it resumes."""
    chosen, out = choose_run(recipe, data, out, settings, overwrite, start)
    if not overwrite:
        check_state(out, exports=True)
    pairs = choose_exports(chosen, out, targets, overwrite)
    done = None if overwrite else finished_report(out, chosen, pairs)
    if done:
        check_finished_data(chosen, out, old_split)
        save_targets(out, targets, overwrite)
        show_results(done, out)
        console.print("Nothing to do: this run is finished. --overwrite starts over.")
        return
    announce_loading()
    from .. import exports, measuring, predictions, steps
    from ..pages.report import write_report

    exports.check_tools(pairs)
    steps.check_network(chosen)
    seconds: dict[str, float] = {}
    with step(f"Read {chosen.dataset}", seconds):
        images = steps.load_images(chosen, out, quantizes=True, fresh=overwrite, known_only=old_split)
    if overwrite:
        exports.delete_exports(out)
    save_targets(out, targets, overwrite)
    if start is not None:
        steps.begin_from(start_weights(start), chosen, images, out, overwrite)
    with step("Train", seconds):
        trained = steps.train(chosen, images, out, overwrite)
    tuned = steps.fine_tune(chosen, trained.model, images, out, False, seconds)
    models = {"float32": trained.model, "int8": tuned.model}
    with step("Export", seconds):
        artifacts, refused = exports.write_exports(ctx.obj, out, pairs, models, images)
        artifacts += exports.other_exports_of(out, models, artifacts)
    with step("Run the test images through every file", seconds):
        found = measuring.measure(chosen, images, models, artifacts, test_images)
    seconds |= {"Train": round(trained.seconds, 1), "Fine-tune with int8 arithmetic": round(tuned.seconds, 1)}
    report = {**found.report, "refused": refused, "seconds": seconds, "command": str(ctx.obj)}
    if found.predictions:
        predictions.write(out, found.predictions)
    write_report(out, report)
    show_results(report, out)
    exports.raise_if_refused(refused)


def show_results(report: dict[str, Any], out: Path) -> None:
    """Print the result table and the path of the page."""
    console.print()
    console.print(results_table(report))
    console.print(styled((str(out / "report.html"), "bold")))
