"""Plots of one run: training curves, confusion matrix, logits of file and model, noise of the layers.

Every function takes plain lists and numbers from ``report.json`` and returns an inline <svg>.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .figure_style import ACCENT, CARD, FLOAT, INK, INT8, MUTED, new_figure, rgb_of, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def training_curves(
    stages: Mapping[str, Mapping[str, Sequence[float]]], metric: str = "accuracy", title: str = "top-1"
) -> str:
    """Plot metric and loss over the epochs of all stages, one after the other on the same axis.

    Args:
        stages: stage ("float", "qat") -> column of the history -> one value per epoch. Columns ``metric``, ``loss``
            and their ``val_`` versions are drawn where they exist.
        metric: "accuracy", "mean_iou" or "psnr_y".
        title: Title of the metric.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    colours = {"float": FLOAT, "qat": INT8}
    titles = {"float": "float", "qat": "quantization-aware"}
    with new_figure(5.2, 4.6) as figure:
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
        return to_svg(figure, "curves", f"{title} and loss on the training and validation images, by epoch")


def _focus(axis: Axes, stages: Mapping[str, Mapping[str, Sequence[float]]], metric: str) -> None:
    """Cut off the low first epochs, so that the last points of the metric can be distinguished."""
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
    """Plot the counts of (true class, predicted class); rows are normalized for the color.

    The diagonal and the mistakes have separate color scales: a shared scale would hide the mistakes of a good model.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    classes = len(counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    worst = np.max(share - np.diag(np.diag(share)), initial=0.0)
    diagonal = np.eye(classes, dtype=bool)
    # RGBA with the share as opacity: the same image fits a light and a dark page.
    rgba = np.zeros((classes, classes, 4))
    rgba[diagonal, :3] = rgb_of(FLOAT)
    rgba[~diagonal, :3] = rgb_of(INT8)
    rgba[diagonal, 3] = 0.08 + 0.82 * share[diagonal]
    rgba[~diagonal, 3] = np.where(share > 0, 0.12 + 0.78 * share / max(worst, 1e-9), 0.0)[~diagonal]
    longest = max((len(str(name)) for name in class_names), default=1)
    with new_figure(5.2, 5.0) as figure:
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
        return to_svg(figure, "confusion", "Confusion matrix: rows are true classes, columns predicted classes")


def logit_scatter(
    file_logits: Sequence[float], qat_logits: Sequence[float], float_logits: Sequence[float], step: float | None
) -> str:
    """Plot the logits of the int8 file against those of the two Keras models, and its error against the QAT model.

    Args:
        file_logits: Logits of the file, in any order.
        qat_logits: Logits of the quantization-aware model, which the file should compute; same images and classes.
        float_logits: Logits of the float model before fine-tuning.
        step: Size of one output quantization step, in logits; None draws the difference in logits.
    """
    found, same, before = (np.asarray(z, dtype=np.float64) for z in (file_logits, qat_logits, float_logits))
    error = (found - same) / (step or 1.0)
    with new_figure(5.2, 5.4) as figure:
        above, below = figure.subplots(2, 1, height_ratios=[2.4, 1])
        together = np.concatenate([found, same, before])
        low, high = float(together.min()), float(together.max())
        margin = 0.04 * (high - low or 1.0)
        limits = (low - margin, high + margin)
        above.plot(limits, limits, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
        above.scatter(before, found, s=7, color=FLOAT, alpha=0.25, linewidths=0, label="against the float model")
        above.scatter(same, found, s=7, color=INT8, alpha=0.5, linewidths=0, label="against the QAT model")
        above.set(xlim=limits, ylim=limits, xlabel="logit of the Keras model", ylabel="logit of the int8 file")
        legend = above.legend(loc="upper left", handletextpad=0.1, borderpad=0.1, markerscale=1.8)
        for handle in legend.legend_handles:
            handle.set_alpha(0.9)
        if step:
            note = f"one output step = {step:.3g}"
            above.annotate(note, (0.97, 0.05), xycoords="axes fraction", ha="right", color=MUTED, fontsize=9)
        widest = max(float(np.abs(error).max()), 0.5)
        if step and widest <= 40:  # the outputs of the QAT model are on the same grid: whole steps
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
        return to_svg(figure, "scatter", "Logits of the int8 file against the logits of the Keras models")


def layer_noise(rows: Sequence[Mapping[str, Any]], worst: Sequence[str]) -> str:
    """Plot two bars per layer, the first layer on top: its SQNR in dB, and its share of the noise in the outputs.

    Args:
        rows: One per layer, with "name", "noise_db" and "output_share".
        worst: Names to mark.
    """
    from matplotlib.ticker import PercentFormatter

    names = [str(row["name"]) for row in rows]
    noise = np.array([row["noise_db"] for row in rows], dtype=np.float64)
    share = np.array([row["output_share"] for row in rows], dtype=np.float64)
    marked = np.array([name in worst for name in names])
    places = np.arange(len(rows))
    with new_figure(10.4, 0.9 + 0.205 * len(rows)) as figure:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.25, 1])
        for axis, values in ((left, noise), (right, share)):
            for chosen, colour, alpha in ((~marked, FLOAT, 0.55), (marked, INT8, 0.95)):
                axis.barh(places[chosen], values[chosen], height=0.68, color=colour, alpha=alpha)
            axis.grid(axis="y", visible=False)
            axis.spines["left"].set_visible(False)
            axis.set_xlim(left=0)
        # A tensor without noise, such as the pixels, must not compress the scale of the others.
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
        return to_svg(figure, "layers", "For each layer: SQNR of its tensor, and its share of the noise in the outputs")
