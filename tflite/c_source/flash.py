"""Flash of the program that ``write_c`` writes: its constants are known, its code is a measured range."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..file.flatbuffer import read_file
from ..targets.firmware import C_CALL_BYTES, C_CODE_BYTES
from .generator import merged_program
from .program import Program

WORD_BYTES = 4  # of a number or an address in a struct, and what arrays are aligned to


def c_flash_bytes(content: bytes) -> tuple[int, int]:
    """(least, most) bytes of flash of the whole program with its own kernels: constants, code and start-up code.

    Args:
        content: An int8 ``.tflite`` file.

    Raises:
        UnsupportedOpError, ExportError: as ``write_c``.
    """
    program = merged_program(read_file(content))
    data, calls = constant_bytes(program), len(program.steps)
    least, most = (code + call * calls for code, call in zip(C_CODE_BYTES, C_CALL_BYTES, strict=True))
    return data + least, data + most


def c_flash_words(content: bytes) -> str:
    """Explanation of the flash of a program in C."""
    least, most = c_flash_bytes(content)
    return (
        f"about {least:,} to {most:,} bytes for the whole program: its constants, which are known, and code as "
        "measured with gcc -O2 for a Cortex-M4 and M0+"
    )


def constant_bytes(program: Program) -> int:
    """Bytes of the arrays and structs of a program, each array once."""
    arrays: dict[tuple[str, bytes], int] = {}

    def words(value: Any) -> int:
        if isinstance(value, np.ndarray):
            flat = np.atleast_1d(value)
            arrays[flat.dtype.name, flat.tobytes()] = -(-flat.nbytes // WORD_BYTES) * WORD_BYTES
            return 1
        if isinstance(value, dict):
            return sum(map(words, value.values()))
        return sum(map(words, value)) if isinstance(value, list) else 1

    structs = 0
    for step in program.steps:
        for read in step.reads:
            words(read)
        structs += words(step.fields) if step.struct else 0
    return sum(arrays.values()) + WORD_BYTES * structs
