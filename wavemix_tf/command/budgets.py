"""Parse ``--budget``: "mcu:64KB-ram,100KB-flash". Loads no Keras."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from ..checks import check_option
from ..tflite.names import (
    ARENA_BYTES,
    FIRMWARE_BYTES,
    FIRMWARE_REFERENCE_BYTES,
    FLASH_BYTES,
    INSTRUCTIONS,
    LATENCY_MS,
    NPU_CYCLES,
    RAM_BYTES,
    RAM_COSTS,
)

UNITS = {"B": 1, "KB": 1024, "KiB": 1024, "MB": 1024**2, "MiB": 1024**2, "ms": 1, "k": 1000, "M": 10**6, "": 1}
SIZES = ("B", "KB", "KiB", "MB", "MiB")
COUNTS = ("", "k", "M")
# Kind -> its units and the cost that it limits, for any network or for one on a target (see ``_costs``).
GENERAL = {
    "parameters": (COUNTS, "parameters"),
    "macs": (COUNTS, "macs"),
    "weights": (SIZES, "int8_bytes"),
    "activations": (SIZES, "int8_activation_bytes"),
}
DEVICE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ram": (SIZES, RAM_COSTS),
    "flash": (SIZES, (FLASH_BYTES,)),  # the file only; of target c the program
    "cycles": (COUNTS, (NPU_CYCLES,)),
    "latency": (("ms",), (LATENCY_MS,)),
}
NAMED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {  # only if named; first: the file and its program
    "firmware": (SIZES, (FIRMWARE_BYTES,)),  # with CMSIS-NN's kernels
    "firmware-reference": (SIZES, (FIRMWARE_REFERENCE_BYTES,)),  # with TensorFlow Lite Micro's reference kernels
    "instructions": (COUNTS, (INSTRUCTIONS,)),  # of an inference, an estimate
}
Kinds = dict[str, tuple[tuple[str, ...], str]]  # kind -> (units, cost)
FEW_OPS = ("ADD", "CONV_2D", "FULLY_CONNECTED", "LOGISTIC", "MEAN", "MUL")  # an example, of a small network
BOARD_TARGETS = ("mcu", "c")  # what may run a file on a board
FORM = "[TARGET:]AMOUNT-KIND,... as in mcu:64KB-ram,100KB-flash or android-cpu:5ms"
AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([A-Za-z]*)(?:-([A-Za-z]+(?:-[A-Za-z]+)*))?")


def parse_budget(text: str) -> tuple[str | None, dict[str, float]]:
    """Parse a budget of the command line: ``[TARGET:]AMOUNT[-KIND],...``.

    A size is in B, KB (1024 bytes, as KiB) or MB (1024 KB, as MiB), a count plain or with k (thousand) or M (million),
    a time in ms. Kinds: ``ram``, ``flash`` (the file only; for c the program with its constants), ``firmware`` (the
    file and the program that runs it, with CMSIS-NN) or ``firmware-reference`` (with the reference kernels),
    ``cycles``, ``instructions`` (of an inference on a Cortex-M4 with CMSIS-NN, or for c of the program; an estimate)
    and ``latency`` of a target, ``parameters``, ``macs``, ``weights`` and ``activations`` (both of 8 bits) of any
    network. A time needs no kind.

    Args:
        text: E.g. "mcu:64KB-ram,100KB-flash", "ethos-u55:500k-cycles", "android-cpu:5ms" or "12k-parameters".

    Returns:
        (target or None, cost -> upper limit in bytes, milliseconds or a number).

    Raises:
        ValueError: The text is no budget; one line.

    Example:
    >>> parse_budget("mcu:64KB-ram,100KB-flash")
    ('mcu', {'arena_bytes': 65536.0, 'flash_bytes': 102400.0})
    """
    before, colon, rest = text.partition(":")
    target = before.strip() if colon else None
    if target is not None:
        _check_target(target, text)
    limits: dict[str, float] = {}
    for part in (rest if colon else text).split(","):
        name, value = _limit(part.strip(), target, text)
        if name in limits:
            raise ValueError(f"A budget must give each kind once; {part.strip()!r} repeats one. Received: {text!r}")
        limits[name] = value
    return target, limits


def parse_cost(text: str, target: str | None) -> tuple[str | None, str]:
    """Parse the cost of ``--minimize``: ``[TARGET:]KIND``.

    Args:
        text: E.g. "mcu:instructions", "latency" or "parameters".
        target: The target of the budget or board, which the cost belongs to if it names none.

    Returns:
        (target or None, name of the cost).

    Raises:
        ValueError: The text is no cost of the target; one line.

    Example:
    >>> parse_cost("mcu:ram", None)
    ('mcu', 'arena_bytes')
    """
    before, colon, rest = text.rpartition(":")
    own = before.strip() if colon else target
    if own != target and target is not None:
        raise ValueError(f"--minimize and the budget must have one target. Received: {text!r}, the budget's {target}")
    if own is not None:
        _check_target(own, text)
    kind = rest.strip()
    costs = _costs(own)
    if kind not in costs and kind in DEVICE | NAMED and own is None:
        raise ValueError(f"{kind} needs a target, as in --minimize mcu:instructions. Received: {text!r}")
    if kind not in costs:
        whose = "without a target" if own is None else f"for target {own}"
        raise ValueError(f"--minimize {whose} takes {', '.join(costs)}; not {kind!r}. Received: {text!r}")
    return own, costs[kind][1]


def board_budget(name: str, target: str | None = None) -> tuple[str, dict[str, float]]:
    """The budget of a board for one runtime: (target, cost -> upper limit in bytes).

    The arena must fit into the largest block of RAM and leave room for the runtime's own; the file and the program that
    runs it into flash: that of a Cortex-M4, which a search estimates, so that other cores have a smaller limit. A
    program in C has its own RAM and flash.

    Args:
        name: Key of ``BOARDS``.
        target: "mcu": TensorFlow Lite Micro, with CMSIS-NN's kernels where they are calculated for the board's core;
            "c": the program in C. None: "mcu".

    Raises:
        ValueError: an unknown board, or a target that boards do not run.

    Example:
    >>> board_budget("nucleo-f446re")
    ('mcu', {'arena_bytes': 128000.0, 'firmware_bytes': 524288.0})
    >>> board_budget("nucleo-f446re", "c")
    ('c', {'arena_bytes': 131072.0, 'ram_bytes': 131072.0, 'flash_bytes': 524288.0})
    """
    from ..tflite.names import CMSIS_NN
    from ..tflite.targets.boards import CORES, get_board
    from ..tflite.targets.firmware import OWN_RAM_BYTES, small_core_bytes

    row = get_board(name)
    check_option("target", target or BOARD_TARGETS[0], BOARD_TARGETS)
    if target == "c":
        sizes = {ARENA_BYTES: row.block_bytes, RAM_BYTES: row.ram_bytes, FLASH_BYTES: row.flash_bytes}
        return "c", {cost: float(size) for cost, size in sizes.items()}
    firmware = FIRMWARE_BYTES if CMSIS_NN in CORES[row.core] else FIRMWARE_REFERENCE_BYTES
    arena = min(row.block_bytes, row.ram_bytes - OWN_RAM_BYTES)
    return "mcu", {ARENA_BYTES: float(arena), firmware: float(row.flash_bytes - small_core_bytes(row.core))}


def flash_note(target: str | None, limits: Mapping[str, float]) -> str | None:
    """Return a note on a flash limit of a target; None if there is no such limit."""
    if target is None or FLASH_BYTES not in limits:
        return None
    from ..tflite.targets.firmware import runtime_words
    from ..tflite.targets.table import get_target

    if get_target(target).writes_c:
        return "flash: the program in C with its constants and the largest measured size of its code."
    if not get_target(target).counts_firmware:
        return "flash: the compiled file only, without the program that runs it."
    return (
        "flash: the file only. The program that runs it takes more, by the ops of the file: for "
        f"{', '.join(FEW_OPS)} {runtime_words(FEW_OPS)}. The kinds firmware and firmware-reference include it."
    )


def core_note(board: str) -> str | None:
    """Return a note if a board's core takes other instructions than the Cortex-M4, which a search estimates."""
    from ..tflite.targets.boards import get_board
    from ..tflite.targets.instructions import SAME_INSTRUCTIONS

    core = get_board(board).core
    if SAME_INSTRUCTIONS.get(core, core) == "cortex-m4":
        return None
    return (
        f"instructions: estimated for a Cortex-M4, also with --board {board}, whose core ({core}) takes others: they "
        "rank networks. `wavemix-tf check` has those of the board's core where they were measured."
    )


def _check_target(target: str, text: str) -> None:
    from ..tflite.targets.table import DEVICE_COSTS

    if target not in DEVICE_COSTS:
        raise ValueError(f"The target of a budget must be one of {', '.join(DEVICE_COSTS)}. Received: {text!r}")


def _limit(part: str, target: str | None, text: str) -> tuple[str, float]:
    """Return (cost, upper limit) of one "AMOUNT-KIND"."""
    match = AMOUNT.fullmatch(part)
    if match is None:
        raise ValueError(f"A budget has the form {FORM}; {part!r} is not AMOUNT-KIND. Received: {text!r}")
    number, unit, kind = match.group(1), match.group(2), match.group(3)
    if kind is None and unit == "ms":
        kind = "latency"
    costs = _costs(target)
    if kind is None:
        raise ValueError(f"An amount without ms needs a kind, e.g. {part}-KIND: {', '.join(costs)}. Received: {text!r}")
    if kind not in costs and kind in DEVICE | NAMED and target is None:
        raise ValueError(f"{kind} needs a target, as in mcu:64KB-ram. Received: {text!r}")
    if kind not in costs:
        whose = "without a target" if target is None else f"for target {target}"
        raise ValueError(f"A budget {whose} takes the kinds {', '.join(costs)}; not {kind!r}. Received: {text!r}")
    units, cost = costs[kind]
    if unit not in units:
        listed = ", ".join(one or "none" for one in units)
        raise ValueError(f"{kind} takes the units {listed}; not {unit or 'none'}. Received: {text!r}")
    value = float(number) * UNITS[unit]
    if not 0 < value < math.inf:
        raise ValueError(f"A budget must be positive and finite; {part!r} is not. Received: {text!r}")
    return cost, value


def _costs(target: str | None) -> Kinds:
    """Return kind -> (units, cost) that a budget for ``target`` may have."""
    found = dict(GENERAL)
    if target is None:
        return found
    from ..tflite.targets.table import DEVICE_COSTS, NAMED_COSTS

    known, named = DEVICE_COSTS[target], NAMED_COSTS.get(target, ())

    def own(kinds: dict[str, tuple[tuple[str, ...], tuple[str, ...]]], names: Sequence[str]) -> Kinds:
        return {kind: (units, cost) for kind, (units, costs) in kinds.items() for cost in costs if cost in names}

    return own(DEVICE, known) | found | own(NAMED, named)
