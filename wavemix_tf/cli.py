"""The command ``wavemix-tf``: one verb a function, each on one run folder.

A verb checks its arguments, which takes no Keras, then calls the steps of ``command.steps`` and shows what they return.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shlex
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from . import __version__
from .command import image_files, terminal
from .command.arguments import (
    START_FILE,
    check_export,
    choose_recipe,
    variant_recipe,
)
from .command.networks import check_model_file
from .command.pages import report as reports
from .command.pages.formats import score_text
from .command.run_folder import (
    check_folder,
    check_out,
    check_state,
    finished_report,
    is_finished,
    read_report,
    saved_recipe,
)
from .command.terminal import console, grid, one_line, quiet, step, styled
from .files import remove_abandoned
from .training.data.identity import folder_is_as_trained
from .training.recipe import Recipe
from .training.recipes.table import RECIPES
from .training.tasks import task_type

INTERRUPTED = 130
TEST_IMAGES = 10_000

app = typer.Typer(
    name="wavemix-tf",
    help="Image data in, a trained WaveMix out, verified TensorFlow Lite files for phones and microcontrollers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
RecipeName = Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="Name of a recipe, or path of a JSON file.")]
DataFolder = Annotated[
    Path | None, typer.Option("--data", metavar="FOLDER", help="Own images: one sub-folder a class.")
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder  [default: runs/RECIPE]")]
RunFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Run folder.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the recipe; repeatable.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Begin anew where the folder holds a run already.")]
OldSplit = Annotated[
    bool, typer.Option("--old-split", help="Only the images that the run's training knew; leave out new ones.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the log of TensorFlow.")]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="android-cpu, android-gpu, android-npu, ethos-u55, ethos-u65, ethos-u85, edge-tpu or mcu  "
        "[default: android-cpu, android-gpu and mcu]",
    ),
]
DtypeOption = Annotated[
    str | None, typer.Option("--dtype", help="float32, float16, int8 or int16x8  [default: what the target prefers]")
]
Images = Annotated[
    list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, or - for standard input: paths, or one image.")
]
MaybeRun = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder.")]
SaveOption = Annotated[
    Path | None,
    typer.Option("--save", metavar="DIR", help="Where pictures go  [default: predictions/ in the run folder, or here]"),
]
TestImages = Annotated[int, typer.Option("--test-images", min=1, help="Largest number of test images to run.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(f"wavemix-tf {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Options of the command itself; its help stands above."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0, 1 for a failure, 2 for wrong arguments, 130 for Ctrl-C."""
    command = typer.main.get_command(app)
    given = list(sys.argv[1:] if arguments is None else arguments)
    terminal.words[:] = given
    debug = "--debug" in given
    try:
        with quiet(debug):
            code = command.main(args=given, prog_name="wavemix-tf", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # Typer takes the end of any file for a Ctrl-D at a prompt
            return _fail(one_line(error.__cause__))
        return _interrupted(given)
    except Exception as error:
        if hasattr(error, "format_message"):  # wrong arguments, found by Typer
            # Without any word Typer has shown the help already.
            message = error.format_message()
            if not message:
                return 2
            return _fail(f"{message}{'' if message.endswith(('.', '?', '!')) else '.'} See: wavemix-tf --help", 2)
        if debug:
            raise
        return _fail(one_line(error))
    return _interrupted(given) if code == INTERRUPTED else int(code or 0)


def script() -> None:
    """The process of the console script: ``main``, then an end without the interpreter's clearing up.

    TensorFlow's threads may outlive what they use by then: a training that was finished and saved has ended in
    "free(): invalid pointer" and an exit code that says it failed.
    """
    code = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def worker_script() -> None:
    """The process of a local worker: ``script``, ended when whoever started it is gone, however that went."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    script()


def _fail(message: str, code: int = 1) -> int:
    terminal.tell(f"wavemix-tf: {message}")
    return code


def _interrupted(given: Sequence[str]) -> int:
    again = [word for word in given if word != "--overwrite"]
    terminal.tell("\nStopped; what was finished is kept. To go on:")
    terminal.tell(f"  {shlex.join(['wavemix-tf', *again])}")
    return INTERRUPTED


@app.command()
def run(
    recipe: RecipeName = None,
    data: DataFolder = None,
    out: OutOption = None,
    settings: Settings = None,
    test_images: TestImages = TEST_IMAGES,
    old_split: OldSplit = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Everything: train, quantize, fine-tune, export, verify, measure, report. Again: resumes, or nothing to do."""
    begun = out or (Path("runs") / data.resolve().name if data is not None else None)
    chosen = choose_recipe(recipe, data, settings, None if overwrite else begun)
    out = out or Path("runs") / chosen.name
    check_folder(out, chosen, overwrite)
    if not overwrite:
        check_state(out, exports=True)
    done = None if overwrite else finished_report(out, chosen)
    if done:
        _check_data(chosen, out, old_split)
        show_results(done, out)
        console.print("Nothing to do: this run is finished. --overwrite begins it anew.")
        return
    terminal.announce_loading()
    from .command import exports, measuring, predictions, steps

    steps.check_network(chosen)
    seconds: dict[str, float] = {}
    with step(f"Read {chosen.dataset}", seconds):
        images = steps.load_images(chosen, out, quantizes=True, fresh=overwrite, known_only=old_split)
    if overwrite:
        exports.forget(out, exports=True)
    with step("Train", seconds):
        steps.tell_resumption(out, overwrite)
        start = steps.load_start(out, chosen)
        trained = steps.fit(chosen, model=start, data=images, out=out, overwrite=overwrite)
    tuned = steps.fine_tune(chosen, trained.model, images, out, False, seconds)
    models = {"float32": trained.model, "int8": tuned.model}
    with step("Export", seconds):
        pairs = task_type(chosen).exports
        artifacts, refused = exports.write_exports(out, pairs, models, images)
        artifacts += exports.own_exports(out, models, artifacts)
    with step("Run the test images through every file", seconds):
        found = measuring.measure(chosen, images, models, artifacts, test_images)
    seconds |= {"Train": round(trained.seconds, 1), "Fine-tune with int8 arithmetic": round(tuned.seconds, 1)}
    report = {**found.report, "refused": refused, "seconds": seconds, "command": exports.command_line()}
    if found.predictions:
        predictions.write(out, found.predictions)
    reports.write_report(out, report)
    show_results(report, out)
    exports.complain(refused)


@app.command()
def fit(
    recipe: RecipeName = None,
    data: DataFolder = None,
    out: OutOption = None,
    settings: Settings = None,
    old_split: OldSplit = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train the float network of a recipe. Again: resumes after the last finished epoch, or nothing to do."""
    begun = out or (Path("runs") / data.resolve().name if data is not None else None)
    chosen = choose_recipe(recipe, data, settings, None if overwrite else begun)
    out = out or Path("runs") / chosen.name
    check_folder(out, chosen, overwrite)
    if not overwrite:
        check_state(out, ["float"])
    if not overwrite and is_finished(out, "float"):
        _check_data(chosen, out, old_split)
        console.print(f"Nothing to do: {out / 'model.keras'} is trained. --overwrite begins anew.")
        return
    terminal.announce_loading()
    from .command import exports, steps

    steps.check_network(chosen)
    seconds: dict[str, float] = {}
    with step(f"Read {chosen.dataset}", seconds):
        images = steps.load_images(chosen, out, fresh=overwrite, known_only=old_split)
    exports.forget(out, exports=True)
    with step("Train", seconds):
        steps.tell_resumption(out, overwrite)
        start = steps.load_start(out, chosen)
        result = steps.fit(chosen, model=start, data=images, out=out, overwrite=overwrite)
    console.print(
        f"{out / 'model.keras'}: {score_text(result.metric, result.validation_score)} on the validation images "
        f"(epoch {result.best_epoch})."
    )


@app.command()
def tune(
    recipe: RecipeName = None,
    data: DataFolder = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder  [default: runs/RECIPE_search]")
    ] = None,
    settings: Settings = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="[TARGET:]LIMITS",
            help="As mcu:64KB-ram,100KB-flash (of the file alone; 256KB-firmware counts the program that runs it too), "
            "android-cpu:5ms or 12k-parameters.",
        ),
    ] = None,
    space: Annotated[str, typer.Option(help="depth-width, small or full")] = "depth-width",
    tuner: Annotated[str, typer.Option(help="bayesian, hyperband, random or grid")] = "bayesian",
    max_trials: Annotated[int, typer.Option(min=1, help="Trainings, earlier calls' included.")] = 20,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of each trial  [default: half of the recipe's]")
    ] = None,
    objective: Annotated[str | None, typer.Option(help="val_loss, or val_accuracy and the like  [default]")] = None,
    qat: Annotated[bool, typer.Option("--qat", help="Score in int8, after a short fine-tuning.")] = False,
    seed: Annotated[int, typer.Option(help="Of the choice of candidates.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that train, started here.")] = 1,
    role: Annotated[str | None, typer.Option(help="chief or worker: this process's part on several machines")] = None,
    address: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Of the chief, with --role.")] = None,
    name: Annotated[str | None, typer.Option(help="Of this worker, another for each  [default: drawn]")] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Search the depth and width (and more) of the best network within a device's budget. Again: goes on."""
    from .command.budgets import flash_note, parse_budget

    chosen = choose_recipe(recipe, data, settings)
    out = out or Path("runs") / f"{chosen.name}_search"
    check_out(out)
    target, limits = parse_budget(budget) if budget else (None, {})
    if note := flash_note(target, limits):
        console.print(f"  {note}")
    if qat and objective is not None:
        raise ValueError("--qat has an objective of its own. Received: --qat and --objective")
    if (role is None) != (address is None):
        raise ValueError(f"--role and --address belong together. Received: --role {role}, --address {address}")
    if role is not None or workers > 1:
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # several processes may share a GPU
    terminal.announce_loading()
    from .command import steps, tuning
    from .training.searching import cluster
    from .training.searching.results import SearchResult
    from .training.searching.tuner import search

    steps.check_network(chosen)
    local, part = None, cast(Any, contextlib.nullcontext())
    if role is None and workers > 1:
        address = tuning.free_address()
        local = tuning.LocalWorkers([w for w in terminal.words if w != "--overwrite"], workers, address, out)
        part = cluster.process_environment("chief", address, "")
    elif role == "worker" and workers > 1:
        local = tuning.LocalWorkers(terminal.words, workers, address or "", out)
        with contextlib.closing(local):
            raise typer.Exit(local.wait())
    elif role is not None:
        part = cluster.process_environment(role, address or "", name or f"{os.getpid()}-{secrets.token_hex(4)}")
    with part, tuning.device_costs(target, limits) as costs, contextlib.closing(local or contextlib.ExitStack()):
        search(
            chosen,
            space=space,
            tuner=tuner,
            max_trials=max_trials,
            epochs=epochs,
            objective=objective or (tuning.int8_objective(chosen) if qat else None),
            budget=limits,
            costs=costs,
            score=tuning.int8_score if qat else None,
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
    rest = f", trials.csv, front.csv; every front's recipes in {out / 'recipes'}"
    console.print(styled((str(out / "front.png"), "bold"), rest))
    console.print(f"Next: {terminal.shell('run', out / 'best.json')}")


@app.command()
def compare(
    recipe: RecipeName = None,
    data: DataFolder = None,
    systems: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Systems, or published networks as they are  [default: all]"),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="[TARGET:]LIMITS", help="What each may cost, as 50k-parameters, 3M-macs, android-cpu:1ms."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each system.")] = 3,
    qat: Annotated[bool, typer.Option("--qat", help="Fine-tune before the int8 files are written.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder  [default: runs/RECIPE_comparison]")
    ] = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train several systems of one budget alike, and measure them alike. Again: goes on."""
    from .command.budgets import flash_note, parse_budget
    from .training.searching.systems import SYSTEMS, check_systems, check_task

    chosen = choose_recipe(recipe, data, settings)
    check_task(chosen)
    names = check_systems(SYSTEMS if systems is None else [name.strip() for name in systems.split(",")])
    out = out or Path("runs") / f"{chosen.name}_comparison"
    check_out(out)
    target, limits = parse_budget(budget) if budget else (None, {})
    if note := flash_note(target, limits):
        console.print(f"  {note}")
    terminal.announce_loading()
    from .command import tuning
    from .command.comparing import Comparison
    from .command.pages import comparison as comparison_page

    with tuning.device_costs(target, limits) as costs:
        words = shlex.join(["wavemix-tf", *(word for word in terminal.words if word != "--overwrite")])
        comparison = Comparison(chosen, names, limits, target, costs, seeds, out, qat, words, overwrite)
        page = comparison.compare()
    console.print()
    console.print(comparison_page.to_table(comparison.record))
    console.print(styled((str(page), "bold"), ", comparison.csv, comparison.md"))
    failed = [name for name in names if "failed" in comparison.row(name)]
    if failed:
        raise ValueError(f"{len(failed)} of {len(names)} systems failed, see their rows: {', '.join(failed)}")


@app.command()
def quantize(
    out: RunFolder,
    settings: Settings = None,
    old_split: OldSplit = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Make the trained network quantization-aware and fine-tune it: model.keras -> qat.keras."""
    recipe = saved_recipe(out, settings, also="qat_")
    begun = (out / "qat_training.json").is_file() or (out / "qat_checkpoint.npz").is_file()
    check_folder(out, recipe, overwrite, ignore=None if begun else "qat_")
    check_state(out, ["float"] if overwrite else ["float", "qat"])
    if not overwrite and is_finished(out, "qat"):
        _check_data(recipe, out, old_split)
        console.print(f"Nothing to do: {out / 'qat.keras'} is fine-tuned. --overwrite begins anew.")
        return
    terminal.announce_loading()
    from .command import exports, steps

    model = steps.load_model(out / "model.keras")
    steps.check_options(model, observer=recipe.qat_observer, skip=recipe.qat_skip)
    seconds: dict[str, float] = {}
    with step(f"Read {recipe.dataset}", seconds):
        images = steps.load_images(recipe, out, quantizes=True, known_only=old_split)
    exports.forget(out, exports=True)
    result = steps.fine_tune(recipe, model, images, out, overwrite, seconds)
    unit = task_type(recipe).example_unit
    part = "" if unit == "images" else f"{unit} of "
    console.print(
        f"{out / 'qat.keras'}: {score_text(result.metric, result.validation_score)} on {part}the validation images, "
        f"{score_text(result.metric, result.test_score)} on {part}the test images."
    )


@app.command()
def export(
    out: RunFolder,
    target: TargetOption = None,
    dtype: DtypeOption = None,
    io_dtype: Annotated[str | None, typer.Option(help="float32, int8, uint8 or int16, of input and output")] = None,
    kit: Annotated[
        bool,
        typer.Option(
            "--kit",
            help="Also exports/<target>-<dtype>_kit/ for each file: code for the device, test vectors, model card.",
        ),
    ] = False,
    max_arena_bytes: Annotated[int | None, typer.Option(min=1, help="RAM for tensors of an mcu or Ethos-U.")] = None,
    max_flash_bytes: Annotated[
        int | None, typer.Option(min=1, help="Flash for the file alone of an mcu or Ethos-U, without its program.")
    ] = None,
    max_firmware_bytes: Annotated[
        int | None, typer.Option(min=1, help="Flash for an mcu's file and the program that runs it, with CMSIS-NN.")
    ] = None,
    accelerator: Annotated[str | None, typer.Option(help="Which Ethos-U, as ethos-u55-128.")] = None,
    min_snr_db: Annotated[
        float | None, typer.Option(help="Least SNR of a file's outputs against the float model's  [default: 10]")
    ] = None,
    min_agreement: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least share of the same decisions, likewise  [default: 0.9]")
    ] = None,
    allow_unjudged: Annotated[
        bool, typer.Option("--allow-unjudged", help="Also files that too few images judge, as an untrained network's.")
    ] = False,
    settings: Settings = None,
    old_split: OldSplit = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    debug: Debug = False,
) -> None:
    """Write .tflite files that passed audit and verification: exports/<target>-<dtype>.tflite, with labels and card."""
    recipe = saved_recipe(out, settings)
    chosen = check_export(target, dtype, io_dtype)
    read_report(out)  # a damaged one is told before the work
    remove_abandoned(out)
    terminal.announce_loading()
    from .command import exports, steps

    exported = not overwrite and exports.all_exported(out, chosen, io_dtype)
    models: dict[str, Any] = {}
    kinds = {"int8" if pair[1] == "int8" else "float32" for pair in chosen}
    if "int8" in kinds and (out / "qat.keras").is_file():
        models["int8"] = steps.load_model(out / "qat.keras")
    if "float32" in kinds or ("int8" in kinds and "int8" not in models):
        models["float32"] = steps.load_model(out / "model.keras")
    if "int8" in kinds and "int8" not in models:
        models["int8"] = models["float32"]
        console.print("  There is no qat.keras: int8 files are quantized after training, without fine-tuning.")
    limits = {
        "max_arena_bytes": max_arena_bytes,
        "max_flash_bytes": max_flash_bytes,
        "max_firmware_bytes": max_firmware_bytes,
        "accelerator": accelerator,
        "min_snr_db": min_snr_db,
        "min_agreement": min_agreement,
        "allow_unjudged": allow_unjudged,
    }
    if exported and not exports.are_given(limits):
        exports.check_source(out, chosen, models)
        if not (kit and exports.kits_missing(out, chosen)):
            console.print(f"Nothing to do: {out / 'exports'} has them. --overwrite writes them anew.")
            return
    seconds: dict[str, float] = {}
    with step("Export", seconds):
        data = steps.load_images(recipe, out, known_only=old_split)
        written, refused = exports.write_exports(out, chosen, models, data, io_dtype, overwrite, **limits)
    report = exports.measure_exports(out, recipe, data, written, TEST_IMAGES, kit)
    if kit:
        with step("Write kits", seconds):
            exports.write_kits(out, written, data, report)
    exports.complain(refused)


@app.command()
def verify(
    folder: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run folder, in place of --out.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder.")] = None,
    target: TargetOption = None,
    dtype: DtypeOption = None,
    settings: Settings = None,
    test_images: TestImages = TEST_IMAGES,
    old_split: OldSplit = False,
    debug: Debug = False,
) -> None:
    """Compare files with the Keras model, on test images and in every runtime; fails where a bound is exceeded."""
    if (folder is None) == (out is None):
        raise typer.BadParameter("name one run folder: wavemix-tf verify RUN, or verify --out RUN.")
    out = out or folder or Path()
    recipe = saved_recipe(out, settings)
    check_export(target, dtype)
    terminal.announce_loading()
    from .command import exports, measuring, steps

    artifacts = exports.saved_exports(out, target, dtype)
    data = steps.load_images(recipe, out, known_only=old_split)
    images, labels = measuring.test_sample(recipe, data, out, test_images)
    seconds: dict[str, float] = {}
    strange = exports.of_other_models(out, artifacts)
    artifacts = [(name, artifact) for name, artifact in artifacts if name not in strange]
    with step("Run the test images through every file", seconds):
        rows, models = measuring.verify_files(out, artifacts, data, images, labels)
    found = {"images": len(images), "rows": rows}
    console.print(reports.verification_table(found))
    int8 = next(((name, artifact) for name, artifact in artifacts if artifact.dtype == "int8"), None)
    if int8 is not None:
        with step("Compare layer by layer", seconds):
            layers = measuring.layer_rows([int8], models[int8[0]], images)
        console.print(reports.worst_layers_text(layers or {}), soft_wrap=True, highlight=False)
    failed = [
        f"{row['file']}: {cell['fault']}, under {runtime}"
        for row in rows
        for runtime, cell in row["cells"].items()
        if cell["fault"]
    ]
    failed += [f"{name}: made from another model than the run's, with which it cannot be compared" for name in strange]
    if failed:
        raise ValueError("; ".join(failed))


@app.command()
def benchmark(
    out: RunFolder,
    target: TargetOption = None,
    dtype: DtypeOption = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the interpreter.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Inferences to time.")] = 100,
    profile: Annotated[bool, typer.Option("--profile", help="Also the time and cost of every op.")] = False,
    settings: Settings = None,
    debug: Debug = False,
) -> None:
    """Size, latency on this machine, memory, operations, a microcontroller's arena, an Ethos-U's estimated cycles."""
    saved_recipe(out, settings)
    check_export(target, dtype)
    terminal.announce_loading()
    from .command import exports, measuring

    artifacts = exports.saved_exports(out, target, dtype)
    options = {"threads": threads, "runs": runs, "profile": profile}
    results = [(name, measuring.benchmark(artifact, **options)) for name, artifact in artifacts]
    for table in reports.benchmark_tables(results):
        console.print(table)
        console.print()
    console.print(reports.benchmark_notes(results[0][1]))
    npu = reports.npu_table(results)
    if npu is not None:
        console.print()
        console.print(npu)
        console.print("Estimates of Arm's compiler Vela; no device was run.")
    for name, result in results:
        if result.ops is not None:
            console.print(styled("\n", (name, "bold"), f": {result.profiled}"))
            console.print(reports.profile_table(result))


@app.command()
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
    path, pictures, found = _network_and_images(images, out, model, save, settings)
    terminal.announce_loading()
    from .command import networks, predicting

    network = networks.load_network(path, out, len(found))
    failed = predicting.predict_images(found, network, pictures, top=top, tile=tile, overlays=overlay, as_json=as_json)
    if failed:
        raise ValueError(f"{failed} of {len(found)} files gave no result")


@app.command()
def explain(
    images: Images,
    out: MaybeRun = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FILE", help="A .keras file  [default: the run's model.keras]")
    ] = None,
    save: SaveOption = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class", metavar="NAME", help="What the pixels should speak for  [default: the prediction]"),
    ] = None,
    settings: Settings = None,
    debug: Debug = False,
) -> None:
    """Draw what the network sees: the wavelet bands of its blocks and, of a classifier, where it looks."""
    if model is not None and model.suffix != ".keras":
        raise ValueError(f"--model must be a .keras file: an exported one no longer has blocks. Received: {model}")
    path, pictures, found = _network_and_images(images, out, model, save, settings)
    terminal.announce_loading()
    from .command import explaining

    failed = explaining.explain_images(found, path, out, pictures, class_name)
    if failed:
        raise ValueError(f"{failed} of {len(found)} files gave no result")


def _network_and_images(
    words: list[str], out: Path | None, model: Path | None, save: Path | None, settings: list[str] | None
) -> tuple[Path, image_files.PictureFolder, list[image_files.ImageFile]]:
    """The model's file, the folder of pictures and the images that the words of `predict` or `explain` name."""
    if out is None and model is None:
        raise typer.BadParameter("name a run folder with --out, or a file with --model.")
    if out is not None:
        saved_recipe(out, settings)
    elif settings:
        raise ValueError("--set belongs to a run: name it with --out. Received: --set without --out")
    path = check_model_file(out, model)
    save = save or (out or Path()) / "predictions"
    found = image_files.find_images(words, save)
    return path, image_files.PictureFolder(save, found), found


def _check_data(recipe: Recipe, out: Path, known_only: bool) -> None:
    """Refuse a finished run whose own folder of images is no longer what it was trained on."""
    if folder_is_as_trained(recipe, out, known_only):  # takes no Keras
        return
    terminal.announce_loading()
    from .training.data.datasets import check_finished

    check_finished(recipe, out, known_only)


def show_results(report: dict[str, Any], out: Path) -> None:
    """The result table, and where the page is."""
    console.print()
    console.print(reports.results_table(report))
    console.print(styled((str(out / "report.html"), "bold")))


@app.command("list")
def list_names() -> None:
    """The recipes, published networks and targets that can be named."""
    from .tflite.targets.table import TARGETS
    from .variants import CHECKPOINT_NORMALIZATION, VARIANTS

    table = grid("recipe", "data", "image", "epochs", "what")
    for recipe in RECIPES.values():
        side = "×".join(map(str, recipe.image_shape))
        table.add_row(recipe.name, recipe.dataset, side, str(recipe.epochs), recipe.description.split("\n")[0])
    console.print(table)
    table = grid("published network", "arguments")
    for name, arguments in VARIANTS.items():
        table.add_row(name, ", ".join(f"{key}={value}" for key, value in arguments.items()))
    console.print(table)
    console.print(f"\nMean and std of official checkpoints, for import-torch: {', '.join(CHECKPOINT_NORMALIZATION)}\n")
    table = grid("target", "dtypes", "best activation", "best upsample", "device")
    for name, row in TARGETS.items():
        table.add_row(name, ", ".join(row.dtypes), row.activation, row.upsample, row.device)
    console.print(table)


@app.command("import-torch")
def import_torch(
    checkpoint: Annotated[Path, typer.Argument(help="State dict of the official PyTorch package.")],
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="Names the network, and the data for later steps.")
    ] = None,
    *,
    out: RunFolder,
    model: Annotated[
        str | None,
        typer.Option(help="A published network, in place of a recipe"),
    ] = None,
    normalize: Annotated[
        str | None, typer.Option(help="Data set by whose mean and std it was trained, see `wavemix-tf list`.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", metavar="FOLDER", help="Own images for later steps.")] = None,
    new_head: Annotated[
        bool,
        typer.Option("--new-head", help="Leave the head out, to fine-tune on other classes."),
    ] = False,
    entry: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="Where the weights are in the file, as state_dict_ema  [default: found]"),
    ] = None,
    settings: Settings = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Read official weights into a run folder (model.keras), ready for quantize and export, or to fine-tune."""
    if (recipe is None) == (model is None):
        raise ValueError(
            f"Name a recipe or, with --model, a published network. Received: RECIPE={recipe}, --model {model}"
        )
    if data is not None:
        if not data.is_dir():
            raise FileNotFoundError(f"--data must be a folder of images. Received: {data}")
        settings = [*(settings or ()), "dataset=folder", f"data_dir={data.resolve()}"]
    chosen = choose_recipe(recipe, None, settings) if recipe is not None else variant_recipe(str(model), settings)
    if normalize is not None:
        chosen = dataclasses.replace(chosen, model_args={**chosen.model_args, "normalize": normalize})
    check_folder(out, chosen, overwrite)
    if not checkpoint.is_file():
        raise FileNotFoundError(f"There is no checkpoint {checkpoint}")
    if chosen.num_classes is None and task_type(chosen).has_classes:
        raise ValueError("The recipe must say how many classes the network has: --set num_classes=N")
    made = out / (START_FILE if new_head else "model.keras")
    if made.exists() and not overwrite:
        raise FileExistsError(f"{made} exists: --overwrite replaces it.")
    terminal.announce_loading()
    from .checkpoints.torch_weights import load_torch_weights
    from .command import exports, steps
    from .training.fitting.trainer import build, import_trained_model

    network = build(chosen, chosen.num_classes or 0)
    load_torch_weights(network, checkpoint, new_head=new_head, entry=entry)
    exports.forget(out, exports=True)
    if new_head:
        steps.save_start(network, chosen, out, overwrite)
        console.print(f"{made}: read from {checkpoint}, but for its head.")
        console.print(f"Next: {terminal.shell('fit', out / 'recipe.json', '--out', out)}")
        return
    import_trained_model(chosen, network, chosen.num_classes or 0, out, overwrite)
    console.print(f"{made}: {steps.count_parameters(network):,} parameters read from {checkpoint}")
    if task_type(chosen).takes_normalize and chosen.model_args.get("normalize") is None:
        console.print("Trained on images standardised by a mean and std? Then import it with --normalize.")


if __name__ == "__main__":
    script()
