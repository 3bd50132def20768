"""``wavemix-tf check``: whether a file fits a board."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ...checks import check_option
from ...tflite.names import BOARD_RUNTIMES as RUNTIMES
from ...tflite.targets.boards import BOARDS, get_board
from ..options import Debug, alternatives
from ..terminal import console, grid
from ..verdict import VERDICT

ALL = "all"


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .tflite file.")],
    board: Annotated[str, typer.Option("--board", metavar="NAME", help=f"{ALL}, or one of: {', '.join(BOARDS)}")] = ALL,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help=f"Check only {alternatives(RUNTIMES)} (default: the best of them)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Say which boards a file fits, by RAM and flash with each runtime. Exit code 3 if a board fits with none."""
    names = tuple(BOARDS) if board == ALL else (board,)
    for name in names:
        get_board(name)
    if runtime is not None:
        check_option("runtime", runtime, RUNTIMES)
    if not file.is_file():
        raise FileNotFoundError(f"FILE must be a .tflite file. Received: {file}, which is not there")
    content = file.read_bytes()
    from ...tflite.measuring.board_fit import RUNTIME_NAMES, check_boards

    found = [one for one in check_boards(content, names) if runtime in (None, one.runtime)]
    if not found:
        cores = ", ".join(sorted({BOARDS[name].core for name in names}))
        raise ValueError(
            f"The memory of runtime {runtime} is not calculated for {cores}: use another --runtime. Received: --board "
            f"{board}"
        )
    misfits = [name for name in names if not any(one.fits for one in found if one.board == name)]
    if as_json:
        rows = {"file": str(file), "file_bytes": len(content), "boards_that_do_not_fit": misfits}
        print(json.dumps(rows | {"checks": [one.to_dict() for one in found]}, ensure_ascii=True, allow_nan=False))
    else:
        table = grid("board", "runtime", "RAM", "flash", "instr.", "fits")
        last = ""
        for one in found:
            row, need = BOARDS[one.board], one.need
            sizes = [_of(need.ram_bytes, row.ram_bytes), _of(need.flash_bytes, row.flash_bytes)]
            if need.refusal is not None:
                sizes = ["-", "-"]
            title = "" if one.board == last else one.board
            table.add_row(title, RUNTIME_NAMES[one.runtime], *sizes, _millions(one.instructions), one.words)
            last = one.board
        console.print(table)
        console.print(
            "RAM: the arena on a 32-bit device, calculated, the runtime's own data and the stack. Flash: the file and "
            "the largest measured size of the program that runs it. Both in KiB, what is needed / what the board has, "
            "without the rest of your firmware; --json has the bytes. "
            "Instructions of an inference: an estimate from an emulator's counts; a time would need the device."
        )
    if misfits:
        raise typer.Exit(VERDICT)


def _of(needed: int, present: int) -> str:
    return f"{needed / 1024:.1f} / {present // 1024}"


def _millions(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f} M"
