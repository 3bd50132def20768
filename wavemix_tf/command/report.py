"""The result table and the report page of a run, drawn from ``report.json`` and the history files alone.

Nothing is measured here: ``wavemix_tf.cli`` gathers the numbers and writes ``report.json``; :func:`render_html` makes
one self-contained page of it (no script, no request to anywhere) and :func:`results_table` the terminal's table.
A section is left out when its part of ``report.json`` is missing: the page of a run that stopped half-way still opens.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_text

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 1  # of report.json; raised when a field changes its meaning
BANDS = {
    "LL": "average",
    "LH": "horizontal edges",
    "HL": "vertical edges",
    "HH": "diagonals",
}

# Columns of the verification matrix, in this order.
RUNTIMES = {
    "litert-xnnpack": "LiteRT XNNPACK",
    "litert-reference": "LiteRT reference",
    "tflite-micro": "TFLite Micro",
    "keras-fake-quant": "Keras fake-quant",
}
WORST_LAYERS = 5
MATRIX_NOTE = (
    "Same class as the Keras model the file was made from (of the images where that model is sure: a lead of two "
    "output steps), mean error in steps of the file's output, and top-1 accuracy; a cross where a bound is exceeded. "
    "Keras fake-quant: that model against the float one."
)


def write_report(out: str | os.PathLike[str], report: Mapping[str, Any]) -> Path:
    """Write ``report.json`` and ``report.html`` into the run folder ``out``; returns the page's path."""
    out = Path(out)
    write_text(out / "report.json", json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    page = out / "report.html"
    write_text(page, render_html(report, read_history(out)))
    return page


def read_history(out: str | os.PathLike[str]) -> dict[str, dict[str, list[float]]]:
    """Histories in a run folder: stage ("float", "qat") -> column -> one float an epoch; absent ones are skipped."""
    stages = {}
    for stage, name in (("float", "history.csv"), ("qat", "qat_history.csv")):
        path = Path(out) / name
        if not path.is_file():
            continue
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        stages[stage] = {column: [_number(row[column]) for row in rows] for column in (rows[0] if rows else {})}
    return stages


def _number(text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan


# --- numbers as people read them --------------------------------------------------------------------------------------


def percent(value: float | None) -> str:
    """0.98611 -> "98.61 %"."""
    return "–" if value is None else f"{100 * value:.2f} %"


def kibibytes(value: float | None) -> str:
    """Bytes -> "119.4 KiB"; flash and RAM of microcontrollers are counted in KiB."""
    if value is None:
        return "–"
    return f"{value / 1024:.1f} KiB" if value < 1024**2 else f"{value / 1024**2:.2f} MiB"


def milliseconds(value: float | None) -> str:
    """Milliseconds with three significant digits, two below a tenth."""
    return "–" if value is None else f"{value:#.{3 if value >= 0.1 else 2}g}".rstrip(".")


def _latency(row: Mapping[str, Any], quantile: str) -> float | None:
    value = (row.get("latency_ms") or {}).get(quantile)
    return None if value is None else float(value)


# --- the terminal's table ---------------------------------------------------------------------------------------------


def results_table(report: Mapping[str, Any]) -> Table:
    """One row a model or file: accuracy in its own runtime, size, latency and arena."""
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
    for header in ("top-1", "size", "p50 ms", "p90 ms", "arena"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in report.get("results", []):
        table.add_row(
            str(row["name"]),
            str(row["runtime"]),
            percent(row.get("accuracy")),
            kibibytes(row.get("size_bytes")),
            milliseconds(_latency(row, "p50")),
            milliseconds(_latency(row, "p90")),
            kibibytes(row.get("arena_bytes")),
            style="yellow" if str(row.get("dtype")).startswith("int") else "blue",
        )
    table.caption, table.caption_justify = "p50 and p90: one image on one thread of this machine, by LiteRT", "left"
    return table


# --- the page ---------------------------------------------------------------------------------------------------------


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    present = {runtime for row in rows for runtime in row["cells"]}
    return [runtime for runtime in RUNTIMES if runtime in present]


def steps_text(value: float) -> str:
    """0.0123 -> "0.012 steps"; float files differ by less than a thousandth."""
    return "0 steps" if value == 0 else f"{value:.3f} steps" if value >= 0.001 else "< 0.001 steps"


def _cell_lines(cell: Mapping[str, Any], images: int) -> tuple[str, str, str]:
    """(agreement, error, accuracy and, where the runtime did not get to all images, their number) of a matrix cell."""
    part = "" if cell["images"] == images else f", {cell['images']:,} images"
    top = "" if cell.get("accuracy") is None else f"top-1 {percent(cell['accuracy'])}"
    return percent(cell.get("agreement")), steps_text(cell["mean_error_steps"]), f"{top}{part}".removeprefix(", ")


def verification_table(found: Mapping[str, Any]) -> Table:
    """Files by runtimes.

    Args:
        found: "images", how many there were, and "rows", see ``steps.verify_file``.
    """
    from rich import box
    from rich.table import Table

    columns = _columns(found["rows"])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, show_lines=True)
    table.add_column("file", style="bold", no_wrap=True)
    for runtime in columns:
        table.add_column(RUNTIMES[runtime])
    for row in found["rows"]:
        shown = []
        for runtime in columns:
            cell = row["cells"].get(runtime)
            if cell is None:
                shown.append("[dim]–[/]")
                continue
            agreement, error, rest = _cell_lines(cell, found["images"])
            mark = "" if cell["bound_steps"] is None else "[red]✗[/] " if cell["fault"] else "[green]✓[/] "
            shown.append(f"{mark}{agreement}\n{error}\n[dim]{rest}[/]")
        table.add_row(row["file"], *shown)
    table.caption, table.caption_justify = f"On {found['images']:,} test images. {MATRIX_NOTE}", "left"
    return table


def worst_layers(layers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The layers that cost most, the worst first."""
    return sorted(layers.get("rows", []), key=lambda row: -row["lost_db"])[:WORST_LAYERS]


def worst_layers_text(layers: Mapping[str, Any]) -> str:
    """The layers that cost most, a line each.

    Args:
        layers: "of", a file's name; "images", how many; "rows", each a ``LayerError`` as a dict.
    """
    worst = worst_layers(layers)
    if not worst:
        return ""
    head = f"{layers['of']}, the layers whose rounding costs most, on {layers['images']} images: "
    head += "share of what reaches the outputs, SQNR of the tensor, mean error of the file there"
    lines = [
        f"  {row['output_share']:5.1%} of the noise  {row['noise_db']:5.1f} dB  "
        f"{steps_text(row['file_error_steps']):<13}  {row['name']}"
        for row in worst
    ]
    return "\n".join([head, *lines])


def benchmark_table(results: Sequence[tuple[str, Any]]) -> Table:
    """The figures of ``benchmark``, one row a file.

    Args:
        results: (name, BenchmarkReport).
    """
    from .terminal import grid

    threads = results[0][1].threads
    many = [f"p50 ms, {threads} threads"] if threads > 1 else []
    table = grid("file", "size", "p50/p90 ms", *many, "MMAC", "of peak", "µJ*", "memory", "arena")
    for name, result in results:
        energy = result.energy_proxy_uj
        table.add_row(
            name,
            kibibytes(result.size_bytes),
            "/".join(milliseconds(result.single_thread_latency_ms[q]) for q in ("p50", "p90")),
            *(milliseconds(result.latency_ms["p50"]) for _ in many),
            f"{result.macs / 1e6:.3g}",
            "–" if result.peak_share is None else f"{result.peak_share:.0%}",
            "–" if energy is None else f"{energy:.3g}",
            kibibytes(result.memory_bytes),
            kibibytes(result.arena_bytes),
        )
    return table


def npu_table(results: Sequence[tuple[str, Any]]) -> Table | None:
    """What Vela estimates of the files for an Ethos-U; None if there is none."""
    from .terminal import grid

    found = [(name, result.npu) for name, result in results if result.npu is not None]
    if not found:
        return None
    table = grid("file", "compiled for", "NPU cycles", "inf/s", "SRAM", "flash")
    for name, npu in found:
        sizes = [kibibytes(npu[key]) for key in ("sram_bytes", "flash_bytes")]
        table.add_row(name, npu["accelerator"], f"{npu['cycles']:,}", f"{npu['inferences_per_second']:,.0f}", *sizes)
    return table


def benchmark_notes(result: Any) -> str:
    """What the columns of ``benchmark_table`` mean."""
    return (
        "LiteRT with XNNPACK, one thread unless said otherwise. Of peak: of the multiply-accumulates a second that one "
        "large convolution reaches here. Memory: what the interpreter adds to a process at most.\n"
        "* A proxy to compare files by, not a measurement: multiply-accumulates and bytes moved at the picojoules of "
        "Horowitz, ISSCC 2014 (45 nm)."
    )


def profile_table(result: Any) -> Table:
    """The ops of a ``BenchmarkReport``, in execution order."""
    from .terminal import grid

    total = sum(op.time_us or 0.0 for op in result.ops) or 1.0
    table = grid("op", "output", "MMAC", "moved", "time", "share")
    for op in result.ops:
        table.add_row(
            op.name,
            "×".join(map(str, op.shape[1:])),
            f"{op.macs / 1e6:.3g}" if op.macs else "",
            kibibytes(op.moved_bytes),
            "once" if op.time_us is None else f"{op.time_us:.1f} µs",
            "" if op.time_us is None else f"{op.time_us / total:.1%}",
        )
    return table


def render_html(report: Mapping[str, Any], history: Mapping[str, Mapping[str, Sequence[float]]] | None = None) -> str:
    """The report page.

    Args:
        report: what ``report.json`` holds.
        history: stage -> column -> values, as :func:`read_history` returns it.

    Returns:
        One HTML document without any outside reference.
    """
    name = escape(str(report.get("name", "run")))
    body = "\n".join(
        part
        for part in (
            _header(report),
            _results(report),
            '<div class="grid">',
            _curves(history or {}),
            _confusion(report),
            _scatter(report),
            _wavelet(report),
            "</div>",
            _mistakes(report),
            _verification(report),
            _exports(report),
            _provenance(report),
        )
        if part
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{name} · wavemix-tf</title>\n<style>{CSS}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _header(report: Mapping[str, Any]) -> str:
    dataset, model = report.get("dataset") or {}, report.get("model") or {}
    facts = []
    if dataset:
        shape = " × ".join(str(side) for side in dataset.get("image_shape", []))
        facts.append(f"{len(dataset.get('class_names', []))} classes, images {shape}")
        sizes = dataset.get("sizes") or {}
        if sizes:
            facts.append(" / ".join(f"{count:,} {split}" for split, count in sizes.items()))
    if model.get("name"):
        facts.append(str(model["name"]))
    if model.get("parameters"):
        facts.append(f"{model['parameters']:,} parameters")
    if model.get("macs"):
        facts.append(f"{model['macs'] / 1e6:.2f} million multiply-adds an image")
    command = (
        f"<pre class='command'><code>$ {escape(str(report['command']))}</code></pre>" if report.get("command") else ""
    )
    return (
        f"<header><p class='kicker'>wavemix-tf · run report</p><h1>{escape(str(report.get('name', 'run')))}</h1>"
        f"<p class='facts'>{' · '.join(escape(fact) for fact in facts)}</p>{command}{_tiles(report)}</header>"
    )


def _tiles(report: Mapping[str, Any]) -> str:
    """The five numbers one looks for first."""
    rows = report.get("results", [])
    files = [row for row in rows if row.get("file")]
    first = next((row for row in rows if not row.get("file")), None)
    int8 = next((row for row in files if row.get("arena_bytes")), None) or next(
        (row for row in files if row.get("dtype") == "int8"), None
    )
    tiles = []
    if first:
        tiles.append(("float top-1", percent(first.get("accuracy")), first["runtime"], "float"))
    if int8:
        tiles.append(("int8 top-1", percent(int8.get("accuracy")), int8["runtime"], "int8"))
        tiles.append(("int8 file", kibibytes(int8.get("size_bytes")), int8["name"], "int8"))
        if int8.get("arena_bytes"):
            tiles.append(("arena", kibibytes(int8["arena_bytes"]), "RAM for all tensors", "int8"))
    # A microcontroller's file was timed on this machine too, which says nothing about its own.
    timed = [row for row in files if _latency(row, "p50") is not None and not row.get("arena_bytes")]
    if timed:
        fastest = min(timed, key=lambda row: _latency(row, "p50") or math.inf)
        p50 = _latency(fastest, "p50") or 0.0
        shown = f"{milliseconds(p50)} ms" if p50 >= 0.1 else f"{1000 * p50:.3g} µs"
        tiles.append(("latency p50, this CPU", shown, fastest["name"], "accent"))
    cells = "".join(
        f"<div class='tile {kind}'><span>{escape(label)}</span><strong>{escape(value)}</strong>"
        f"<small>{escape(str(note))}</small></div>"
        for label, value, note, kind in tiles
    )
    return f"<div class='tiles'>{cells}</div>" if cells else ""


def _results(report: Mapping[str, Any]) -> str:
    rows = report.get("results", [])
    if not rows:
        return ""
    accuracies = [row["accuracy"] for row in rows if row.get("accuracy") is not None]
    # The bar starts at the accuracy of guessing, else 97 % and 99 % would look the same.
    floor = max(0.0, min(accuracies) - 3 * (max(accuracies) - min(accuracies)) - 0.02) if accuracies else 0.0
    body = ""
    for row in rows:
        accuracy = row.get("accuracy")
        share = 0.0 if accuracy is None else 100 * (accuracy - floor) / max(1 - floor, 1e-9)
        kind = "int8" if str(row.get("dtype", "")).startswith("int") else "float"
        p50, p90 = _latency(row, "p50"), _latency(row, "p90")
        latency = "–" if p50 is None else f"{milliseconds(p50)} / {milliseconds(p90)}"
        body += (
            f"<tr><th scope='row'><i class='dot {kind}'></i>{escape(str(row['name']))}</th>"
            + _cell("runtime", escape(str(row["runtime"])))
            + _cell("top-1", f"{percent(accuracy)}<i class='bar {kind}' style='--share:{share:.1f}%'></i>", "n")
            + _cell("size", kibibytes(row.get("size_bytes")), "n")
            + _cell("p50 / p90 ms", latency, "n")
            + _cell("arena", kibibytes(row.get("arena_bytes")), "n")
            + "</tr>"
        )
    machine = report.get("machine") or {}
    where = (
        f"Latency of one image under LiteRT, on one thread of {escape(str(machine['cpu']))}."
        if machine.get("cpu")
        else ""
    )
    dataset = report.get("dataset") or {}
    test = dataset.get("sizes", {}).get("test")
    tested = dataset.get("tested", test)
    images = ""
    if test:
        part = f"{test:,}" if tested == test else f"{tested:,} of the {test:,}"
        images = f"Top-1 on {part} test images, which chose nothing."
    return (
        "<section class='card'><h2>Results</h2>"
        f"<p class='note'>{images} Every file ran in the runtime named beside it. {where}</p>"
        "<div class='scroll'><table><thead><tr><th>model or file</th><th>runtime</th><th class='n'>top-1</th>"
        "<th class='n'>size</th><th class='n'>p50 / p90 ms</th><th class='n'>arena</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _cell(label: str, content: str, kind: str = "") -> str:
    """A table cell that knows its header, which a phone shows in place of the header row."""
    empty = " empty" if content == "–" else ""
    return f"<td class='{kind}{empty}' data-label='{label}'>{content}</td>"


def _figure_card(title: str, note: str, figure: str) -> str:
    return f"<section class='card'><h2>{title}</h2><p class='note'>{note}</p><figure>{figure}</figure></section>"


def _curves(history: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    from . import plots

    if not any(history.values()):
        return ""
    note = (
        "The float network first, then the same weights fine-tuned on their int8 grid. "
        "The epoch with the best validation accuracy is kept."
    )
    return _figure_card("Training", note, plots.training_curves(history))


def _confusion(report: Mapping[str, Any]) -> str:
    from . import plots

    confusion = report.get("confusion")
    if not confusion:
        return ""
    matrix = confusion["matrix"]
    names = (report.get("dataset") or {}).get("class_names") or [str(index) for index in range(len(matrix))]
    wrong = sum(count for row, counts in enumerate(matrix) for column, count in enumerate(counts) if row != column)
    total = sum(map(sum, matrix))
    note = f"Of {escape(str(confusion['of']))}: {wrong:,} of {total:,} test images are given a wrong class."
    return _figure_card("Where it errs", note, plots.confusion_matrix(matrix, names))


def _scatter(report: Mapping[str, Any]) -> str:
    from . import plots

    scatter = report.get("scatter")
    if not scatter:
        return ""
    note = (
        f"Logits of {escape(str(scatter['of']))} for {scatter['images']:,} test images. What the file should compute "
        "is the QAT model; how far fine-tuning has moved that from the float model is drawn behind it."
    )
    return _figure_card(
        "Float against int8",
        note,
        plots.logit_scatter(scatter["int8"], scatter["qat"], scatter["float"], scatter.get("step")),
    )


def _wavelet(report: Mapping[str, Any]) -> str:
    from . import plots

    wavelet = report.get("wavelet")
    if not wavelet:
        return ""
    details = [abs(v) for band in ("LH", "HL", "HH") for row in wavelet["bands"][band] for v in row]
    peak = max((abs(v) for row in wavelet["bands"]["LL"] for v in row), default=1.0)
    cells = "".join(
        "<div><img alt='{0} band' src='{1}'><span><b>{0}</b> {2}</span></div>".format(
            band,
            plots.band_image(
                wavelet["bands"][band], signed=band != "LL", limit=peak if band == "LL" else max(details, default=1.0)
            ),
            meaning,
        )
        for band, meaning in BANDS.items()
    )
    figure = (
        f"<div class='wavelet'><div class='source'><img alt='test image' src='{escape(wavelet['image_png'])}'>"
        f"<span>test image, <b>{escape(str(wavelet['label']))}</b></span></div><div class='bands'>{cells}</div></div>"
    )
    note = (
        "One Haar transform of a test image, as <code>DWT2D</code> computes it: four bands of half the side. Every "
        "block mixes its tokens this way, with fixed filters. "
        "<i class='dot int8'></i>positive <i class='dot float'></i>negative"
    )
    return _figure_card("What the wavelet sees", note, figure)


def _mistakes(report: Mapping[str, Any]) -> str:
    mistakes = report.get("mistakes") or []
    if not mistakes:
        return ""
    source = escape(str((report.get("confusion") or {}).get("of", "the model")))
    cells = "".join(
        f"<figure><img alt='' src='{escape(m['image_png'])}'><figcaption>{escape(str(m['label']))} "
        f"<span>→ {escape(str(m['prediction']))}</span></figcaption></figure>"
        for m in mistakes
    )
    return (
        f"<section class='card'><h2>Its mistakes</h2><p class='note'>{len(mistakes)} test images with their true "
        f"class, and what {source} took them for; the surest errors first.</p>"
        f"<div class='thumbs'>{cells}</div></section>"
    )


def _verification(report: Mapping[str, Any]) -> str:
    found = report.get("verification") or {}
    rows = found.get("rows") or []
    if not rows:
        return ""
    columns = _columns(rows)
    head = "".join(f"<th>{escape(RUNTIMES[runtime])}</th>" for runtime in columns)
    body = ""
    for row in rows:
        kind = "int8" if str(row["dtype"]).startswith("int") else "float"
        cells = "".join(_matrix_cell(runtime, row["cells"].get(runtime), found["images"]) for runtime in columns)
        body += f"<tr><th scope='row'><i class='dot {kind}'></i>{escape(str(row['file']))}</th>{cells}</tr>"
    matrix = (
        f"<section class='card'><h2>Verification</h2><p class='note'>On {found['images']:,} test images. {MATRIX_NOTE}"
        "</p><div class='scroll'><table class='matrix'><thead><tr><th>file</th>"
        f"{head}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )
    return matrix + _layers(found.get("layers") or {})


def _matrix_cell(runtime: str, cell: Mapping[str, Any] | None, images: int) -> str:
    label = escape(RUNTIMES[runtime])
    if cell is None:
        return _cell(label, "–")
    agreement, error, rest = _cell_lines(cell, images)
    kind = "unbound" if cell["bound_steps"] is None else "fail" if cell["fault"] else "pass"
    why = f" title='{escape(str(cell['fault']), quote=True)}'" if cell["fault"] else ""
    lines = f"<b>{agreement}</b><span>{escape(error)}</span><small>{escape(rest)}</small>"
    return _cell(label, f"<span class='mark {kind}'{why}>{lines}</span>")


def _layers(layers: Mapping[str, Any]) -> str:
    from . import plots

    rows = layers.get("rows") or []
    if not rows:
        return ""
    worst = [row["name"] for row in worst_layers(layers)]
    body = "".join(
        f"<tr><th scope='row'>{escape(str(row['name']))}</th>"
        + _cell("tensor", " × ".join(map(str, row["shape"])))
        + _cell("step", f"{row['step']:.3g}", "n")
        + _cell("SQNR", f"{row['noise_db']:.1f} dB", "n")
        + _cell("share", f"{row['output_share']:.1%}", "n")
        + _cell("costs", f"{row['lost_db']:.2f} dB", "n")
        + _cell("file against model", escape(steps_text(row["file_error_steps"])), "n")
        + _cell("integers that differ", f"{row['file_differs']:.2%}", "n")
        + "</tr>"
        for row in rows
    )
    note = (
        f"Every tensor that {escape(str(layers['of']))} stores, in order, on {layers['images']} test images. Left: its "
        "signal over the noise of all rounding up to there (40 dB: an error of 1 %). Right: the share of the noise in "
        f"the network's outputs that this layer's rounding makes alone; the {len(worst)} largest are marked. "
    )
    head = "".join(
        f"<th class='n'>{title}</th>"
        for title in ("step", "SQNR", "share", "costs", "file against model", "integers that differ")
    )
    return (
        f"<section class='card'><h2>Which layer loses the accuracy</h2><p class='note'>{note}</p>"
        f"<figure class='scroll layers'>{plots.layer_noise(rows, worst)}</figure>"
        "<details><summary>All figures</summary><p class='note'>Costs: what the outputs' SQNR would gain if this layer "
        "did not round. File against model: how far LiteRT's integers are from the fake-quant model's.</p>"
        "<div class='scroll'><table class='small'>"
        f"<thead><tr><th>layer</th><th>tensor</th>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
        "</section>"
    )


def _exports(report: Mapping[str, Any]) -> str:
    exports = report.get("exports") or []
    if not exports:
        return ""
    return (
        "<h2 class='loose'>The files</h2>"
        "<p class='note loose'>A file is written only after it has passed every check below.</p>"
        + "".join(
            f"<p class='note loose'><b>{escape(name)} was not written.</b> {escape(reason)}</p>"
            for name, reason in (report.get("refused") or {}).items()
        )
        + f"<div class='grid'>{''.join(_export(export) for export in exports)}</div>"
    )


def _export(export: Mapping[str, Any]) -> str:
    kind = "int8" if str(export["dtype"]).startswith("int") else "float"
    rows = [("for", export.get("description")), ("size", kibibytes(export.get("size_bytes")))]
    if export.get("arena_bytes"):
        rows.append(("arena", kibibytes(export["arena_bytes"])))
    rows += [("input", _tensor(export.get("input"))), ("output", _tensor(export.get("output")))]
    rows += [(key, value) for key, value in (export.get("card") or {}).items()]
    facts = "".join(f"<dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd>" for k, v in rows if v)
    checks = "".join(
        f"<li class='{'pass' if check['passed'] else 'fail'}'><b>{escape(str(check['name']))}</b> "
        + escape(str(check["measured"]))
        + (f" <small>{escape(str(check['bound']))}</small>" if check.get("bound") else "")
        + "</li>"
        for check in export.get("checks", [])
    )
    ops = "".join(f"<li>{escape(op)} <b>{count}</b></li>" for op, count in (export.get("ops") or {}).items())
    return (
        f"<section class='card file'><h3><i class='dot {kind}'></i>{escape(str(export['name']))}"
        f"<span class='badge {kind}'>{escape(str(export['dtype']))}</span></h3>"
        f"<p class='path'><code>{escape(str(export['file']))}</code></p><dl>{facts}</dl>"
        f"<h4>Checks</h4><ul class='checks'>{checks}</ul><h4>Operators</h4><ul class='ops'>{ops}</ul></section>"
    )


def _tensor(tensor: Mapping[str, Any] | None) -> str:
    if not tensor:
        return ""
    text = f"{tensor['dtype']} {' × '.join(str(side) for side in tensor['shape'])}"
    if tensor.get("scale"):
        text += f", scale {tensor['scale']:.6g}, zero point {tensor['zero_point']}"
    return text


def _provenance(report: Mapping[str, Any]) -> str:
    recipe, versions, machine = report.get("recipe") or {}, report.get("versions") or {}, report.get("machine") or {}
    seconds = report.get("seconds") or {}
    blocks = [
        (
            "Recipe",
            ((key, json.dumps(value) if isinstance(value, (list, dict)) else value) for key, value in recipe.items()),
        ),
        ("Time", ((step, f"{value:.1f} s") for step, value in seconds.items())),
        ("Software", versions.items()),
        ("Machine", machine.items()),
    ]
    parts = "".join(
        f"<details{' open' if i else ''}><summary>{title}</summary>{_pairs(pairs)}</details>"
        for i, (title, pairs) in enumerate(blocks)
    )
    created = f"<p class='note'>Written {escape(str(report['created']))}</p>" if report.get("created") else ""
    return (
        f"<section class='card'><h2>How this run was made</h2><div class='provenance'>{parts}</div>{created}</section>"
    )


def _pairs(pairs: Iterable[tuple[Any, Any]]) -> str:
    return (
        "<dl>"
        + "".join(f"<dt>{escape(str(k))}</dt><dd>{escape('–' if v is None else str(v))}</dd>" for k, v in pairs)
        + "</dl>"
    )


CSS = """
:root{--page:#f6f5f1;--card:#fff;--ink:#1c2431;--muted:#626c7c;--line:#e3e1da;--float:#2c6cb0;--int8:#d4602a;
--accent:#1f8a70;
--good:#1f8a70;--bad:#c0392b;--font:Inter,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
--mono:ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace}
@media(prefers-color-scheme:dark){:root{--page:#10131a;--card:#181c25;--ink:#e9ecf2;--muted:#9aa4b4;--line:#2b313d;
--float:#6aa9e6;
--int8:#f08c58;--accent:#4cc2a3;--good:#4cc2a3;--bad:#ef7b6d}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 var(--font);-webkit-text-size-adjust:100%}
main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}
header{margin:8px 0 28px}
h1{font-size:clamp(2rem,6vw,3.1rem);line-height:1.1;letter-spacing:-.025em;margin:.1em 0 .25em}
h2{font-size:1.2rem;letter-spacing:-.01em;margin:0 0 4px}
h3{font-size:1.05rem;margin:0;display:flex;align-items:center;gap:8px}
h4{font-size:.72rem;letter-spacing:.08em;text-transform:uppercase;color:var(--muted);margin:18px 0 6px}
.kicker{font-size:.78rem;letter-spacing:.09em;text-transform:uppercase;color:var(--accent);font-weight:600;margin:0}
.facts,.note{color:var(--muted);margin:0}
.note{font-size:.9rem;margin-bottom:16px}
.loose{margin-left:2px}
h2.loose{margin-top:36px}
code,pre{font-family:var(--mono);font-size:.88em}
.command{margin:16px 0 0;padding:10px 14px;background:var(--card);border:1px solid var(--line);border-radius:10px;
overflow-x:auto}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:20px}
.tile{background:var(--card);border:1px solid var(--line);border-top:3px solid var(--accent);border-radius:12px;
padding:12px 16px}
.tile.float{border-top-color:var(--float)}.tile.int8{border-top-color:var(--int8)}
.tile span,.tile small{display:block;color:var(--muted);font-size:.8rem}
.tile strong{font-size:1.55rem;letter-spacing:-.02em;font-variant-numeric:tabular-nums;white-space:nowrap}
.card{background:var(--card);border:1px solid var(--line);border-radius:14px;padding:22px 24px;margin-bottom:18px;
min-width:0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:18px;margin-bottom:18px}
.grid .card{margin:0}
figure{margin:0}
figure svg{display:block;width:100%;height:auto}
.scroll{overflow-x:auto;margin:0 -24px;padding:0 24px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.95rem}
th,td{padding:10px 12px;text-align:left;white-space:nowrap;border-top:1px solid var(--line)}
thead th{border-top:0;color:var(--muted);font-weight:500;font-size:.82rem;padding-top:0}
th:first-child,td:first-child{padding-left:0}th:last-child,td:last-child{padding-right:0}
tbody th{font-weight:600}
.n{text-align:right}
.bar{display:block;height:3px;border-radius:2px;margin-top:4px;background:var(--float);width:var(--share);
margin-left:auto}
.bar.int8{background:var(--int8)}
.dot{display:inline-block;width:.62em;height:.62em;border-radius:50%;background:var(--float);margin-right:.5em;
flex:none}
.dot.int8{background:var(--int8)}
h3 .dot{margin-right:0}.note .dot{margin:0 .3em 0 .5em}
.badge{margin-left:auto;font-size:.76rem;font-weight:600;padding:2px 9px;border-radius:99px;
border:1px solid currentColor;color:var(--float)}
.badge.int8{color:var(--int8)}
.path{margin:2px 0 12px;color:var(--muted);overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:fit-content(60%) minmax(7ch,1fr);gap:3px 16px;margin:0;font-size:.9rem}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.checks{list-style:none;margin:0;padding:0;font-size:.9rem}
.checks li{padding:2px 0 2px 1.6em;position:relative}
.checks li::before{position:absolute;left:0;content:"✓";color:var(--good);font-weight:700}
.checks li.fail::before{content:"✗";color:var(--bad)}
.checks b{font-weight:600}.checks small{color:var(--muted);font-size:.92em}
.ops{list-style:none;display:flex;flex-wrap:wrap;gap:6px;margin:0;padding:0;font:.76rem var(--mono)}
.ops li{border:1px solid var(--line);border-radius:6px;padding:2px 7px;color:var(--muted)}.ops b{color:var(--ink)}
.wavelet{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1.7fr);gap:24px;align-items:center}
.wavelet img,.thumbs img{image-rendering:pixelated;display:block;width:100%;height:auto}
.wavelet span{display:block;font-size:.84rem;color:var(--muted);margin-top:5px;text-align:center}
.wavelet b{color:var(--ink)}
.wavelet img{border:1px solid var(--line);border-radius:6px}
.bands{display:grid;grid-template-columns:1fr 1fr;gap:14px}
.thumbs{display:grid;grid-template-columns:repeat(auto-fill,minmax(76px,1fr));gap:14px}
.thumbs img{border-radius:6px;border:1px solid var(--line)}
.thumbs figcaption{font-size:.86rem;text-align:center;margin-top:3px;overflow-wrap:anywhere}
.thumbs span{color:var(--int8)}
.matrix td,.matrix tbody th{vertical-align:top}
.matrix small,.matrix .mark span{display:block}.matrix small{color:var(--muted)}
.mark{display:block;position:relative;padding-left:1.35em}
.mark::before{position:absolute;left:0;font-weight:700}
.mark.pass::before{content:"✓";color:var(--good)}
.mark.fail::before{content:"✗";color:var(--bad)}.mark.fail b{color:var(--bad)}
.layers svg{min-width:700px}.layers{margin-bottom:14px}
.small{font-size:.84rem}.small th,.small td{padding-top:5px;padding-bottom:5px}
.provenance{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:14px 32px;
margin:10px 0 16px}
summary{cursor:pointer;font-weight:600;margin-bottom:6px}
@media(max-width:560px){main{padding:20px 14px 40px}.card{padding:18px 16px}.scroll{margin:0 -16px;padding:0 16px}
.tiles{grid-template-columns:1fr 1fr;gap:10px}
.tile strong{font-size:1.3rem}.tile:last-child:nth-child(odd){grid-column:1/-1}
table,tbody{display:block}thead{display:none}tbody tr{display:grid;grid-template-columns:1fr 1fr 1fr;gap:2px 12px;
padding:12px 0;border-top:1px solid var(--line)}
tbody tr:first-child{border-top:0;padding-top:0}tbody th{grid-column:1/-1}th,td{border:0;padding:0;
white-space:normal}.n{text-align:left}.bar{margin-left:0}
td.empty{display:none}td[data-label]::before{content:attr(data-label);display:block;color:var(--muted);font-size:.74rem}}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
"""
