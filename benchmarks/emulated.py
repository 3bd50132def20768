"""Compare the calculated arena with an emulator's figures, and fit the table of instructions to its counts.

Usage: python benchmarks/emulated.py FOLDER MEASURED.json [--kernels reference|cmsis-nn] [--build dsp|helium]
       [--hold-out NAME,...] [--table]

FOLDER has the files, NAME.tflite. MEASURED.json has what TensorFlow Lite Micro reported on an emulated Cortex-M:
{NAME: {"arena_used": bytes, "arena_start": the smallest arena in which AllocateTensors succeeded, "instructions": of
one inference, "by_op": [[op, instructions], ...]}}. The emulator and TensorFlow Lite Micro are not part of this
repository; docs/budgets.md says with which revisions the figures there were made. ``--table`` prints the fitted row of
``instructions.TABLE``; files of ``--hold-out`` are not part of the fit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from wavemix_tf.tflite.file.flatbuffer import FileInfo, read_file
from wavemix_tf.tflite.measuring.instructions import features
from wavemix_tf.tflite.runtimes.arena import arena_use

# The most that LOGISTIC takes: inputs far from zero end early, so a fit would depend on the images.
LOGISTIC_ROW = (0.0, 0.0, 366.0, 0.0, 0.0, 300.0)
VECTORS = 4  # column of ``instructions.features``
FEWEST = 4000  # instructions: below, the fit does not weight an op by its relative error
SATURATED = ("far_from", "too_small")  # parts of names of files whose ops end early on purpose


def compare_arenas(found: dict[str, tuple[FileInfo, Any]], kernels: str, build: str) -> None:
    """Print how far the calculated arena is from the measured one."""
    used, start = [], []
    for name, (info, row) in found.items():
        use = arena_use(info, kernels, build)
        used.append(use.used_bytes - row["arena_used"])
        start.append(use.start_bytes - row["arena_start"])
        if used[-1] or start[-1]:
            print(f"{name}: used {used[-1]:+d}, start {start[-1]:+d} bytes of {row['arena_start']:,}")
    print(
        f"{len(found)} files: used {min(used):+d} to {max(used):+d} bytes ({sum(not part for part in used)} exact), "
        f"start {min(start):+d} to {max(start):+d} bytes ({sum(not part for part in start)} exact)"
    )


def fit(found: dict[str, tuple[FileInfo, Any]], held_out: set[str], helium: bool) -> dict[str, tuple[float, ...]]:
    """Op -> its row of ``instructions.TABLE``; vectors count only with Helium."""
    rows: dict[str, list[tuple[tuple[float, ...], int]]] = {}
    for name, (info, row) in found.items():
        if name in held_out or any(part in name for part in SATURATED):
            continue
        for op, (kind, count) in zip(info.ops, row["by_op"], strict=True):
            if op.name != kind:
                raise ValueError(f"by_op must have the ops of the file. Received: {name}: {kind} for {op.name}")
            rows.setdefault(kind, []).append((features(op), count))
    table = {}
    for kind, pairs in sorted(rows.items()):
        known = np.array([part for part, _ in pairs], float)
        known[:, VECTORS] *= helium
        counts = np.array([count for _, count in pairs], float)
        weights = 1 / np.maximum(counts, FEWEST)
        table[kind] = tuple(map(float, nnls(known * weights[:, None], counts * weights)[0]))
    if "LOGISTIC" in table:
        table["LOGISTIC"] = LOGISTIC_ROW
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("measured", type=Path)
    parser.add_argument("--kernels", default="reference", choices=("reference", "cmsis-nn"))
    parser.add_argument("--build", default="dsp", choices=("dsp", "helium"))
    parser.add_argument("--hold-out", default="", help="names of files, separated by commas")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    measured = json.loads(given.measured.read_text())
    found = {
        name: (read_file((given.folder / f"{name}.tflite").read_bytes()), row)
        for name, row in measured.items()
        if {"arena_used", "arena_start", "by_op"} <= set(row)
    }
    compare_arenas(found, given.kernels, given.build)
    held_out = {name for name in given.hold_out.split(",") if name}
    table = fit(found, held_out, given.build == "helium")
    for name in sorted(held_out & found.keys()):
        info, row = found[name]
        if missing := {op.name for op in info.ops} - table.keys():
            print(f"{name}: no count of {', '.join(sorted(missing))}")
            continue
        estimate = sum(float(np.dot(features(op), table[op.name])) for op in info.ops)
        percent = 100 * (estimate / row["instructions"] - 1)
        print(f"{name}: {row['instructions']:,} instructions, estimate {percent:+.0f} %")
    if given.table:
        for kind, row in table.items():
            print(f'        "{kind}": ({", ".join(f"{value:g}" for value in np.round(row, 2))}),')


if __name__ == "__main__":
    main()
