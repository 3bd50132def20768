"""Plots of a comparison: accuracy of systems against a cost, with the Pareto front."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...pareto import pareto_front
from .figure_style import ACCENT, CARD, FLOAT, INK, INT8, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[str, float, Sequence[float], bool]


def accuracy_front(points: Sequence[Point], cost: str, name: str) -> str:
    """Plot the accuracy of systems against a cost, with the Pareto front.

    Args:
        points: (label of one or two characters, cost, accuracies of its seeds in [0, 1], whether to highlight it), one
            per system.
        cost: Title of the horizontal axis.
        name: Name of the figure, unique on the page.
    """
    with new_figure(5.6, 4.3) as figure:
        _draw_front(figure.subplots(), points, cost)
        return to_svg(figure, name, f"Accuracy over {cost}")


def save_fronts(
    path: str | os.PathLike[str], panels: Sequence[tuple[str, Sequence[Point]]], names: Sequence[str]
) -> None:
    """Save the plots as a PNG file: one panel per cost, and one with the names of the systems.

    Args:
        path: PNG file.
        panels: (cost, points), see ``accuracy_front``.
        names: Names of the systems, one per line.
    """
    columns = min(3, len(panels) + 1)
    rows = -(-(len(panels) + 1) // columns)
    with new_figure(4.6 * columns, 3.7 * rows) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, (cost, points) in zip(axes, panels, strict=False):
            _draw_front(axis, points, cost)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        axes[len(panels)].text(0.05, 0.95, "\n".join(names), va="top", fontsize=10.5, linespacing=1.6, color=INK)
        figure.savefig(path, format="png", dpi=110, facecolor="white")


def _draw_front(axis: Axes, points: Sequence[Point], cost: str) -> None:
    from matplotlib import ticker

    best = pareto_front(points, lambda point: point[1], lambda point: float(np.mean(point[2])))
    front = [(point[1], 100 * float(np.mean(point[2]))) for point in best]
    if len(front) > 1:
        axis.plot(*zip(*front, strict=True), drawstyle="steps-post", color=ACCENT, linewidth=1.2, zorder=1)
    for label, value, found, picked in points:
        middle, colour = 100 * float(np.mean(found)), INT8 if picked else FLOAT
        axis.plot([value, value], [100 * min(found), 100 * max(found)], color=colour, linewidth=1.2, alpha=0.6)
        axis.scatter([value], [middle], s=95, color=colour, edgecolors=CARD, linewidths=0.8, zorder=3)
        axis.annotate(label, (value, middle), ha="center", va="center", fontsize=7.5, color=CARD, zorder=4)
    values = [value for _, value, _, _ in points]
    if max(values) > 8 * min(values):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:g}"))
    # Both axes start at zero: cut to the range of the data, every difference would look large.
    highest = max(100 * max(found) for _, _, found, _ in points)
    axis.set(xlabel=cost, ylabel="top-1, %", ylim=(0, min(100.0, 1.1 * highest)))
    if axis.get_xscale() == "linear":
        axis.set_xlim(0, 1.12 * max(values))
