"""Style of the figures on a page: colors, fonts, and SVG that follows the page's theme.

Colors are written as the placeholders of :data:`THEME` and become CSS variables, so that one figure fits the light and
the dark page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Placeholder color -> CSS variable of the page.
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
    "svg.fonttype": "none",  # keep text as text: sharp, selectable, in the page's font
    "svg.hashsalt": "wavemix-tf",  # equal data gives equal bytes
    "font.size": 10,
    "text.parse_math": False,  # a name may contain dollar signs
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
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Create a figure of ``width`` x ``height`` inches; without pyplot, so without global state or a display."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Return the figure as an inline <svg> that scales with its column and follows the theme."""
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
    # Two figures of one page must not share an id: clip paths and markers refer to it.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    for placeholder, variable in THEME.items():
        svg = svg.replace(placeholder, variable)
    return svg.replace("'DejaVu Sans'", "var(--font)")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def rgb_of(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
