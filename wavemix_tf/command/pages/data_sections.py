"""Sections of the report: number of images of each class in every set, and duplicate images."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ...training.data.class_counts import SHOWN, majority_text, shown_classes
from ...training.tasks import TASKS
from .formats import cell


def section(report: Mapping[str, Any]) -> str:
    """Return the section of the report; empty without counts."""
    dataset = report.get("dataset") or {}
    counts, names = dataset.get("counts") or {}, dataset.get("class_names") or []
    if not counts or not names:
        return ""
    task = TASKS.get((report.get("recipe") or {}).get("task", ""))
    unit = "images" if task is None else task.class_unit  # reports of earlier versions have no task
    rows = "".join(
        f"<tr><th scope='row'>{escape(names[index])}</th>"
        + "".join(cell(kind, f"{of[index]:,}", "n") for kind, of in counts.items())
        + "</tr>"
        for index in shown_classes(counts)
    )
    heads = "".join(f"<th class='n'>{escape(kind)}</th>" for kind in counts)
    part = f" The {SHOWN} smallest and largest of {len(names):,} classes are shown." if len(names) > SHOWN else ""
    return (
        f"<section class='card'><h2>{unit.capitalize()} of each class</h2>"
        f"<p class='note'>{escape(majority_text(names, counts, unit))}{part}</p>"
        f"<div class='scroll'><table><thead><tr><th>class</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        "</section>"
    )


def copies(report: Mapping[str, Any]) -> str:
    """Return the section on images that occur in several sets or classes; empty without any."""
    notes = (report.get("dataset") or {}).get("copies") or []
    lines = "".join(f"<p class='note'>{escape(text[0].upper() + text[1:])}.</p>" for text in notes)
    return f"<section class='card'><h2>Duplicate images</h2>{lines}</section>" if notes else ""
