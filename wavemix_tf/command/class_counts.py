"""How many images of each class every set has: the table that the command prints, and the report's section.

An accuracy says little before one knows what always answering the commonest class would score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from .formats import cell, percent

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 20  # classes; of more the smallest and the largest

Counts = Mapping[str, Sequence[int]]  # set -> of each class


def counts_table(names: Sequence[str], counts: Counts) -> Table:
    """Classes by sets, for the terminal.

    Args:
        names: Of the classes.
        counts: See ``DataBundle.class_counts``.
    """
    from .terminal import grid

    table = grid("class", *counts)
    for column in table.columns[1:]:
        column.justify = "right"
    for index in _shown(counts):
        table.add_row(names[index], *(f"{of[index]:,}" for of in counts.values()))
    if len(names) > SHOWN:
        table.caption = f"{SHOWN} of {len(names):,} classes: the smallest and the largest of the training set."
        table.caption_justify = "left"
    return table


def majority_text(names: Sequence[str], counts: Counts, masks: bool) -> str:
    """Which class is the commonest, and its share; of the test set, else of the last set there is."""
    kind, of = next(((kind, counts[kind]) for kind in ("test", "validation", "train") if kind in counts), ("", []))
    if not sum(of):
        return ""
    most = max(range(len(of)), key=lambda index: of[index])
    what = "pixels" if masks else "images"
    return (
        f"{names[most]} is {percent(of[most] / sum(of))} of the {kind} {what}: always answering it is right as often."
    )


def section(report: Mapping[str, Any]) -> str:
    """The report's section; empty where the counts are not known."""
    dataset = report.get("dataset") or {}
    counts, names = dataset.get("counts") or {}, dataset.get("class_names") or []
    if not counts or not names:
        return ""
    masks = (report.get("recipe") or {}).get("task") == "segmentation"
    rows = "".join(
        f"<tr><th scope='row'>{escape(names[index])}</th>"
        + "".join(cell(kind, f"{of[index]:,}", "n") for kind, of in counts.items())
        + "</tr>"
        for index in _shown(counts)
    )
    heads = "".join(f"<th class='n'>{escape(kind)}</th>" for kind in counts)
    part = f" The {SHOWN} smallest and largest of {len(names):,} classes." if len(names) > SHOWN else ""
    return (
        f"<section class='card'><h2>{'Pixels' if masks else 'Images'} of each class</h2>"
        f"<p class='note'>{escape(majority_text(names, counts, masks))}{part}</p>"
        f"<div class='scroll'><table><thead><tr><th>class</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        "</section>"
    )


def _shown(counts: Counts) -> list[int]:
    """All classes in their order, or the smallest and the largest of the first set."""
    first = next(iter(counts.values()))
    if len(first) <= SHOWN:
        return list(range(len(first)))
    order = sorted(range(len(first)), key=lambda index: (first[index], index))
    return [*order[: SHOWN // 2], *order[-SHOWN // 2 :]]
