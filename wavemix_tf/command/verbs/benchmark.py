"""``wavemix-tf benchmark``: size, latency, memory and operations of exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..arguments import check_export
from ..options import Debug, DtypeOption, RunFolder, Settings, TargetOption
from ..pages.terminal_tables import benchmark_notes, benchmark_tables, npu_table, plan_text, profile_table
from ..run_folder import check_out, saved_recipe
from ..terminal import announce_loading, console, styled


def benchmark(
    out: RunFolder,
    target: TargetOption = None,
    dtype: DtypeOption = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the interpreter.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Inferences to time.")] = 100,
    profile: Annotated[bool, typer.Option("--profile", help="Also show the time and cost of every op.")] = False,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="DIR",
            help="Write pictures of the memory plan and of the cost by layer, and node data for Model Explorer.",
        ),
    ] = None,
    settings: Settings = None,
    debug: Debug = False,
) -> None:
    """Report size, latency on this machine, memory, operations, the mcu arena and estimated Ethos-U cycles."""
    saved_recipe(out, settings)
    check_export(target, dtype)
    if save is not None:
        check_out(save, "--save")
    announce_loading()
    from ...tflite.measuring import latency
    from ...tflite.per_op.layer_costs import op_report
    from .. import exports, op_pictures

    artifacts = exports.saved_exports(out, target, dtype)
    results = [
        (name, latency.benchmark(artifact, threads=threads, runs=runs, profile=profile)) for name, artifact in artifacts
    ]
    for table in benchmark_tables(results):
        console.print(table)
        console.print()
    console.print(benchmark_notes(artifacts))
    npu = npu_table(results)
    if npu is not None:
        console.print()
        console.print(npu)
        console.print("Estimates of Arm's compiler Vela; no device was run.")
    for (name, artifact), (_, result) in zip(artifacts, results, strict=True):
        if result.ops is None and save is None:
            continue
        by_op = op_report(artifact, result.op_times_us)
        if result.ops is not None:
            console.print(styled("\n", (name, "bold"), f": {result.profiled}"))
            console.print(profile_table(by_op))
            console.print(plan_text(by_op))
        if save is not None:
            for path in op_pictures.write(save, name, by_op):
                console.print(f"  {path}: written")
