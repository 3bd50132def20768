"""Growth of time and memory of a training step with pixels and with depth, compared with the official PyTorch package.

    python benchmarks/growth.py --out runs/benchmarks

Needs the official package (benchmarks/README.md has the install line). All contenders run in turn in one run, with the
same network of four levels (width 64, a stem of stride 2 twice), batch and optimizer, in float32: the official package
plain and with `torch.utils.checkpoint` on every block, ours with every setting of `recompute`. First the side of the
images grows from 128 to 1,024 pixels at depth 4, then the depth from 2 to 16 blocks at 256 pixels.

The cost of attention grows with the square of the number of pixels; that of WaveMix should grow linearly. The script
reports the exponent in pixels, the slope of a line through the logarithms, and the time and memory of one more block.
Memory is the peak of the process minus its size with the libraries and the images loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nets import NETS_BY_SIZE
from report import markdown_table, save_figure, spread
from side_by_side import FOLDER, Contender, compete, machine, ratio, warn_if_busy, write_atomically

NET = "64_4_l4"
SIDES = (128, 256, 512, 1024)
DEPTHS = (2, 4, 8, 16)
DEPTH_SIDE = 256  # pixels, where the depth grows
LARGE = 256  # smallest side for the exponent, in pixels: below it the fixed cost of a step dominates
OFFICIAL, CHECKPOINT = "official", "official checkpoint"
COLORS = {
    OFFICIAL: "#9aa5b1",
    CHECKPOINT: "#626c7c",
    "ours none": "#1f8a70",
    "ours elementwise": "#5fb89f",
    "ours block": "#d4602a",
}
KINDS = {"ms": "ms per training step", "mib": "peak MiB over baseline"}


def contenders(config: dict[str, Any], threads: int, peer_python: str) -> list[Contender]:
    common = {"net": NET, "batch": NETS_BY_SIZE[NET].training_batch, "threads": threads, "config": config}
    worker, found = str(FOLDER / "training_worker.py"), []
    for name in COLORS:
        if name.startswith(OFFICIAL):
            settings = {"side": "official", "channels_last": False, "bfloat16": False, "checkpoint": name == CHECKPOINT}
            python = peer_python
        else:
            settings = {"side": "ours", "policy": "float32", "jit": False, "recompute": name.split()[1]}
            python = sys.executable
        command = [python, worker, json.dumps(common | settings)]
        found.append(Contender(name, name not in (OFFICIAL, CHECKPOINT), command, {"TF_CPP_MIN_LOG_LEVEL": "3"}))
    return found


def measured(found: list[Contender]) -> dict[str, Any]:
    """Time, memory and the ratios to the official package of every contender that did not fail."""
    official, row = found[0], {}
    for contender in found:
        if contender.failed:
            row[contender.name] = {"failed": contender.failed}
            continue
        memory = contender.details["memory"]["over_baseline_mib"]
        row[contender.name] = {"ms": contender.median_ms, "rounds_ms": contender.rounds_ms, "mib": memory}
        if contender.ours and not official.failed:
            over = memory / official.details["memory"]["over_baseline_mib"]
            row[contender.name] |= {"speed_ratio": ratio(official, contender), "memory_ratio": over}
    return row


def exponent(sides: Sequence[int], values: Sequence[float]) -> float | None:
    """Slope of log(value) over log(pixels), for sides of at least ``LARGE``: 1 is linear, attention has 2."""
    points = [(2 * np.log(side), np.log(value)) for side, value in zip(sides, values, strict=True) if side >= LARGE]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0]) if len(points) > 1 else None


def per_block(depths: Sequence[int], values: Sequence[float]) -> float | None:
    """Slope of a line through the values: the cost of one more block."""
    return float(np.polyfit(depths, values, 1)[0]) if len(depths) > 1 else None


def series(rows: dict[str, Any], name: str, kind: str) -> tuple[list[int], list[float]]:
    """Points (side or depth) and values of one contender, where it did not fail."""
    points = [(int(point), row[name][kind]) for point, row in rows.items() if kind in row.get(name, {})]
    return [point for point, _ in points], [value for _, value in points]


def table(rows: dict[str, Any], heading: str, slope_heading: str, slope: Any, form: str) -> str:
    """Markdown: one row per point and contender, then the slopes."""
    cells = []
    for point, row in rows.items():
        for name in COLORS:
            found = row.get(name, {"failed": "not run"})
            if "failed" in found:
                cells.append([point, name, found["failed"]])
                continue
            line = [point, name, f"{found['ms']:.0f}", f"{found['mib']:.0f}"]
            if "speed_ratio" in found:
                speed = found["speed_ratio"]
                line += [f"**{speed['median']:.2f}** ({spread(speed)})", f"**{found['memory_ratio']:.2f}**"]
            cells.append(line)
    for name in COLORS:
        slopes = [slope(*series(rows, name, kind)) for kind in KINDS]
        cells.append([slope_heading, name, *("–" if value is None else format(value, form) for value in slopes)])
    return markdown_table([heading, "contender", "ms", "MiB", "times as fast", "memory, ours / official"], cells)


def text_of(results: dict[str, Any]) -> str:
    host, net = results["machine"], NETS_BY_SIZE[NET]
    lines = [
        f"Training step of {net.title}, batch {net.training_batch}, float32, on {host['cpu']}, "
        f"{results['threads']} threads, {results['rounds']} rounds; load before the start {host['load_average']}.",
        f"The exponent is computed for sides of at least {LARGE} pixels: 1 is linear in the number of pixels.",
        "",
    ]
    if results["sides"]:
        lines += [table(results["sides"], "side", "exponent in pixels", exponent, ".2f"), ""]
    if results["depths"]:
        lines += [f"Images of {DEPTH_SIDE} pixels:", ""]
        lines += [table(results["depths"], "depth", "of one block", per_block, ".1f"), ""]
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    axes_of = [
        (rows, label) for rows, label in ((results["sides"], "side in pixels"), (results["depths"], "depth")) if rows
    ]
    figure, grid = pyplot.subplots(len(axes_of), 2, figsize=(9.6, 3.8 * len(axes_of)), squeeze=False)
    for line, (rows, label) in zip(grid, axes_of, strict=True):
        for axis, (kind, title) in zip(line, KINDS.items(), strict=True):
            for name, color in COLORS.items():
                axis.plot(*series(rows, name, kind), "o-", color=color, label=name)
            points = np.array([int(point) for point in rows])
            if label != "depth":
                axis.set_xscale("log", base=2)
                axis.set_yscale("log")
                highest = max(max(series(rows, name, kind)[1], default=0.0) for name in COLORS)
                lowest = min(min(series(rows, name, kind)[1], default=highest) for name in COLORS)
                for power, style, text in ((2, ":", "linear in pixels"), (4, "--", "quadratic (attention)")):
                    axis.plot(
                        points, highest * (points / points[-1]) ** power, style, color="#b9a7d6", lw=1, label=text
                    )
                axis.set_ylim(bottom=lowest / 4)
            axis.set_xticks(points, [str(point) for point in points])
            axis.minorticks_off()
            axis.set_xlabel(label)
            axis.set_title(title, fontsize=10, loc="left")
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(alpha=0.25)
            axis.legend(frameon=False, fontsize=7)
    figure.tight_layout()
    save_figure(figure, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for growth.{json,md,png}")
    parser.add_argument("--sides", type=int, nargs="*", default=list(SIDES))
    parser.add_argument("--depths", type=int, nargs="*", default=list(DEPTHS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each contender's turn in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch and wavemix")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warn_if_busy()
    results: dict[str, Any] = {"machine": machine(), "threads": options.threads, "rounds": options.rounds}
    results |= {"sides": {}, "depths": {}}
    jobs = [("sides", side, {"image_shape": (side, side, 3)}) for side in options.sides]
    shape = (DEPTH_SIDE, DEPTH_SIDE, 3)
    jobs += [("depths", depth, {"image_shape": shape, "depth": depth}) for depth in options.depths]
    for axis, point, config in jobs:
        print(f"{axis[:-1]} {point}", flush=True)
        found = contenders(config, options.threads, options.peer_python)
        log = options.out / "growth.log"
        compete(found, options.rounds, options.seconds, log, lambda line: print(line, flush=True))
        results[axis][str(point)] = measured(found)
        write_atomically(options.out / "growth.json", json.dumps(results, indent=1))
    text = text_of(results)
    write_atomically(options.out / "growth.md", text)
    draw(results, options.out / "growth.png")
    print("\n" + text)
    failed = [row for axis in ("sides", "depths") for row in results[axis].values() if "failed" in row[OFFICIAL]]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
