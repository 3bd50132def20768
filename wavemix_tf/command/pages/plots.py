"""Figures of the report page: inline SVG whose colours follow the page's theme, and small PNG images.

Every function takes plain lists and numbers, as they stand in ``report.json``, and returns markup. Colours are written
as the placeholders of :data:`THEME` and become CSS variables, so that one figure serves the light and the dark page.
"""

from __future__ import annotations

import base64
import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from ...pareto import pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Placeholder colour -> CSS variable of the page.
THEME = {
    "#1c2431": "var(--ink)",
    "#6a7485": "var(--muted)",
    "#dcdad4": "var(--line)",
    "#2c6cb0": "var(--float)",
    "#d4602a": "var(--int8)",
    "#1f8a70": "var(--accent)",
    "#fffffe": "var(--card)",
}
INK, MUTED, LINE, FLOAT, INT8, ACCENT, CARD = THEME

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: sharp, selectable, in the page's font
    "svg.hashsalt": "wavemix-tf",  # same data, same bytes
    "font.size": 10,
    "text.parse_math": False,  # a name may hold dollars
    "font.sans-serif": ["DejaVu Sans"],
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.labelcolor": MUTED,
    "legend.fontsize": 9,
}


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of ``width`` x ``height`` inches in the house style; no pyplot, so no global state and no display."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an inline <svg> which scales with its column and follows the theme."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    width, height = (72 * side for side in figure.get_size_inches())  # SVG points
    label = _escape(description)
    svg = re.sub(
        r"<svg[^>]*>",
        lambda _: (
            f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}" '
            'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
        ),
        svg,
        count=1,
    )
    # Two figures of one page must not share an id: clip paths and markers are looked up by it.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    for placeholder, variable in THEME.items():
        svg = svg.replace(placeholder, variable)
    return svg.replace("'DejaVu Sans'", "var(--font)")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def training_curves(
    stages: Mapping[str, Mapping[str, Sequence[float]]], metric: str = "accuracy", title: str = "top-1"
) -> str:
    """Metric and loss over the epochs of every stage, one after the other on the same axis.

    Args:
        stages: stage ("float", "qat") -> column of the history -> one value an epoch. Columns ``metric``, ``loss``
            and their ``val_`` twins are drawn where they exist.
        metric: "accuracy", "mean_iou" or "psnr_y".
        title: What the metric is called.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    colours = {"float": FLOAT, "qat": INT8}
    titles = {"float": "float", "qat": "quantization-aware"}
    with _figure(5.2, 4.6) as figure:
        axes: Sequence[Axes] = figure.subplots(2, 1, sharex=True, height_ratios=[1.25, 1])
        start = 0
        for stage, history in stages.items():
            length = max((len(values) for values in history.values()), default=0)
            epochs = np.arange(start + 1, start + length + 1)
            for axis, shown in zip(axes, (metric, "loss"), strict=True):
                for column, dash, alpha in ((shown, (0, (2, 1.6)), 0.55), (f"val_{shown}", "-", 1.0)):
                    values = history.get(column)
                    if values is not None and len(values):
                        axis.plot(
                            epochs[: len(values)],
                            values,
                            color=colours.get(stage, ACCENT),
                            linestyle=dash,
                            alpha=alpha,
                            linewidth=1.9 if alpha == 1 else 1.4,
                            marker="o" if length == 1 else None,
                            markersize=4,
                        )
            if length:
                if start:
                    for axis in axes:
                        axis.axvline(start + 0.5, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
                axes[0].annotate(
                    titles.get(stage, stage),
                    (start + 0.5 + length / 2, 1.0),
                    xycoords=("data", "axes fraction"),
                    xytext=(0, 4),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    color=colours.get(stage, ACCENT),
                    fontsize=9,
                    fontweight="bold",
                )
            start += length
        _focus(axes[0], stages, metric)
        if metric != "psnr_y":
            axes[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes[0].set_ylabel({"accuracy": "top-1 accuracy", "psnr_y": "PSNR-Y, dB"}.get(metric, title))
        axes[1].set_ylabel("loss")
        axes[1].set_xlabel("epoch")
        axes[1].set_ylim(bottom=0)
        axes[1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes[1].plot([], [], color=MUTED, label="validation")
        axes[1].plot([], [], color=MUTED, linestyle=(0, (2, 1.6)), alpha=0.6, linewidth=1.4, label="training")
        axes[1].legend(loc="upper right", ncols=2, handlelength=2.2)
        figure.align_ylabels()
        return _svg(figure, "curves", f"{title} and loss on the training and validation images, by epoch")


def _focus(axis: Axes, stages: Mapping[str, Mapping[str, Sequence[float]]], metric: str) -> None:
    """Cut off the steep first epochs below, so that the last points of the metric can be told apart."""
    values = [v for history in stages.values() for v in history.get(f"val_{metric}", []) if math.isfinite(v)]
    if metric == "psnr_y":
        if values:
            axis.set_ylim(float(np.quantile(values, 0.1)) - 0.3, max(values) + 0.3)
        return
    if len(values) >= 8:
        lowest = float(np.quantile(values, 0.12))
        best = max(values)
        axis.set_ylim(
            max(0.0, lowest - 0.25 * (best - lowest) - 0.01), min(1.004, best + 0.2 * (best - lowest) + 0.004)
        )
    elif values:
        axis.set_ylim(max(0.0, min(values) - 0.1), 1.01)


def confusion_matrix(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> str:
    """Counts of (true class, predicted class); rows are normalised for the colour, the numbers are counts.

    The diagonal and the mistakes have a colour scale each: on a good model a shared one would hide every mistake.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    classes = len(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    worst = np.max(share - np.diag(np.diag(share)), initial=0.0)
    diagonal = np.eye(classes, dtype=bool)
    # RGBA with the share as opacity: the same picture is right on a light and on a dark page.
    rgba = np.zeros((classes, classes, 4))
    rgba[diagonal, :3] = _rgb(FLOAT)
    rgba[~diagonal, :3] = _rgb(INT8)
    rgba[diagonal, 3] = 0.08 + 0.82 * share[diagonal]
    rgba[~diagonal, 3] = np.where(share > 0, 0.12 + 0.78 * share / max(worst, 1e-9), 0.0)[~diagonal]
    longest = max((len(str(name)) for name in class_names), default=1)
    with _figure(5.2, 5.0) as figure:
        axis = figure.subplots()
        axis.imshow(rgba, interpolation="nearest")
        axis.grid(False)
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        for side in ("left", "bottom"):
            axis.spines[side].set_visible(False)
        if classes <= 26:
            axis.set_xticks(
                range(classes),
                class_names,
                rotation=0 if longest <= 2 else 45,
                ha="center" if longest <= 2 else "right",
            )
            axis.set_yticks(range(classes), class_names)
            axis.tick_params(labelsize=9 if classes <= 12 else 7)
            axis.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
            axis.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
            axis.grid(which="minor", color=CARD, linewidth=2)
            axis.tick_params(which="minor", length=0)
            for row, column in zip(*np.nonzero(counts), strict=True):
                axis.text(
                    column,
                    row,
                    f"{counts[row, column]}",
                    ha="center",
                    va="center",
                    fontsize=9.5 if classes <= 12 else 6.5,
                    color="#ffffff" if rgba[row, column, 3] > 0.5 else INK,
                )
        else:
            axis.tick_params(labelsize=8)
        return _svg(figure, "confusion", "Confusion matrix: rows are true classes, columns predicted ones")


def logit_scatter(
    file_logits: Sequence[float], qat_logits: Sequence[float], float_logits: Sequence[float], step: float | None
) -> str:
    """Logits of the int8 file over those of the two Keras models, and how far it lies from the one it computes.

    Args:
        file_logits: logits of the file, in any order.
        qat_logits: those of the quantization-aware model, which the file should compute; same images and classes.
        float_logits: those of the float model before fine-tuning.
        step: size of one output quantization step, in logits; None draws the difference in logits.
    """
    found, same, before = (np.asarray(z, dtype=np.float64) for z in (file_logits, qat_logits, float_logits))
    error = (found - same) / (step or 1.0)
    with _figure(5.2, 5.4) as figure:
        above, below = figure.subplots(2, 1, height_ratios=[2.4, 1])
        together = np.concatenate([found, same, before])
        low, high = float(together.min()), float(together.max())
        margin = 0.04 * (high - low or 1.0)
        limits = (low - margin, high + margin)
        above.plot(limits, limits, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        above.scatter(before, found, s=7, color=FLOAT, alpha=0.25, linewidths=0, label="over the float model")
        above.scatter(same, found, s=7, color=INT8, alpha=0.5, linewidths=0, label="over the QAT model")
        above.set(xlim=limits, ylim=limits, xlabel="logit of the Keras model", ylabel="logit of the int8 file")
        legend = above.legend(loc="upper left", handletextpad=0.1, borderpad=0.1, markerscale=1.8)
        for handle in legend.legend_handles:
            handle.set_alpha(0.9)
        if step:
            note = f"one output step = {step:.3g}"
            above.annotate(note, (0.97, 0.05), xycoords="axes fraction", ha="right", color=MUTED, fontsize=9)
        widest = max(float(np.abs(error).max()), 0.5)
        if step and widest <= 40:  # the quantization-aware model answers on the same grid: whole steps
            reach = int(np.ceil(widest))
            edges = np.arange(-reach - 0.5, reach + 1)
        else:
            edges = np.linspace(-widest, widest, 42)
        below.hist(error, bins=edges, color=INT8, alpha=0.85, edgecolor=CARD, linewidth=0.8)
        below.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        below.set_xlabel(f"file − QAT model, in {'output steps' if step else 'logits'}")
        below.set_ylabel("logits")
        below.grid(axis="x", visible=False)
        below.annotate(
            f"mean |difference| {np.abs(error).mean():.2f} · max {np.abs(error).max():.1f}",
            (1.0, 1.0),
            xycoords="axes fraction",
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            color=MUTED,
            fontsize=9,
        )
        figure.align_ylabels()
        return _svg(figure, "scatter", "Logits of the int8 file over the logits of the Keras models")


def layer_noise(rows: Sequence[Mapping[str, Any]], worst: Sequence[str]) -> str:
    """Two bars a layer, the first layer on top: its SQNR in dB, and its share of the noise in the outputs.

    Args:
        rows: One a layer, with "name", "noise_db" and "output_share".
        worst: Names to mark.
    """
    from matplotlib.ticker import PercentFormatter

    names = [str(row["name"]) for row in rows]
    noise = np.array([row["noise_db"] for row in rows], dtype=np.float64)
    share = np.array([row["output_share"] for row in rows], dtype=np.float64)
    marked = np.array([name in worst for name in names])
    places = np.arange(len(rows))
    with _figure(10.4, 0.9 + 0.205 * len(rows)) as figure:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.25, 1])
        for axis, values in ((left, noise), (right, share)):
            for chosen, colour, alpha in ((~marked, FLOAT, 0.55), (marked, INT8, 0.95)):
                axis.barh(places[chosen], values[chosen], height=0.68, color=colour, alpha=alpha)
            axis.grid(axis="y", visible=False)
            axis.spines["left"].set_visible(False)
            axis.set_xlim(left=0)
        # A tensor without noise, as the pixels are, must not squeeze the others.
        finite = noise[noise < 99]
        most = 1.12 * float(finite.max()) if finite.size else 100.0
        left.set_xlim(0, most)
        right.set_xlim(0, 1.2 * max(float(share.max()), 1e-3))
        for place, decibels, part, mark in zip(places, noise, share, marked, strict=True):
            text = f"{decibels:.0f}" if decibels < 99 else "exact"
            inside = decibels >= 99
            left.annotate(
                text,
                (min(decibels, most), place),
                xytext=(-4 if inside else 3, 0),
                textcoords="offset points",
                ha="right" if inside else "left",
                va="center",
                fontsize=7.5,
                color="#ffffff" if inside else INT8 if mark else MUTED,
            )
            if mark:
                right.annotate(
                    f"{part:.1%}",
                    (part, place),
                    xytext=(3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                    fontweight="bold",
                    color=INT8,
                )
        left.set_yticks(places, names)
        left.tick_params(axis="y", labelsize=8)
        right.tick_params(axis="y", left=False, labelleft=False)
        for label, mark in zip(left.get_yticklabels(), marked, strict=True):
            label.set_color(INT8 if mark else MUTED)
            label.set_fontweight("bold" if mark else "normal")
        left.set_ylim(len(rows) - 0.4, -0.6)
        left.set_xlabel("SQNR of the tensor (dB; more is better)")
        right.set_xlabel("share of the noise in the outputs (less is better)")
        right.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        return _svg(figure, "layers", "For each layer: SQNR of its tensor, and its share of the noise in the outputs")


Point = tuple[str, float, Sequence[float], bool]


def accuracy_front(points: Sequence[Point], cost: str, name: str) -> str:
    """Accuracy of systems over one of their costs, with the Pareto front.

    Args:
        points: (label of a character or two, cost, accuracies of its seeds in [0, 1], whether to pick it out), one a
            system.
        cost: title of the horizontal axis.
        name: of the figure, one of its kind on a page.
    """
    with _figure(5.6, 4.3) as figure:
        _draw_front(figure.subplots(), points, cost)
        return _svg(figure, name, f"Accuracy over {cost}")


def save_fronts(
    path: str | os.PathLike[str], panels: Sequence[tuple[str, Sequence[Point]]], names: Sequence[str]
) -> None:
    """The same as a picture, one panel a cost and one that says who is who.

    Args:
        path: of the PNG file.
        panels: (cost, points), see ``accuracy_front``.
        names: of the systems, a line each.
    """
    columns = min(3, len(panels) + 1)
    rows = -(-(len(panels) + 1) // columns)
    with _figure(4.6 * columns, 3.7 * rows) as figure:
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
    # Both axes from zero: between the least and the most of a comparison every difference would look like all of it.
    highest = max(100 * max(found) for _, _, found, _ in points)
    axis.set(xlabel=cost, ylabel="top-1, %", ylim=(0, min(100.0, 1.1 * highest)))
    if axis.get_xscale() == "linear":
        axis.set_xlim(0, 1.12 * max(values))


def band_image(values: Sequence[Sequence[float]], *, signed: bool, limit: float) -> str:
    """One wavelet band as a data URL: grey for the average, two hues around transparent zero for the details.

    Args:
        values: (H, W) coefficients.
        signed: False for LL, whose values are not around zero.
        limit: coefficient at which the colour saturates; one for all detail bands, so that they can be compared.
    """
    array = np.asarray(values, dtype=np.float64)
    rgba = np.zeros((*array.shape, 4), dtype=np.uint8)
    if signed:
        strength = np.clip(np.abs(array) / max(limit, 1e-9), 0, 1) ** 0.75
        rgba[..., :3] = np.where(array[..., None] >= 0, _rgb(INT8) * 255, _rgb(FLOAT) * 255)
        rgba[..., 3] = np.round(255 * strength)
    else:
        rgba[..., :3] = np.round(255 * np.clip(array[..., None] / max(limit, 1e-9), 0, 1))
        rgba[..., 3] = 255
    return png_url(rgba)


def png_url(pixels: Any) -> str:
    """uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as a ``data:image/png`` URL."""
    from PIL import Image

    array = np.asarray(pixels, dtype=np.uint8)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def jpeg_url(pixels: Any, largest_side: int) -> str:
    """uint8 (H, W, 3) or (H, W, 1) as a ``data:image/jpeg`` URL, reduced to so many pixels of the longer side."""
    from PIL import Image

    array = np.asarray(pixels, dtype=np.uint8)
    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    image.thumbnail((largest_side, largest_side))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
