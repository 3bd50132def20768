"""The result table and the report page of a run, drawn from ``report.json`` and the history files alone.

Nothing is measured here: the verbs gather the numbers; :func:`render_html` makes
one self-contained page of it (no script, no request to anywhere) and :func:`results_table` the terminal's table.
A section is left out when its part of ``report.json`` is missing: the page of a run that stopped half-way still opens.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import write_text
from ...training.run_files import RunFiles
from . import class_counts
from . import pictures as picture_sections
from .formats import METRICS, behind_comma, cell, interval, kibibytes, metric_of, milliseconds, percent, snr_text
from .style import page

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
    "output steps), mean error in steps of the file's output, and a classifier's top-1 accuracy; a cross where a bound "
    "is exceeded. Keras fake-quant: that model against the float one."
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
    for stage in ("float", "qat"):
        rows = RunFiles(Path(out), stage).read_history()
        if rows:
            stages[stage] = {column: [row[column] for row in rows] for column in rows[0]}
    return stages


def _latency(row: Mapping[str, Any], quantile: str) -> float | None:
    value = (row.get("latency_ms") or {}).get(quantile)
    return None if value is None else float(value)


# --- the terminal's table ---------------------------------------------------------------------------------------------


def _interval(row: Mapping[str, Any], metric: str) -> str:
    """The 95 % interval of an accuracy in brackets; nothing where it is unknown of how many images it is."""
    if metric != "accuracy" or row.get(metric) is None or not row.get("images"):
        return ""
    return f"({interval(row[metric], row['images'])})"


def results_table(report: Mapping[str, Any]) -> Table:
    """One row a model or file: metric in its own runtime, size, latency and arena."""
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
            f"{text(row.get(metric))} {_interval(row, metric)}".strip(),
            kibibytes(row.get("size_bytes")),
            milliseconds(_latency(row, "p50")),
            kibibytes(row.get("arena_bytes")),
            style="yellow" if str(row.get("dtype")).startswith("int") else "blue",
        )
    caption = "p50: one image on one thread of this machine, by LiteRT"
    if metric == "accuracy":
        caption = f"In brackets: the 95 % interval, by the number of test images. {caption}"
    table.caption, table.caption_justify = caption, "left"
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
    error = steps_text(cell["mean_error_steps"]) + behind_comma(snr_text(cell.get("snr_db")))
    return percent(cell.get("agreement")), error, f"{top}{part}".removeprefix(", ")


def verification_table(found: Mapping[str, Any]) -> Table:
    """Files by runtimes.

    Args:
        found: "images", how many there were, and "rows", see ``measuring.verify_file``.
    """
    from rich import box
    from rich.table import Table

    from ..terminal import styled

    columns = _columns(found["rows"])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, show_lines=True)
    table.add_column("file", style="bold", no_wrap=True)
    for runtime in columns:
        table.add_column(RUNTIMES[runtime])
    for row in found["rows"]:
        shown: list[Any] = []
        for runtime in columns:
            cell = row["cells"].get(runtime)
            if cell is None:
                shown.append(styled(("–", "dim")))
                continue
            agreement, error, rest = _cell_lines(cell, found["images"])
            mark = ("", "") if cell["bound_steps"] is None else ("✗ ", "red") if cell["fault"] else ("✓ ", "green")
            shown.append(styled(mark, f"{agreement}\n{error}\n", (rest, "dim")))
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


def benchmark_tables(results: Sequence[tuple[str, Any]]) -> tuple[Table, Table]:
    """The figures of ``benchmark``, one row a file: what it takes, and how well it computes. Each fits 80 columns.

    Args:
        results: (name, BenchmarkReport).
    """
    from ..terminal import grid

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
    """What Vela estimates of the files for an Ethos-U; None if there is none."""
    from ..terminal import grid

    found = [(name, result.npu) for name, result in results if result.npu is not None]
    if not found:
        return None
    table = grid("file", "compiled for", "NPU cycles", "inf/s", "SRAM", "flash, file alone")
    for name, npu in found:
        sizes = [kibibytes(npu[key]) for key in ("sram_bytes", "flash_bytes")]
        table.add_row(name, npu["accelerator"], f"{npu['cycles']:,}", f"{npu['inferences_per_second']:,.0f}", *sizes)
    return table


def benchmark_notes(result: Any) -> str:
    """What the columns of ``benchmark_tables`` mean."""
    from ...tflite.targets.firmware import runtime_words

    return (
        "LiteRT with XNNPACK, one thread unless said otherwise. Of peak: of the multiply-accumulates a second that one "
        "large convolution reaches here; none where the file was faster. Memory: what the interpreter adds to a "
        "process at most.\n"
        f"Size: of the file alone; the program that runs it on a microcontroller adds about {runtime_words()}.\n"
        "* A proxy to compare files by, not a measurement: multiply-accumulates and bytes moved at the picojoules of "
        "Horowitz, ISSCC 2014 (45 nm)."
    )


def profile_table(result: Any) -> Table:
    """The ops of a ``BenchmarkReport``, in execution order."""
    from ..terminal import grid

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
            class_counts.section(report),
            class_counts.copies(report),
            '<div class="grid">',
            _curves(history or {}, metric_of(report)[0]),
            picture_sections.class_iou(report),
            picture_sections.enlargements(report),
            _confusion(report),
            _scatter(report),
            _wavelet(report),
            "</div>",
            picture_sections.pictures(report),
            _mistakes(report),
            _verification(report),
            _exports(report),
            _provenance(report),
        )
        if part
    )
    return page(name, body)


def _header(report: Mapping[str, Any]) -> str:
    dataset, model = report.get("dataset") or {}, report.get("model") or {}
    facts = []
    if dataset:
        shape = " × ".join(str(side) for side in dataset.get("image_shape", []))
        classes = len(dataset.get("class_names", []))
        facts.append(f"{classes} classes, images {shape}" if classes else f"patches {shape}")
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
    int8 = next((row for row in files if row.get("arena_bytes")), None) or next(
        (row for row in files if row.get("dtype") == "int8"), None
    )
    tiles = []
    metric, title, text = metric_of(report)
    first = next((row for row in rows if row.get("dtype") == "float32" and not row.get("file")), None)
    if first:
        tiles.append((f"float {title}", text(first.get(metric)), first["runtime"], "float"))
    if int8:
        tiles.append((f"int8 {title}", text(int8.get(metric)), int8["runtime"], "int8"))
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
    metric, title, text = metric_of(report)
    scores = [row[metric] for row in rows if row.get(metric) is not None]
    top = 1.0 if metric != "psnr_y" else max(scores, default=1.0)
    # The bar starts below the smallest value, else 97 % and 99 % would look the same.
    floor = max(0.0, min(scores) - 3 * (max(scores) - min(scores)) - 0.02 * top) if scores else 0.0
    body = ""
    for row in rows:
        score = row.get(metric)
        share = 0.0 if score is None else 100 * (score - floor) / max(top - floor, 1e-9)
        kind = "int8" if str(row.get("dtype", "")).startswith("int") else "float"
        between = f" <small>{_interval(row, metric)}</small>" if _interval(row, metric) else ""
        p50, p90 = _latency(row, "p50"), _latency(row, "p90")
        latency = "–" if p50 is None else f"{milliseconds(p50)} / {milliseconds(p90)}"
        body += (
            f"<tr><th scope='row'><i class='dot {kind}'></i>{escape(str(row['name']))}</th>"
            + cell("runtime", escape(str(row["runtime"])))
            + cell(title, f"{text(score)}{between}<i class='bar {kind}' style='--share:{share:.1f}%'></i>", "n")
            + cell("size", kibibytes(row.get("size_bytes")), "n")
            + cell("p50 / p90 ms", latency, "n")
            + cell("arena", kibibytes(row.get("arena_bytes")), "n")
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
        whole = tested == test or "scale" in report  # the test set's size is that of its patches
        part = f"{tested:,}" if whole else f"{tested:,} of the {test:,}"
        images = f"{title[0].upper()}{title[1:]} on {part} test images, which chose nothing"
        images += ", with the 95 % interval of so many." if metric == "accuracy" else "."
    return (
        "<section class='card'><h2>Results</h2>"
        f"<p class='note'>{images} Every file ran in the runtime named beside it. {where}</p>"
        "<div class='scroll'><table><thead><tr><th>model or file</th><th>runtime</th>"
        f"<th class='n'>{title}</th>"
        "<th class='n'>size</th><th class='n'>p50 / p90 ms</th><th class='n'>arena</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _figure_card(title: str, note: str, figure: str) -> str:
    return f"<section class='card'><h2>{title}</h2><p class='note'>{note}</p><figure>{figure}</figure></section>"


def _curves(history: Mapping[str, Mapping[str, Sequence[float]]], metric: str) -> str:
    from . import plots

    if not any(history.values()):
        return ""
    note = (
        "The float network first, then the same weights fine-tuned on their int8 grid. "
        f"The epoch with the best {METRICS[metric][0]} on the validation images is kept."
    )
    return _figure_card("Training", note, plots.training_curves(history, metric, METRICS[metric][0]))


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
    file = (report.get("predictions") or {}).get("file")
    listed = f"<code>{escape(str(file))}</code> lists every test image." if file else ""
    cells = "".join(
        f"<figure title='{escape(str(m.get('file', '')))}'><img alt='' src='{escape(m['image_png'])}'><figcaption>"
        f"{escape(str(m['label']))} <span>→ {escape(str(m['prediction']))}</span>"
        f"<small>{escape(str(m.get('file', '')))}</small></figcaption></figure>"
        for m in mistakes
    )
    return (
        f"<section class='card'><h2>Its mistakes</h2><p class='note'>{len(mistakes)} test images with their true "
        f"class, and what {source} took them for; the surest errors first. {listed}</p>"
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


def _matrix_cell(runtime: str, found: Mapping[str, Any] | None, images: int) -> str:
    label = escape(RUNTIMES[runtime])
    if found is None:
        return cell(label, "–")
    agreement, error, rest = _cell_lines(found, images)
    kind = "unbound" if found["bound_steps"] is None else "fail" if found["fault"] else "pass"
    why = f" title='{escape(str(found['fault']), quote=True)}'" if found["fault"] else ""
    lines = f"<b>{agreement}</b><span>{escape(error)}</span><small>{escape(rest)}</small>"
    return cell(label, f"<span class='mark {kind}'{why}>{lines}</span>")


def _layers(layers: Mapping[str, Any]) -> str:
    from . import plots

    rows = layers.get("rows") or []
    if not rows:
        return ""
    worst = [row["name"] for row in worst_layers(layers)]
    body = "".join(
        f"<tr><th scope='row'>{escape(str(row['name']))}</th>"
        + cell("tensor", " × ".join(map(str, row["shape"])))
        + cell("step", f"{row['step']:.3g}", "n")
        + cell("SQNR", f"{row['noise_db']:.1f} dB", "n")
        + cell("share", f"{row['output_share']:.1%}", "n")
        + cell("costs", f"{row['lost_db']:.2f} dB", "n")
        + cell("file against model", escape(steps_text(row["file_error_steps"])), "n")
        + cell("integers that differ", f"{row['file_differs']:.2%}", "n")
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
    from ...tflite.targets.firmware import flash_words

    kind = "int8" if str(export["dtype"]).startswith("int") else "float"
    rows = [("for", export.get("description")), ("size", kibibytes(export.get("size_bytes")))]
    if export.get("arena_bytes"):
        rows.append(("arena", kibibytes(export["arena_bytes"])))
        rows.append(("flash", flash_words(export["size_bytes"])))
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
