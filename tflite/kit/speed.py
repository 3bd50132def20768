"""Rows of the model card about instructions and time on microcontrollers: both are estimates."""

from __future__ import annotations

from typing import Any

from ..c_source.instruction_count import estimate_instructions
from ..file.flatbuffer import FileInfo, read_file
from ..names import C_PROGRAM, CMSIS_NN
from ..targets.instructions import SAME_INSTRUCTIONS
from ..targets.published_times import latency_range
from ..targets.table import board_runtime

CLOCK_MHZ = 100  # times of other clocks are in proportion
# Arithmetic of the files that were measured.
DTYPE = "int8"
RUNTIME_WORDS = {CMSIS_NN: "CMSIS-NN", C_PROGRAM: "the program in C"}


def speed_of(artifact: Any) -> list[tuple[str, str]]:
    """``speed_rows`` of an exported file, with the runtime of its target; empty for other targets."""
    runtime = board_runtime(artifact.target)
    return [] if runtime is None or artifact.dtype != DTYPE else speed_rows(read_file(artifact.content), runtime)


def speed_rows(info: FileInfo, runtime: str) -> list[tuple[str, str]]:
    """(title, text) of the estimates by core; empty if an op of the file was not measured.

    Args:
        info: The file.
        runtime: One of ``names.BOARD_RUNTIMES``.
    """
    counts = {core: estimate_instructions(info, core, runtime) for core in SAME_INSTRUCTIONS}
    known = {core: count for core, count in counts.items() if count is not None}
    if not known:
        return []
    times, none = [], []
    for core, count in known.items():
        found = latency_range(count, core, runtime, CLOCK_MHZ)
        if found is None:
            none.append(core)
        else:
            times.append(f"{core} {found.words} ms ({found.figures} published figures)")
    if none:
        times.append(f"no published figure for {', '.join(none)}")
    listed = ", ".join(f"{core} {count / 1e6:.2f} M" for core, count in known.items())
    return [
        (f"instructions with {RUNTIME_WORDS[runtime]}, an estimate", listed),
        (f"time at {CLOCK_MHZ} MHz, an estimate", "; ".join(times)),
    ]
