"""The table and the Pareto plots of a comparison, as HTML, Markdown and CSV. Every number is in the record."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import mean
from typing import Any

from rich.table import Table

from ...escaping import markdown
from ...files import replacing, write_text
from ..terminal import grid
from .formats import kibibytes, milliseconds, percent
from .front_plots import Point, accuracy_front, save_fronts
from .style import page

# Cost, title of its panel, path in a row, divisor. Costs of the int8 file are plotted against that file's accuracy, the
# others against the network's.
COSTS: tuple[tuple[str, str, tuple[str, ...], float], ...] = (
    ("macs", "multiply-accumulates, millions", ("profile", "macs"), 1e6),
    ("latency_ms", "latency of the int8 file, ms (LiteRT, one thread)", ("times", "int8_ms", "median"), 1),
    ("int8_bytes", "size of the int8 file, KiB", ("files", "int8", "size_bytes"), 1024),
    ("peak_activation_bytes", "peak activations in float32, KiB", ("profile", "peak_activation_bytes"), 1024),
    ("step_ms", "training step, ms", ("times", "step_ms", "median"), 1),
)


def value_at(row: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return a nested value of a row of the record; None where it is missing."""
    found: Any = row
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def shortened(reason: str, length: int = 220) -> str:
    """Return the beginning of a reason; comparison.json has all of it."""
    return reason if len(reason) <= length else reason[:length].rsplit(" ", 1)[0] + " ..."


def scores(row: Mapping[str, Any], split: str = "test") -> list[float]:
    """Return the top-1 accuracy of a system's trained seeds on a split."""
    return [run[split] for run in row.get("runs", {}).values()]


def int8_score(row: Mapping[str, Any]) -> list[float]:
    """Return the top-1 accuracy of the first seed's int8 file, if there is one."""
    found = value_at(row, ("files", "int8", "accuracy"))
    return [] if found is None else [found]


def write(out: Path, record: Mapping[str, Any]) -> Path:
    """Write the page, the tables and the plot; return the path of the page."""
    write_text(out / "comparison.csv", to_csv(record))
    write_text(out / "comparison.md", to_markdown(record))
    write_text(out / "comparison.html", to_html(record))
    panels = [(title, points) for _, title, points in _panels(record)]
    if panels:
        with replacing(out / "comparison.png") as temporary:
            save_fronts(temporary, panels, [f"{place}  {row['title']}" for place, _, row in numbered(record)])
    return out / "comparison.html"


def _panels(record: Mapping[str, Any]) -> list[tuple[str, str, Sequence[Point]]]:
    """Return (cost, title, points) of each cost that was measured for at least one system."""
    found: list[tuple[str, str, Sequence[Point]]] = []
    for cost, title, path, unit in COSTS:
        accuracy = int8_score if any("int8" in part for part in path) else scores
        points: list[Point] = [
            (place, value_at(row, path) / unit, accuracy(row), key == "wavemix")
            for place, key, row in numbered(record)
            if value_at(row, path) and accuracy(row)
        ]
        if points:
            found.append((cost, title, points))
    return found


def ordered(record: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the systems by mean accuracy, failed ones last."""

    def place(item: tuple[str, Mapping[str, Any]]) -> tuple[bool, float]:
        found = scores(item[1])
        return not found, -mean(found) if found else 0.0

    return sorted(record["systems"].items(), key=place)


def numbered(record: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return (number in the plots, name, row) of each trained system."""
    trained = [(key, row) for key, row in ordered(record) if scores(row)]
    return [(str(place), key, row) for place, (key, row) in enumerate(trained, 1)]


def _columns(row: Mapping[str, Any], seeds: int = 1) -> dict[str, str]:
    """Return title -> text of one system; ``seeds`` is the number of seeds of the comparison."""
    found, first = scores(row), next(iter(row.get("runs", {}).values()), None)
    spread = f" ({100 * min(found):.2f}–{100 * max(found):.2f})" if len(found) > 1 else ""
    if found and len(found) < seeds:
        spread += f", {len(found)} of {seeds} seeds"
    int8 = value_at(row, ("files", "int8")) or {}
    images = int8.get("images", 0)
    part = f" of {images:,} images" if images < int8.get("test_images", 0) else ""
    parameters = value_at(row, ("profile", "parameters"))
    macs = value_at(row, ("profile", "macs"))
    return {
        "width": str(row.get("width") or "–"),
        "parameters": "–" if parameters is None else f"{parameters:,}",
        "MMAC": "–" if macs is None else f"{macs / 1e6:.2f}",
        "top-1": f"{percent(mean(found))}{spread}" if found else "–",
        "first seed: float": percent(first["test"]) if first else "–",
        "int8": "refused" if "refused" in int8 else percent(int8.get("accuracy")) + part,
        "int8 file": kibibytes(int8.get("size_bytes")),
        "latency, ms": milliseconds(value_at(row, ("times", "float32_ms", "median"))),
        "int8, ms": milliseconds(value_at(row, ("times", "int8_ms", "median"))),
        "peak activations, float32": kibibytes(value_at(row, ("profile", "peak_activation_bytes"))),
        "training step, ms": milliseconds(value_at(row, ("times", "step_ms", "median"))),
    }


def _remarks(row: Mapping[str, Any]) -> list[str]:
    """Return texts on failures, refused files and layers that stay float."""
    remarks = []
    if "failed" in row:
        remarks.append(f"failed ({row['failed']['step']}): {row['failed']['reason']}")
    for dtype, file in row.get("files", {}).items():
        if "refused" in file:
            remarks.append(f"{dtype} file refused: {shortened(file['refused'])}")
        elif file.get("float_layers"):
            remarks.append(f"{dtype} file, layers in float: {', '.join(file['float_layers'])}")
    return remarks


def to_table(record: Mapping[str, Any]) -> Table:
    """Return the columns that fit a terminal; the page has all."""
    shown = ("parameters", "MMAC", "top-1", "int8", "int8 file", "int8, ms")
    table = grid("system", *shown)
    for name, row in ordered(record):
        cells = _columns(row, len(record["seeds"]))
        table.add_row(name, *(cells[title] for title in shown))
    return table


def to_markdown(record: Mapping[str, Any]) -> str:
    """Return the table with its remarks as Markdown."""
    titles = list(_columns({}))
    lines = [f"| system | {' | '.join(titles)} |", f"|---{'|---' * len(titles)}|"]
    for name, row in ordered(record):
        cells = _columns(row, len(record["seeds"]))
        lines.append(f"| {row.get('title', name)} | {' | '.join(cells[title] for title in titles)} |")
    found = [(row.get("title", name), text) for name, row in ordered(record) for text in _remarks(row)]
    remarks = [f"- {title}: {markdown(text)}" for title, text in found]
    return "\n".join([markdown(_caption(record)), "", *lines, *(["", *remarks] if remarks else []), ""])


def to_csv(record: Mapping[str, Any]) -> str:
    """Return one row per system, numbers without units."""
    seeds = [str(seed) for seed in record["seeds"]]
    header = ["system", "status", "width", "parameters", *(cost for cost, *_ in COSTS), "latency_float32_ms"]
    header += ["top1_mean", "top1_least", "top1_most", *(f"top1_seed{seed}" for seed in seeds), "top1_int8_first_seed"]
    header += [*(f"validation_seed{seed}" for seed in seeds), "remarks"]
    rows: list[list[Any]] = [header]
    for name, row in ordered(record):
        found = scores(row)
        test = [row.get("runs", {}).get(seed, {}).get("test") for seed in seeds]
        validation = [row.get("runs", {}).get(seed, {}).get("validation") for seed in seeds]
        rows.append([
            name, "failed" if "failed" in row else "ok", row.get("width"), value_at(row, ("profile", "parameters")),
            *(value_at(row, path) for _, _, path, _ in COSTS), value_at(row, ("times", "float32_ms", "median")),
            *((mean(found), min(found), max(found)) if found else (None,) * 3), *test,
            value_at(row, ("files", "int8", "accuracy")), *validation, "; ".join(_remarks(row)),
        ])  # fmt: skip
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def to_html(record: Mapping[str, Any]) -> str:
    """Return the page: plots, table, remarks, recipe and command."""
    rows = ordered(record)
    name = escape(str(record["recipe"]["name"]))
    titles = list(_columns({}))
    head = "".join(f"<th class='n'>{escape(title)}</th>" for title in titles)
    numbers = {key: place for place, key, _ in numbered(record)}
    body = []
    for key, row in rows:
        cells = _columns(row, len(record["seeds"]))
        label = f"{numbers.get(key, '')} {escape(str(row.get('title', key)))}".strip()
        kind = " class='failed'" if "failed" in row else ""
        body.append(
            f"<tr{kind}><th>{label}</th>"
            + "".join(f"<td class='n' data-label='{escape(title)}'>{_unbroken(cells[title])}</td>" for title in titles)
            + "</tr>"
        )
    remarks = "".join(
        f"<li><b>{escape(str(row.get('title', key)))}</b>: {escape(text)}</li>"
        for key, row in rows
        for text in _remarks(row)
    )
    figures = [accuracy_front(points, title, f"front-{cost}") for cost, title, points in _panels(record)]
    cards = "".join(f"<section class='card'><figure>{figure}</figure></section>" for figure in figures)
    command = f"<pre class='command'><code>$ {escape(str(record.get('command', '')))}</code></pre>"
    content = (
        f"<header><p class='kicker'>wavemix-tf · comparison</p><h1>{name}</h1>"
        f"<p class='facts'>{escape(_caption(record))}</p>{command}</header>"
        f"<section class='card'><h2>Systems</h2><p class='note'>Top-1 on the test images: mean and range over the "
        "seeds; the plots use the number before each name. int8: the first seed's int8 file under LiteRT, "
        "whose own top-1 is in the plots of its latency and size.</p>"
        f"<div class='scroll'><table class='small compact'><thead><tr><th>system</th>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
        f"{f'<ul class=remarks>{remarks}</ul>' if remarks else ''}</section>"
        f"<div class='grid'>{cards}</div>"
    )
    return page(f"{name} · comparison", content)


def _unbroken(text: str) -> str:
    """Return a cell that breaks a line only before a bracket: numbers stay with their units, ranges whole."""
    value, bracket, rest = text.partition(" (")
    parts = [value, f"({rest}"] if bracket else [value]
    return " ".join(f"<span class='unbroken'>{escape(part)}</span>" for part in parts)


def _caption(record: Mapping[str, Any]) -> str:
    recipe, seeds = record["recipe"], record["seeds"]
    limits = ", ".join(f"{cost.replace('_', ' ')} at most {limit:,.10g}" for cost, limit in record["budget"].items())
    epochs = f"{recipe['epochs']} epochs on {recipe['dataset']}"
    split = f" ({recipe['train_split']})" if recipe["train_split"] != "train" else ""
    count = f"{len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    return f"{epochs}{split}, {count}; {limits or 'widths as given'}"
