"""Whether a file fits a board: RAM and flash of the file with each runtime that can run it there. Loads no Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..c_source.flash import c_flash_bytes
from ..c_source.generator import write_c
from ..c_source.instruction_count import estimate_instructions
from ..errors import UnsupportedOpError
from ..file.flatbuffer import FileInfo, read_file
from ..file.op_costs import tensor_bytes
from ..names import C_PROGRAM, CMSIS_NN, KERNELS, REFERENCE_KERNELS
from ..runtimes.arena import arena_by_kernels
from ..targets.audit import audit
from ..targets.boards import BOARDS, CORES, get_board
from ..targets.cmsis_nn import not_run
from ..targets.firmware import C_STACK_BYTES, OWN_RAM_BYTES, firmware_bytes
from ..targets.published_times import Range, latency_range
from ..targets.table import TARGETS, Target

# Each of ``names.BOARD_RUNTIMES`` -> its name in tables.
RUNTIME_NAMES = {
    REFERENCE_KERNELS: "TFLM",
    CMSIS_NN: "TFLM, CMSIS-NN",
    C_PROGRAM: "C program",
}
CMSIS_NN_RULE = "CMSIS-NN"  # in the names of the rules that only its kernels have


@dataclass(frozen=True)
class Need:
    """What a file needs with one runtime, in bytes.

    Args:
        arena_bytes: Memory for feature maps; with an interpreter also for its own structures.
        ram_bytes: The arena, the runtime's own data and the stack; for a program in C also inputs and outputs.
        flash_bytes: The file and the program that runs it: an estimate from the ops, of an interpreter built with
            messages.
        refusal: Why the runtime does not run the file; None if it does. The sizes are 0 if not.
        flash_without_messages_bytes: ``flash_bytes`` if the interpreter is built without messages; 0 for a program in
            C, which has none.
    """

    arena_bytes: int
    ram_bytes: int
    flash_bytes: int
    refusal: str | None = None
    flash_without_messages_bytes: int = 0


@dataclass(frozen=True)
class Fit:
    """A file with one runtime on one board. A missing amount of 0 fits.

    Args:
        board: Key of ``BOARDS``.
        runtime: One of ``names.BOARD_RUNTIMES``.
        need: What it needs.
        missing_ram_bytes: RAM that the board lacks, also if the arena does not fit into its largest block.
        missing_flash_bytes: Flash that it lacks.
        instructions: Of an inference, an estimate (``instructions``); None if the core or an op was not measured.
        latency_ms: Of an inference at the board's clock, a range and an estimate (``published_times``); None without
            instructions, or if no time of this core was published.
    """

    board: str
    runtime: str
    need: Need
    missing_ram_bytes: int
    missing_flash_bytes: int
    instructions: int | None
    latency_ms: Range | None

    @property
    def fits(self) -> bool:
        return self.need.refusal is None and not self.missing_ram_bytes and not self.missing_flash_bytes

    @property
    def words(self) -> str:
        """The result: "yes", what is missing, or why the runtime does not run the file."""
        if self.need.refusal is not None:
            return f"not run: {self.need.refusal}"
        parts = {"RAM": self.missing_ram_bytes, "flash": self.missing_flash_bytes}
        missing = [f"{amount:,} bytes of {name} missing" for name, amount in parts.items() if amount]
        without = "; it fits if the library is built without messages" if self.fits_without_messages else ""
        return f"no: {', '.join(missing)}{without}" if missing else "yes"

    @property
    def fits_without_messages(self) -> bool:
        """Whether only the messages of the default build do not fit: with ``BUILD_TYPE=release`` the file fits."""
        size = self.need.flash_without_messages_bytes
        return (
            self.missing_flash_bytes > 0 and not self.missing_ram_bytes and 0 < size <= BOARDS[self.board].flash_bytes
        )

    @property
    def latency_words(self) -> str:
        """What the milliseconds rest on, or why there are none."""
        if self.latency_ms is not None:
            return f"estimate: range of {self.latency_ms.figures} published figures of the core"
        if self.instructions is None:
            return "none: the instructions of the core or of an op are unknown"
        return "none: no published figure of the core with this runtime"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the board's own figures."""
        row = BOARDS[self.board]
        return {
            "board": self.board,
            "core": row.core,
            "clock_mhz": row.clock_mhz,
            "board_ram_bytes": row.ram_bytes,
            "board_block_bytes": row.block_bytes,
            "board_flash_bytes": row.flash_bytes,
            "source": row.source,
            "memory_source": row.memory_source or row.source,
            "runtime": self.runtime,
            **dataclasses.asdict(self.need),
            "missing_ram_bytes": self.missing_ram_bytes,
            "missing_flash_bytes": self.missing_flash_bytes,
            "instructions": self.instructions,
            "latency_ms_estimate": None if self.latency_ms is None else dataclasses.asdict(self.latency_ms),
            "latency_ms_source": self.latency_words,
            "fits": self.fits,
            "fits_without_messages": self.fits or self.fits_without_messages,
        }


def check_boards(content: bytes, boards: Sequence[str]) -> list[Fit]:
    """A file on boards, each with every runtime that is calculated for its core.

    Args:
        content: The ``.tflite`` file.
        boards: Keys of ``BOARDS``.

    Raises:
        ValueError: an unknown board.
        ExportError: no TensorFlow Lite file, or a damaged one.
    """
    rows = {name: get_board(name) for name in boards}
    info = read_file(content)
    needs = needs_by_runtime(content)
    return [
        _fit(name, runtime, _on_core(needs[runtime], content, info, runtime, row.core), info)
        for name, row in rows.items()
        for runtime in (*CORES[row.core], C_PROGRAM)
    ]


def needs_by_runtime(content: bytes) -> dict[str, Need]:
    """What a file needs on a Cortex-M4 with each of ``names.BOARD_RUNTIMES``."""
    info = read_file(content, check_tensors=True)
    arenas: dict[str, int] = {}
    found = {}
    for kernels in KERNELS:
        refusal = _refusal(info, kernels)
        if refusal is not None:
            found[kernels] = Need(0, 0, 0, refusal)
            continue
        arenas = arenas or arena_by_kernels(info)
        arena = arenas[kernels]
        need = Need(arena, arena + OWN_RAM_BYTES, 0)
        found[kernels] = _on_core(need, content, info, kernels, "cortex-m4")
    found[C_PROGRAM] = program_need(content, info)
    return found


def program_need(content: bytes, info: FileInfo) -> Need:
    """What a file needs as a program in C."""
    try:
        arena = write_c(content, "net").plan.arena_bytes
    except UnsupportedOpError as error:
        return Need(0, 0, 0, _short(error))
    ends = sum(map(tensor_bytes, (*info.inputs, *info.outputs)))
    return Need(arena, arena + ends + C_STACK_BYTES, c_flash_bytes(content)[1])


def _on_core(need: Need, content: bytes, info: FileInfo, runtime: str, core: str) -> Need:
    """A need with the flash of a core's program."""
    if runtime not in KERNELS or need.refusal is not None:
        return need
    release, messages = firmware_bytes(len(content), [op.name for op in info.ops], runtime, core)
    return dataclasses.replace(need, flash_bytes=messages, flash_without_messages_bytes=release)


def _fit(board: str, runtime: str, need: Need, info: FileInfo) -> Fit:
    row = BOARDS[board]
    ram = max(need.ram_bytes - row.ram_bytes, need.arena_bytes - row.block_bytes, 0)
    instructions = None if need.refusal is not None else estimate_instructions(info, row.core, runtime)
    times = latency_range(instructions, row.core, runtime, row.clock_mhz)
    return Fit(board, runtime, need, ram, max(need.flash_bytes - row.flash_bytes, 0), instructions, times)


def _refusal(info: FileInfo, kernels: str) -> str | None:
    """Why TensorFlow Lite Micro does not run a file with these kernels."""
    kinds = {tensor.dtype for op in info.ops for tensor in op.outputs}
    dtype = next((name for name, kind in (("int16x8", "int16"), ("int8", "int8")) if kind in kinds), "float32")
    try:
        audit(info, "mcu", _row(kernels), dtype, keeps_float=True)
    except UnsupportedOpError as error:
        return _short(error)
    return not_run(info) if kernels == CMSIS_NN else None


def _row(kernels: str) -> Target:
    """The target's row, without the rules of other kernels."""
    row = TARGETS["mcu"]
    if kernels == CMSIS_NN:
        return row
    return dataclasses.replace(
        row, ops={op: tuple(rule for rule in rules if CMSIS_NN_RULE not in rule) for op, rules in row.ops.items()}
    )


def _short(error: UnsupportedOpError) -> str:
    """The first fault of a refusal."""
    return str(error).split(": ", 1)[-1].split("; ")[0].split(". ")[0].rstrip(".")
