"""The report page of a run, drawn from ``report.json`` and the history files only.

The verbs measure the numbers; :func:`render_html` renders them as one self-contained page (no script, no network
request). A section is skipped when its part of ``report.json`` is missing, so that an interrupted run has a page too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ...files import write_text
from ...training.run_files import RunFiles
from . import data_sections, diagnosis, exported_files, op_sections, result_table, verification
from . import pictures as picture_sections
from .formats import metric_of
from .style import page


def write_report(out: str | os.PathLike[str], report: Mapping[str, Any]) -> Path:
    """Write ``report.json`` and ``report.html`` into the run folder ``out``; return the page's path."""
    out = Path(out)
    write_text(out / "report.json", json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    page = out / "report.html"
    write_text(page, render_html(report, read_history(out)))
    return page


def read_history(out: str | os.PathLike[str]) -> dict[str, dict[str, list[float]]]:
    """Read the histories of a run folder: stage ("float", "qat") -> column -> one float per epoch."""
    stages = {}
    for stage in ("float", "qat"):
        rows = RunFiles(Path(out), stage).read_history()
        if rows:
            stages[stage] = {column: [row[column] for row in rows] for column in rows[0]}
    return stages


def render_html(report: Mapping[str, Any], history: Mapping[str, Mapping[str, Sequence[float]]] | None = None) -> str:
    """Render the report page.

    Args:
        report: Content of ``report.json``.
        history: stage -> column -> values, as :func:`read_history` returns it.

    Returns:
        One HTML document without external references.
    """
    name = escape(str(report.get("name", "run")))
    body = "\n".join(
        part
        for part in (
            result_table.header(report),
            result_table.section(report),
            data_sections.section(report),
            data_sections.copies(report),
            '<div class="grid">',
            diagnosis.curves(history or {}, metric_of(report)[0]),
            picture_sections.class_iou(report),
            picture_sections.enlargements(report),
            diagnosis.confusion(report),
            diagnosis.scatter(report),
            diagnosis.wavelet(report),
            "</div>",
            picture_sections.pictures(report),
            diagnosis.mistakes(report),
            verification.section(report),
            exported_files.section(report),
            op_sections.section(report),
            _provenance(report),
        )
        if part
    )
    return page(name, body)


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
        f"<section class='card'><h2>Recipe and environment</h2><div class='provenance'>{parts}</div>{created}</section>"
    )


def _pairs(pairs: Iterable[tuple[Any, Any]]) -> str:
    return (
        "<dl>"
        + "".join(f"<dt>{escape(str(k))}</dt><dd>{escape('–' if v is None else str(v))}</dd>" for k, v in pairs)
        + "</dl>"
    )
