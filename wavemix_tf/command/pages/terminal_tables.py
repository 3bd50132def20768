"""Rich tables of a run and its files for the terminal, and their captions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...tflite.targets.firmware import runtime_words
from ..terminal import grid, styled
from .formats import kibibytes, metric_of, milliseconds, percent
from .result_table import interval_text, latency_ms
from .verification import COLUMNS, MATRIX_NOTE, cell_texts, runtime_columns, steps_text, worst_layers

if TYPE_CHECKING:
    from rich.table import Table

    from ...tflite.per_op.layer_costs import OpReport

SHOWN_CLASSES = 20  # most classes in the table of an evaluation


def results_table(report: Mapping[str, Any]) -> Table:
    """Return one row per model or file: metric in its own runtime, size, latency and arena."""
    from rich import box
    from rich.table import Table

    title = f"{report.get('name', 'run')}: measured on the test images"
    table = Table(
        title=title,
        title_style="bold",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    table.add_column("model or file", style="bold", no_wrap=True)
    table.add_column("runtime")
    metric, metric_title, text = metric_of(report)
    for header in (metric_title, "size", "p50 ms", "arena"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in report.get("results", []):
        table.add_row(
            str(row["name"]),
            str(row["runtime"]),
            f"{text(row.get(metric))} {interval_text(row, metric)}".strip(),
            kibibytes(row.get("size_bytes")),
            milliseconds(latency_ms(row, "p50")),
            kibibytes(row.get("arena_bytes")),
            style="yellow" if str(row.get("dtype")).startswith("int") else "blue",
        )
    caption = "p50: latency of one image on one thread of this machine, in LiteRT"
    if metric == "accuracy":
        caption = f"In brackets: the 95 % interval. {caption}"
    table.caption, table.caption_justify = caption, "left"
    return table


def verification_table(found: Mapping[str, Any]) -> Table:
    """Return the matrix of files and runtimes.

    Args:
        found: "images", their number, and "rows", see ``measuring.verify_file``.
    """
    from rich import box
    from rich.table import Table

    columns = runtime_columns(found["rows"])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, show_lines=True)
    table.add_column("file", style="bold", no_wrap=True)
    for runtime in columns:
        table.add_column(COLUMNS[runtime])
    for row in found["rows"]:
        shown: list[Any] = []
        for runtime in columns:
            cell = row["cells"].get(runtime)
            if cell is None:
                shown.append(styled(("–", "dim")))
                continue
            agreement, error, rest = cell_texts(cell, found["images"])
            mark = ("", "") if cell["bound_steps"] is None else ("✗ ", "red") if cell["fault"] else ("✓ ", "green")
            shown.append(styled(mark, f"{agreement}\n{error}\n", (rest, "dim")))
        table.add_row(row["file"], *shown)
    table.caption, table.caption_justify = f"On {found['images']:,} test images. {MATRIX_NOTE}", "left"
    return table


def evaluation_table(report: Mapping[str, Any]) -> Table:
    """Return one row per file of an evaluation: metric, images, size, latency and arena."""
    metric, title, text = metric_of(report)
    timed = any(row.get("latency_ms") for row in report["results"])
    roles = ("new: ", "shipped: ") if "against" in report else itertools.repeat("")  # both may have the same name
    table = grid("file", "runtime", title, "images", "size", *(["p50 ms"] if timed else []), "arena")
    for role, row in zip(roles, report["results"], strict=False):
        latency = [milliseconds(latency_ms(row, "p50"))] if timed else []
        table.add_row(
            f"{role}{row['name']}",
            str(row["runtime"]),
            f"{text(row.get(metric))} {interval_text(row, metric)}".strip(),
            f"{row['images']:,}",
            kibibytes(row.get("size_bytes")),
            *latency,
            kibibytes(row.get("arena_bytes")),
        )
    return table


def class_table(report: Mapping[str, Any]) -> Table:
    """Return precision, recall and F1 of each class; of many classes, of those with the lowest F1."""
    rows = report["classes"]
    if len(rows) > SHOWN_CLASSES:
        rows = sorted(rows, key=lambda row: row["f1"] or 0.0)[:SHOWN_CLASSES]
    table = grid("class", "precision", "recall", "F1", "images")
    for row in rows:
        table.add_row(row["name"], *(percent(row[key]) for key in ("precision", "recall", "f1")), f"{row['images']:,}")
    if len(rows) < len(report["classes"]):
        table.caption, table.caption_justify = f"The lowest F1 of {len(report['classes']):,} classes.", "left"
    return table


def gate_text(report: Mapping[str, Any]) -> str:
    """Return the figures of a release gate in one line."""
    against = report["against"]
    low, high = (100 * value for value in against["interval"])
    changed = f"{against['changed']:,} of {report['dataset']['images']:,} images"
    return (
        f"accuracy {100 * against['difference']:+.2f} percentage points, 95 % interval {low:+.2f} to {high:+.2f}, "
        f"McNemar p = {against['p_value']:.2g}; {changed} changed class"
    )


def worst_layers_text(layers: Mapping[str, Any]) -> str:
    """Return the layers that lose most accuracy, one per line.

    Args:
        layers: "of", a file's name; "images", their number; "rows", each a ``LayerError`` as a dict.
    """
    worst = worst_layers(layers)
    if not worst:
        return ""
    head = f"{layers['of']}, the layers whose rounding costs most, on {layers['images']} images: "
    head += "share of the output noise, SQNR of the tensor, mean error of the file in the layer"
    lines = [
        f"  {row['output_share']:5.1%} of the noise  {row['noise_db']:5.1f} dB  "
        f"{steps_text(row['file_error_steps']):<13}  {row['name']}"
        for row in worst
    ]
    return "\n".join([head, *lines])


def benchmark_tables(results: Sequence[tuple[str, Any]]) -> tuple[Table, Table]:
    """Return two tables of ``benchmark``, one row per file: resources and throughput. Each fits 80 columns.

    Args:
        results: (name, BenchmarkReport).
    """
    threads = results[0][1].threads
    many = [f"p50 ms, {threads} threads"] if threads > 1 else []
    takes = grid("file", "size", "p50/p90 ms", *many, "memory", "arena")
    computes = grid("file", "MMAC", "GMAC/s", "of peak", "µJ*")
    for name, result in results:
        energy = result.energy_proxy_uj
        takes.add_row(
            name,
            kibibytes(result.size_bytes),
            "/".join(milliseconds(result.single_thread_latency_ms[q]) for q in ("p50", "p90")),
            *(milliseconds(result.latency_ms["p50"]) for _ in many),
            kibibytes(result.memory_bytes),
            kibibytes(result.arena_bytes),
        )
        computes.add_row(
            name,
            f"{result.macs / 1e6:.3g}",
            f"{result.gmacs_per_s:.3g}",
            "–" if result.peak_share is None else f"{result.peak_share:.0%}",
            "–" if energy is None else f"{energy:.3g}",
        )
    return takes, computes


def npu_table(results: Sequence[tuple[str, Any]]) -> Table | None:
    """Return Vela's estimates for the Ethos-U files; None without any."""
    found = [(name, result.npu) for name, result in results if result.npu is not None]
    if not found:
        return None
    table = grid("file", "compiled for", "NPU cycles", "inf/s", "SRAM", "flash, file only")
    for name, npu in found:
        sizes = [kibibytes(npu[key]) for key in ("sram_bytes", "flash_bytes")]
        table.add_row(name, npu["accelerator"], f"{npu['cycles']:,}", f"{npu['inferences_per_second']:,.0f}", *sizes)
    return table


def benchmark_notes(files: Sequence[tuple[str, Any]]) -> str:
    """Explain the columns of ``benchmark_tables``.

    Args:
        files: (name, Artifact).
    """
    flash = "".join(f"{line}\n" for line in _flash_lines(files))
    return (
        "LiteRT with XNNPACK, one thread unless stated otherwise. Of peak: share of the multiply-accumulates per "
        "second of one large convolution on this machine; a dash if the file was faster. Memory: the most that the "
        "interpreter adds to a process.\n"
        f"{flash}"
        "* A proxy for comparing files, not a measurement: multiply-accumulates and bytes moved, in picojoules of "
        "Horowitz, ISSCC 2014 (45 nm)."
    )


def _flash_lines(files: Sequence[tuple[str, Any]]) -> list[str]:
    """Return what a file takes of a microcontroller's flash, by its target; nothing of files for other devices."""
    from ...tflite.c_source.flash import c_flash_words
    from ...tflite.targets.table import get_target

    lines = []
    for name, file in files:
        if get_target(file.target).counts_firmware:
            lines.append(
                f"Size of {name}: the file only; the program that runs it adds about {runtime_words(file.ops)}."
            )
        if get_target(file.target).writes_c:
            lines.append(f"Flash of {name}: {c_flash_words(file.content)}.")
    return lines


def profile_table(found: OpReport) -> Table:
    """Return the ops of a file, in execution order."""
    total = sum(row.time_us or 0.0 for row in found.rows) or 1.0
    cost = {"cycles": "cycles", "instructions": "instr."}.get(found.measure)
    costs = [] if cost is None else [cost]
    table = grid("op", "layer", "output", "MMAC", "memory", *costs, "time", "share")
    for row in found.rows:
        table.add_row(
            row.op,
            row.layer,
            "×".join(map(str, row.shape[1:])),
            f"{row.macs / 1e6:.3g}" if row.macs else "",
            kibibytes(row.live_bytes),
            *(f"{found.value(row):,.0f}" for _ in costs),
            "once" if row.time_us is None else f"{row.time_us:.1f} µs",
            "" if row.time_us is None else f"{row.time_us / total:.1%}",
        )
    return table


def plan_text(found: OpReport) -> str:
    """Return the peak of a file's memory plan in a sentence."""
    if found.plan is None or found.peak is None:
        return "The compiler stated no memory plan."
    peak = f"{kibibytes(max(found.plan.live_bytes))} in op {found.peak.index}, {found.peak.title}"
    return f"Memory: {kibibytes(found.plan.arena_bytes)}, {found.planned}. The peak is {peak}."
