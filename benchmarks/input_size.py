"""Growth of time and memory of a training step with the image size, compared with the official PyTorch package.

    python benchmarks/input_size.py --out runs/benchmarks

Needs the official package (benchmarks/README.md has the install line). Both run in turn in one run, with the same
network of four levels (width 64, depth 4, a stem of stride 2 twice), batch and optimizer, in float32, on images with
sides of 128 to 1,024 pixels. The cost of attention grows with the square of the number of pixels; that of WaveMix
should grow linearly. The script reports the exponent: the slope of a line through the logarithms. Memory is the peak of
the process minus its size after the imports.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from nets import NETS_BY_SIZE
from report import markdown_table, spread
from side_by_side import FOLDER, Contender, compete, machine, ratio, warn_if_busy, write_atomically

NET = "64_4_l4"
SIDES = (128, 256, 512, 1024)
LARGE = 256  # smallest side for the exponent, in pixels: below it the fixed cost of a step dominates
NAMES = {"official": "official PyTorch", "ours": "ours"}


def contenders(side: int, threads: int, peer_python: str) -> list[Contender]:
    common = {"net": NET, "batch": NETS_BY_SIZE[NET].training_batch, "threads": threads}
    common["config"] = {"image_shape": (side, side, 3)}
    worker, quiet = str(FOLDER / "training_worker.py"), {"TF_CPP_MIN_LOG_LEVEL": "3"}
    theirs = json.dumps(common | {"side": "official", "channels_last": False, "bfloat16": False})
    mine = json.dumps(common | {"side": "ours", "policy": "float32", "jit": False})
    return [
        Contender("official", False, [peer_python, worker, theirs]),
        Contender("ours", True, [sys.executable, worker, mine], quiet),
    ]


def exponent(sides: list[int], values: list[float]) -> float:
    """Slope of log(value) over log(pixels), for sides of at least ``LARGE``: 1 is linear, attention has 2."""
    points = [(2 * np.log(side), np.log(value)) for side, value in zip(sides, values, strict=True) if side >= LARGE]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0])


def text_of(results: dict[str, Any]) -> str:
    rows = []
    for side, row in results["sides"].items():
        speed = row["speed_ratio"]
        rows.append([
            f"{side} x {side}",
            *(f"{row[name]['ms']:.0f}" for name in NAMES),
            f"**{speed['median']:.2f}** ({spread(speed)})",
            *(f"{row[name]['mib']:.0f}" for name in NAMES),
        ])  # fmt: skip
    exponents = {
        kind: [exponent(list(map(int, results["sides"])), [row[name][kind] for row in results["sides"].values()])
               for name in NAMES]
        for kind in ("ms", "mib")
    }  # fmt: skip
    last = ["exponent in pixels", *(f"{value:.2f}" for value in exponents["ms"]), ""]
    rows.append([*last, *(f"{value:.2f}" for value in exponents["mib"])])
    host, net = results["machine"], NETS_BY_SIZE[NET]
    header = ["image", "official, ms", "ours, ms", "times as fast", "official, MiB", "ours, MiB"]
    return "\n".join(
        [
            f"Training step of {net.title}, batch {net.training_batch}, float32, on {host['cpu']}, "
            f"{results['threads']} threads, {results['rounds']} rounds; load before the start {host['load_average']}.",
            f"The exponent is computed for sides of at least {LARGE} pixels: 1 is linear in the number of pixels.",
            "",
            markdown_table(header, rows),
            "",
        ]
    )


def draw(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sides = np.array([int(side) for side in results["sides"]])
    figure, axes = pyplot.subplots(1, 2, figsize=(9.6, 3.8))
    for axis, kind, label in zip(axes, ("ms", "mib"), ("ms per training step", "peak MiB over baseline"), strict=True):
        for name, color in (("official", "#9aa5b1"), ("ours", "#1f8a70")):
            values = [row[name][kind] for row in results["sides"].values()]
            slope = exponent(list(sides), values)
            axis.plot(sides, values, "o-", color=color, label=f"{NAMES[name]}, exponent {slope:.2f}")
        first = max(
            row[kind] for row in results["sides"][str(sides[-1])].values() if isinstance(row, dict) and kind in row
        )
        axis.plot(sides, first * (sides / sides[-1]) ** 2, ":", color="#626c7c", lw=1, label="linear in pixels")
        axis.plot(sides, first * (sides / sides[-1]) ** 4, "--", color="#d4602a", lw=1, label="quadratic (attention)")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_ylim(bottom=min(row["ours"][kind] for row in results["sides"].values()) / 4)
        axis.set_xticks(sides, [str(side) for side in sides])
        axis.set_xlabel("side in pixels")
        axis.set_title(label, fontsize=10, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
        axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    pyplot.close(figure)
    write_atomically(path, content.getvalue())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for input_size.{json,md,png}")
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each contender's turn in a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has torch and wavemix")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warn_if_busy()
    results: dict[str, Any] = {"machine": machine(), "threads": options.threads, "rounds": options.rounds, "sides": {}}
    for side in options.sides:
        print(f"{side} x {side}", flush=True)
        found = contenders(side, options.threads, options.peer_python)
        compete(
            found, options.rounds, options.seconds, options.out / "input_size.log", lambda line: print(line, flush=True)
        )
        failed = [contender for contender in found if contender.failed]
        if failed:
            print(f"{failed[0].name}: {failed[0].failed}")
            return 1
        row: dict[str, Any] = {
            c.name: {"ms": c.median_ms, "rounds_ms": c.rounds_ms, "mib": c.details["memory"]["over_baseline_mib"]}
            for c in found
        }
        results["sides"][str(side)] = {**row, "speed_ratio": ratio(found[0], found[1])}
        write_atomically(options.out / "input_size.json", json.dumps(results, indent=1))
    text = text_of(results)
    write_atomically(options.out / "input_size.md", text)
    draw(results, options.out / "input_size.png")
    print("\n" + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
