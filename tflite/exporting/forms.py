"""Write a file's transposed convolutions in each form that suits the target and keep the smallest file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..c_source.generator import check_c
from ..errors import RuntimeFailureError, UnsupportedOpError
from ..file.flatbuffer import FileInfo, read_file, strip_names, to_input
from ..names import ARENA_BYTES
from ..runtimes.arena import arena_by_kernels
from ..runtimes.microcontroller import run_micro
from ..runtimes.processes import Runner
from ..targets.audit import audit, describe
from ..targets.table import Target

Candidate = tuple[bytes, FileInfo, str, dict[str, int]]


def audited_files(
    write: Callable[[str], bytes], forms: Sequence[str], row: Target, target: str, dtype: str, keeps_float: bool
) -> list[tuple[str, bytes, FileInfo]]:
    """(form, file, parsed file with the names that may have been stripped) of each form that the target runs.

    ``Target.last_form`` is tried if none of several forms passes.

    Raises:
        UnsupportedOpError: no form passes; the error is that of the first form.
    """
    found: list[tuple[str, bytes, FileInfo]] = []
    refusal: UnsupportedOpError | None = None
    for form in (*forms, *((row.last_form,) if row.last_form and len(forms) > 1 else ())):
        if found and form == row.last_form:
            break
        try:
            content = write(form)
            info = read_file(content)
            audit(info, target, row, dtype, keeps_float)
            if row.writes_c:
                check_c(info)
        except UnsupportedOpError as error:
            refusal = refusal or error
            continue
        found.append((form, strip_names(content) if row.strips_names else content, info))
    if refusal is not None and not found:
        raise refusal
    return found


def run_for_arenas(
    content: bytes, info: FileInfo, inputs: list[np.ndarray], run: Runner | None = None
) -> dict[str, int]:
    """Run a file under TensorFlow Lite Micro, and return its arena by kernels (``arena.arena_by_kernels``).

    Args:
        content: The file.
        info: The parsed file, with the names that may have been stripped from it.
        inputs: For each input an array (N, ...) of its dtype.
        run: Runs the interpreter, see ``processes``.

    Raises:
        RuntimeFailureError: TensorFlow Lite Micro refused it; the message names the op and its layer.
    """
    try:
        run_micro(content, [part[:1] for part in inputs], run=run)
    except RuntimeFailureError as error:
        raise RuntimeFailureError(f"{error}{_refused_op(str(error), info)}") from error
    return arena_by_kernels(info)


def _refused_op(words: str, info: FileInfo) -> str:
    """The op that TensorFlow Lite Micro's message names, with its output's name, which contains the layer's name."""
    number = re.search(r"Node \w+ \(number (\d+)", words)
    kind = re.search(r"op(?:code| code)? '?([A-Z][A-Z0-9_]+)", words)
    found = [(index, op) for index, op in enumerate(info.ops) if kind is not None and op.name == kind.group(1)]
    if number is not None and int(number.group(1)) < len(info.ops):
        found = [(int(number.group(1)), info.ops[int(number.group(1))])]
    return "".join(f" Refused was {describe(index, op)}." for index, op in found[:1])


def write_smallest(
    write: Callable[[str], bytes],
    forms: Sequence[str],
    row: Target,
    target: str,
    dtype: str,
    images: list[np.ndarray],
    keeps_float: bool,
    admit: Callable[[int, Iterable[str]], bool],
) -> Candidate:
    """Write the file in every form; keep the one with the smallest arena among those that fit into flash.

    ``admit`` takes a file's size in bytes and its ops. Each file is audited. The ``FileInfo`` contains the names of
    inner tensors even if they were stripped from the file.

    Returns:
        (file, parsed file, its form, arena by kernels: empty for a target without one).
    """
    tried: list[Candidate] = []
    for form, content, info in audited_files(write, forms, row, target, dtype, keeps_float):
        arenas: dict[str, int] = {}
        if ARENA_BYTES in row.costs:
            first = [to_input(tensor, part[:1]) for tensor, part in zip(info.inputs, images, strict=True)]
            arenas = run_for_arenas(content, info, first)
        tried.append((content, info, form, arenas))

    def preference(candidate: Candidate) -> tuple[bool, int, int]:
        size, arena = len(candidate[0]), max(candidate[3].values(), default=0)
        too_large = not admit(size, [op.name for op in candidate[1].ops])
        return (too_large, size, arena) if too_large else (too_large, arena, size)

    return min(tried, key=preference)
