"""Cost and memory by op on the page of a run: for each exported file its memory plan, its layers and its ops."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from .formats import cell, kibibytes

if TYPE_CHECKING:
    from ...tflite.per_op.layer_costs import OpReport, OpRow

COST_TITLES = {
    "cycles": "NPU cycles",
    "instructions": "instructions",
    "time_us": "µs",
    "macs": "",
}  # multiply-accumulates have a column of their own


def section(report: Mapping[str, Any]) -> str:
    """Return a card for each file that has per-op figures; empty without any."""
    cards = "".join(_card(export) for export in report.get("exports") or [] if export.get("per_op"))
    if not cards:
        return ""
    return (
        "<h2 class='loose'>Memory and cost by op</h2>"
        "<p class='note loose'>Left to right: the steps of one inference. Each block is a buffer at its place in "
        "memory, as long as it is needed. The layers are those of the Keras model.</p>"
        f"<div class='grid'>{cards}</div>"
    )


def _card(export: Mapping[str, Any]) -> str:
    from ...tflite.per_op.layer_costs import OpReport  # loads the schema of files: not at the start of the command

    found = OpReport.from_dict(export["per_op"])
    kind = "int8" if str(export["dtype"]).startswith("int") else "float"
    plan = "<p class='note'>The compiler stated no plan.</p>"
    if found.plan is not None:
        gaps = found.plan.arena_bytes - max(found.plan.live_bytes, default=0)
        more = f" At the peak {kibibytes(gaps)} of it are gaps." if gaps else ""
        plan = f"<figure>{found.plan_svg(standalone=False)}</figure>"
        plan += f"<p class='note'>{kibibytes(found.plan.arena_bytes)}: {escape(found.planned)}.{more}</p>"
    return (
        f"<section class='card per-op'><h3><i class='dot {kind}'></i>{escape(str(export['name']))}</h3>"
        f"<h4>Memory plan</h4>{plan}"
        f"<h4>Cost by layer</h4><figure>{found.costs_svg(standalone=False)}</figure>"
        f"<p class='note'>{escape(_sentence(found.measured))}</p>"
        f"<details><summary>All {len(found.rows)} ops</summary>{_table(found)}</details></section>"
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _table(found: OpReport) -> str:
    title = COST_TITLES[found.measure]
    heads = ["layer", "output", "MAC", *([title] if title else []), "memory"]
    head = "".join(f"<th{' class=n' if name not in ('layer', 'output') else ''}>{name}</th>" for name in heads)
    body = "".join(_row(found, row, title) for row in found.rows)
    return (
        f"<div class='scroll'><table class='small'><thead><tr><th>op</th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(found: OpReport, row: OpRow, title: str) -> str:
    value = getattr(row, found.measure)
    cost = "once" if value is None else f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
    return (
        f"<tr><th scope='row'>{row.index} {escape(row.op)}</th>"
        + cell("layer", escape(row.layer) or "–")
        + cell("output", " × ".join(map(str, row.shape[1:])) or "–")
        + cell("MAC", f"{row.macs:,}", "n")
        + (cell(title, cost, "n") if title else "")
        + cell("memory", kibibytes(row.live_bytes), "n")
        + "</tr>"
    )
