"""The pictures of an ``OpReport``: the memory plan over time, and the costs by layer. Each is one <svg>.

They are 372 units wide, so that the text is legible on a telephone, and take the colors of ``wavemix_tf.page_style``.
"""

from __future__ import annotations

import textwrap
from html import escape
from typing import TYPE_CHECKING

from wavemix_tf.escaping import printable
from wavemix_tf.page_style import PALETTE_CSS

from ..file.arena_plan import FEATURE_MAP, INPUT_OP, SCRATCH, WEIGHTS, MemoryPlan, Placement

if TYPE_CHECKING:
    from .layer_costs import LayerCost, OpReport

WIDTH, TEXT = 372, 12
PLAN_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 262, 56, 6, 46, 40
TICKS = 5  # most numbers on the axis of bytes
BARS = 12  # most layers that have a bar; the others are one line
ROW, NAME, BAR_END, VALUE_END, LETTERS = 21, 160, 266, 334, 20
LINE, TITLE_LETTERS = 16, 56  # of the title of a picture that stands alone
COLORS = {FEATURE_MAP: "float", SCRATCH: "accent", WEIGHTS: "muted"}
PEAK = "int8"
PEAK_LETTERS = 49  # most letters of the line about the peak, which is bold
LEAST_LETTERS = 6  # a name that is cut to fewer says nothing
UNITS = {"cycles": "cycles", "instructions": "instructions", "time_us": "µs", "macs": "multiply-accumulates"}
LEGEND = {FEATURE_MAP: "feature map", SCRATCH: "scratch of an op", WEIGHTS: "weights, copied"}


def plan_svg(report: OpReport, standalone: bool) -> str:
    """Bytes over the steps of an inference: each buffer a block at its offset; those of the peak are marked.

    Args:
        report: With a plan.
        standalone: As for ``OpReport.plan_svg``.
    """
    plan = report.plan
    assert plan is not None
    steps, peak = max(len(plan.step_ops), 1), plan.peak_step
    per_op = plan.step_ops == tuple(range(len(report.rows)))
    width, height = (WIDTH - LEFT - RIGHT) / steps, PLAN_HEIGHT - TOP - BOTTOM
    scale = height / max(plan.arena_bytes, 1)
    base = PLAN_HEIGHT - BOTTOM
    parts = []
    for size in _ticks(plan.arena_bytes):
        y = base - size * scale
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text(LEFT - 5, y + 4, _bytes(size), anchor="end"))
    for one in plan.placements:
        color = PEAK if one.first <= peak <= one.last else COLORS[one.kind]
        parts.append(
            f'<rect x="{LEFT + one.first * width:.2f}" y="{base - one.end * scale:.2f}" '
            f'width="{(one.last - one.first + 1) * width:.2f}" height="{max(one.size * scale, 0.7):.2f}" '
            f'style="fill:var(--{color});fill-opacity:{0.9 if color == PEAK else 0.5};stroke:var(--card);'
            f'stroke-width:{min(0.8, width / 4):.2g}"><title>{_label(report, plan, one, per_op)}</title></rect>'
        )
    for step in range(0, steps, _stride(steps)):
        parts.append(_text(LEFT + (step + 0.5) * width, base + 15, str(step), anchor="middle"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, base + 32, "op" if per_op else "step, in order", anchor="middle"))
    row = report.peak
    if row is not None:
        sizes = " of ".join(f"{size / 1024:.1f}" for size in (max(plan.live_bytes), plan.arena_bytes))
        # The op as in tables and READMEs; the step is its place on this axis.
        words = f"peak: {sizes} KiB in op {row.index}{'' if per_op else f' (step {peak})'}"
        room = PEAK_LETTERS - len(words) - len(", ")
        if len(row.title) <= room or room >= LEAST_LETTERS:
            words += f", {_cut(row.title, room)}"
        parts.append(_text(0, 13, words, color=PEAK, weight="600"))
    parts += _legend(plan)
    described = f"Memory plan: {plan.arena_bytes} bytes, {len(plan.placements)} buffers over {steps} steps"
    return _svg(PLAN_HEIGHT, parts, described, standalone)


def _label(report: OpReport, plan: MemoryPlan, one: Placement, per_op: bool) -> str:
    """Text that is shown when the pointer is over a block."""
    word = "op" if per_op else "step"
    when = f"{word} {one.first}" if one.first == one.last else f"{word}s {one.first} to {one.last}"
    kind = "input" if one.op == INPUT_OP else f"{LEGEND[one.kind]}, {report.rows[one.op].op}, {report.title_of(one.op)}"
    return _safe(f"{kind}: {one.size:,} bytes at {one.offset:,}, {when}")


def _legend(plan: MemoryPlan) -> list[str]:
    """Squares and words for the kinds of buffers that occur."""
    shown = [(PEAK, "at the peak")]
    shown += [(COLORS[kind], words) for kind, words in LEGEND.items() if any(p.kind == kind for p in plan.placements)]
    parts, x = [], 0.0
    for color, words in shown:
        opacity = 0.9 if color == PEAK else 0.5
        parts.append(
            f'<rect x="{x:.1f}" y="24" width="10" height="10" rx="2" '
            f'style="fill:var(--{color});fill-opacity:{opacity}"/>'
        )
        parts.append(_text(x + 14, 33, words))
        x += 26 + 6.3 * len(words)
    return parts


def costs_svg(report: OpReport, standalone: bool) -> str:
    """A bar for each layer, the most expensive first; ``standalone`` as for ``OpReport.costs_svg``."""
    ordered = sorted(report.layers, key=lambda layer: -layer.value)
    shown = [layer for layer in ordered[:BARS] if layer.value > 0]
    most = max((layer.value for layer in shown), default=1.0)
    parts = [part for place, layer in enumerate(shown) for part in _bar(report, layer, place, most)]
    rest, count = ordered[len(shown) :], len(shown)
    if rest:
        words = f"{len(rest)} other{'s' if len(rest) > 1 else ''}"
        share, value = sum(layer.share for layer in rest), sum(layer.value for layer in rest)
        parts.append(_text(0, ROW * count + 15, words))
        parts += _numbers(report, value, share, ROW * count + 15, most)
        count += 1
    top, title = 0, f"Cost by layer: {report.measured}"
    if standalone:  # a page has the words beside the picture
        lines = textwrap.wrap(title, TITLE_LETTERS)
        heading = [_text(0, 13 + LINE * place, line, color="ink") for place, line in enumerate(lines)]
        top = LINE * len(lines) + 6
        parts = [*heading, f'<g transform="translate(0 {top})">', *parts, "</g>"]
    return _svg(top + ROW * max(count, 1) + 2, parts, title, standalone)


def _bar(report: OpReport, layer: LayerCost, place: int, most: float) -> list[str]:
    y, color = ROW * place, PEAK if place == 0 else "float"
    words = f"{layer.layer}: {layer.value:,.10g} {UNITS[report.measure]}, {', '.join(layer.ops)}"
    return [
        f"<g><title>{_safe(words)}</title>" + _text(0, y + 15, _cut(layer.layer, LETTERS), color="ink"),
        f'<rect x="{NAME}" y="{y + 5}" width="{max((BAR_END - NAME) * layer.value / most, 0.7):.2f}" height="12" '
        f'rx="2" style="fill:var(--{color});fill-opacity:{0.9 if place == 0 else 0.6}"/>',
        *_numbers(report, layer.value, layer.share, y + 15, most),
        "</g>",
    ]


def _numbers(report: OpReport, value: float, share: float, y: float, most: float) -> list[str]:
    words = _value(report, value, most)
    return [_text(VALUE_END, y, words, anchor="end"), _text(WIDTH, y, f"{share:.0%}", anchor="end")]


def _value(report: OpReport, value: float, most: float) -> str:
    """A cost in few letters, in the unit of the largest: cycles 35,320; MAC or instructions 102 k; 12.3 µs."""
    if report.measure == "time_us":
        return f"{value:,.1f} µs"
    if report.measure == "cycles":
        return f"{value:,.0f}"
    unit, name = next(((size, name) for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if most >= size), (1, ""))
    return f"{value / unit:.3g} {name}".rstrip()


def _ticks(most: int) -> list[int]:
    """Round numbers of bytes from 0 to ``most``."""
    step = 1
    while most // step >= TICKS:
        step *= 2
    return list(range(0, most + 1, step))


def _stride(steps: int) -> int:
    """Distance of the numbers on the axis of steps."""
    return next(size for power in range(9) for size in (10**power, 2 * 10**power, 5 * 10**power) if steps / size <= 14)


def _bytes(size: int) -> str:
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.4g} KiB" if size < 1024**2 else f"{size / 1024**2:.4g} MiB"


def _cut(text: str, letters: int) -> str:
    """The end of a long name differs more often than its beginning."""
    return text if len(text) <= letters else f"{text[: letters // 3]}…{text[-(letters - letters // 3 - 1) :]}"


def _safe(text: str) -> str:
    return escape(printable(text), quote=True)


def _text(x: float, y: float, text: str, *, anchor: str = "start", color: str = "muted", weight: str = "400") -> str:
    style = f"fill:var(--{color});font-weight:{weight}"
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="{style}">{_safe(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}H{x2:.1f}" style="stroke:var(--line);stroke-width:.8"/>'


def _svg(height: float, parts: list[str], described: str, standalone: bool) -> str:
    style = ground = size = ""
    box = f"0 0 {WIDTH} {height:g}"
    if standalone:
        box = f"-14 -12 {WIDTH + 28} {height + 24:g}"
        size = f' width="{1.5 * (WIDTH + 28):g}" height="{1.5 * (height + 24):g}"'
        style = f"<style>{PALETTE_CSS}</style>"
        ground = f'<rect x="-14" y="-12" width="{WIDTH + 28}" height="{height + 24:g}" style="fill:var(--card)"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}"{size} role="img" aria-label="{_safe(described)}" '
        f'style="font-family:var(--font);font-size:{TEXT}px">{style}{ground}{"".join(parts)}</svg>\n'
    )
