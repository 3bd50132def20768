"""Fit the rows of ``instruction_table.TABLE`` to an emulator's counts, and compare the estimate with counts.

Usage: python benchmarks/instruction_fit.py FOLDER MEASURED.json --core cortex-m4 --runtime reference|cmsis-nn|c
       [--hold-out PATTERN,...] [--check] [--worst COUNT]

FOLDER has the files, NAME.tflite. MEASURED.json has {NAME: {"instructions": of one inference, "by_op": [[op,
instructions], ...]}} for TensorFlow Lite Micro, and {NAME: {"instructions": ..., "by_step": [instructions of each call
of the program, in order]}} for a program in C. The emulator and TensorFlow Lite Micro are not part of this repository;
docs/budgets.md says with which revisions the figures there were made. Files whose names match a PATTERN (as in a shell)
are not part of the fit. It prints the rows and how far each op and each network is off; ``--check`` compares the rows
of the package instead of fitting.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from wavemix_tf.tflite.c_source.generator import merged_program
from wavemix_tf.tflite.c_source.instruction_count import calls_by_map, calls_of
from wavemix_tf.tflite.errors import ExportError
from wavemix_tf.tflite.file.flatbuffer import FileInfo, OpInfo, read_file
from wavemix_tf.tflite.names import C_PROGRAM
from wavemix_tf.tflite.targets.instructions import FEATURES, features, op_instructions, row_name, table_rows

LOGISTIC_CALL = 300.0  # instructions of TensorFlow Lite Micro's LOGISTIC beside those of its values
FEWEST = 4000  # instructions: below, the fit does not weight an op by its relative error
SATURATED = ("far_from", "too_small")  # parts of names of files whose ops end early on purpose
ONLY_HELIUM = ("vector",)
SMALLEST = 1e-3  # a coefficient below is left out
Rows = dict[str, dict[str, float]]
Counted = list[tuple[str, OpInfo, float]]


def counted(info: FileInfo, row: Mapping[str, Any]) -> Counted:
    """Row, op and count; of a program in C the main op of each call."""
    if "by_op" in row:
        for op, (name, _) in zip(info.ops, row["by_op"], strict=True):
            if op.name != name:
                raise ValueError(f"by_op must have the ops of the file. Received: {name} for {op.name}")
        return [(row_name(op), op, count) for op, (_, count) in zip(info.ops, row["by_op"], strict=True)]
    program = merged_program(info)
    first = calls_by_map(program)
    sums: dict[int, float] = {}
    for step, count in zip(program.steps, row["by_step"], strict=True):
        place = first[step.writes[0]]
        sums[place] = sums.get(place, 0) + count
    return [(call.name, info.ops[call.main], sums[call.place]) for call in calls_of(info)]


def fit(found: dict[str, Counted], held: set[str], helium: bool, in_c: bool) -> Rows:
    """Row by name, from the files that are not held out."""
    pairs: dict[str, list[tuple[OpInfo, float]]] = {}
    for name, ops in found.items():
        if name not in held:
            for kind, op, count in ops:
                pairs.setdefault(kind, []).append((op, count))
    rows: Rows = {}
    for kind, some in sorted(pairs.items()):
        used = [name for name in FEATURES if helium or name not in ONLY_HELIUM]
        known = np.array([[features(op).get(name, 0) for name in used] for op, _ in some], float)
        counts = np.array([count for _, count in some], float)
        weights = 1 / np.maximum(counts, FEWEST)
        each = nnls(known * weights[:, None], counts * weights)[0]
        rows[kind] = {name: float(f"{value:.4g}") for name, value in zip(used, each, strict=True) if value > SMALLEST}
    if "LOGISTIC" in rows and not in_c:
        # The most: inputs far from zero end early, so a fit would depend on the images.
        each = max((count - LOGISTIC_CALL) / features(op)["value"] for op, count in pairs["LOGISTIC"])
        rows["LOGISTIC"] = {"call": LOGISTIC_CALL, "value": round(each)}
    return rows


def report(found: dict[str, Counted], totals: dict[str, int], held: set[str], rows: Mapping[str, Any], worst: int):
    """Print the errors of ops and of networks."""
    errors: dict[tuple[str, bool], list[tuple[float, str, float]]] = {}
    networks = []
    for name, ops in found.items():
        estimates = [op_instructions(op, rows, kind) for kind, op, _ in ops]
        for (kind, _, count), estimate in zip(ops, estimates, strict=True):
            if estimate is not None and count > FEWEST:
                errors.setdefault((kind, name in held), []).append((estimate / count - 1, name, count))
        missing = {op.name for (_, op, _), estimate in zip(ops, estimates, strict=True) if estimate is None}
        if missing:
            print(f"{name}: no row of {', '.join(sorted(missing))}")
        elif name in held:
            networks.append((sum(filter(None, estimates)) / totals[name] - 1, name))
    for (kind, is_held), some in sorted(errors.items()):
        sizes = np.abs([error for error, _, _ in some])
        print(
            f"{kind}, {'held out' if is_held else 'fitted'}: {len(some)} ops, error {np.median(sizes):.1%} (median), "
            f"{sizes.max():.0%} (largest)"
        )
        for error, name, count in sorted(some, key=lambda one: -abs(one[0]))[:worst]:
            print(f"    {name}: {count:,.0f}, {error:+.0%}")
    for error, name in sorted(networks):
        print(f"{name}: {totals[name]:,} instructions, estimate {error:+.1%}")
    if networks:
        sizes = np.abs([error for error, _ in networks])
        print(f"held out: {len(networks)} networks, error {np.median(sizes):.1%} (median), {sizes.max():.1%} (largest)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("measured", type=Path)
    parser.add_argument("--core", required=True)
    parser.add_argument("--runtime", required=True)
    parser.add_argument("--hold-out", default="", help="patterns of names, separated by commas")
    parser.add_argument("--check", action="store_true", help="compare the rows of the package")
    parser.add_argument("--worst", type=int, default=0, help="print so many ops of each kind")
    given = parser.parse_args()
    found: dict[str, Counted] = {}
    totals = {}
    for name, row in json.loads(given.measured.read_text()).items():
        if any(part in name for part in SATURATED) or not {"by_op", "by_step"} & set(row):
            continue
        info = read_file((given.folder / f"{name}.tflite").read_bytes())
        if any(-1 in tensor.shape for op in info.ops for tensor in op.outputs):
            continue
        try:
            found[name] = counted(info, row)
        except ExportError as error:
            print(f"{name}: {error}")
            continue
        totals[name] = row["instructions"]
    held = {name for name in found if any(fnmatch(name, part) for part in given.hold_out.split(","))}
    rows: Mapping[str, Any] | None = table_rows(given.core, given.runtime)
    if not given.check:
        rows = fit(found, held, given.core == "cortex-m55" and given.runtime != C_PROGRAM, given.runtime == C_PROGRAM)
        print(f'    ("{given.core}", "{given.runtime}"): {{')
        for kind, row in rows.items():
            print(f'        "{kind}": {{{", ".join(f"{name!r}: {value:g}" for name, value in row.items())}}},')
        print("    },")
    if rows is None:
        raise ValueError(f"The package has no rows of it. Received: --core {given.core} --runtime {given.runtime}")
    report(found, totals, held, rows, given.worst)


if __name__ == "__main__":
    main()
