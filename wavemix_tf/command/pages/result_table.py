"""The results on the page of a run: the header with the key figures, and the table of models and files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from ...processor import INT8
from .formats import cell, interval, kibibytes, metric_of, milliseconds


def latency_ms(row: Mapping[str, Any], quantile: str) -> float | None:
    """Return a quantile of a result row's latency; None if it was not timed."""
    value = (row.get("latency_ms") or {}).get(quantile)
    return None if value is None else float(value)


def interval_text(row: Mapping[str, Any], metric: str) -> str:
    """Return the 95 % interval of an accuracy in brackets; "" if the number of images is unknown."""
    if metric != "accuracy" or row.get(metric) is None or not row.get("images"):
        return ""
    return f"({interval(row[metric], row['images'])})"


def header(report: Mapping[str, Any]) -> str:
    """Return the header: name, facts and key figures."""
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
        facts.append(f"{model['macs'] / 1e6:.2f} million multiply-adds per image")
    command = (
        f"<pre class='command'><code>$ {escape(str(report['command']))}</code></pre>" if report.get("command") else ""
    )
    return (
        f"<header><p class='kicker'>wavemix-tf · run report</p><h1>{escape(str(report.get('name', 'run')))}</h1>"
        f"<p class='facts'>{' · '.join(escape(fact) for fact in facts)}</p>{command}{_tiles(report)}</header>"
    )


def _tiles(report: Mapping[str, Any]) -> str:
    """The five key figures."""
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
    # A microcontroller's file was timed on this machine too, but that is not its latency on the device.
    timed = [row for row in files if latency_ms(row, "p50") is not None and not row.get("arena_bytes")]
    if timed:
        fastest = min(timed, key=lambda row: latency_ms(row, "p50") or math.inf)
        p50 = latency_ms(fastest, "p50") or 0.0
        shown = f"{milliseconds(p50)} ms" if p50 >= 0.1 else f"{1000 * p50:.3g} µs"
        tiles.append(("latency p50, this CPU", shown, fastest["name"], "accent"))
    cells = "".join(
        f"<div class='tile {kind}'><span>{escape(label)}</span><strong>{escape(value)}</strong>"
        f"<small>{escape(str(note))}</small></div>"
        for label, value, note, kind in tiles
    )
    return f"<div class='tiles'>{cells}</div>" if cells else ""


def section(report: Mapping[str, Any]) -> str:
    """Return the table of models and files, with a bar for each metric."""
    rows = report.get("results", [])
    if not rows:
        return ""
    metric, title, text = metric_of(report)
    scores = [row[metric] for row in rows if row.get(metric) is not None]
    top = 1.0 if metric != "psnr_y" else max(scores, default=1.0)
    # The bar starts just below the smallest value; from 0 %, bars of 97 % and 99 % would look the same.
    floor = max(0.0, min(scores) - 3 * (max(scores) - min(scores)) - 0.02 * top) if scores else 0.0
    body = ""
    for row in rows:
        score = row.get(metric)
        share = 0.0 if score is None else 100 * (score - floor) / max(top - floor, 1e-9)
        kind = "int8" if str(row.get("dtype", "")).startswith("int") else "float"
        between = f" <small>{interval_text(row, metric)}</small>" if interval_text(row, metric) else ""
        p50, p90 = latency_ms(row, "p50"), latency_ms(row, "p90")
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
    where = _machine_text(report.get("machine") or {}, any(str(row.get("dtype")).startswith("int") for row in rows))
    dataset = report.get("dataset") or {}
    test = dataset.get("sizes", {}).get("test")
    tested = dataset.get("tested", test)
    images = ""
    if test:
        whole = tested == test or "scale" in report  # the test set's size is that of its patches
        part = f"{tested:,}" if whole else f"{tested:,} of the {test:,}"
        images = f"{title[0].upper()}{title[1:]} on {part} test images, which were used for no choice"
        images += ", with its 95 % interval." if metric == "accuracy" else "."
    return (
        "<section class='card'><h2>Results</h2>"
        f"<p class='note'>{images} Each file ran in the runtime named beside it. {where}</p>"
        "<div class='scroll'><table><thead><tr><th>model or file</th><th>runtime</th>"
        f"<th class='n'>{title}</th>"
        "<th class='n'>size</th><th class='n'>p50 / p90 ms</th><th class='n'>arena</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _machine_text(machine: Mapping[str, str], has_int8: bool) -> str:
    """Return where the latencies were measured, and whether int8 is slow there."""
    if not machine.get("cpu"):
        return ""
    text = f"Latency of one image under LiteRT, on one thread of {escape(str(machine['cpu']))}."
    found = machine.get("instructions")
    if has_int8 and found and not INT8 & set(found.split(", ")):
        text += " It has no instructions for int8 products, so int8 may be no faster than float32 here."
    return text
