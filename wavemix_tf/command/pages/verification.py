"""The verification on the page of a run: files and runtimes, and the noise of each layer's rounding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from ...tflite.names import FAKE_QUANT, RUNTIMES
from .formats import after_comma, cell, percent, snr_text

# Columns of the verification matrix, in this order.
COLUMNS = {**{name: runtime.title for name, runtime in RUNTIMES.items()}, FAKE_QUANT: "Keras fake-quant"}
WORST_LAYERS = 5
MATRIX_NOTE = (
    "Each cell: top-1 agreement with the Keras model that the file was made from (on images where that model's margin "
    "exceeds two output steps), mean error in output steps, and a classifier's top-1 accuracy; a cross where a "
    "tolerance is exceeded. Keras fake-quant: that Keras model against the float model."
)


def runtime_columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the runtimes that occur in the rows, in the order of ``COLUMNS``."""
    present = {runtime for row in rows for runtime in row["cells"]}
    return [runtime for runtime in COLUMNS if runtime in present]


def steps_text(value: float) -> str:
    """0.0123 -> "0.012 steps"; float files differ by less than 0.001."""
    return "0 steps" if value == 0 else f"{value:.3f} steps" if value >= 0.001 else "< 0.001 steps"


def cell_texts(cell: Mapping[str, Any], images: int) -> tuple[str, str, str]:
    """Return (agreement, error, accuracy and, if the runtime did not reach all images, their number) of a cell."""
    part = "" if cell["images"] == images else f", {cell['images']:,} images"
    top = "" if cell.get("accuracy") is None else f"top-1 {percent(cell['accuracy'])}"
    error = steps_text(cell["mean_error_steps"]) + after_comma(snr_text(cell.get("snr_db")))
    return percent(cell.get("agreement")), error, f"{top}{part}".removeprefix(", ")


def worst_layers(layers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the layers that lose most accuracy, the worst first."""
    return sorted(layers.get("rows", []), key=lambda row: -row["lost_db"])[:WORST_LAYERS]


def section(report: Mapping[str, Any]) -> str:
    """Return the matrix of files and runtimes and, if they were measured, the layers."""
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
    from .run_plots import layer_noise  # it needs NumPy

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
        + cell("loss", f"{row['lost_db']:.2f} dB", "n")
        + cell("file against model", escape(steps_text(row["file_error_steps"])), "n")
        + cell("integers that differ", f"{row['file_differs']:.2%}", "n")
        + "</tr>"
        for row in rows
    )
    note = (
        f"Every tensor that {escape(str(layers['of']))} stores, in order, on {layers['images']} test images. Left: "
        "signal-to-noise ratio with all rounding up to this tensor (40 dB: an error of 1 %). Right: share of the noise "
        f"in the network's outputs that comes from this layer's rounding only; the {len(worst)} largest are marked. "
    )
    head = "".join(
        f"<th class='n'>{title}</th>"
        for title in ("step", "SQNR", "share", "loss", "file against model", "integers that differ")
    )
    return (
        f"<section class='card'><h2>Accuracy loss per layer</h2><p class='note'>{note}</p>"
        f"<figure class='scroll layers'>{layer_noise(rows, worst)}</figure>"
        "<details><summary>All figures</summary><p class='note'>Loss: gain in output SQNR if this layer did not "
        "round. File against model: mean distance of LiteRT's integers from those of the fake-quant model.</p>"
        "<div class='scroll'><table class='small'>"
        f"<thead><tr><th>layer</th><th>tensor</th>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
        "</section>"
    )
