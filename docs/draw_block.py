"""Draw docs/wavemix_block.svg: one WaveMix block, with the Haar bands of a real photograph.

    python docs/draw_block.py

``pywt.dwt2`` computes the bands; ``wavemix_tf.DWT2D`` gives exactly the same. The photograph is the dahlia of
scikit-learn (flickr.com/photos/vultilion, CC BY 2.0), cropped and reduced.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pywt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from PIL import Image
from sklearn.datasets import load_sample_image

INK, MUTED, LINE, PAGE = "#1c2431", "#626c7c", "#d5d2c8", "#fbfaf7"
BLUE, ORANGE, GREEN, VIOLET = "#2c6cb0", "#d4602a", "#1f8a70", "#7a5ab5"
SIDE = 128  # pixels of the photograph; the bands have half as many
MIDDLE = 2.45  # height of the main line


def photograph() -> np.ndarray:
    """The dahlia as float (SIDE, SIDE, 3) in [0, 1]."""
    picture = Image.fromarray(load_sample_image("flower.jpg")).crop((150, 65, 470, 385))
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.float64) / 255


def haar_bands(image: np.ndarray) -> dict[str, np.ndarray]:
    """The four bands as RGB images: the average as a photograph, the details around a neutral tone."""
    low, (horizontal, vertical, diagonal) = pywt.dwt2(image, "haar", axes=(0, 1))
    pictures = {"LL": np.clip(low / 2, 0, 1)}
    limit = max(np.quantile(np.abs(band), 0.985) for band in (horizontal, vertical, diagonal))
    warm, cool, neutral = (np.array(matplotlib.colors.to_rgb(c)) for c in (ORANGE, BLUE, "#f4f2ec"))
    for name, band in (("LH", horizontal), ("HL", vertical), ("HH", diagonal)):
        value = np.clip(band.mean(axis=-1, keepdims=True) / limit, -1, 1)
        strength = np.abs(value) ** 0.6
        pictures[name] = neutral + strength * (np.where(value >= 0, warm, cool) - neutral)
    return pictures


def tensor(
    axis: Axes, x: float, y: float, side: float, pictures: Sequence[np.ndarray], color: str, step: float
) -> None:
    """Draw a stack of feature planes centered at (x, y), the first of ``pictures`` in front."""
    x, y = x - step * (len(pictures) - 1) / 2, y - step * (len(pictures) - 1) / 2
    for plane, picture in reversed(list(enumerate(pictures))):
        left, bottom = x - side / 2 + plane * step, y - side / 2 + plane * step
        axis.add_patch(
            FancyBboxPatch(
                (left, bottom),
                side,
                side,
                boxstyle="round,pad=0,rounding_size=0.045",
                facecolor="#ffffff",
                edgecolor=color,
                linewidth=1.1,
                zorder=3 - plane * 0.1,
            )
        )
        inset = 0.03
        extent = (left + inset, left + side - inset, bottom + inset, bottom + side - inset)
        axis.imshow(picture, extent=extent, zorder=3.05 - plane * 0.1, interpolation="nearest", aspect="auto")


def operation(
    axis: Axes, x: float, title: str, detail: str, color: str, width: float = 0.92, height: float = 1.3
) -> None:
    """Draw a rounded box on the main line."""
    axis.add_patch(
        FancyBboxPatch(
            (x - width / 2, MIDDLE - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=matplotlib.colors.to_rgba(color, 0.11),
            edgecolor=color,
            linewidth=1.4,
            zorder=3,
        )
    )
    axis.text(
        x,
        MIDDLE + (0.2 if detail else 0),
        title,
        ha="center",
        va="center",
        fontsize=11,
        color=INK,
        fontweight="bold",
        zorder=4,
    )
    axis.text(x, MIDDLE - 0.22, detail, ha="center", va="center", fontsize=9, color=MUTED, zorder=4, linespacing=1.3)


def arrow(axis: Axes, start: float, stop: float) -> None:
    axis.add_patch(
        FancyArrowPatch((start, MIDDLE), (stop, MIDDLE), arrowstyle="-|>", mutation_scale=11, color=INK, linewidth=1.3,
                        shrinkA=0, shrinkB=0, zorder=2)
    )  # fmt: skip


def shape(axis: Axes, x: float, y: float, text: str) -> None:
    axis.text(x, y, text, ha="center", va="top", fontsize=9.5, color=MUTED)


def bracket(axis: Axes, left: float, right: float, title: str, note: str, color: str) -> None:
    """Label a group of operations below the main line."""
    y = 0.78
    axis.plot([left, left, right, right], [y + 0.1, y, y, y + 0.1], color=color, linewidth=1.4, solid_joinstyle="round")
    axis.text((left + right) / 2, y - 0.13, title, ha="center", va="top", fontsize=11, fontweight="bold", color=color)
    axis.text((left + right) / 2, y - 0.38, note, ha="center", va="top", fontsize=9, color=MUTED)


def draw() -> Figure:
    """Draw the whole diagram."""
    figure = Figure(figsize=(14.8, 4.9))
    axis = figure.add_axes((0, 0, 1, 1))
    image = photograph()
    bands = haar_bands(image)

    axis.add_patch(
        FancyBboxPatch(
            (0.06, 0.06), 14.68, 4.78, boxstyle="round,pad=0,rounding_size=0.22", facecolor=PAGE, edgecolor=LINE
        )
    )

    # Input and residual path
    tensor(axis, 1.0, MIDDLE, 1.12, [image, 0.55 + 0.45 * image, 0.75 + 0.25 * image], INK, step=0.085)
    shape(axis, 1.0, MIDDLE - 0.78, "x\nH × W × C")
    top = 4.32
    axis.plot([1.95, 1.95, 13.6], [MIDDLE, top, top], color=VIOLET, linewidth=1.6, solid_joinstyle="round", zorder=1)
    axis.add_patch(
        FancyArrowPatch((13.6, top + 0.008), (13.6, MIDDLE + 0.24), arrowstyle="-|>", mutation_scale=12, color=VIOLET,
                        linewidth=1.6, shrinkA=0, shrinkB=0)
    )  # fmt: skip
    axis.text(7.8, top - 0.1, "residual: x is added unchanged", ha="center", va="top", fontsize=10, color=VIOLET)
    axis.add_patch(Circle((1.95, MIDDLE), 0.045, color=VIOLET, zorder=5))

    # Reduce
    arrow(axis, 1.72, 2.28)
    operation(axis, 2.78, "1×1 conv", "C → C/4", GREEN)
    arrow(axis, 3.25, 3.68)

    # The transform with its four output bands
    side, gap = 0.86, 0.11
    left = 3.84
    axis.add_patch(
        FancyBboxPatch((left - 0.12, MIDDLE - 1.26), 2.07, 2.62, boxstyle="round,pad=0,rounding_size=0.14",
                       facecolor=matplotlib.colors.to_rgba(BLUE, 0.1), edgecolor=BLUE, linewidth=1.6, zorder=2)
    )  # fmt: skip
    axis.text(
        left + 0.915,
        MIDDLE + 1.18,
        "Haar DWT",
        ha="center",
        va="center",
        fontsize=11.5,
        fontweight="bold",
        color=INK,
        zorder=4,
    )
    places = {"LL": (0, 1), "LH": (1, 1), "HL": (0, 0), "HH": (1, 0)}
    for name, (column, row) in places.items():
        x0 = left + column * (side + gap)
        y0 = MIDDLE - 1.14 + row * (side + gap + 0.14)
        axis.imshow(
            bands[name],
            extent=(x0, x0 + side, y0 + 0.16, y0 + 0.16 + side),
            zorder=3,
            interpolation="nearest",
            aspect="auto",
        )
        axis.text(
            x0 + side / 2, y0 + 0.08, name, ha="center", va="center", fontsize=9, color=INK, fontweight="bold", zorder=4
        )
    right = left + 1.95

    # Concatenated bands
    arrow(axis, right, right + 0.4)
    center = right + 0.94
    tensor(axis, center, MIDDLE, 0.62, list(bands.values()), BLUE, step=0.12)
    shape(axis, center, MIDDLE - 0.62, "[LL | LH | HL | HH]\nH/2 × W/2 × C")

    # Feed-forward
    arrow(axis, center + 0.57, center + 0.87)
    x = center + 1.36
    operation(axis, x, "1×1 conv", "C → 2C", ORANGE)
    arrow(axis, x + 0.47, x + 0.68)
    operation(axis, x + 1.03, "GELU", "", ORANGE, width=0.68)
    arrow(axis, x + 1.38, x + 1.59)
    operation(axis, x + 2.08, "1×1 conv", "2C → C", ORANGE)

    # Back to the input's size
    arrow(axis, x + 2.55, x + 2.78)
    operation(axis, x + 3.44, "upsample ×2", "transposed\nconv 4×4", VIOLET, width=1.3)
    arrow(axis, x + 4.1, x + 4.31)
    operation(axis, x + 4.62, "BN", "", VIOLET, width=0.58)
    end = x + 4.92
    arrow(axis, end, 13.39)
    axis.add_patch(Circle((13.6, MIDDLE), 0.2, facecolor="#ffffff", edgecolor=VIOLET, linewidth=1.6, zorder=4))
    axis.text(13.6, MIDDLE - 0.012, "+", ha="center", va="center", fontsize=15, color=VIOLET, zorder=5)
    arrow(axis, 13.81, 14.45)
    shape(axis, 14.15, MIDDLE - 0.18, "H × W × C")

    bracket(axis, left - 0.12, right, "spatial mixing", "fixed filters: nothing to train, exact to invert", BLUE)
    bracket(axis, x - 0.46, x + 2.54, "channel mixing", "on a quarter of the pixels", ORANGE)
    bracket(axis, x + 2.79, x + 4.91, "back to full size", "learned, then normalized", VIOLET)
    axis.text(
        14.58, 0.22, "Photo: flickr.com/photos/vultilion, CC BY 2.0", ha="right", va="center", fontsize=6.5, color=MUTED
    )

    axis.set(xlim=(0, 14.8), ylim=(0, 4.9))
    axis.set_axis_off()
    return figure


def main() -> None:
    """Write the picture next to this file."""
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "svg.hashsalt": "wavemix-tf"}):
        draw().savefig(Path(__file__).with_name("wavemix_block.svg"), transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
