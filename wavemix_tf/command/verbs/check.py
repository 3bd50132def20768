"""``wavemix-tf check``: whether files fit boards."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...checks import check_option
from ...tflite.errors import ExportError
from ...tflite.file.model_cards import card_path
from ...tflite.kit.existing import vectors_json
from ...tflite.names import BOARD_RUNTIMES as RUNTIMES
from ...tflite.targets.boards import BOARDS, get_board
from ..budgets import BOARD_TARGETS
from ..options import Debug, alternatives
from ..terminal import console, grid, styled
from ..verdict import VERDICT

if TYPE_CHECKING:
    from ...tflite.measuring.board_fit import Fit

ALL = "all"
NOTES = (
    "RAM: the arena on a 32-bit device, calculated, the runtime's own data and the stack. Flash: the file and the "
    "program that runs it, an estimate from the ops, of TensorFlow Lite Micro built with messages. Both in KiB, "
    "without the rest of your firmware: what the board has, below it what each runtime needs; --json has the bytes. "
    "Instructions of an inference: an estimate from an emulator's counts. "
    "ms: an estimate, the range that published figures of the core span; no figure: none was published for it."
)

NO_MESSAGES = "* fits if TensorFlow Lite Micro is built without messages (BUILD_TYPE=release)"


def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help=".tflite files, or folders of files for boards.")
    ],
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
    paths, skipped = _files(files)
    found: dict[Path, list[Fit]] = {}
    sizes: dict[Path, int] = {}
    for path in paths:
        content = path.read_bytes()
        sizes[path] = len(content)
        found[path] = [one for one in _checked(path, content, names) if runtime in (None, one.runtime)]
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
        several = {"files": rows, "skipped": list(map(str, skipped))}
        print(json.dumps(rows[0] if single else several, ensure_ascii=True, allow_nan=False))
    else:
        for path, fits in found.items():
            if len(found) > 1:
                console.print(styled((str(path), "bold")))
            _print_fits(fits)
        if skipped:
            console.print(
                f"Skipped in folders: {_count(skipped)} of kits and projects, compiled for an NPU, or for targets that "
                "are no microcontrollers; name a file itself to check it."
            )
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


def _checked(path: Path, content: bytes, boards: Sequence[str]) -> list[Fit]:
    """``check_boards``, whose error names the file."""
    from ...tflite.measuring.board_fit import check_boards

    try:
        return check_boards(content, boards)
    except ExportError as error:
        raise ExportError(f"{path} cannot be checked: {error}") from error


def _files(given: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """(the files and those of the folders, each once; files of the folders that are skipped)."""
    found: list[Path] = []
    skipped: list[Path] = []
    for path in given:
        inside = sorted(path.rglob("*.tflite")) if path.is_dir() else [path]
        if not inside:
            raise FileNotFoundError(f"A folder must have .tflite files. Received: {path}, which has none")
        if not all(one.is_file() for one in inside):
            raise FileNotFoundError(f"FILE must be a .tflite file. Received: {path}, which is not there")
        kept = [one for one in inside if one == path or not _is_skipped(one, path)]
        if not kept:
            raise FileNotFoundError(
                f"A folder must have .tflite files for microcontrollers. Received: {path}, whose {_count(inside)} "
                f"{'is' if len(inside) == 1 else 'are'} of kits, projects or other targets; name a file to check it"
            )
        found += kept
        skipped += [one for one in inside if one not in kept]
    return list(dict.fromkeys(found)), [one for one in dict.fromkeys(skipped) if one not in found]


def _is_skipped(path: Path, folder: Path) -> bool:
    """Whether a file below ``folder`` is a copy in a kit or project, compiled for an NPU, or not for a board."""
    from ...tflite.kit.projects.writer import PROJECT_JSON

    between = [one for one in path.parents if one != folder and one.is_relative_to(folder)]
    if any((one / PROJECT_JSON).is_file() or vectors_json(one) is not None for one in between):
        return True
    if path.stem.endswith("_vela") and path.with_name(f"{path.stem.removesuffix('_vela')}.tflite").is_file():
        return True
    try:
        card = json.loads(card_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # without a card its target is unknown
    target = card.get("target") if isinstance(card, dict) else None
    return isinstance(target, str) and target not in BOARD_TARGETS


def _count(paths: Sequence[Path]) -> str:
    return f"{len(paths)} file{'' if len(paths) == 1 else 's'}"


def _fits(board: str, fits: Sequence[Fit]) -> bool:
    return any(one.fits for one in fits if one.board == board)


def _print_fits(fits: Sequence[Fit]) -> None:
    """The table of a file, and each reason why a runtime does not run it once."""
    reasons = list(dict.fromkeys(one.need.refusal for one in fits if one.need.refusal is not None))
    if any(one.need.refusal is None for one in fits):
        console.print(_table(fits, reasons))
        for number, reason in enumerate(reasons, 1):
            console.print(f"[{number}] {reason}")
        if any(one.fits_without_messages for one in fits):
            console.print(NO_MESSAGES)
        return
    from ...tflite.measuring.board_fit import RUNTIME_NAMES

    for runtime, refusal in {one.runtime: one.need.refusal for one in fits}.items():
        console.print(f"{RUNTIME_NAMES[runtime]}: not run on any board: {refusal}")


def _table(fits: Sequence[Fit], reasons: Sequence[str]) -> Any:
    """A row for each board with what it has, below it one for each runtime with what it needs; 80 columns wide.

    Args:
        fits: Of one file.
        reasons: Why runtimes do not run it; the table has their numbers, from 1.
    """
    from ...tflite.measuring.board_fit import RUNTIME_NAMES

    table = grid("board, runtime", "RAM", "flash", "instr.", "ms,\nestimate", "fits")
    last = ""
    for one in fits:
        row, need = BOARDS[one.board], one.need
        if one.board != last:
            table.add_row(one.board, f"{row.ram_bytes // 1024:,}", f"{row.flash_bytes // 1024:,}", "", "", "")
        last = one.board
        title = styled((f"  {RUNTIME_NAMES[one.runtime]}", "not bold"))
        if need.refusal is not None:
            table.add_row(title, "-", "-", "-", "-", f"not run [{reasons.index(need.refusal) + 1}]")
            continue
        unknown = "-" if one.instructions is None else "no figure"
        latency = unknown if one.latency_ms is None else one.latency_ms.words
        sizes = [f"{size / 1024:,.1f}" for size in (need.ram_bytes, need.flash_bytes)]
        table.add_row(title, *sizes, _millions(one.instructions), latency, _verdict(one))
    return table


def _verdict(one: Fit) -> str:
    """Whether it fits, or what is missing in KiB, rounded up; with * see ``NO_MESSAGES``."""
    parts = {"RAM": one.missing_ram_bytes, "flash": one.missing_flash_bytes}
    lacks = ", ".join(f"{math.ceil(size / 102.4) / 10:,.1f} KiB {name}" for name, size in parts.items() if size)
    return f"lacks {lacks}{' *' if one.fits_without_messages else ''}" if lacks else "yes"


def _millions(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.2f} M"
