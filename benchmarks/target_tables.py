"""Text, tables and a plot of the target matrix that `targets.py` measures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nets import TARGET_NETS
from report import markdown_table, save_figure

CELLS = (
    ("android-cpu", "float32"),
    ("android-cpu", "int8"),
    ("android-gpu", "float16"),
    ("android-npu", "int8"),
    ("ethos-u55", "int8"),
    ("ethos-u65", "int8"),
    ("ethos-u85", "int8"),
    ("edge-tpu", "int8"),
    ("mcu", "int8"),
)
NPUS = ("ethos-u55", "ethos-u65", "ethos-u85")
KIB = 1024


def first_clause(error: Exception) -> str:
    """The first clause of an error message, in one line."""
    return re.split(r"[.;:](?:\s|$)", " ".join(str(error).split()), maxsplit=1)[0].replace("|", "/")


def refused(cell: dict[str, Any]) -> str:
    return f"refused: {cell['refused']}" if "message" in cell else cell["refused"]


def kib(count: float) -> str:
    return f"{count / KIB:,.1f} KiB" if count < 100 * KIB else f"{count / KIB:,.0f} KiB"


def cycles_text(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def three_digits(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2f}"


def share(value: float | None) -> str:
    return "no clear margin" if value is None else f"{100 * value:.3g} %"


def summary(cell: dict[str, Any], target: str) -> str:
    """The most important figures of a cell for its target, in one line."""
    if "refused" in cell:
        return refused(cell)
    own = cell["fidelity"]["runtimes"][0]
    if cell["npu"] is not None:
        npu = cell["npu"]
        parts = [
            f"{cycles_text(npu['cycles'])} cycles",
            f"{three_digits(npu['inferences_per_second'])} inf/s",
            f"{kib(npu['sram_bytes'])} SRAM",
            f"{kib(npu['flash_bytes'])} flash",
        ]
    elif target == "mcu":
        parts = [f"{kib(cell['arena_bytes'])} arena", f"{kib(cell['size_bytes'])} flash"]
    else:
        parts = [f"{cell['latency_ms']['p50']:.2f} ms", kib(cell["size_bytes"])]
    return ", ".join([*parts, share(own["agreement"])])


def all_cells(names: list[str], results: dict[str, Any]) -> dict[str, Any]:
    """The cells of these networks, including cells not yet measured."""
    missing = {"refused": "not measured yet"}
    keys = [f"{name}/{target}/{dtype}" for name in names for target, dtype in CELLS]
    return {key: results["cells"].get(key, missing) for key in keys}


def table(names: list[str], results: dict[str, Any]) -> str:
    cells, host = all_cells(names, results), results["machine"]
    titles = [TARGET_NETS[name][0] for name in names]

    def by_target(text: Any, chosen: Any = CELLS) -> str:
        lines = [
            [f"`{target}` {dtype}", *(text(cells[f"{name}/{target}/{dtype}"], target) for name in names)]
            for target, dtype in chosen
        ]
        return markdown_table(["target", *titles], lines)

    def fidelity(cell: dict[str, Any], _: str) -> str:
        if "refused" in cell:
            return refused(cell)
        rows = cell["fidelity"]["runtimes"]
        errors = " / ".join(f"{row['mean_error_steps']:.2g}" for row in rows)
        agreements = " / ".join(share(row["agreement"]) for row in rows)
        return f"{errors} steps; {agreements} of {rows[0]['counted']}"

    def latency(cell: dict[str, Any], _: str) -> str:
        if "refused" in cell:
            return refused(cell)
        return f"{cell['latency_ms']['p50']:.2f} ms, {cell['ops']} ops, {kib(cell['size_bytes'])}"

    def arena(name: str, form: str) -> str:
        cell = cells[f"{name}/mcu/int8"]
        found = cell.get("arenas", {}).get(form)
        if found is None:
            return refused(cell)
        if isinstance(found, str):
            return f"refused: {found}"
        return f"**{kib(found)}**" if form == cell["upsample_form"] else kib(found)

    import wavemix_tf as wm

    forms = wm.tflite.TARGETS["mcu"].upsample_forms
    loads = [cell["load_average"] for cell in cells.values() if "load_average" in cell] or [host["load_average"]]
    compilers = {cell["npu"]["compiler"] for cell in cells.values() if cell.get("npu")}
    images = "CIFAR-10 test" if results["settings"]["data"] == "cifar10" else "generated"
    return "\n".join(
        [
            "Random weights, chosen so that the logits differ from image to image: agreement is that of file and",
            f"(fake-quant) Keras model on {results['settings']['images']} {images} images, not accuracy. Cycles,",
            f"inferences/s, SRAM and flash of an Ethos-U are estimates of {', '.join(sorted(compilers)) or 'Vela'} at",
            "500 MHz (u55: 256 MACs per cycle, u65 and u85: 512); milliseconds are LiteRT XNNPACK, one thread, p50, on",
            f"{host['cpu']} under a load of {min(loads):.1f}-{max(loads):.1f} on {host['cores']} cores; the arena is",
            "TensorFlow Lite Micro's.",
            "",
            by_target(summary),
            "",
            "Mean error in output steps, and top-1 agreement on the images whose margin exceeds two steps, for each of",
            "the target's runtimes (LiteRT XNNPACK / reference kernels; mcu: TensorFlow Lite Micro / XNNPACK /",
            "reference kernels).",
            "",
            by_target(fidelity),
            "",
            "Every file under LiteRT XNNPACK on this machine, for all targets.",
            "",
            by_target(latency),
            "",
            "Arena of the `mcu` file by the form of its transposed convolutions; `export` takes the smaller.",
            "",
            markdown_table(
                ["form", *titles], [[f"`{form}`", *(arena(name, form) for name in names)] for form in forms]
            ),
            "",
        ]
    )


def draw(names: list[str], results: dict[str, Any], path: Path) -> None:
    """Plot NPU cycles, arena by form, and latency by dtype, one group of bars per network, on log scales."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    cells = all_cells(names, results)

    def npu_cycles(name: str, target: str) -> float | None:
        return (cells[f"{name}/{target}/int8"].get("npu") or {}).get("cycles")

    def arena_kib(name: str, form: str) -> float | None:
        found = cells[f"{name}/mcu/int8"].get("arenas", {}).get(form)
        return found / KIB if isinstance(found, int) else None

    def latency(name: str, dtype: str) -> float | None:
        return cells[f"{name}/android-cpu/{dtype}"].get("latency_ms", {}).get("p50")

    panels = [
        ("NPU cycles of one image, Vela's estimate", NPUS, npu_cycles, ("#9fd3c1", "#1f8a70", "#0b4f45")),
        ("arena under TFLite Micro, KiB", ("transposed_conv", "subpixel_crop"), arena_kib, ("#c8553d", "#e8b298")),
        ("android-cpu file under XNNPACK here, ms", ("float32", "int8"), latency, ("#9aa5b1", "#3f6c9e")),
    ]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(15, 4.4), width_ratios=(1.25, 1, 1))
    for axis, (title, series, value_of, colors) in zip(axes, panels, strict=True):
        width = 0.8 / len(series)
        for offset, (label, color) in enumerate(zip(series, colors, strict=True)):
            for place, name in enumerate(names):
                value = value_of(name, label)
                x = place + (offset - (len(series) - 1) / 2) * width
                if value is None:
                    axis.annotate("none", (x, 0.02), xycoords=("data", "axes fraction"), rotation=90, fontsize=7)
                    continue
                axis.bar(x, value, width=0.92 * width, color=color, label=label if place == 0 else None)
                text = cycles_text(value).replace(" ", "") if value_of is npu_cycles else three_digits(value)
                axis.annotate(text, (x, value), (0, 2), textcoords="offset points", ha="center", fontsize=6.5)
        axis.set_yscale("log")
        axis.yaxis.set_minor_formatter(ticker.NullFormatter())
        axis.set_xlim(-0.5, len(names) - 0.5)  # even if a group has no bar
        low, high = axis.get_ylim()
        axis.set_ylim(low / 1.6, high * 1.25)
        axis.set_xticks(range(len(names)), [TARGET_NETS[name][0].replace(", ", "\n") for name in names], fontsize=8)
        axis.set_title(title, fontsize=10, loc="left", pad=22)
        axis.tick_params(axis="y", labelsize=8)
        axis.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 0.99), ncols=len(series))
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        axis.set_axisbelow(True)
    figure.tight_layout()
    save_figure(figure, path)
