"""``wavemix-tf export``: verified .tflite files of a run folder, and their deployment kits."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ...tflite.kit.projects.table import PROJECTS
from ...tflite.names import IO_DTYPES
from ..arguments import check_export, check_name_option, check_project_option
from ..options import TEST_IMAGES, Debug, DtypeOption, OldSplit, RunFolder, Settings, TargetOption, alternatives
from ..run_folder import check_finished_data, check_state, choose_exports, read_report, saved_recipe
from ..terminal import announce_loading, console, step


def export(
    ctx: typer.Context,
    out: RunFolder,
    target: TargetOption = None,
    dtype: DtypeOption = None,
    io_dtype: Annotated[str | None, typer.Option(help=f"Dtype of input and output: {alternatives(IO_DTYPES)}")] = None,
    kit: Annotated[
        bool,
        typer.Option(
            "--kit",
            help="Also write exports/<target>-<dtype>_kit/ per file: device code, test vectors, model card.",
        ),
    ] = False,
    project: Annotated[
        str | None,
        typer.Option(
            help=f"Also write exports/<target>-<dtype>_<project>/ per file: {alternatives(PROJECTS)}.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Begins every symbol and file name of the C code, so that several networks fit into one firmware."
        ),
    ] = None,
    max_arena_bytes: Annotated[int | None, typer.Option(min=1, help="RAM limit for tensors, mcu or Ethos-U.")] = None,
    max_flash_bytes: Annotated[
        int | None, typer.Option(min=1, help="Flash limit: mcu and Ethos-U for the file only; c for the program.")
    ] = None,
    max_firmware_bytes: Annotated[
        int | None, typer.Option(min=1, help="Flash limit for an mcu's file and program, with CMSIS-NN.")
    ] = None,
    min_runtime: Annotated[
        str | None, typer.Option(metavar="RELEASE", help="Oldest TensorFlow Lite that must run the file, e.g. 2.8.0.")
    ] = None,
    accelerator: Annotated[str | None, typer.Option(help="Ethos-U variant, e.g. ethos-u55-128.")] = None,
    min_snr_db: Annotated[
        float | None, typer.Option(help="Least SNR of a file's outputs against the float model (default: 10)")
    ] = None,
    min_agreement: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least share of decisions as in the float model (default: 0.9)")
    ] = None,
    allow_unjudged: Annotated[
        bool, typer.Option("--allow-unjudged", help="Also write files that too few images can judge.")
    ] = False,
    settings: Settings = None,
    old_split: OldSplit = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    debug: Debug = False,
) -> None:
    """Audit, verify and write .tflite files: exports/<target>-<dtype>.tflite, with labels and model card."""
    recipe = saved_recipe(out, settings)
    chosen = check_export(target, dtype, io_dtype, choose_exports(recipe, out, None))
    check_project_option(project, chosen)
    check_name_option(name, chosen, kit or project is not None)
    read_report(out)  # report damage before the work
    check_state(out)
    announce_loading()
    from .. import exports, steps

    exported = not overwrite and exports.all_exported(out, chosen, io_dtype) and exports.all_named(out, chosen, name)
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
        "min_runtime": min_runtime,
        "accelerator": accelerator,
        "min_snr_db": min_snr_db,
        "min_agreement": min_agreement,
        "allow_unjudged": allow_unjudged,
    }
    if exported and not exports.any_limit_given(limits):
        exports.check_source(out, chosen, models)
        if not ((kit and exports.kits_missing(out, chosen)) or exports.projects_missing(out, chosen, project)):
            check_finished_data(recipe, out, old_split)
            console.print(f"Nothing to do: {out / 'exports'} has these files. --overwrite writes them again.")
            return
    seconds: dict[str, float] = {}
    with step("Export", seconds):
        data = steps.load_images(recipe, out, known_only=old_split)
        written, refused = exports.write_exports(
            ctx.obj, out, chosen, models, data, io_dtype, overwrite, name, **limits
        )
    report = exports.measure_exports(ctx.obj, out, recipe, data, written, TEST_IMAGES, kit or project is not None)
    if kit:
        with step("Write kits", seconds):
            exports.write_kits(out, written, data, report)
    if project is not None:
        with step("Write projects", seconds):
            exports.write_projects(out, project, written, data, report, overwrite)
    exports.raise_if_refused(refused)
