"""The verification of a run on its page: files by runtimes, and what each layer's rounding costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from ...tflite.names import FAKE_QUANT, RUNTIMES
from .formats import behind_comma, cell, percent, snr_text
from .run_plots import layer_noise

# Columns of the verification matrix, in this order.
COLUMNS = {**{name: runtime.title for name, runtime in RUNTIMES.items()}, FAKE_QUANT: "Keras fake-quant"}
WORST_LAYERS = 5
MATRIX_NOTE = (
    "Same class as the Keras model the file was made from (of the images where that model is sure: a lead of two "
    "output steps), mean error in steps of the file's output, and a classifier's top-1 accuracy; a cross where a bound "
    "is exceeded. Keras fake-quant: that model against the float one."
)


def runtime_columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The runtimes that any of the rows has, in the order of ``COLUMNS``."""
    present = {runtime for row in rows for runtime in row["cells"]}
    return [runtime for runtime in COLUMNS if runtime in present]


def steps_text(value: float) -> str:
    """0.0123 -> "0.012 steps"; float files differ by less than a thousandth."""
    return "0 steps" if value == 0 else f"{value:.3f} steps" if value >= 0.001 else "< 0.001 steps"


def cell_texts(cell: Mapping[str, Any], images: int) -> tuple[str, str, str]:
    """(agreement, error, accuracy and, where the runtime did not get to all images, their number) of a matrix cell."""
    part = "" if cell["images"] == images else f", {cell['images']:,} images"
    top = "" if cell.get("accuracy") is None else f"top-1 {percent(cell['accuracy'])}"
    error = steps_text(cell["mean_error_steps"]) + behind_comma(snr_text(cell.get("snr_db")))
    return percent(cell.get("agreement")), error, f"{top}{part}".removeprefix(", ")


def worst_layers(layers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The layers that cost most, the worst first."""
    return sorted(layers.get("rows", []), key=lambda row: -row["lost_db"])[:WORST_LAYERS]


def section(report: Mapping[str, Any]) -> str:
    """Files by runtimes, and below that the layers, where they were measured."""
    found = report.get("verification") or {}
    rows = found.get("rows") or []
    if not rows:
        return ""
    columns = runtime_columns(rows)
    head = "".join(f"<th>{escape(COLUMNS[runtime])}</th>" for runtime in columns)
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
    label = escape(COLUMNS[runtime])
    if found is None:
        return cell(label, "–")
    agreement, error, rest = cell_texts(found, images)
    kind = "unbound" if found["bound_steps"] is None else "fail" if found["fault"] else "pass"
    why = f" title='{escape(str(found['fault']), quote=True)}'" if found["fault"] else ""
    lines = f"<b>{agreement}</b><span>{escape(error)}</span><small>{escape(rest)}</small>"
    return cell(label, f"<span class='mark {kind}'{why}>{lines}</span>")


def _layers(layers: Mapping[str, Any]) -> str:
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
        f"<figure class='scroll layers'>{layer_noise(rows, worst)}</figure>"
        "<details><summary>All figures</summary><p class='note'>Costs: what the outputs' SQNR would gain if this layer "
        "did not round. File against model: how far LiteRT's integers are from the fake-quant model's.</p>"
        "<div class='scroll'><table class='small'>"
        f"<thead><tr><th>layer</th><th>tensor</th>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
        "</section>"
    )
