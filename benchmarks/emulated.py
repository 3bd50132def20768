"""Compare the calculated arena with an emulator's figures (instructions: ``instruction_fit.py``).

Usage: python benchmarks/emulated.py FOLDER MEASURED.json [--kernels reference|cmsis-nn] [--build dsp|helium]

FOLDER has the files, NAME.tflite. MEASURED.json has what TensorFlow Lite Micro reported on an emulated Cortex-M:
{NAME: {"arena_used": bytes, "arena_start": the smallest arena in which AllocateTensors succeeded}}. The emulator and
TensorFlow Lite Micro are not part of this repository; docs/budgets.md says with which revisions the figures there were
made.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from wavemix_tf.tflite.file.flatbuffer import FileInfo, read_file
from wavemix_tf.tflite.runtimes.arena import arena_use


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("measured", type=Path)
    parser.add_argument("--kernels", default="reference", choices=("reference", "cmsis-nn"))
    parser.add_argument("--build", default="dsp", choices=("dsp", "helium"))
    given = parser.parse_args()
    measured = json.loads(given.measured.read_text())
    found = {
        name: (read_file((given.folder / f"{name}.tflite").read_bytes()), row)
        for name, row in measured.items()
        if {"arena_used", "arena_start"} <= set(row)
    }
    compare_arenas(found, given.kernels, given.build)


if __name__ == "__main__":
    main()
