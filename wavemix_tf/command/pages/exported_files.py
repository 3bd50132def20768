"""The exported files on the page of a run: the facts of each, and the checks that it passed."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ...tflite.targets.firmware import flash_words
from ...tflite.targets.table import TARGETS
from .formats import kibibytes


def section(report: Mapping[str, Any]) -> str:
    """Return a card for each file, and the reasons for files that were not written."""
    exports = report.get("exports") or []
    if not exports:
        return ""
    return (
        "<h2 class='loose'>Exported files</h2>"
        "<p class='note loose'>A file is written only if it passes every check below.</p>"
        + "".join(
            f"<p class='note loose'><b>{escape(name)} was not written.</b> {escape(reason)}</p>"
            for name, reason in (report.get("refused") or {}).items()
        )
        + f"<div class='grid'>{''.join(_export(export) for export in exports)}</div>"
    )


def _export(export: Mapping[str, Any]) -> str:
    kind = "int8" if str(export["dtype"]).startswith("int") else "float"
    rows = [("device", export.get("description")), ("size", kibibytes(export.get("size_bytes")))]
    if export.get("arena_bytes"):
        rows.append(("arena", kibibytes(export["arena_bytes"])))
    if export.get("target") in TARGETS and TARGETS[export["target"]].counts_firmware:
        rows.append(("flash", flash_words(export["size_bytes"], export.get("ops") or {})))
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
