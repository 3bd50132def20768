"""Markdown tables and plots of the benchmarks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from side_by_side import write_atomically


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Format a Markdown table; rows shorter than the header are padded with empty cells."""
    filled = [row + [""] * (len(header) - len(row)) for row in rows]
    lines = [header, ["---"] * len(header), *filled]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(ratio: dict[str, float]) -> str:
    return f"{ratio['min']:.2f}-{ratio['max']:.2f}"


def bars(panels: list[tuple[str, list[tuple[str, float, float]]]], names: tuple[str, str], path: Path) -> None:
    """Plot one panel per (label, [(group, peer's value, our value)]): pairs of bars, as shares of the peer's value."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(5.6 * len(panels), 3.6), squeeze=False)
    for axis, (label, groups) in zip(axes[0], panels, strict=True):
        for number, (_, peer, mine) in enumerate(groups):
            for offset, value, color in ((-0.19, peer, "#9aa5b1"), (0.19, mine, "#1f8a70")):
                axis.barh(number + offset, value / peer, height=0.36, color=color)
                text = f" {value:,.0f}" if value >= 100 else f" {value:.3g}"
                axis.text(value / peer, number + offset, text, va="center", fontsize=8)
        axis.set_yticks(range(len(groups)), [group for group, _, _ in groups], fontsize=8)
        axis.invert_yaxis()
        axis.set_xmargin(0.16)
        axis.set_title(label, fontsize=9, loc="left")
        axis.set_xlabel("share of the peer's", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=color) for color in ("#9aa5b1", "#1f8a70")]
    figure.legend(handles, names, loc="upper center", ncols=2, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    save_figure(figure, path)


def save_figure(figure: Any, path: Path, dpi: int = 150) -> None:
    """Write a figure of matplotlib as PNG, whole or not at all, and close it."""
    from matplotlib import pyplot

    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    pyplot.close(figure)
    write_atomically(path, content.getvalue())
