"""Profile one training step of each network: time by kind of op, and allocated memory over the step, before and after.

    python benchmarks/step_profile.py --out runs/benchmarks --before ../earlier/.venv/bin/python

Profiles this version with every setting of `recompute`, and with --before another one (an interpreter in whose
environment it is installed). The trace slows a step down a little: training_step.py has the times.
Writes step_profile.json, .md and .png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from nets import NETS
from report import markdown_table, save_figure
from side_by_side import FOLDER, machine, warn_if_busy, write_atomically

COLORS = {
    "convolution": "#1f8a70", "batch norm": "#d9a441", "elementwise": "#4f7cac", "random": "#a05195",
    "moves": "#c8553d", "other": "#9aa5b1",
}  # fmt: skip
LINES = {"before": "#9aa5b1", "none": "#c8553d", "elementwise": "#d9a441", "block": "#1f8a70"}


def profile(python: str, arguments: dict[str, Any], log: Path) -> dict[str, Any]:
    """Run the worker in an interpreter; its last line is the result."""
    words = [python, str(FOLDER / "step_profile_worker.py"), json.dumps(arguments)]
    with log.open("a") as errors:
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=errors, text=True, check=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(results: dict[str, Any]) -> str:
    rows = []
    for net in results["nets"].values():
        for name, found in net["settings"].items():
            parts = [f"{found['parts_ms'].get(part, 0.0):.1f}" for part in COLORS]
            rows.append([net["title"], name, f"{found['ms']:.0f}", *parts, f"{found['peak_mib']:.0f}"])
    head = [
        "network",
        "version, recompute",
        "step, ms",
        *(f"{part}, ms" for part in COLORS),
        "allocated at the peak, MiB",
    ]
    host = results["machine"]
    return (
        f"One traced training step on {host['cpu']}, {results['policy']}; load before the start "
        f"{host['load_average']}. Times of ops that run at once count each.\n\n" + markdown_table(head, rows) + "\n"
    )


def draw(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    nets = list(results["nets"].values())
    figure, axes = pyplot.subplots(2, len(nets), figsize=(4.6 * len(nets), 6.4), squeeze=False)
    for column, net in enumerate(nets):
        upper, lower = axes[0][column], axes[1][column]
        for row, (name, found) in enumerate(net["settings"].items()):
            left = 0.0
            for part, color in COLORS.items():
                width = found["parts_ms"].get(part, 0.0)
                upper.barh(row, width, left=left, color=color, height=0.62, label=part if row == 0 else None)
                left += width
            times, levels = zip(*found["curve"], strict=True)
            lower.step(times, levels, where="post", color=LINES.get(name, "#333333"), lw=1.3, label=name)
        upper.set_yticks(range(len(net["settings"])), list(net["settings"]), fontsize=8)
        upper.invert_yaxis()
        upper.set_title(net["title"], fontsize=10, loc="left")
        upper.set_xlabel("ms of ops", fontsize=8)
        lower.set_xlabel("ms from the start of the step", fontsize=8)
        lower.set_ylim(bottom=0)
        for axis in (upper, lower):
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=8)
    axes[1][0].set_ylabel("allocated, MiB", fontsize=8)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="upper center", ncols=len(names), frameon=False, fontsize=8)
    axes[1][0].legend(frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    save_figure(figure, path, dpi=130)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--policy", default="float32", help="dtype policy")
    parser.add_argument("--steps", type=int, default=5, help="traced steps; times are medians")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--before", help="interpreter of an environment with an earlier version")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    log = options.out / "step_profile.log"
    log.unlink(missing_ok=True)
    warn_if_busy()
    results: dict[str, Any] = {"machine": machine(), "policy": options.policy, "nets": {}}
    for net in options.nets:
        settings: dict[str, Any] = {}
        given = {"net": net, "policy": options.policy, "steps": options.steps, "threads": options.threads}
        runs = [("before", options.before, None)] if options.before else []
        runs += [(name, sys.executable, name) for name in ("none", "elementwise", "block")]
        for name, python, recompute in runs:
            settings[name] = profile(python, {**given, "recompute": recompute}, log)
            print(f"{NETS[net].title}, {name}: {settings[name]['ms']:.0f} ms", flush=True)
        results["nets"][net] = {"title": NETS[net].title, "settings": settings}
        write_atomically(options.out / "step_profile.json", json.dumps(results, indent=1))
    write_atomically(options.out / "step_profile.md", table(results))
    draw(results, options.out / "step_profile.png")
    print("\n" + table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
