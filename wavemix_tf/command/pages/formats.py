"""Format numbers for the terminal's tables and the report page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ...training.tasks import TASKS


def percent(value: float | None) -> str:
    """0.98611 -> "98.61 %"."""
    return "–" if value is None else f"{100 * value:.2f} %"


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share measured on ``count`` images (Wilson, JASA 22, 1927)."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def interval(share: float | None, count: int | None) -> str:
    """Format the 95 % interval of a share of ``count`` images: 0.989 of 92 -> "94.1–99.8 %"."""
    if share is None or not count:
        return "–"
    low, high = wilson_interval(share, count)
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def kibibytes(value: float | None) -> str:
    """Bytes -> "119.4 KiB"; datasheets give flash and RAM of microcontrollers in KiB."""
    if value is None:
        return "–"
    return f"{value / 1024:.1f} KiB" if value < 1024**2 else f"{value / 1024**2:.2f} MiB"


def milliseconds(value: float | None) -> str:
    """Milliseconds with three significant digits, two below a tenth."""
    return "–" if value is None else f"{value:#.{3 if value >= 0.1 else 2}g}".rstrip(".")


def decibels(value: float | None) -> str:
    """33.674 -> "33.67 dB"."""
    return "–" if value is None else f"{value:.2f} dB"


# Metric of a task -> (title, formatter of its values).
METRICS: dict[str, tuple[str, Callable[[float | None], str]]] = {
    task.metric: (task.metric_title, {"%": percent, "dB": decibels}[task.metric_unit]) for task in TASKS.values()
}


def metric_of(report: Mapping[str, Any]) -> tuple[str, str, Callable[[float | None], str]]:
    """Return (key in a result row, title, formatter) of a report's metric."""
    name = report.get("metric", "accuracy")
    return (name, *METRICS[name])


def score_text(metric: str, value: float | None) -> str:
    """Format a score with its title: "top-1 99.17 %"."""
    title, text = METRICS[metric]
    return f"{title} {text(value)}"


def cell(label: str, content: str, kind: str = "") -> str:
    """Return a table cell with its header as a label, which narrow screens show instead of the header row."""
    empty = " empty" if content == "–" else ""
    return f"<td class='{kind}{empty}' data-label='{label}'>{content}</td>"


def snr_text(value: float | None) -> str:
    """41.26 -> "41 dB"; 200 marks equal outputs, which have no noise."""
    return "" if value is None else "no difference" if value >= 200 else f"{value:.0f} dB"


def after_comma(text: str) -> str:
    """Return ``text`` after a comma; "" if it is empty."""
    return f", {text}" if text else ""
