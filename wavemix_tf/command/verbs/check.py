"""``wavemix-tf check``: whether files fit boards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...checks import check_option
from ...tflite.names import BOARD_RUNTIMES as RUNTIMES
from ...tflite.targets.boards import BOARDS, get_board
from ..options import Debug, alternatives
from ..terminal import console, grid, styled
from ..verdict import VERDICT

if TYPE_CHECKING:
    from ...tflite.measuring.board_fit import Fit

ALL = "all"
NOTES = (
    "RAM: the arena on a 32-bit device, calculated, the runtime's own data and the stack. Flash: the file and the "
    "largest measured size of the program that runs it. Both in KiB, what is needed / what the board has, without the "
    "rest of your firmware; --json has the bytes. Instructions of an inference: an estimate from an emulator's counts. "
    "ms: an estimate, the range that published figures of the core span; no figure: none was published for it."
)


def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=".tflite files, or folders that have them.")],
    board: Annotated[
        list[str] | None,
        typer.Option(
            "--board", metavar="NAME,...", help=f"{ALL} (the default), or of: {', '.join(BOARDS)}; may be repeated"
        ),
    ] = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help=f"Check only {alternatives(RUNTIMES)} (default: the best of them)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Say which boards files fit, by RAM and flash with each runtime. Exit code 3 if a board fits with none."""
    names = _boards(board or [ALL])
    if runtime is not None:
        check_option("runtime", runtime, RUNTIMES)
    paths = _files(files)
    from ...tflite.measuring.board_fit import check_boards

    found: dict[Path, list[Fit]] = {}
    sizes: dict[Path, int] = {}
    for path in paths:
        content = path.read_bytes()
        sizes[path] = len(content)
        found[path] = [one for one in check_boards(content, names) if runtime in (None, one.runtime)]
    if not any(found.values()):
        cores = ", ".join(sorted({BOARDS[name].core for name in names}))
        raise ValueError(
            f"The memory of runtime {runtime} is not calculated for {cores}: use another --runtime. Received: --board "
            f"{', '.join(names)}"
        )
    misfits = {path: [name for name in names if not _fits(name, fits)] for path, fits in found.items()}
    if as_json:
        rows = [
            {
                "file": str(path),
                "file_bytes": sizes[path],
                "boards_that_do_not_fit": misfits[path],
                "checks": [one.to_dict() for one in fits],
            }
            for path, fits in found.items()
        ]
        single = len(files) == 1 and not files[0].is_dir()
        print(json.dumps(rows[0] if single else {"files": rows}, ensure_ascii=True, allow_nan=False))
    else:
        for path, fits in found.items():
            if len(found) > 1:
                console.print(styled((str(path), "bold")))
            console.print(_table(fits))
        console.print(NOTES)
    if any(misfits.values()):
        raise typer.Exit(VERDICT)


def _boards(given: Sequence[str]) -> tuple[str, ...]:
    """The boards of all options, in their order, each once."""
    names = [name.strip() for text in given for name in text.split(",")]
    for name in names:
        if name != ALL:
            get_board(name)
    return tuple(dict.fromkeys(name for one in names for name in (BOARDS if one == ALL else (one,))))


def _files(given: Sequence[Path]) -> list[Path]:
    """The files, and those of the folders, each once."""
    found: list[Path] = []
    for path in given:
        inside = sorted(path.rglob("*.tflite")) if path.is_dir() else [path]
        if not inside:
            raise FileNotFoundError(f"A folder must have .tflite files. Received: {path}, which has none")
        if not all(one.is_file() for one in inside):
            raise FileNotFoundError(f"FILE must be a .tflite file. Received: {path}, which is not there")
        found += inside
    return list(dict.fromkeys(found))


def _fits(board: str, fits: Sequence[Fit]) -> bool:
    return any(one.fits for one in fits if one.board == board)


def _table(fits: Sequence[Fit]) -> Any:
    from ...tflite.measuring.board_fit import RUNTIME_NAMES

    table = grid("board", "runtime", "RAM", "flash", "instr.", "ms,\nestimate", "fits")
    last = ""
    for one in fits:
        row, need = BOARDS[one.board], one.need
        sizes = [_of(need.ram_bytes, row.ram_bytes), _of(need.flash_bytes, row.flash_bytes)]
        if need.refusal is not None:
            sizes = ["-", "-"]
        title = "" if one.board == last else one.board
        unknown = "-" if one.instructions is None else "no figure"
        latency = unknown if one.latency_ms is None else one.latency_ms.words
        table.add_row(title, RUNTIME_NAMES[one.runtime], *sizes, _millions(one.instructions), latency, one.words)
        last = one.board
    return table


def _of(needed: int, present: int) -> str:
    return f"{needed / 1024:.1f} / {present // 1024}"


def _millions(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f} M"
